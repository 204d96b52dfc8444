//! Rules of ours beyond the reference's: things that cost people time and that a build says nothing of.
//!
//! They are asked for by `lap check` and silent in a build. *Invariant:* a rule speaks only where what
//! it says is true of every build of the file; where a script or a mount could make it untrue, it is
//! silent.

use super::Found;
use super::shell::{calls, commands};
use crate::graph::{Base, Graph};
use crate::instruction::{Command, Copy, Dockerfile, Instruction, Located, Run};
use crate::source::{Span, decode};
use lapstrake_layerstore::reference::Reference;

/// The programs that install Debian packages.
const APT: [&str; 2] = ["apt-get", "apt"];

/// Endings of archives, which ADD unpacks and COPY does not.
const ARCHIVES: [&str; 13] =
    ["tar", "gz", "tgz", "bz2", "tbz", "tbz2", "xz", "txz", "zst", "tzst", "lzma", "z", "zip"];

/// Calls that install what a project's own files list: program, verb.
const INSTALLS: [(&str, &str); 8] = [
    ("npm", "ci"),
    ("yarn", "install"),
    ("pnpm", "install"),
    ("go", "mod"),
    ("bundle", "install"),
    ("composer", "install"),
    ("poetry", "install"),
    ("cargo", "fetch"),
];

/// The beginning of a token, how many letters and digits follow at least, and what it is.
const TOKENS: [(&str, usize, &str); 9] = [
    ("ghp_", 36, "a GitHub token"),
    ("gho_", 36, "a GitHub token"),
    ("ghs_", 36, "a GitHub token"),
    ("github_pat_", 60, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("npm_", 36, "an npm token"),
    ("AKIA", 16, "an AWS access key"),
    ("xoxb-", 40, "a Slack token"),
    ("AIza", 35, "a Google API key"),
];

/// Finds what the rules of [`super::OWN_RULES`] speak of.
pub(super) fn find<'a>(file: &'a Dockerfile, graph: &Graph, found: &mut Vec<Found<'a>>) {
    let needed = graph.needed();
    let mut kept = vec![graph.target];
    while let Some(parent) = kept.last().and_then(|last| graph.stages[*last].parent()) {
        kept.push(parent);
    }
    for stage in file.stages.iter().filter(|stage| needed.contains(&stage.index)) {
        if let Base::Image(image) = &graph.stages[stage.index].base
            && let Some(message) = unpinned(&image.reference)
        {
            let (span, comments) = (stage.base_span, stage.comments.as_slice());
            found.push(Found { rule: "UnpinnedBase", span, message, comments });
        }
        let mut push = |rule, located: &'a Located, span: Span, message: String| {
            found.push(Found { rule, span, message, comments: &located.comments });
        };
        apt(&stage.instructions, kept.contains(&stage.index), &mut push);
        entrypoint(&stage.instructions, &mut push);
        copy_before_install(&stage.instructions, &mut push);
        for located in &stage.instructions {
            if let Instruction::Add(add) = &located.instruction
                && is_plain_copy(add)
            {
                let message = "ADD of local files does what COPY says more plainly";
                push("AddWhereCopyServes", located, located.line_span, message.to_owned());
            }
            if let Some(what) = token(located) {
                let message = format!(
                    "{what} is written out here; it stays in the image's history or layers"
                );
                push("SecretInHistory", located, located.line_span, message);
            }
        }
    }
}

type Push<'p, 'a> = dyn FnMut(&'static str, &'a Located, Span, String) + 'p;

fn unpinned(reference: &str) -> Option<String> {
    let parsed = Reference::parse(reference).ok()?;
    if parsed.digest().is_some() {
        return None;
    }
    // Parsing may fill in the default tag, so whether one was written is read from the text.
    let last = reference.rsplit('/').next().unwrap_or(reference);
    match last.split_once(':') {
        None => Some(format!("Base image {reference} has no tag: each build may get another one")),
        Some((_, "latest")) => {
            Some(format!("Base image {reference} is whatever is latest when it is fetched"))
        }
        Some(_) => None,
    }
}

/// The shell text of a RUN whose every effect shows in its text: no mount, no script elsewhere.
fn plain_script(run: &Run) -> Option<&str> {
    match &run.command {
        Command::Shell(text) if run.mounts.is_empty() && run.heredocs.is_empty() => Some(text),
        _ => None,
    }
}

