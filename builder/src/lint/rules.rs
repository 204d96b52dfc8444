//! The rules that need no more than the text.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Found;
use crate::diagnostic::{Edit, Fix};
use crate::expand::{NoScope, expand};
use crate::instruction::{Ast, Dockerfile, Instruction, Located, Stage};
use crate::source::Span;
use crate::suggest;
use crate::syntax::word::{blank_words, quoted_words};
use crate::syntax::{ItemKind, Node};
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;

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

/// The platform that is asked for when nobody says another one.
const TARGET_PLATFORM: &str = "TARGETPLATFORM";

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

/// Parts of a name that say that the value is none: a public key, a file's name, a version.
const HARMLESS_PARTS: [&str; 3] = ["public", "file", "version"];

/// Names that the reference reserves.
const RESERVED_STAGES: [&str; 2] = ["context", "scratch"];

/// Rules about lines: casing, continuations, the old form of ENV and LABEL.
pub(super) fn lines<'a>(ast: &'a Ast, reached: &dyn Fn(usize) -> bool, found: &mut Vec<Found<'a>>) {
    let is_from = |node: &Node| node.keyword.eq_ignore_ascii_case("from");
    let in_stages = || ast.nodes().skip_while(|node| !is_from(node));
    let lower = in_stages().filter(|node| is_lower(&node.keyword)).count();
    let upper =
        in_stages().filter(|node| is_upper(&node.keyword) && !is_lower(&node.keyword)).count();
    let mut stages = 0;
    let mut after_blank = false;
    for item in &ast.items {
        let ItemKind::Instruction(node) = &item.kind else {
            after_blank = matches!(item.kind, ItemKind::Blank);
            continue;
        };
        stages += usize::from(is_from(node));
        found.extend(empty_continuation(node));
        found.extend(maintainer(node));
        found.extend(definition_description(node).filter(|_| !after_blank));
        if let Some(stage) = stages.checked_sub(1) {
            found.extend(keyword_casing(node, lower > upper));
            found.extend(from_as_casing(node));
            found.extend(legacy_pair(node).filter(|_| reached(stage)));
        }
        after_blank = false;
    }
}

fn is_lower(word: &str) -> bool {
    if word.is_ascii() {
        return !word.bytes().any(|byte| byte.is_ascii_uppercase());
    }
    word.to_lowercase() == word
}

fn is_upper(word: &str) -> bool {
    if word.is_ascii() {
        return !word.bytes().any(|byte| byte.is_ascii_lowercase());
    }
    word.to_uppercase() == word
}

fn empty_continuation(node: &Node) -> Option<Found<'_>> {
    let first = *node.blank_continuations.first()?;
    let message = "Empty continuation line".to_owned();
    let remove = |span: &Span| Edit { span: *span, text: String::new() };
    let edits = node.blank_continuations.iter().map(remove).collect();
    let found = Found::new("NoEmptyContinuation", first, message, &node.comments);
    Some(found.with(|mut diagnostic| {
        diagnostic.fix = Some(Fix { summary: "remove the blank line", edits });
        diagnostic.with_related(node.keyword_span, "in this instruction")
    }))
}

fn maintainer(node: &Node) -> Option<Found<'_>> {
    if !node.keyword.eq_ignore_ascii_case("maintainer") {
        return None;
    }
    let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
    let found = Found::new("MaintainerDeprecated", node.keyword_span, message, &node.comments);
    Some(
        found.with(|it| it.with_help("LABEL org.opencontainers.image.authors=\"…\" says the same")),
    )
}

fn keyword_casing(node: &Node, wants_lower: bool) -> Option<Found<'_>> {
    if if wants_lower { is_lower(&node.keyword) } else { is_upper(&node.keyword) } {
        return None;
    }
    let (wanted, casing) = if wants_lower {
        (node.keyword.to_lowercase(), "lowercase")
    } else {
        (node.keyword.to_uppercase(), "uppercase")
    };
    let message = format!(
        "Command '{}' should match the case of the command majority ({casing})",
        node.keyword
    );
    let span = node.keyword_span;
    let found = Found::new("ConsistentInstructionCasing", span, message, &node.comments);
    Some(found.with(|it| it.with_fix("write the keyword as the others", span, wanted)))
}

fn legacy_pair(node: &Node) -> Option<Found<'_>> {
    if !["env", "label"].iter().any(|name| node.keyword.eq_ignore_ascii_case(name)) {
        return None;
    }
    let words = quoted_words(node.rest(), node.escape);
    let first = words.first().filter(|word| !word.text.contains('='))?;
    let keyword = &node.keyword;
    let message = format!(
        "\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format"
    );
    let span = node.rest_span();
    let found = Found::new("LegacyKeyValueFormat", span, message, &node.comments);
    let Some(pair) = equal_pair(node, first.text) else { return Some(found) };
    Some(found.with(|it| it.with_fix("join name and value with `=`", span, pair)))
}

