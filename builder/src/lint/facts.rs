//! The rules that need more than the text: what a base image sets, what the ignore file hides.
//!
//! Whatever is known is handed in as [`Facts`]. *Invariant:* what is not known is never held against the user.
//! A variable that an image of unknown environment could set is not undefined, and a source whose
//! name depends on such a variable is not ignored.

use super::{ContextFacts, Found};
use crate::expand::{Budget, Expanded, Lexer};
use crate::graph::{Base, Graph, StageNode};
use crate::ignore::{Ignore, ParentMatches};
use crate::instruction::{ArgDecl, Command, Copy, Dockerfile, Instruction, Located};
use crate::limits::MAX_DIAGNOSTICS;
use crate::plan::{BaseFacts, ImageKey};
use crate::scope::{BuildArgs, EnvList};
use crate::source::Span;
use crate::suggest;
use crate::text::Text;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What is known of the world around a Dockerfile.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The base images that were looked at.
    pub base: &'a dyn Fn(&ImageKey) -> Option<&'a BaseFacts>,
    /// The ignore file of the main context.
    pub ignore: Option<&'a Ignore>,
    /// The size of the main context.
    pub context: Option<&'a ContextFacts>,
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
    /// Whether a SHELL is in force that is not the default.
    has_shell: bool,
    /// Whether the file itself has set the working directory.
    has_workdir: bool,
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
                Some(base) => Self {
                    env: EnvList::from_config(&base.config.env),
                    has_shell: !base.config.shell.is_empty(),
                    ..Self::default()
                },
                None => Self { open: true, ..Self::default() },
            },
            Base::Scratch | Base::Named(_) => Self::default(),
        };
        known.declared.insert("PATH".to_owned());
        known
    }

    /// About as much memory as a copy takes.
    fn bytes(&self) -> usize {
        let names = self.declared.iter().chain(&self.guessed);
        self.env.bytes() + names.map(|name| name.len() + size_of::<String>()).sum::<usize>()
    }

    fn word(&self, text: &str, expanded: Expanded) -> Word {
        let guessed = expanded.reads.iter().any(|name| self.guessed.contains(name));
        let certain = !guessed && (!self.open || expanded.unset.is_empty());
        let mut undefined = expanded.unset;
        undefined.retain(|name| !self.open && !self.declared.contains(name));
        if !undefined.is_empty() {
            let plain = plain_uses(text);
            undefined.retain(|name| plain.contains(name.as_str()));
        }
        Word { text: expanded.text, undefined, certain }
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

/// The variables that a word uses without saying what shall stand there if they are not set.
fn plain_uses(text: &str) -> HashSet<&str> {
    let is_in_name = |c: char| c == '_' || c.is_alphanumeric();
    let plain = |(at, _): (usize, &str)| {
        let after = &text[at + 1..];
        let (braced, after) = match after.strip_prefix('{') {
            Some(rest) => (true, rest),
            None => (false, after),
        };
        let mut end = after.find(|c| !is_in_name(c)).unwrap_or(after.len());
        if end == 0 {
            // The parameters of a shell are names of one character.
            end = usize::from(after.starts_with(['@', '*', '#', '?', '-', '$', '!']));
        }
        let (name, rest) = after.split_at(end);
        let ends = if braced {
            rest.starts_with(['}', '#', '%', '/'])
        } else {
            !rest.starts_with(is_in_name)
        };
        ends.then_some(name)
    };
    text.match_indices('$').filter_map(plain).collect()
}

/// Goes through the stages in order.
struct Walk<'a, 'f, 'v> {
    budget: Budget,
    /// Uses of undefined variables so far.
    undefined: usize,
    file: &'a Dockerfile,
    graph: &'a Graph,
    given: BuildArgs,
    facts: Facts<'f>,
    known: Known,
    found: &'v mut Vec<Found<'a>>,
}

