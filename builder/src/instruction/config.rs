//! The instructions that only change the image's configuration: ENV LABEL ARG USER WORKDIR CMD ….

use super::{ArgDecl, Command, Instruction};
use crate::diagnostic::{Diagnostic, code};
use crate::source::Span;
use crate::syntax::word::{Word, each_blank_word, each_quoted_word, is_blank};
use crate::syntax::{JsonForm, Node, json_form};
use crate::text::{Text, cut};
use std::borrow::Cow;

/// `None` means that the problem was reported.
pub(super) type Lowered<T> = Option<T>;

/// The words of an instruction, with their places.
#[derive(Debug, Default)]
pub(super) struct Words {
    pub(super) texts: Vec<Text>,
    pub(super) spans: Vec<Span>,
    pub(super) json: bool,
}

impl Words {
    fn new<'a>(node: &Node, words: impl Iterator<Item = Word<'a>>) -> Self {
        let few = 4;
        let (texts, spans) = (Vec::with_capacity(few), Vec::with_capacity(few));
        let mut all = Self { texts, spans, json: false };
        for Word { text, range } in words {
            all.texts.push(node.line.text.part_of(text));
            all.spans.push(node.span_in_rest(range));
        }
        all
    }

    /// Words of the JSON form, else those between blanks.
    pub(super) fn json_or_blank(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Self> {
        match json_form(node.rest()) {
            JsonForm::Strings(words) => {
                Some(Self { texts: json_words(node, words), spans: Vec::new(), json: true })
            }
            JsonForm::NotJson => Some(Self::new(node, each_blank_word(node.rest()))),
            JsonForm::NotStrings => {
                out.push(not_strings(node));
                None
            }
        }
    }

    /// Words between blanks.
    pub(super) fn blank(node: &Node) -> Self {
        Self::new(node, each_blank_word(node.rest()))
    }
}

pub(super) fn bad_arguments(span: Span, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(code::BAD_ARGUMENTS, span, message)
}

pub(super) fn not_strings(node: &Node) -> Diagnostic {
    Diagnostic::error(
        code::JSON_NOT_STRINGS,
        node.rest_span(),
        "when using JSON array syntax, arrays must be comprised of strings only",
    )
}

pub(super) fn at_least_one(node: &Node) -> Diagnostic {
    let keyword = node.keyword.to_uppercase();
    bad_arguments(node.keyword_span, format!("{keyword} requires at least one argument"))
}

/// The strings of a JSON form, those without escapes as parts of the line.
pub(super) fn json_words(node: &Node, words: Vec<Cow<'_, str>>) -> Vec<Text> {
    let text = |word| match word {
        Cow::Borrowed(word) => node.line.text.part_of(word),
        Cow::Owned(word) => Text::from(word),
    };
    words.into_iter().map(text).collect()
}