/// `name=value` in place of `name value`, if it certainly means the same: there is nothing in the
/// value that quotes would change, and the pair stands on one line.
fn equal_pair(node: &Node, name: &str) -> Option<String> {
    let rest = node.rest();
    let value = rest.strip_prefix(name)?.trim_start();
    let special = ['"', '\'', '\\', '`', '{', '\n'];
    if value.is_empty() || rest.contains(special) || node.rest_span().len() != rest.len() {
        return None;
    }
    if value.contains(char::is_whitespace) {
        return Some(format!("{name}=\"{value}\""));
    }
    Some(format!("{name}={value}"))
}

fn from_as_casing(node: &Node) -> Option<Found<'_>> {
    let from = &node.keyword;
    // A keyword of mixed casing has a finding of its own.
    if !from.eq_ignore_ascii_case("from") || !(is_lower(from) || is_upper(from)) {
        return None;
    }
    let words = Some(blank_words(node.rest())).filter(|words| words.len() == 3)?;
    let as_word = words[1].text;
    let same = (is_lower(from) && is_lower(as_word)) || (is_upper(from) && is_upper(as_word));
    let wanted = if is_lower(from) { as_word.to_lowercase() } else { as_word.to_uppercase() };
    let span = node.span_in_rest(words[1].range.clone());
    let message = format!("'{as_word}' and '{from}' keywords' casing do not match");
    let found = Found::new("FromAsCasing", span, message, &node.comments);
    (!same).then(|| found.with(|it| it.with_fix("write it as FROM is written", span, wanted)))
}

/// The last comment above a named stage or an ARG is its description, unless an empty comment or a
/// blank line parts the two.
fn definition_description(node: &Node) -> Option<Found<'_>> {
    let is = |name: &str| node.keyword.eq_ignore_ascii_case(name);
    let (instruction, names) = if is("from") {
        let words = Some(blank_words(node.rest())).filter(|words| words.len() == 3)?;
        ("FROM", vec![words[2].text.to_lowercase()])
    } else if is("arg") {
        let words = quoted_words(node.rest(), node.escape);
        let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
        ("ARG", words.iter().map(|word| name(word.text)).collect())
    } else {
        return None;
    };
    let comment = node.comments.last().filter(|comment| !comment.text.is_empty())?;
    let first = comment.text.split(' ').next().unwrap_or_default();
    if names.iter().any(|name| name == first) {
        return None;
    }
    let example = match names.as_slice() {
        [] => return None,
        [only] => only.as_str(),
        _ => "<arg_key>",
    };
    let message =
        format!("Comment for {instruction} should follow the format: `# {example} <description>`");
    let rule = "InvalidDefinitionDescription";
    Some(Found::new(rule, comment.span, message, &node.comments).with(|it| {
        it.with_related(node.line_span(), "it is taken for the description of this")
            .with_help("a blank line below the comment keeps it a plain comment")
    }))
}

/// Rules about FROM lines.
pub(super) fn stages<'a>(ast: &'a Ast, file: &'a Dockerfile, found: &mut Vec<Found<'a>>) {
    let globals = Globals::of(file);
    let mut names: HashMap<&str, Span> = HashMap::new();
    let from_lines = ast.nodes().filter(|node| node.keyword.eq_ignore_ascii_case("from"));
    for (stage, node) in file.stages.iter().zip(from_lines) {
        let new = |rule, span, message| Found::new(rule, span, message, &stage.comments);
        if let (Some(name), Some(written)) = (&stage.name, &stage.name_written) {
            let span = stage.name_span.unwrap_or(stage.span);
            if name != written {
                let message = format!("Stage name '{written}' should be lowercase");
                let found_here = new("StageNameCasing", span, message);
                found
                    .push(found_here.with(|it| {
                        it.with_fix("write the name in lower case", span, name.clone())
                    }));
            }
            if RESERVED_STAGES.contains(&name.as_str()) {
                let message =
                    format!("Stage name should not use the same name as reserved stage \"{name}\"");
                found.push(new("ReservedStageName", span, message));
            }
            if let Some(first) = names.get(name.as_str()) {
                let message =
                    format!("Duplicate stage name \"{name}\", stage names should be unique");
                found.push(
                    new("DuplicateStageName", span, message)
                        .with(|it| it.with_related(*first, "first defined here")),
                );
            }
            names.entry(name).or_insert(span);
        }
        found.extend(platform_flag(stage, node, &globals));
        globals.check(stage, node, found);
    }
}

/// Where a FROM line's `--platform` stands.
fn platform_span(node: &Node) -> Span {
    let flag = node.flags.iter().find(|flag| flag.text.starts_with("--platform="));
    flag.map_or(node.line_span(), |flag| flag.span)
}

