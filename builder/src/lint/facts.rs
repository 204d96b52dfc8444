//! The rules that need more than the text: what a base image sets, what the ignore file hides.
//!
//! Both are handed in as [`Facts`]. *Invariant:* what is not known is never held against the user.
//! A variable that an image of unknown environment could set is not undefined, and a source whose
//! name depends on such a variable is not ignored.

use super::Found;
use crate::expand::{Expanded, expand, expand_body};
use crate::graph::{Base, Graph, StageNode};
use crate::ignore::{Ignore, ParentMatches};
use crate::instruction::{ArgDecl, Copy, Instruction, Located};
use crate::plan::{BaseFacts, ImageKey};
use crate::scope::{BuildArgs, EnvList};
use crate::source::Span;
use crate::suggest;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of the world around a Dockerfile.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The base images that were looked at.
    pub base: &'a dyn Fn(&ImageKey) -> Option<&'a BaseFacts>,
    /// The ignore file of the main context.
    pub ignore: Option<&'a Ignore>,
}

impl std::fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").field("ignore", &self.ignore.is_some()).finish_non_exhaustive()
    }
}

/// The variables at one place, as far as they are known.
#[derive(Clone, Default)]
struct Known {
    env: EnvList,
    /// Names declared by an ARG that nothing gives a value.
    declared: BTreeSet<String>,
    /// Names whose value in [`Self::env`] is only a guess.
    guessed: BTreeSet<String>,
    /// The base image may set anything.
    open: bool,
}

/// A word after expansion.
struct Word {
    text: String,
    undefined: Vec<String>,
    /// Whether the text is what a build would see.
    certain: bool,
}

impl Known {
    /// What the first instruction of a stage finds.
    fn at_start(stage: &StageNode, facts: Facts<'_>, ends: &BTreeMap<usize, Self>) -> Self {
        let mut known = match &stage.base {
            Base::Stage(parent) => ends.get(parent).cloned().unwrap_or_default(),
            Base::Image(image) => match (facts.base)(image) {
                Some(base) => {
                    Self { env: EnvList::from_config(&base.config.env), ..Self::default() }
                }
                None => Self { open: true, ..Self::default() },
            },
            Base::Scratch | Base::Named(_) => Self::default(),
        };
        known.declared.insert("PATH".to_owned());
        known
    }

    fn word(&self, text: &str, expanded: Expanded) -> Word {
        let guessed = expanded.reads.iter().any(|name| self.guessed.contains(name));
        let certain = !guessed && (!self.open || expanded.unset.is_empty());
        let undefined = |name: &String| {
            !self.open && !self.declared.contains(name) && is_used_plainly(text, name)
        };
        let names = expanded.unset.into_iter().filter(undefined).collect();
        Word { text: expanded.text, undefined: names, certain }
    }

    fn set(&mut self, name: &str, value: &str, certain: bool) {
        self.env.set(name, value);
        if certain {
            self.guessed.remove(name);
        } else {
            self.guessed.insert(name.to_owned());
        }
    }
}

/// Whether a word uses a variable without saying what shall stand there if it is not set.
fn is_used_plainly(text: &str, name: &str) -> bool {
    text.match_indices('$').any(|(at, _)| {
        let after = &text[at + 1..];
        let (braced, after) = match after.strip_prefix('{') {
            Some(rest) => (true, rest),
            None => (false, after),
        };
        let Some(rest) = after.strip_prefix(name) else { return false };
        if braced {
            rest.starts_with(['}', '#', '%', '/'])
        } else {
            !rest.starts_with(|c: char| c == '_' || c.is_alphanumeric())
        }
    })
}

/// Goes through the needed stages in order.
struct Walk<'a, 'f, 'v> {
    graph: &'a Graph,
    given: BuildArgs,
    facts: Facts<'f>,
    known: Known,
    found: &'v mut Vec<Found<'a>>,
}

/// Finds what the facts show.
pub(super) fn find<'a>(
    graph: &'a Graph,
    build_args: &[(String, String)],
    facts: Facts<'_>,
    found: &mut Vec<Found<'a>>,
) {
    let mut ends = BTreeMap::new();
    let known = Known::default();
    let mut walk = Walk { graph, given: BuildArgs::new(build_args), facts, known, found };
    for index in graph.needed() {
        let stage = &graph.stages[index];
        walk.known = Known::at_start(stage, facts, &ends);
        for located in &stage.instructions {
            walk.instruction(located);
        }
        ends.insert(index, walk.known.clone());
    }
}

