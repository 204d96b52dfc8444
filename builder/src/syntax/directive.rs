//! Parser directives: `# name=value` at the very top of the file.
//!
//! The zone ends at the first line that is not a known directive: another comment, a blank line, an
//! instruction. Names are matched in any case; each may be given once.

use super::ast::{Directive, Directives, Escape};
use crate::diagnostic::{Diagnostic, code};
use crate::source::{Span, decode};

/// The directives that exist.
const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// The newest version of the syntax that is known here; all of it is built in.
const NEWEST_SYNTAX: (u32, u32) = (1, 27);

/// Reads directives line by line until the zone ends.
#[derive(Debug, Default)]
pub(super) struct DirectiveZone {
    ended: bool,
    seen: Vec<String>,
}

impl DirectiveZone {
    /// After the last directive.
    pub(super) fn ended() -> Self {
        Self { ended: true, ..Self::default() }
    }

    /// Whether no directive can follow.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Looks at the next line (left-trimmed, without line ending): a directive, or the zone's end.
    pub(super) fn read(
        &mut self,
        line: &[u8],
        span: Span,
        directives: &mut Directives,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Directive> {
        if self.ended {
            return None;
        }
        let Some((name, value)) = split(line) else {
            self.ended = true;
            return None;
        };
        let directive = Directive { name, value, span };
        if self.seen.contains(&directive.name) {
            diagnostics.push(Diagnostic::error(
                code::BAD_DIRECTIVE,
                span,
                format!("only one {} parser directive can be used", directive.name),
            ));
            return Some(directive);
        }
        self.seen.push(directive.name.clone());
        match directive.name.as_str() {
            "escape" => match directive.value.as_str() {
                "\\" => directives.escape = Escape::Backslash,
                "`" => directives.escape = Escape::Backtick,
                other => diagnostics.push(
                    Diagnostic::error(
                        code::BAD_DIRECTIVE,
                        span,
                        format!("invalid escape token `{other}`"),
                    )
                    .with_help("the escape directive takes a backslash or a backtick"),
                ),
            },
            "syntax" => {
                diagnostics.extend(other_syntax(&directive));
                directives.syntax = Some(directive.clone());
            }
            _ => directives.check = Some(directive.clone()),
        }
        Some(directive)
    }
}

/// The warning for a syntax that is not built in: a later version of ours, or another program's.
fn other_syntax(directive: &Directive) -> Option<Diagnostic> {
    // What follows the first blank is handed to the frontend; a digest pins what its tag names.
    let image = directive.value.split_whitespace().next()?;
    let name = image.split('@').next().unwrap_or(image);
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    };
    let warning =
        |message: String| Diagnostic::warning(code::OTHER_SYNTAX, directive.span, message);
    let is_ours = ["docker/dockerfile", "docker/dockerfile-upstream", "dockerfile.v0"]
        .iter()
        .any(|ours| repository == *ours || repository.ends_with(&format!("/{ours}")));
    if !is_ours {
        let message =
            format!("the syntax `{image}` is not fetched: the file is read as a Dockerfile");
        return Some(
            warning(message).with_help("a frontend of its own can only be used where one is run"),
        );
    }
    let version = tag.split('-').next().unwrap_or(tag);
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), minor) = (numbers.next(), numbers.next()) else { return None };
    let minor = minor.and_then(Result::ok).unwrap_or(0);
    let (newest_major, newest_minor) = NEWEST_SYNTAX;
    ((major, minor) > NEWEST_SYNTAX).then(|| {
        warning(format!("the syntax {version} is newer than what is built in")).with_help(format!(
            "up to {newest_major}.{newest_minor} is known; what came later may be refused"
        ))
    })
}

/// Splits `# name = value` if the name is a known one.
fn split(line: &[u8]) -> Option<(String, String)> {
    let text = decode(line.strip_prefix(b"#")?);
    let text = text.trim_start();
    let name_end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let name = text[..name_end].to_ascii_lowercase();
    if !NAMES.contains(&name.as_str()) {
        return None;
    }
    let value = text[name_end..].trim_start_matches(is_blank).strip_prefix('=')?;
    let trimmed = value.trim_matches(is_blank);
    if !trimmed.is_empty() {
        return Some((name, trimmed.to_owned()));
    }
    // Nothing but blanks after `=`: the reference takes the last blank as the value.
    value.chars().next_back().map(|blank| (name, blank.to_string()))
}

/// What a regular expression's `\s` matches in the reference.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c')
}