fn apt<'a>(instructions: &'a [Located], is_kept: bool, push: &mut Push<'_, 'a>) {
    let mut updated = None;
    for located in instructions {
        let Instruction::Run(run) = &located.instruction else { continue };
        let Some(text) = plain_script(run) else { continue };
        let commands = commands(text);
        let any = |verb: &str| commands.iter().any(|command| calls(command, &APT, verb));
        // The mere words count here, so that whatever calls an update keeps the rule silent.
        let updates = text.contains("update");
        if let (true, false, Some(line)) = (any("install"), updates, updated) {
            push(
                "AptGetWithoutUpdate",
                located,
                located.line_span,
                format!(
                    "apt-get install uses package lists that another RUN fetched (`{line}`), which the cache may have kept for long"
                ),
            );
        }
        if any("update") {
            updated = Some(located.text.as_str());
            let rest = text.replace("apt-get clean", "").replace("apt clean", "");
            let may_remove = ["clean", "lists", "/apt", "Dir::State"];
            let scripts = commands.iter().any(|command| command[0].contains(['/', '$']));
            if is_kept && !scripts && !may_remove.iter().any(|word| rest.contains(word)) {
                push(
                    "AptListsNotRemoved",
                    located,
                    located.line_span,
                    "the package lists that apt-get update fetches stay in this layer".to_owned(),
                );
            }
        }
    }
}

fn entrypoint<'a>(instructions: &'a [Located], push: &mut Push<'_, 'a>) {
    let last =
        |name: &str| instructions.iter().rev().find(|located| located.instruction.name() == name);
    let (Some(entrypoint), Some(cmd), None) = (last("ENTRYPOINT"), last("CMD"), last("SHELL"))
    else {
        return;
    };
    let Instruction::Entrypoint(Command::Shell(text)) = &entrypoint.instruction else { return };
    let empty = match &cmd.instruction {
        Instruction::Cmd(Command::Exec(words)) => words.is_empty(),
        Instruction::Cmd(Command::Shell(text)) => text.is_empty(),
        _ => true,
    };
    // `sh -c 'exec app "$@"'` does see the words of CMD.
    let sees_words = ["$@", "$*", "$0", "$1", "${"].iter().any(|use_| text.contains(use_));
    if !empty && !text.is_empty() && !sees_words {
        push(
            "ShellFormEntrypointWithCmd",
            cmd,
            cmd.line_span,
            "CMD has no effect: the ENTRYPOINT is in shell form, which takes no arguments"
                .to_owned(),
        );
    }
}

fn copy_before_install<'a>(instructions: &'a [Located], push: &mut Push<'_, 'a>) {
    let mut whole: Option<&'a Located> = None;
    let mut part = false;
    for located in instructions {
        match &located.instruction {
            Instruction::Copy(copy) if copy.from.is_none() => {
                let all = copy.sources.iter().any(|source| matches!(source.as_str(), "." | "./"));
                if all {
                    whole = whole.or(Some(located));
                } else {
                    // Some files come before the rest: someone has thought of this already.
                    part |= whole.is_none();
                }
            }
            Instruction::Run(run) if !part => {
                let Some(before) = whole else { continue };
                let Some(text) = plain_script(run) else { continue };
                let commands = commands(text);
                let install = INSTALLS.iter().find(|(program, verb)| {
                    commands.iter().any(|command| calls(command, &[program], verb))
                });
                if let Some((program, verb)) = install {
                    push(
                        "CopyBeforeInstall",
                        before,
                        before.line_span,
                        format!(
                            "a change of any file repeats the `{program} {verb}` below: copy the files it reads first"
                        ),
                    );
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Whether an ADD has no source that only ADD takes, which must show in the names alone.
fn is_plain_copy(add: &Copy) -> bool {
    let is_plain = |source: &String| {
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

/// What secret is written out in an instruction, if any.
fn token(located: &Located) -> Option<&'static str> {
    let mut text = located.text.clone();
    match &located.instruction {
        Instruction::Run(run) => {
            run.heredocs.iter().for_each(|heredoc| text.push_str(&decode(&heredoc.body)));
        }
        Instruction::Copy(copy) | Instruction::Add(copy) => {
            copy.heredocs.iter().for_each(|source| text.push_str(&decode(&source.content)));
        }
        _ => {}
    }
    if text.contains("-----BEGIN ")
        && text.contains("PRIVATE KEY-----")
        && text.contains("-----END ")
    {
        return Some("a private key");
    }
    TOKENS.iter().find(|(begin, length, _)| holds_token(&text, begin, *length)).map(|found| found.2)
}

fn holds_token(text: &str, begin: &str, length: usize) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(begin).any(|(at, _)| {
        let after = &text[at + begin.len()..];
        let token = &after[..after.find(|c| !is_part(c) && c != '-').unwrap_or(after.len())];
        let begins = !text[..at].ends_with(is_part);
        // Placeholders repeat themselves, or say what they are; tokens do neither.
        let mut letters: Vec<char> = token.chars().collect();
        letters.sort_unstable();
        letters.dedup();
        let real = letters.len() > 8 && !token.to_uppercase().contains("EXAMPLE");
        begins && token.len() >= length && real
    })
}
