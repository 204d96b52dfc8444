//! The rules that need no more than the text.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Found;
use crate::expand::{NoScope, expand};
use crate::instruction::{Ast, Command, Dockerfile, Instruction, Located, Stage};
use crate::syntax::Node;
use crate::syntax::word::{blank_words, quoted_words};

/// Arguments that are set in FROM without being declared.
const PLATFORM_ARGS: [&str; 11] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETSTAGE",
];

/// Parts of a name that speak of a secret.
const SECRET_PARTS: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Names that the reference reserves.
const RESERVED_STAGES: [&str; 2] = ["context", "scratch"];

/// Rules about lines: casing, continuations, the old form of ENV and LABEL.
pub(super) fn lines<'a>(ast: &'a Ast, found: &mut Vec<Found<'a>>) {
    let lower = ast.nodes().filter(|node| is_lower(&node.keyword)).count();
    let upper = ast.nodes().filter(|node| is_upper(&node.keyword)).count();
    let mut in_stage = false;
    for node in ast.nodes() {
        let mut push = |rule, message| {
            let span = node.keyword_span;
            found.push(Found { rule, span, message, comments: &node.comments });
        };
        in_stage |= node.keyword.eq_ignore_ascii_case("from");
        if !node.blank_continuations.is_empty() {
            push("NoEmptyContinuation", format!("Empty continuation line in {}", node.keyword));
        }
        let (good, casing) = if lower > upper {
            (is_lower(&node.keyword), "lowercase")
        } else {
            (is_upper(&node.keyword), "uppercase")
        };
        if in_stage && !good {
            push(
                "ConsistentInstructionCasing",
                format!(
                    "Command '{}' should match the case of the command majority ({casing})",
                    node.keyword
                ),
            );
        }
        if node.keyword.eq_ignore_ascii_case("maintainer") {
            let message = "Maintainer instruction is deprecated in favor of using label";
            push("MaintainerDeprecated", message.to_owned());
        }
        if is_legacy_pair(node) {
            let keyword = node.keyword.to_uppercase();
            push(
                "LegacyKeyValueFormat",
                format!(
                    "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
                ),
            );
        }
        if let Some(message) = from_as_casing(node) {
            push("FromAsCasing", message);
        }
    }
}

fn is_lower(word: &str) -> bool {
    word.to_lowercase() == word
}

fn is_upper(word: &str) -> bool {
    word.to_uppercase() == word
}

fn is_legacy_pair(node: &Node) -> bool {
    ["env", "label"].iter().any(|name| node.keyword.eq_ignore_ascii_case(name))
        && quoted_words(node.rest(), node.escape)
            .first()
            .is_some_and(|word| !word.text.contains('='))
}

fn from_as_casing(node: &Node) -> Option<String> {
    let words = Some(blank_words(node.rest())).filter(|words| words.len() == 3)?;
    let (from, as_word) = (&node.keyword, &words[1].text);
    // A keyword of mixed casing has a finding of its own.
    if !from.eq_ignore_ascii_case("from") || !(is_lower(from) || is_upper(from)) {
        return None;
    }
    let same = (is_lower(from) && is_lower(as_word)) || (is_upper(from) && is_upper(as_word));
    (!same).then(|| format!("'{as_word}' and '{from}' keywords' casing do not match"))
}

/// Rules about FROM lines.
pub(super) fn stages<'a>(file: &'a Dockerfile, found: &mut Vec<Found<'a>>) {
    let globals = Globals::of(file);
    let mut names = HashSet::new();
    for stage in &file.stages {
        let mut push = |rule, span, message| {
            found.push(Found { rule, span, message, comments: &stage.comments });
        };
        if let (Some(name), Some(written)) = (&stage.name, &stage.name_written) {
            let span = stage.name_span.unwrap_or(stage.span);
            if name != written {
                let message = format!("Stage name '{written}' should be lowercase");
                push("StageNameCasing", span, message);
            }
            if RESERVED_STAGES.contains(&name.as_str()) {
                push(
                    "ReservedStageName",
                    span,
                    format!("Stage name should not use the same name as reserved stage \"{name}\""),
                );
            }
            if !names.insert(name.as_str()) {
                push(
                    "DuplicateStageName",
                    span,
                    format!("Duplicate stage name \"{name}\", stage names should be unique"),
                );
            }
        }
        platform_flag(stage, &mut |rule, message| push(rule, stage.span, message));
        globals.check(stage, &mut |rule, message| push(rule, stage.base_span, message));
    }
}

fn platform_flag(stage: &Stage, push: &mut dyn FnMut(&'static str, String)) {
    let Some(platform) = &stage.platform else { return };
    if matches!(platform.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        push(
            "RedundantTargetPlatform",
            format!(
                "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
            ),
        );
    }
    // A stage named for its platform means what it says.
    let named = |name: &String| platform.split('/').any(|part| name.contains(part));
    if !platform.contains('$') && !stage.name.as_ref().is_some_and(named) {
        push(
            "FromPlatformFlagConstDisallowed",
            format!("FROM --platform flag should not use constant value \"{platform}\""),
        );
    }
}

/// What FROM lines can refer to.
struct Globals<'a> {
    escape: char,
    declared: HashSet<&'a str>,
    /// The values if no argument is given from outside.
    defaults: BTreeMap<String, String>,
}

