//! COPY and ADD into steps.

use super::stage::{Planner, Problem};
use super::{Action, CopyStep, Origin, Step, remote};
use crate::chmod::Mode;
use crate::copy::place::destination;
use crate::diagnostic::code;
use crate::expand::expand_body;
use crate::instruction::{Copy, Located};

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
            .map_err(|e| Problem { code: code::UNKNOWN_STAGE, message: e.to_string() })?,
    };
    let sources = copy.sources.iter().map(|s| planner.expand(s)).collect::<Result<Vec<_>, _>>()?;
    if sources.is_empty() && copy.heredocs.is_empty() {
        return Err(Problem::arguments("no source files were specified"));
    }
    let checksum = copy.checksum.as_deref().map(|sum| planner.expand(sum)).transpose()?;
    let checksum = checksum.filter(|sum| !sum.is_empty());
    remote::check(&sources, is_add, checksum.as_deref())?;
    let dest_text = planner.expand(&copy.dest)?;
    let owner = copy.chown.as_deref().map(|o| planner.expand(o)).transpose()?;
    let mode = match copy.chmod.as_deref().map(|m| planner.expand(m)).transpose()? {
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
        keep_git_dir: copy.keep_git_dir,
        sources,
    };
    planner.history(history(&step, copy, &dest_text), true);
    let action = Action::Copy(Box::new(step));
    planner.steps.push(Step { span: located.span, title: located.text.clone(), action });
    Ok(())
}

/// Files whose contents stand in the Dockerfile.
fn inline(planner: &Planner<'_>, copy: &Copy) -> Result<Vec<(String, Vec<u8>)>, Problem> {
    copy.heredocs
        .iter()
        .map(|heredoc| {
            if !heredoc.expand {
                return Ok((heredoc.name.clone(), heredoc.content.clone()));
            }
            let text = String::from_utf8_lossy(&heredoc.content);
            let body = expand_body(&text, &planner.state.env).map_err(|e| Problem {
                code: code::BAD_EXPANSION,
                message: format!("failed to process the heredoc `{}`: {e}", heredoc.name),
            })?;
            Ok((heredoc.name.clone(), planner.note(body).into_bytes()))
        })
        .collect()
}

fn history(step: &CopyStep, copy: &Copy, dest: &str) -> String {
    let mut text = String::from(if step.is_add { "ADD" } else { "COPY" });
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
    text
}