impl<'a> Walk<'a, '_, '_> {
    fn instruction(&mut self, located: &'a Located) {
        match &located.instruction {
            Instruction::Arg(args) => args.iter().for_each(|arg| self.arg(located, arg)),
            Instruction::Env(pairs) => {
                let mut set = Vec::new();
                for (index, (name, value)) in pairs.iter().enumerate() {
                    let name = self.expand(located, located.word_span(index), name);
                    let value = self.expand(located, located.word_span(index), value);
                    set.extend(name.zip(value));
                }
                for (name, value) in set {
                    self.known.set(&name.text, &value.text, name.certain && value.certain);
                }
            }
            Instruction::Label(pairs) => {
                for (index, (name, value)) in pairs.iter().enumerate() {
                    self.expand(located, located.word_span(index), name);
                    self.expand(located, located.word_span(index), value);
                }
            }
            Instruction::Copy(copy) => self.copy(located, copy, "Copy"),
            Instruction::Add(copy) => self.copy(located, copy, "Add"),
            Instruction::User(word)
            | Instruction::Workdir(word)
            | Instruction::StopSignal(word) => {
                self.expand(located, located.line_span, word);
            }
            Instruction::Volume(words) | Instruction::Expose(words) => {
                for word in words {
                    self.expand(located, located.line_span, word);
                }
            }
            Instruction::Run(_)
            | Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Shell(_)
            | Instruction::Healthcheck(_)
            | Instruction::OnBuild(_)
            | Instruction::Maintainer(_) => {}
        }
    }

    fn arg(&mut self, located: &'a Located, arg: &ArgDecl) {
        let default = arg.default.as_deref().and_then(|text| self.expand(located, arg.span, text));
        if let Some(given) = self.given.value(&arg.name) {
            self.known.set(&arg.name, given, true);
        } else if let Some(default) = default {
            self.known.set(&arg.name, &default.text, default.certain);
        } else if let Some(value) = self.graph.global.value(&arg.name) {
            self.known.set(&arg.name, value, true);
        } else {
            self.known.declared.insert(arg.name.clone());
        }
    }

    fn copy(&mut self, located: &'a Located, copy: &'a Copy, verb: &str) {
        // Heredocs stand between the other sources, so these have places only when there is none.
        let place = |index| {
            if copy.heredocs.is_empty() { located.word_span(index) } else { located.line_span }
        };
        for (index, source) in copy.sources.iter().enumerate() {
            let word = self.expand(located, place(index), source);
            if let Some(word) = word.filter(|word| word.certain && copy.from.is_none()) {
                self.ignored(located, place(index), &word.text, verb);
            }
        }
        self.expand(located, place(copy.sources.len()), &copy.dest);
        for flag in [&copy.chown, &copy.chmod, &copy.checksum].into_iter().flatten() {
            self.expand(located, located.line_span, flag);
        }
        for heredoc in copy.heredocs.iter().filter(|heredoc| heredoc.expand) {
            let body = String::from_utf8_lossy(&heredoc.content);
            if let Ok(expanded) = expand_body(&body, &self.known.env) {
                let word = self.known.word(&body, expanded);
                self.undefined(located, located.line_span, &word);
            }
        }
    }

    /// The word expanded, its undefined variables reported; `None` if it cannot be.
    fn expand(&mut self, located: &'a Located, span: Span, text: &str) -> Option<Word> {
        let escape = self.graph.escape.as_char();
        // What cannot be expanded is an error of its own, reported by the plan.
        let expanded = expand(text, escape, &self.known.env).ok()?;
        let word = self.known.word(text, expanded);
        self.undefined(located, span, &word);
        Some(word)
    }

    fn undefined(&mut self, located: &'a Located, span: Span, word: &Word) {
        for name in &word.undefined {
            let globals = self.graph.global.pairs().iter();
            let names = globals.chain(self.known.env.pairs()).map(|(name, _)| name.as_str());
            let near = suggest::nearest(name, names)
                .map(|near| format!(" (did you mean ${near}?)"))
                .unwrap_or_default();
            let message = format!("Usage of undefined variable '${name}'{near}");
            self.found.push(Found {
                rule: "UndefinedVar",
                span,
                message,
                comments: &located.comments,
            });
        }
    }

    fn ignored(&mut self, located: &'a Located, span: Span, source: &str, verb: &str) {
        let Some(ignore) = self.facts.ignore else { return };
        // A wildcard stands for names that are not known here, a URL for none of the context.
        if source.contains(['*', '?', '[', '\\', ':', '@']) {
            return;
        }
        let path = crate::glob::clean(source);
        let path = path.trim_start_matches('/');
        if matches!(path, "" | ".") || path.starts_with("..") || !hides(ignore, path) {
            return;
        }
        let message =
            format!("Attempting to {verb} file \"{source}\" that is excluded by .dockerignore");
        let comments = &located.comments;
        self.found.push(Found { rule: "CopyIgnoredFile", span, message, comments });
    }
}

/// Whether neither the path nor anything below it is left.
fn hides(ignore: &Ignore, path: &str) -> bool {
    let mut matches = ParentMatches::default();
    for (at, _) in path.match_indices('/') {
        matches = ignore.decide(&path[..at], &matches).1;
    }
    let (ignored, matches) = ignore.decide(path, &matches);
    ignored && ignore.can_prune(path, &matches)
}