impl<'a> Globals<'a> {
    fn of(file: &'a Dockerfile) -> Self {
        let escape = file.directives.escape.as_char();
        let args = || file.global_args.iter().flat_map(|line| &line.args);
        let declared = args().map(|arg| arg.name.as_str()).chain(PLATFORM_ARGS).collect();
        // The platform's arguments always have a value, though it is not known here.
        let platform = PLATFORM_ARGS.map(|name| (name.to_owned(), "x".to_owned()));
        let mut defaults = BTreeMap::from(platform);
        for arg in args() {
            let default =
                arg.default.as_ref().and_then(|text| expand(text, escape, &defaults).ok());
            defaults.extend(default.map(|default| (arg.name.clone(), default.text)));
        }
        Self { escape, declared, defaults }
    }

    fn check(&self, stage: &Stage, push: &mut dyn FnMut(&'static str, String)) {
        let platform = stage.platform.as_deref().unwrap_or_default();
        for word in [stage.base.as_str(), platform] {
            let Ok(expanded) = expand(word, self.escape, &NoScope) else { continue };
            for name in expanded.reads.iter().filter(|name| !self.declared.contains(name.as_str()))
            {
                push("UndefinedArgInFrom", format!("FROM argument '{name}' is not declared"));
            }
        }
        let base = expand(&stage.base, self.escape, &self.defaults);
        if stage.base.contains('$') && base.is_ok_and(|base| is_no_image(&base.text)) {
            push(
                "InvalidDefaultArgInFrom",
                format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    stage.base
                ),
            );
        }
    }
}

/// Whether a text certainly names no image: a part of the name is missing.
fn is_no_image(text: &str) -> bool {
    text.is_empty() || text.starts_with([':', '@', '/']) || text.ends_with([':', '@', '/'])
}

/// Rules about the instructions of the stages that are built.
pub(super) fn instructions<'a>(
    file: &'a Dockerfile,
    reached: &dyn Fn(usize) -> bool,
    found: &mut Vec<Found<'a>>,
) {
    // What a stage hands on to those that begin from it.
    let mut has_shell = vec![false; file.stages.len()];
    let mut has_workdir = vec![false; file.stages.len()];
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for stage in &file.stages {
        let parent = by_name.get(stage.base.as_str()).copied();
        has_shell[stage.index] = parent.is_some_and(|parent| has_shell[parent]);
        has_workdir[stage.index] = parent.is_some_and(|parent| has_workdir[parent]);
        let mut seen: Vec<&Located> = Vec::new();
        for located in &stage.instructions {
            let mut push = |rule, at: &'a Located, message| {
                let span = at.line_span;
                if reached(stage.index) {
                    found.push(Found { rule, span, message, comments: &at.comments });
                }
            };
            match &located.instruction {
                Instruction::Shell(_) => has_shell[stage.index] = true,
                Instruction::Cmd(Command::Shell(_))
                | Instruction::Entrypoint(Command::Shell(_))
                    if !has_shell[stage.index] =>
                {
                    push(
                        "JSONArgsRecommended",
                        located,
                        format!(
                            "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                            located.instruction.name()
                        ),
                    );
                }
                Instruction::Workdir(path) => {
                    if !has_workdir[stage.index] && is_relative(path, file) {
                        push(
                            "WorkdirRelativePath",
                            located,
                            format!(
                                "Relative workdir \"{path}\" can have unexpected results if the base image changes"
                            ),
                        );
                    }
                    has_workdir[stage.index] = true;
                }
                _ => {}
            }
            for (rule, message) in words(located) {
                push(rule, located, message);
            }
            if let Some(before) = used_before(located, &mut seen) {
                push(
                    "MultipleInstructionsDisallowed",
                    before,
                    format!(
                        "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                        located.instruction.name()
                    ),
                );
            }
        }
        by_name.extend(stage.name.as_deref().map(|name| (name, stage.index)));
    }
}

/// Whether a path is certainly relative: one that begins with a variable may be either.
fn is_relative(path: &str, file: &Dockerfile) -> bool {
    let plain = path.trim_start_matches(['"', '\'']);
    !plain.starts_with(['/', '$', file.directives.escape.as_char()])
}

/// The earlier one of two instructions of which only the last counts.
fn used_before<'a>(located: &'a Located, seen: &mut Vec<&'a Located>) -> Option<&'a Located> {
    let name = located.instruction.name();
    if !matches!(name, "CMD" | "ENTRYPOINT" | "HEALTHCHECK") {
        return None;
    }
    let before = seen.iter().position(|before| before.instruction.name() == name);
    let before = before.map(|at| seen.swap_remove(at));
    seen.push(located);
    before
}

/// Rules about the words of one instruction.
fn words(located: &Located) -> Vec<(&'static str, String)> {
    let secret = |instruction: &str, name: &str| {
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} \"{name}\")"
        );
        names_secret(name).then_some(("SecretsUsedInArgOrEnv", message))
    };
    match &located.instruction {
        Instruction::Arg(args) => args.iter().filter_map(|arg| secret("ARG", &arg.name)).collect(),
        Instruction::Env(pairs) => {
            pairs.iter().filter_map(|(name, _)| secret("ENV", name)).collect()
        }
        Instruction::Expose(words) => words.iter().filter_map(|word| expose_word(word)).collect(),
        _ => Vec::new(),
    }
}

fn expose_word(word: &str) -> Option<(&'static str, String)> {
    if word.contains(':') && !word.contains('$') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
        );
        return Some(("ExposeInvalidFormat", message));
    }
    let (_, protocol) = word.split_once('/')?;
    let upper = !protocol.contains('$') && !is_lower(protocol);
    upper.then(|| {
        let message =
            format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
        ("ExposeProtoCasing", message)
    })
}

/// Whether a part of the name, cut at `_`, speaks of a secret, and none says that it is public.
fn names_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut parts = lower.split('_');
    parts.clone().all(|part| part != "public") && parts.any(|part| SECRET_PARTS.contains(&part))
}
