//! `--name=value` flags against the list of those that an instruction has.

use crate::diagnostic::{Diagnostic, code};
use crate::source::Span;
use crate::suggest;
use crate::syntax::Node;
use crate::text::{Text, cut};
use smallvec::SmallVec;

/// A flag that an instruction has.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlagSpec {
    pub(super) name: &'static str,
    pub(super) kind: FlagKind,
}

/// What value a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlagKind {
    /// `--x` or `--x=true|false`
    Bool,
    /// `--x=text`, once
    Text,
    /// `--x=text`, any number of times
    List,
}

/// A flag with a text, once.
pub(super) const fn text(name: &'static str) -> FlagSpec {
    FlagSpec { name, kind: FlagKind::Text }
}

/// A flag with a text, any number of times.
pub(super) const fn list(name: &'static str) -> FlagSpec {
    FlagSpec { name, kind: FlagKind::List }
}

/// A switch.
pub(super) const fn switch(name: &'static str) -> FlagSpec {
    FlagSpec { name, kind: FlagKind::Bool }
}

/// The flags of one instruction that were given and could be read.
#[derive(Debug, Default)]
pub(super) struct Flags {
    given: SmallVec<[Given; 2]>,
}

#[derive(Debug)]
struct Given {
    name: &'static str,
    value: Text,
    span: Span,
}

impl Flags {
    /// Reads the flags of `node`; each one that is wrong is reported and left out.
    pub(super) fn read(node: &Node, specs: &[FlagSpec], out: &mut Vec<Diagnostic>) -> Self {
        let mut flags = Self::default();
        for word in &node.flags {
            let body = word.text.strip_prefix("--").unwrap_or(&word.text);
            let (name, value) = match cut(body, b'=') {
                Some((name, value)) => (name, Some(value)),
                None => (body, None),
            };
            let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
                out.push(unknown(node, name, word.span, specs));
                continue;
            };
            let before = flags.given.iter().find(|given| given.name == spec.name);
            if let (Some(before), true) = (before, spec.kind != FlagKind::List) {
                out.push(
                    bad(word.span, format!("duplicate flag specified: {name}"))
                        .with_related(before.span, "first given here"),
                );
                continue;
            }
            match read_value(*spec, &word.text, value) {
                Ok(value) => flags.given.push(Given { name: spec.name, value, span: word.span }),
                Err(message) => out.push(bad(word.span, message)),
            }
        }
        flags
    }

    /// The value of a flag that takes a text, `None` if it is not given or empty.
    #[inline]
    pub(super) fn text(&self, name: &str) -> Option<Text> {
        self.raw(name).filter(|value| !value.is_empty()).cloned()
    }

    /// The value of a flag as given, empty or not.
    #[inline]
    pub(super) fn raw(&self, name: &str) -> Option<&Text> {
        if self.given.is_empty() {
            return None;
        }
        self.given.iter().find(|given| given.name == name).map(|given| &given.value)
    }

    /// The values of a flag that may be repeated, each with its place.
    pub(super) fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Text, Span)> {
        let given = self.given.iter().filter(move |given| given.name == name);
        given.map(|given| (&given.value, given.span))
    }

    /// The state of a switch, `None` if it is not given.
    #[inline]
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.raw(name).map(|value| *value == *"true")
    }

    /// Where a flag stands.
    pub(super) fn span(&self, name: &str) -> Option<Span> {
        self.given.iter().find(|given| given.name == name).map(|given| given.span)
    }

    /// Where all flags stand.
    pub(super) fn spans(&self) -> Vec<(&'static str, Span)> {
        self.given.iter().map(|given| (given.name, given.span)).collect()
    }
}

/// The value of a flag, a part of its word.
fn read_value(spec: FlagSpec, word: &Text, value: Option<&str>) -> Result<Text, String> {
    match (spec.kind, value) {
        (FlagKind::Bool, None) => Ok("true".into()),
        (FlagKind::Bool, Some("")) | (FlagKind::Text | FlagKind::List, None) => {
            Err(format!("missing a value on flag: --{}", spec.name))
        }
        (FlagKind::Bool, Some(value)) => match value.to_lowercase().as_str() {
            lower @ ("true" | "false") => Ok(lower.into()),
            _ => Err(format!("expecting boolean value for flag --{}, not: {value}", spec.name)),
        },
        (FlagKind::Text | FlagKind::List, Some(value)) => Ok(word.part_of(value)),
    }
}

fn bad(span: Span, message: String) -> Diagnostic {
    Diagnostic::error(code::BAD_FLAG, span, message)
}

fn unknown(node: &Node, name: &str, span: Span, specs: &[FlagSpec]) -> Diagnostic {
    let keyword = node.keyword.to_uppercase();
    let diagnostic = Diagnostic::error(code::UNKNOWN_FLAG, span, format!("unknown flag: --{name}"));
    match suggest::nearest(name, specs.iter().map(|spec| spec.name)) {
        Some(nearest) => diagnostic.with_help(format!("did you mean `--{nearest}`?")),
        None if specs.is_empty() => {
            diagnostic.with_help(format!("{keyword} takes no flags; put `--` before the text"))
        }
        None => {
            let names: Vec<String> = specs.iter().map(|spec| format!("--{}", spec.name)).collect();
            diagnostic.with_help(format!("{keyword} takes {}", names.join(", ")))
        }
    }
}