/// Text for the shell, or the words of the JSON form.
pub(super) fn command(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Command> {
    match json_form(node.rest()) {
        JsonForm::Strings(words) => Some(Command::Exec(json_words(node, words))),
        JsonForm::NotJson => Some(Command::Shell(node.rest_text())),
        JsonForm::NotStrings => {
            out.push(not_strings(node));
            None
        }
    }
}

/// The pairs of ENV and LABEL, and whether they were written as `name value`.
pub(super) struct Pairs {
    pub(super) pairs: Vec<(Text, Text)>,
    pub(super) spans: Vec<Span>,
}

/// Reads `name=value …`, or `name value` if the first word has no `=`.
pub(super) fn pairs(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Pairs> {
    let mut words = each_quoted_word(node.rest(), node.escape).peekable();
    let Some(first) = words.peek() else {
        out.push(at_least_one(node));
        return None;
    };
    if !first.text.as_bytes().contains(&b'=') {
        return legacy_pair(node, out);
    }
    let mut pairs = Vec::new();
    let mut spans = Vec::new();
    let mut good = true;
    for word in words {
        let span = node.span_in_rest(word.range.clone());
        spans.push(span);
        match cut(word.text, b'=') {
            Some(("", _)) => {
                let keyword = node.keyword.to_uppercase();
                out.push(bad_arguments(span, format!("{keyword} names can not be blank")));
                good = false;
            }
            Some((key, value)) => {
                let text = &node.line.text;
                pairs.push((text.part_of(key), text.part_of(value)));
            }
            None => {
                out.push(missing_equals(span, word.text));
                good = false;
            }
        }
    }
    good.then_some(Pairs { pairs, spans })
}

fn missing_equals(span: Span, word: &str) -> Diagnostic {
    let quoted = super::format::go_quote(word);
    bad_arguments(
        span,
        format!("Syntax error - can't find = in {quoted}. Must be of the form: name=value"),
    )
    .with_help("quote a value that has blanks in it")
}

/// `name value`: everything after the first blanks is the value.
fn legacy_pair(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Pairs> {
    let Some((key, value)) = node.rest().split_once(is_blank) else {
        let keyword = node.keyword.to_uppercase();
        out.push(
            bad_arguments(node.rest_span(), format!("{keyword} must have two arguments"))
                .with_help(format!("write `{keyword} name=value`")),
        );
        return None;
    };
    let value = value.trim_start_matches(is_blank);
    let text = &node.line.text;
    let pairs = vec![(text.part_of(key), text.part_of(value))];
    Some(Pairs { pairs, spans: vec![node.rest_span()] })
}

/// ARG: names, each with or without a default.
pub(super) fn args(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Vec<ArgDecl>> {
    let mut words = each_quoted_word(node.rest(), node.escape).peekable();
    if words.peek().is_none() {
        out.push(at_least_one(node));
        return None;
    }
    let text = &node.line.text;
    // Nearly all ARGs declare one.
    let mut args = Vec::with_capacity(1);
    for word in words {
        let span = node.span_in_rest(word.range.clone());
        match cut(word.text, b'=') {
            Some(("", _)) => out.push(bad_arguments(span, "ARG names can not be blank")),
            Some((name, default)) => args.push(ArgDecl {
                name: text.part_of(name),
                default: Some(text.part_of(default)),
                span,
            }),
            None => args.push(ArgDecl { name: text.part_of(word.text), default: None, span }),
        }
    }
    Some(args)
}

/// USER, WORKDIR, STOPSIGNAL, MAINTAINER: the whole rest is the one argument.
pub(super) fn one(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Text> {
    if node.rest().is_empty() {
        let keyword = node.keyword.to_uppercase();
        out.push(bad_arguments(
            node.keyword_span,
            format!("{keyword} requires exactly one argument"),
        ));
        return None;
    }
    Some(node.rest_text())
}

/// SHELL: the JSON form, and not empty.
pub(super) fn shell(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Instruction> {
    if node.rest().is_empty() {
        out.push(at_least_one(node));
        return None;
    }
    match command(node, out)? {
        Command::Exec(words) if words.is_empty() => out.push(at_least_one(node)),
        Command::Exec(words) => return Some(Instruction::Shell(words)),
        Command::Shell(_) => out.push(
            bad_arguments(node.rest_span(), "SHELL requires the arguments to be in JSON form")
                .with_help("for example `SHELL [\"/bin/bash\", \"-c\"]`, with double quotes"),
        ),
    }
    None
}

/// EXPOSE: words, in the order of their text.
pub(super) fn expose(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Words> {
    let words = Words::blank(node);
    if words.texts.is_empty() {
        out.push(at_least_one(node));
        return None;
    }
    if words.texts.is_sorted() {
        return Some(words);
    }
    let mut order: Vec<(Text, Span)> = words.texts.into_iter().zip(words.spans).collect();
    order.sort_by(|a, b| a.0.cmp(&b.0));
    let (texts, spans) = order.into_iter().unzip();
    Some(Words { texts, spans, json: false })
}

/// VOLUME: the JSON form or words, none of them blank.
pub(super) fn volume(node: &Node, out: &mut Vec<Diagnostic>) -> Lowered<Words> {
    let mut words = Words::json_or_blank(node, out)?;
    if words.texts.is_empty() {
        out.push(at_least_one(node));
        return None;
    }
    for text in &mut words.texts {
        *text = text.part_of(text.trim());
        if text.is_empty() {
            out.push(bad_arguments(
                node.rest_span(),
                "VOLUME specified can not be an empty string",
            ));
            return None;
        }
    }
    Some(words)
}

/// What the reference refuses in a line before it looks at what the instruction means: a JSON form
/// with something other than strings, a pair without `=`. A trigger is judged by this alone.
pub(super) fn missing_or_not_strings(node: &Node) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    match node.keyword.to_lowercase().as_str() {
        "env" | "label" if !node.rest().is_empty() => drop(pairs(node, &mut out)),
        "add" | "cmd" | "copy" | "entrypoint" | "run" | "shell" | "volume" => {
            drop(command(node, &mut out));
        }
        "healthcheck" => {
            let rest = node.rest().split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
            if json_form(rest) == JsonForm::NotStrings {
                out.push(not_strings(node));
            }
        }
        _ => {}
    }
    out
}
