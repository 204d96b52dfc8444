//! Rules beyond the reference's: things that cost people time and that a build says nothing of.
//!
//! They are asked for by `lap check` and silent in a build. *Invariant:* a rule speaks only where what
//! it says is true of every build of the file; where a script or a mount could make it untrue, it is
//! silent.

mod apt;
mod context;
mod install;
mod removed;
mod secret;
mod shell;

use super::{Facts, Found};
use crate::graph::{Base, Graph};
use crate::instruction::{Command, Copy, Dockerfile, Instruction, Located, Run, RunScript, Stage};
use crate::plan::Origin;
use crate::source::Span;
use crate::suggest;
use crate::text::Text;
use lapstrake_layerstore::reference::Reference;
use std::sync::Arc;

/// Endings of archives, which ADD unpacks and COPY does not.
const ARCHIVES: [&str; 13] =
    ["tar", "gz", "tgz", "bz2", "tbz", "tbz2", "xz", "txz", "zst", "tzst", "lzma", "z", "zip"];

/// A stage's name that is shorter is no safe ground for a guess.
const GUESSED_NAME_MIN: usize = 4;

/// Finds what the rules of [`super::OWN_RULES`] speak of.
pub(super) fn find<'a>(
    file: &'a Dockerfile,
    (graph, stages): (&Graph, &[usize]),
    facts: Facts<'_>,
    found: &mut Vec<Found<'a>>,
) {
    let looked_at = || stages.iter().filter_map(|index| file.stages.get(*index));
    let kept = kept_stages(graph);
    for stage in looked_at() {
        found.extend(base(stage, graph));
        let on_image = graph.stages.get(stage.index).is_some_and(|node| node.image().is_some());
        apt::find(&stage.instructions, on_image, kept.contains(&stage.index), found);
        found.extend(entrypoint(&stage.instructions));
        found.extend(install::find(&stage.instructions, facts.context));
        for located in &stage.instructions {
            found.extend(add(located));
            found.extend(secret::find(located));
            found.extend(copied_image(located, stage, graph));
        }
    }
    let of_image = kept.iter().rev().filter_map(|index| file.stages.get(*index));
    removed::find(of_image, found);
    found.extend(context::find(looked_at(), facts));
}

/// The stages whose layers become part of the image, the last one first.
fn kept_stages(graph: &Graph) -> Vec<usize> {
    let mut kept = vec![graph.target];
    while let Some(parent) = kept.last().and_then(|last| graph.stages[*last].parent()) {
        kept.push(parent);
    }
    kept
}

/// What is to be said of the image that a stage builds on.
fn base<'a>(stage: &'a Stage, graph: &Graph) -> Option<Found<'a>> {
    let Base::Image(image) = &graph.stages.get(stage.index)?.base else { return None };
    image_name(&image.reference, "Base image", stage, graph)
        .map(|(rule, message, near)| finding(rule, stage.base_span, message, &stage.comments, near))
}

/// What is to be said of an image that files are copied from.
fn copied_image<'a>(located: &'a Located, stage: &Stage, graph: &Graph) -> Option<Found<'a>> {
    let Instruction::Copy(copy) = &located.instruction else { return None };
    let from = copy.from.as_ref()?;
    let Ok(Origin::Image(image)) = graph.copy_origin(stage.index, from) else { return None };
    let (rule, message, near) = image_name(&image.reference, "Image", stage, graph)?;
    Some(finding(rule, located.flag_span("from"), message, &located.comments, near))
}

type Finding = (&'static str, String, Option<(Span, String)>);

fn finding<'a>(
    rule: &'static str,
    span: Span,
    message: String,
    comments: &'a [crate::instruction::Comment],
    near: Option<(Span, String)>,
) -> Found<'a> {
    Found::new(rule, span, message, comments).with(|it| match near {
        Some((span, name)) => {
            it.with_related(span, "the stage").with_help(format!("did you mean `{name}`?"))
        }
        None => it.with_help("name a version, or pin it with @sha256:… so that it cannot change"),
    })
}

/// A name almost like that of an earlier stage, or one that may mean another image tomorrow.
fn image_name(reference: &str, what: &str, stage: &Stage, graph: &Graph) -> Option<Finding> {
    let earlier = &graph.stages[..stage.index.min(graph.stages.len())];
    if let Some((span, name)) = misspelled(reference, earlier) {
        let message =
            format!("{what} {reference} is no stage of this file, and almost named like one");
        return Some(("MisspelledStage", message, Some((span, name))));
    }
    let parsed = Reference::parse(reference).ok()?;
    if parsed.digest().is_some() {
        return None;
    }
    // Parsing may fill in the default tag, so whether one was written is read from the text.
    let last = reference.rsplit('/').next().unwrap_or(reference);
    let message = match last.split_once(':') {
        None => format!("{what} {reference} has no tag: each build may get another one"),
        Some((_, "latest")) => {
            format!("{what} {reference} is whatever is latest when it is fetched")
        }
        Some(_) => return None,
    };
    Some(("UnpinnedBase", message, None))
}

