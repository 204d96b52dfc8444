//! Removing what an earlier layer added: it is hidden, and still stored, pushed and pulled.
//!
//! Only what the text says plainly counts: paths without variables, wherever the working directory is
//! known, in the stages whose layers become the image.

use super::plain_script;
use super::shell::commands;
use crate::glob::clean;
use crate::instruction::{Copy, Instruction, Located, Stage};
use crate::lint::Found;
use crate::source::Span;

/// Characters that make a path something that is not known here.
const UNKNOWN: [char; 9] = ['$', '*', '?', '[', '{', '~', '"', '\'', '\\'];

/// A path that an instruction certainly made.
struct Added {
    path: String,
    span: Span,
}

/// Goes through the stages of the image in order.
#[derive(Default)]
struct Walk {
    /// The working directory, if it is known.
    workdir: Option<String>,
    added: Vec<Added>,
}

pub(super) fn find<'a>(stages: impl Iterator<Item = &'a Stage>, found: &mut Vec<Found<'a>>) {
    let mut walk = Walk::default();
    for located in stages.flat_map(|stage| &stage.instructions) {
        match &located.instruction {
            Instruction::Workdir(path) => walk.workdir = walk.absolute(path),
            Instruction::Copy(copy) => walk.copy(copy, located, false),
            Instruction::Add(copy) => walk.copy(copy, located, true),
            Instruction::Run(run) => {
                let Some(text) = plain_script(run) else { continue };
                let commands = commands(&text);
                found.extend(walk.removed(&commands, located));
                walk.run(&commands, located);
            }
            _ => {}
        }
    }
}

impl Walk {
    /// The path from the root, clean; `None` if it is not known.
    fn absolute(&self, path: &str) -> Option<String> {
        if path.is_empty() || path.contains(UNKNOWN) {
            return None;
        }
        if path.starts_with('/') {
            return Some(clean(path));
        }
        self.workdir.as_ref().map(|workdir| clean(&format!("{workdir}/{path}")))
    }

    fn add(&mut self, path: Option<String>, located: &Located) {
        self.added.extend(path.map(|path| Added { path, span: located.line_span }));
    }

    /// A file keeps its name in a directory; whether the destination is one shows in its slash, or in
    /// that it is the working directory.
    fn copy(&mut self, copy: &Copy, located: &Located, is_add: bool) {
        let into = copy.dest.ends_with('/') || matches!(copy.dest.as_str(), "." | "..");
        if !into && copy.sources.len() == 1 {
            return self.add(self.absolute(&copy.dest), located);
        }
        for source in &copy.sources {
            let name = source.rsplit('/').next().unwrap_or(source);
            // A directory is copied as its contents; an archive is unpacked by ADD. A name with an
            // ending is a file's.
            let is_file = name.trim_start_matches('.').contains('.') && !source.contains(UNKNOWN);
            if is_file && (!is_add || source.contains("://")) && !copy.parents {
                self.add(self.absolute(&format!("{}/{name}", copy.dest)), located);
            }
        }
        for heredoc in copy.heredocs.iter().filter(|_| into) {
            self.add(self.absolute(&format!("{}/{}", copy.dest, heredoc.name)), located);
        }
    }

    /// What the commands certainly leave behind: downloads to a path that is written out.
    fn run(&mut self, commands: &[Vec<String>], located: &Located) {
        if changes_directory(commands) {
            return;
        }
        for words in commands {
            let option: &[&str] = match words[0].as_str() {
                "curl" => &["-o", "--output"],
                "wget" => &["-O", "--output-document"],
                _ => continue,
            };
            let at = words.iter().position(|word| option.contains(&word.as_str()));
            let path = at.and_then(|at| words.get(at + 1)).and_then(|path| self.absolute(path));
            self.add(path.filter(|path| !removes(commands, path)), located);
        }
    }

    /// The first path that the commands remove and an earlier instruction added.
    fn removed<'a>(&self, commands: &[Vec<String>], located: &'a Located) -> Option<Found<'a>> {
        if changes_directory(commands) {
            return None;
        }
        let mut targets = removals(commands).filter_map(|path| self.removal(path));
        let added = targets.find_map(|(path, below)| {
            self.added.iter().rev().find(|added| is_removed(&added.path, &path, below))
        })?;
        let message = format!(
            "removing {} here only hides it: it stays in the layer that added it",
            added.path
        );
        let (rule, span) = ("RemovedInLaterLayer", located.line_span);
        Some(Found::new(rule, span, message, &located.comments).with(|it| {
            it.with_related(added.span, "added here").with_help(
                "remove it in the RUN that makes it, or use it from RUN --mount=type=bind or another stage",
            )
        }))
    }

    /// A path of `rm`, and whether only what is below it goes (`dir/*`).
    fn removal(&self, path: &str) -> Option<(String, bool)> {
        let (path, below) = match path.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (path, false),
        };
        self.absolute(path).filter(|path| path != "/").map(|path| (path, below))
    }
}

fn is_removed(added: &str, removed: &str, below: bool) -> bool {
    let rest = added.strip_prefix(removed);
    rest.is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && !below))
}

/// After `cd` a relative path is somewhere else.
fn changes_directory(commands: &[Vec<String>]) -> bool {
    commands.iter().any(|words| matches!(words[0].as_str(), "cd" | "pushd" | "chroot"))
}

/// The paths of every `rm`.
fn removals(commands: &[Vec<String>]) -> impl Iterator<Item = &str> {
    let rm = commands.iter().filter(|words| words[0] == "rm");
    rm.flat_map(|words| &words[1..]).map(String::as_str).filter(|word| !word.starts_with('-'))
}

/// Whether the same RUN may remove what it made.
fn removes(commands: &[Vec<String>], path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut rest = commands.iter().flat_map(|words| match words[0].as_str() {
        "curl" | "wget" => &[][..],
        _ => &words[1..],
    });
    rest.any(|word| word.contains(name) || path.starts_with(word.trim_end_matches(['*', '/'])))
}
