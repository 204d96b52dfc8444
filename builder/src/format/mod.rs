//! The canonical form of a Dockerfile, without a change of what it means.
//!
//! ```text
//! file ▶ parse ▶ items ▶ each formatted alone ▶ compared with what it was ▶ file ▶ compared again
//!                          instruction ▶ tokens and gaps ▶ text
//! ```
//!
//! The rules are in `docs/fmt.md`. Two things decide where they end. The text of a shell command is
//! part of the image's history and of cache keys, so not one blank of it changes: white space only
//! moves from one side of a line break to the other. And nothing is believed: [`Meaning`] of the
//! result is compared with that of the file. An instruction whose meaning would differ stays as it
//! was, and [`Formatted::untouched`] says so.
//!
//! *Invariant:* formatting what was formatted changes nothing.

mod layout;
mod meaning;
#[cfg(test)]
mod tests;
mod token;

pub use meaning::Meaning;

use crate::diagnostic::Diagnostic;
use crate::instruction;
use crate::source::{SourceFile, Span};
use crate::syntax::{self, Directive, Item, ItemKind, Node};

/// A formatted file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    /// The file's new bytes.
    pub bytes: Vec<u8>,
    /// The instructions (of the old file) that were left as they are, because no other form of them
    /// is known to mean the same.
    pub untouched: Vec<Span>,
}

/// Why a file cannot be formatted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The file has errors: what it means is not known.
    #[error("cannot format a Dockerfile that has errors")]
    Invalid {
        /// The errors.
        errors: Vec<Diagnostic>,
    },
    /// The formatted file would mean something else: a bug in this module, found in time.
    #[error("cannot format this Dockerfile without changing what it means")]
    Meaning,
}

/// Brings a Dockerfile into its canonical form. Pure, and total on any bytes.
pub fn format(source: &SourceFile) -> Result<Formatted, FormatError> {
    let (ast, mut errors) = syntax::parse(source);
    errors.extend(instruction::lower(&ast).1);
    errors.retain(Diagnostic::is_error);
    if !errors.is_empty() {
        crate::diagnostic::tidy(&mut errors);
        return Err(FormatError::Invalid { errors });
    }
    let mut writer = Writer {
        source,
        newline: newline(&source.bytes),
        out: Vec::with_capacity(source.bytes.len()),
        blank: false,
        untouched: Vec::new(),
    };
    ast.items.iter().for_each(|item| writer.item(item));
    let Writer { out, untouched, .. } = writer;
    let formatted = SourceFile::new(&source.name, out);
    if Meaning::of(source) != Meaning::of(&formatted) {
        return Err(FormatError::Meaning);
    }
    Ok(Formatted { bytes: formatted.bytes, untouched })
}

/// The line ending of the file: that of its first line.
fn newline(bytes: &[u8]) -> &'static str {
    let first = bytes.iter().position(|byte| *byte == b'\n');
    if first.is_some_and(|at| bytes[..at].ends_with(b"\r")) { "\r\n" } else { "\n" }
}

struct Writer<'a> {
    source: &'a SourceFile,
    newline: &'static str,
    out: Vec<u8>,
    /// Whether blank lines came since the last item.
    blank: bool,
    untouched: Vec<Span>,
}

impl Writer<'_> {
    fn item(&mut self, item: &Item) {
        match &item.kind {
            ItemKind::Blank => self.blank = true,
            ItemKind::Directive(directive) => self.line(&directive_line(directive)),
            ItemKind::Comment(comment) => {
                let line = comment_line(self.source.slice(comment.span));
                // A comment that moved to the top could begin to direct the parser.
                if self.out.is_empty() && self.blank && is_directive(&line) {
                    self.out.extend_from_slice(self.newline.as_bytes());
                    self.blank = false;
                }
                self.line(&line);
            }
            ItemKind::Instruction(node) => {
                let lines = self.instruction(node, item.span);
                self.line(&lines);
            }
            // An error, so that nothing is formatted at all.
            ItemKind::Unreadable => self.line(self.source.slice(item.span)),
        }
    }

    /// Writes one line or several, with one blank line before them if there were any.
    fn line(&mut self, line: &[u8]) {
        if std::mem::take(&mut self.blank) && !self.out.is_empty() {
            self.out.extend_from_slice(self.newline.as_bytes());
        }
        self.out.extend_from_slice(line);
        self.out.extend_from_slice(self.newline.as_bytes());
    }

    /// An instruction's lines, formatted if that is known to keep their meaning.
    fn instruction(&mut self, node: &Node, item: Span) -> Vec<u8> {
        let body = node.heredocs.first().map(|heredoc| heredoc.body_span.start);
        let lines_end = body.unwrap_or(item.end);
        // To the end of the item: where the file ends within a continuation, comments may follow.
        let before = self.source.slice(Span::new(node.span.start, item.end));
        // Bytes that are no text would not survive: tokens are cut from decoded text.
        let is_text = std::str::from_utf8(self.source.slice(Span::new(item.start, lines_end)));
        if is_text.is_ok() {
            let tokens = token::tokens(node);
            let mut lines =
                layout::lay_out(self.source, node, &tokens, lines_end, self.newline).into_bytes();
            if let Some(body) = body {
                lines.extend_from_slice(self.newline.as_bytes());
                lines.extend_from_slice(self.source.slice(Span::new(body, node.span.end)));
            }
            if Meaning::of_instruction(before, node.escape)
                == Meaning::of_instruction(&lines, node.escape)
            {
                return lines;
            }
        }
        self.untouched.push(node.span);
        without_newlines(before).to_vec()
    }
}

fn without_newlines(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = bytes {
        bytes = rest;
    }
    bytes
}

/// `# name=value`
fn directive_line(directive: &Directive) -> Vec<u8> {
    format!("# {}={}", directive.name, directive.value).into_bytes()
}

/// A comment with a blank after its `#`, where a word follows; `#!`, `##` and rulers stay.
fn comment_line(comment: &[u8]) -> Vec<u8> {
    let comment = comment.trim_ascii_end();
    let mut line = Vec::with_capacity(comment.len() + 1);
    let text = comment.strip_prefix(b"#").unwrap_or(comment);
    line.push(b'#');
    if text.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii()) {
        line.push(b' ');
    }
    line.extend_from_slice(text);
    line
}

/// Whether a comment would be a directive if it stood at the top of a file.
fn is_directive(line: &[u8]) -> bool {
    let (ast, _) = syntax::parse(&SourceFile::new("", line));
    matches!(ast.items.first(), Some(Item { kind: ItemKind::Directive(_), .. }))
}