/// The stage whose name is meant: no image is named with a mere slip of a stage's name, unless one
/// begins with the other, as in `FROM node AS node1`.
fn misspelled(reference: &str, earlier: &[crate::graph::StageNode]) -> Option<(Span, String)> {
    if reference.contains(['/', ':', '@', '.']) {
        return None;
    }
    let is_apart = |name: &&str| {
        name.len() >= GUESSED_NAME_MIN
            && !name.starts_with(reference)
            && !reference.starts_with(*name)
    };
    let names = earlier.iter().filter_map(|stage| stage.name.as_deref()).filter(is_apart);
    let near = suggest::nearest(reference, names)?;
    let stage = earlier.iter().rev().find(|stage| stage.name.as_deref() == Some(near))?;
    Some((stage.span, near.to_owned()))
}

/// The shell text of a RUN whose every effect shows in its text: no mount, no script elsewhere.
fn plain_script(run: &Run) -> Option<Text> {
    if !run.mounts.is_empty() || (!run.heredocs.is_empty() && !run.is_single_heredoc()) {
        return None;
    }
    match run.script() {
        RunScript::Shell(text) => Some(text),
        RunScript::Exec(_) | RunScript::File { .. } => None,
    }
}

fn entrypoint(instructions: &[Arc<Located>]) -> Option<Found<'_>> {
    let last =
        |name: &str| instructions.iter().rev().find(|located| located.instruction.name() == name);
    let (Some(entrypoint), Some(cmd), None) = (last("ENTRYPOINT"), last("CMD"), last("SHELL"))
    else {
        return None;
    };
    let Instruction::Entrypoint(Command::Shell(text)) = &entrypoint.instruction else {
        return None;
    };
    let empty = match &cmd.instruction {
        Instruction::Cmd(Command::Exec(words)) => words.is_empty(),
        Instruction::Cmd(Command::Shell(text)) => text.is_empty(),
        _ => true,
    };
    // `sh -c 'exec app "$@"'` does see the words of CMD.
    let sees_words = ["$@", "$*", "$0", "$1", "${"].iter().any(|use_| text.contains(use_));
    if empty || text.is_empty() || sees_words {
        return None;
    }
    let message = "CMD has no effect: the ENTRYPOINT is in shell form, which takes no arguments";
    let rule = "ShellFormEntrypointWithCmd";
    let found = Found::new(rule, cmd.line_span, message.to_owned(), &cmd.comments);
    Some(found.with(|it| {
        it.with_related(entrypoint.line_span, "this is run as /bin/sh -c, without CMD's words")
            .with_help("write the ENTRYPOINT in JSON form: ENTRYPOINT [\"program\", \"argument\"]")
    }))
}

fn add(located: &Located) -> Option<Found<'_>> {
    let Instruction::Add(add) = &located.instruction else { return None };
    let message = "ADD of local files does what COPY says more plainly".to_owned();
    let rule = "AddWhereCopyServes";
    let found = Found::new(rule, located.line_span, message, &located.comments);
    is_plain_copy(add).then(|| {
        found.with(|it| it.with_help("COPY takes the same words, and never unpacks anything"))
    })
}

/// Whether an ADD has no source that only ADD takes, which must show in the names alone.
fn is_plain_copy(add: &Copy) -> bool {
    let is_plain = |source: &Text| {
        if source.contains([':', '@', '$', '*', '?', '[', '\\', '"', '\'']) {
            return false;
        }
        if matches!(source.as_str(), "." | "./") || source.ends_with('/') {
            return true;
        }
        let name = source.rsplit('/').next().unwrap_or(source);
        // A name without an ending may be an archive: ADD looks into the file.
        name.trim_start_matches('.').rsplit_once('.').is_some_and(|(_, ending)| {
            let ending = ending.to_ascii_lowercase();
            ending.chars().any(|c| c.is_ascii_alphabetic()) && !ARCHIVES.contains(&&*ending)
        })
    };
    add.heredocs.is_empty()
        && add.checksum.is_none()
        && add.keep_git_dir.is_none()
        && add.unpack.is_none()
        && !add.sources.is_empty()
        && add.sources.iter().all(is_plain)
}