/// Finds what the facts show.
pub(super) fn find<'a>(
    file: &'a Dockerfile,
    (graph, stages): (&'a Graph, &[usize]),
    build_args: &[(String, String)],
    facts: Facts<'_>,
    found: &mut Vec<Found<'a>>,
) {
    let mut ends = BTreeMap::new();
    let (known, budget) = (Known::default(), Budget::of_file());
    let given = BuildArgs::new(build_args);
    let mut walk = Walk { budget, undefined: 0, file, graph, given, facts, known, found };
    for index in stages.iter().copied() {
        let stage = &graph.stages[index];
        walk.base_platform(stage);
        walk.known = Known::at_start(stage, facts, &ends);
        // What planning has no room for is an error of its own.
        if walk.budget.spend(walk.known.bytes()).is_err() {
            return;
        }
        for located in &stage.instructions {
            walk.instruction(located);
        }
        ends.insert(index, walk.known.clone());
    }
}

impl<'a> Walk<'a, '_, '_> {
    fn base_platform(&mut self, stage: &StageNode) {
        let Some(image) = stage.image().filter(|_| !stage.replaced) else { return };
        let base = (self.facts.base)(image);
        let Some(actual) = base.and_then(|base| base.platform.clone()) else { return };
        let wanted = &image.platform;
        if (&actual.os, &actual.architecture) == (&wanted.os, &wanted.architecture) {
            return;
        }
        let message = format!(
            "Base image {} was pulled with platform \"{}\", expected \"{}\" for current build",
            image.reference,
            actual.normalised(),
            wanted.clone().normalised()
        );
        let written = &self.file.stages[stage.index];
        let rule = "InvalidBaseImagePlatform";
        self.found.push(Found::new(rule, written.base_span, message, &written.comments));
    }

    fn instruction(&mut self, located: &'a Located) {
        match &located.instruction {
            Instruction::Arg(args) => args.iter().for_each(|arg| self.arg(located, arg)),
            Instruction::Env(pairs) => self.env(located, pairs),
            Instruction::Label(pairs) => {
                for (index, (name, value)) in pairs.iter().enumerate() {
                    self.expand(located, located.word_span(index), name);
                    self.expand(located, located.word_span(index), value);
                }
            }
            Instruction::Copy(copy) => self.copy(located, copy, "Copy"),
            Instruction::Add(copy) => self.copy(located, copy, "Add"),
            Instruction::Workdir(word) => self.workdir(located, word),
            Instruction::User(word) | Instruction::StopSignal(word) => {
                self.expand(located, located.line_span, word);
            }
            Instruction::Volume(words) => {
                for (index, word) in words.iter().enumerate() {
                    self.expand(located, located.word_span(index), word);
                }
            }
            Instruction::Expose(words) => {
                for (index, word) in words.iter().enumerate() {
                    self.expose(located, index, word);
                }
            }
            Instruction::Cmd(command) | Instruction::Entrypoint(command) => {
                self.signals(located, command);
            }
            Instruction::Shell(_) => self.known.has_shell = true,
            Instruction::Run(_)
            | Instruction::Healthcheck(_)
            | Instruction::OnBuild(_)
            | Instruction::Maintainer(_) => {}
        }
    }

    fn env(&mut self, located: &'a Located, pairs: &[(Text, Text)]) {
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

    fn signals(&mut self, located: &'a Located, command: &Command) {
        let Command::Shell(text) = command else { return };
        if self.known.has_shell {
            return;
        }
        let message = format!(
            "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
            located.keyword
        );
        let found =
            Found::new("JSONArgsRecommended", located.line_span, message, &located.comments);
        self.found.push(match json_form(&located.keyword, text) {
            Some(line) => found.with(|it| it.with_help(format!("write `{line}`"))),
            None => found,
        });
    }

    fn workdir(&mut self, located: &'a Located, path: &str) {
        let word = self.expand(located, located.line_span, path);
        // What begins with a variable that is not known may be absolute.
        let relative = word.filter(|word| word.certain || !path.starts_with(['$', '"', '\'']));
        let relative = relative.filter(|word| !word.text.starts_with('/'));
        if let (Some(word), false) = (relative, self.known.has_workdir) {
            let message = format!(
                "Relative workdir \"{}\" can have unexpected results if the base image changes",
                word.text
            );
            let (rule, span) = ("WorkdirRelativePath", located.line_span);
            self.found.push(Found::new(rule, span, message, &located.comments));
        }
        self.known.has_workdir = true;
    }

    fn expose(&mut self, located: &'a Located, index: usize, word: &str) {
        let span = located.word_span(index);
        if !self.expand(located, span, word).is_some_and(|word| word.certain) {
            return;
        }
        // What cannot be expanded is an error of its own, reported by the plan.
        let ports = self.lexer().words(word, &self.known.env).unwrap_or_default();
        for port in ports {
            let (host, container) = port.rsplit_once(':').unwrap_or(("", &port));
            let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
            if protocol != protocol.to_lowercase() {
                let message =
                    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
                let found = Found::new("ExposeProtoCasing", span, message, &located.comments);
                let lower = word.to_lowercase();
                self.found.push(if word == port {
                    found.with(|it| it.with_fix("write the protocol in lower case", span, lower))
                } else {
                    found
                });
            }
            if !host.is_empty() {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                );
                let rule = "ExposeInvalidFormat";
                self.found.push(Found::new(rule, span, message, &located.comments));
            }
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
            self.known.declared.insert(arg.name.to_string());
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
            let lexer = Lexer::of_bodies().within(&self.budget);
            if let Ok(expanded) = lexer.expand(&body, &self.known.env) {
                let word = self.known.word(&body, expanded);
                self.undefined(located, located.line_span, &word);
            }
        }
    }

