//! COPY and ADD into steps.

use super::config::absolute;
use super::stage::{Planner, Problem};
use super::{Action, CopyStep, Origin, Step};
use crate::chmod::Mode;
use crate::copy::place::destination;
use crate::diagnostic::code;
use crate::instruction::{Copy, Located};
use crate::remote::{AddressError, Remote, without_login};
use crate::text::Text;
use std::collections::BTreeMap;

pub(super) fn plan(
    planner: &mut Planner<'_>,
    located: &Located,
    copy: &Copy,
    is_add: bool,
) -> Result<(), Problem> {
    let origin = match &copy.from {
        None => Origin::Context,
        Some(from) => planner
            .input
            .graph
            .copy_origin(planner.input.stage.index, from)
            .map_err(|e| Problem::new(code::UNKNOWN_STAGE, e.to_string()))?,
    };
    let mut sources = Vec::with_capacity(copy.sources.len());
    for source in &copy.sources {
        sources.push(planner.expand(source)?);
    }
    if sources.is_empty() && copy.heredocs.is_empty() {
        return Err(Problem::arguments("no source files were specified"));
    }
    let checksum = copy.checksum.as_ref().map(|c| planner.expand(c)).transpose()?;
    let checksum = checksum.filter(|sum| !sum.is_empty());
    let remotes = remotes(&sources, copy, checksum.as_deref(), is_add)?;
    for place in remotes.keys() {
        sources[*place] = without_login(&sources[*place]).into();
    }
    let dest_text = planner.expand(&copy.dest)?;
    let owner = copy.chown.as_ref().map(|o| planner.expand(o)).transpose()?;
    let mode = match copy.chmod.as_ref().map(|m| planner.expand(m)).transpose()? {
        Some(text) if !text.is_empty() => {
            let mode = Mode::parse(&text).map_err(|e| Problem::arguments(&e))?;
            Some((text, mode))
        }
        _ => None,
    };
    let dest = destination(planner.workdir(), &dest_text).map_err(|e| Problem::arguments(&e))?;
    let step = CopyStep {
        is_add,
        origin,
        inline: inline(planner, copy)?,
        dest,
        link: copy.link && mode.is_none(),
        owner: owner.filter(|o| !o.is_empty()),
        mode,
        parents: copy.parents,
        excludes: copy.excludes.clone(),
        unpack: copy.unpack,
        checksum,
        sources,
        remotes,
    };
    history(planner, &step, copy, &dest_text);
    let action = Action::Copy(Box::new(step));
    planner.steps.push(Step { span: located.span, title: located.text.clone(), action });
    Ok(())
}

/// Files whose contents stand in the Dockerfile.
fn inline(planner: &Planner<'_>, copy: &Copy) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    copy.heredocs
        .iter()
        .map(|heredoc| {
            let name = file_name(&heredoc.name)?;
            if !heredoc.expand {
                return Ok((name, heredoc.content.to_vec()));
            }
            let text = String::from_utf8_lossy(&heredoc.content);
            let body = planner.expand_body(&heredoc.name, &text)?;
            Ok((name, body.into_bytes()))
        })
        .collect()
}

/// What the file of a heredoc is called. It is made at the top of an empty tree, where there is no
/// directory to put it into.
fn file_name(word: &str) -> Result<String, Problem> {
    match absolute("/", word).strip_prefix('/') {
        Some(name) if !name.is_empty() && !name.contains('/') => Ok(name.to_owned()),
        _ => Err(Problem::arguments(&format!(
            "the heredoc `{word}` cannot be a file: its name names a directory that is not there"
        ))),
    }
}

/// Which sources are URLs and repositories; those belong to ADD alone.
fn remotes(
    sources: &[Text],
    copy: &Copy,
    checksum: Option<&str>,
    is_add: bool,
) -> Result<BTreeMap<usize, Remote>, Problem> {
    let wrong = |source: &str, e: AddressError| {
        Problem::arguments(&format!("{}: {e}", without_login(source)))
    };
    let mut all = BTreeMap::new();
    for (place, source) in sources.iter().enumerate() {
        let Some(remote) = Remote::parse(source).map_err(|e| wrong(source, e))? else { continue };
        if !is_add {
            let what = if matches!(remote, Remote::Git(_)) { "git ref" } else { "URL" };
            return Err(Problem::arguments(&format!(
                "source can't be a {what} for COPY: {}",
                without_login(source)
            )));
        }
        let url = remote.url().to_owned();
        let remote = remote.with_keep_git_dir(copy.keep_git_dir).map_err(|e| wrong(&url, e))?;
        all.insert(place, remote);
    }
    let Some(checksum) = checksum else { return Ok(all) };
    if sources.len() != 1 {
        return Err(Problem::arguments("checksum can't be specified for multiple sources"));
    }
    let Some(remote) = all.remove(&0) else {
        return Err(Problem::arguments("checksum requires HTTP(S) or Git sources"));
    };
    let url = remote.url().to_owned();
    let remote = remote.with_checksum(checksum).map_err(|e| wrong(&url, e))?;
    Ok(BTreeMap::from([(0, remote)]))
}

fn history(planner: &mut Planner<'_>, step: &CopyStep, copy: &Copy, dest: &str) {
    let mut text = planner.room();
    text.push_str(if step.is_add { "ADD" } else { "COPY" });
    if step.parents {
        text.push_str(" --parents");
    }
    let mut push = |before: &str, word: &str| {
        text.push_str(before);
        text.push_str(word);
    };
    if let Some(owner) = &step.owner {
        push(" --chown=", owner);
    }
    if let Some((mode, _)) = &step.mode {
        push(" --chmod=", mode);
    }
    step.sources.iter().for_each(|source| push(" ", source));
    copy.heredocs.iter().for_each(|heredoc| push(" <<", &heredoc.name));
    push(" ", dest);
    text.push_str(" # buildkit");
    planner.history_in(text, true);
}