fn platform_flag<'a>(stage: &'a Stage, node: &'a Node, globals: &Globals<'_>) -> Option<Found<'a>> {
    let platform = stage.platform.as_ref()?;
    let span = platform_span(node);
    let expanded = expand(platform, globals.escape, &globals.defaults).ok()?;
    if expanded.reads.is_empty() {
        return constant_platform(stage, span, &expanded.text);
    }
    let target = globals.defaults.get(TARGET_PLATFORM)?;
    if expanded.reads != [TARGET_PLATFORM] || !expanded.unset.is_empty() || expanded.text != *target
    {
        return None;
    }
    let message = format!(
        "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
    );
    let found = Found::new("RedundantTargetPlatform", span, message, &stage.comments);
    // An ARG of that name may stand for another platform than the default.
    if globals.redefines_target {
        return Some(found);
    }
    let with_blank = Span::new(span.start, stage.base_span.start.max(span.end));
    let alone = node.flags.len() == 1 && !with_blank.is_empty();
    Some(if alone { found.with(|it| it.with_fix("leave it out", with_blank, "")) } else { found })
}

fn constant_platform<'a>(stage: &'a Stage, span: Span, text: &str) -> Option<Found<'a>> {
    let parsed: Platform = text.parse().ok()?;
    // A stage that is named for its platform means what it says.
    let named = |name: &String| name.contains(&parsed.os) || name.contains(&parsed.architecture);
    let message = format!("FROM --platform flag should not use constant value \"{text}\"");
    let found = Found::new("FromPlatformFlagConstDisallowed", span, message, &stage.comments);
    (!stage.name.as_ref().is_some_and(named)).then_some(found)
}

/// What FROM lines can refer to.
struct Globals<'a> {
    escape: char,
    declared: HashSet<&'a str>,
    /// The values if no argument is given from outside.
    defaults: BTreeMap<String, String>,
    redefines_target: bool,
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
            defaults.extend(default.map(|default| (arg.name.to_string(), default.text)));
        }
        let redefines_target = args().any(|arg| arg.name == TARGET_PLATFORM);
        Self { escape, declared, defaults, redefines_target }
    }

    fn check<'s>(&self, stage: &'s Stage, node: &'s Node, found: &mut Vec<Found<'s>>) {
        let platform = stage.platform.as_deref().unwrap_or_default();
        for (word, span) in
            [(stage.base.as_str(), stage.base_span), (platform, platform_span(node))]
        {
            let Ok(expanded) = expand(word, self.escape, &NoScope) else { continue };
            let unknown =
                expanded.reads.iter().filter(|name| !self.declared.contains(name.as_str()));
            for name in unknown {
                found.push(self.undeclared(stage, name, span));
            }
        }
        let base = expand(&stage.base, self.escape, &self.defaults);
        let is_no_image = |text: &str| Reference::parse(text).is_err();
        if stage.base.contains('$') && base.is_ok_and(|base| is_no_image(&base.text)) {
            let message = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.base
            );
            let rule = "InvalidDefaultArgInFrom";
            found.push(Found::new(rule, stage.base_span, message, &stage.comments));
        }
    }

    fn undeclared<'s>(&self, stage: &'s Stage, name: &str, span: Span) -> Found<'s> {
        let mut declared: Vec<&str> = self.declared.iter().copied().collect();
        declared.sort_unstable();
        let near = suggest::nearest(name, declared)
            .map(|near| format!(" (did you mean {near}?)"))
            .unwrap_or_default();
        let message = format!("FROM argument '{name}' is not declared{near}");
        Found::new("UndefinedArgInFrom", span, message, &stage.comments)
            .with(|it| it.with_help(format!("put `ARG {name}` before the first FROM")))
    }
}

/// Rules about the instructions of the stages that are built.
pub(super) fn instructions<'a>(
    file: &'a Dockerfile,
    reached: &dyn Fn(usize) -> bool,
    found: &mut Vec<Found<'a>>,
) {
    for stage in file.stages.iter().filter(|stage| reached(stage.index)) {
        let mut seen: Vec<&Located> = Vec::new();
        for located in &stage.instructions {
            found.extend(secrets(located));
            let Some(before) = used_before(located, &mut seen) else { continue };
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                located.keyword
            );
            let rule = "MultipleInstructionsDisallowed";
            found.push(
                Found::new(rule, before.line_span, message, &before.comments)
                    .with(|it| it.with_related(located.line_span, "this one takes its place")),
            );
        }
    }
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

fn secrets(located: &Located) -> Vec<Found<'_>> {
    let secret = |instruction: &str, name: &str, span: Span| {
        if !names_secret(name) {
            return None;
        }
        let message = format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} \"{name}\")"
        );
        let found = Found::new("SecretsUsedInArgOrEnv", span, message, &located.comments);
        let help = "give it to the step that needs it: RUN --mount=type=secret";
        Some(found.with(|it| it.with_help(help)))
    };
    match &located.instruction {
        Instruction::Arg(args) => {
            args.iter().filter_map(|arg| secret("ARG", &arg.name, arg.span)).collect()
        }
        Instruction::Env(pairs) => {
            let named = pairs.iter().enumerate();
            named.filter_map(|(at, (name, _))| secret("ENV", name, located.word_span(at))).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a part of the name, cut at `_`, speaks of a secret, and none says that it is none.
pub(crate) fn names_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    let mut parts = lower.split('_');
    parts.clone().all(|part| !HARMLESS_PARTS.contains(&part))
        && parts.any(|part| SECRET_PARTS.contains(&part))
}