    fn lexer(&self) -> Lexer<'_> {
        Lexer::new(self.graph.escape.as_char()).within(&self.budget)
    }

    /// The word expanded, its undefined variables reported; `None` if it cannot be.
    fn expand(&mut self, located: &'a Located, span: Span, text: &str) -> Option<Word> {
        // What cannot be expanded is an error of its own, reported by the plan.
        let expanded = self.lexer().expand(text, &self.known.env).ok()?;
        let word = self.known.word(text, expanded);
        self.undefined(located, span, &word);
        Some(word)
    }

    fn undefined(&mut self, located: &'a Located, span: Span, word: &Word) {
        for name in &word.undefined {
            // More would not be shown, and looking for what is near takes long.
            if self.undefined == MAX_DIAGNOSTICS {
                return;
            }
            self.undefined += 1;
            let globals = self.graph.global.pairs().iter();
            let names = globals.chain(self.known.env.pairs()).map(|(name, _)| &**name);
            let near = suggest::nearest(name, names)
                .map(|near| format!(" (did you mean ${near}?)"))
                .unwrap_or_default();
            let message = format!("Usage of undefined variable '${name}'{near}");
            let found = Found::new("UndefinedVar", span, message, &located.comments);
            let global = self.file.global_args.iter().flat_map(|line| &line.args);
            let global = global.rev().find(|arg| arg.name == *name);
            self.found.push(match global {
                Some(arg) => found.with(|it| {
                    it.with_related(arg.span, "declared here, for FROM lines alone").with_help(
                        format!("put `ARG {name}` into the stage to give it the same value there"),
                    )
                }),
                None => found,
            });
        }
    }

    /// What is ignored cannot be copied. Where a `!` may take something below a directory back, only
    /// what is certain counts; where there is none, the rule speaks as the reference's does.
    fn ignored(&mut self, located: &'a Located, span: Span, source: &str, verb: &str) {
        let Some(ignore) = self.facts.ignore else { return };
        // A URL names no file of the context.
        if source.contains("://") || source.starts_with("git@") {
            return;
        }
        let path = crate::glob::clean(source);
        let ignored = if ignore.matcher().has_negations() {
            let relative = path.trim_start_matches('/');
            let is_plain = !source.contains(['*', '?', '[', '\\']) && !matches!(relative, "" | ".");
            is_plain && !relative.starts_with("..") && hides(ignore, relative)
        } else {
            ignore.is_excluded(&path)
        };
        if ignored {
            let message =
                format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore");
            self.found.push(Found::new("CopyIgnoredFile", span, message, &located.comments));
        }
    }
}

/// The JSON form of a command that needs no shell: plain words and nothing else.
fn json_form(keyword: &str, text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    let words: Vec<&str> = text.split_whitespace().collect();
    let program = words.first()?;
    let is_word = |word: &&str| word.chars().all(is_plain);
    // An assignment and a builtin need a shell.
    let needs_shell = program.contains('=') || ["exec", "cd", ".", "source"].contains(program);
    if needs_shell || !words.iter().all(is_word) {
        return None;
    }
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    Some(format!("{keyword} [{}]", quoted.join(", ")))
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
