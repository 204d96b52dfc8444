//! The nodes of a parsed Dockerfile.
//!
//! Items cover the file without gaps: the spans of [`Ast::items`], put together, are the file.
//! An instruction's text is its *logical line*, in which continuations are joined and comments left
//! out; [`LogicalLine`] keeps the way back from that text to the bytes of the file.

use std::ops::Range;

use crate::source::{Span, decode};
use crate::text::Text;
use std::sync::Arc;

/// A whole file: what stands where, and what its directives say.
#[derive(Clone, Debug, Default)]
pub struct Ast {
    /// Everything in the file, in order and without gaps.
    pub items: Vec<Item>,
    /// The parser directives at the top.
    pub directives: Directives,
}

impl Ast {
    /// The instructions, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.items.iter().filter_map(|item| match &item.kind {
            ItemKind::Instruction(node) => Some(&**node),
            _ => None,
        })
    }
}

/// Some whole lines of the file.
#[derive(Clone, Debug)]
pub struct Item {
    /// The lines with their line endings.
    pub span: Span,
    /// What they are.
    pub kind: ItemKind,
}

/// What an [`Item`] is.
#[derive(Clone, Debug)]
pub enum ItemKind {
    /// A line of blanks.
    Blank,
    /// A comment between instructions.
    Comment(Comment),
    /// A parser directive.
    Directive(Directive),
    /// An instruction with its continuation lines and heredoc bodies.
    Instruction(Arc<Node>),
    /// Lines that could not be read at all.
    Unreadable,
}

/// A comment line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The text after `#`, trimmed.
    pub text: Text,
    /// From `#` to the end of the line.
    pub span: Span,
}

/// The parser directives of a file.
#[derive(Clone, Debug, Default)]
pub struct Directives {
    /// `# syntax=…`: recorded, never fetched; the current stable syntax is built in.
    pub syntax: Option<Directive>,
    /// `# check=…`: which checks to skip, and whether warnings fail the build.
    pub check: Option<Directive>,
    /// The escape character in force.
    pub escape: Escape,
}

/// One parser directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Name in lower case.
    pub name: String,
    /// Value, trimmed.
    pub value: String,
    /// From `#` to the end of the line.
    pub span: Span,
}

/// The character that escapes and continues lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\`, the default.
    #[default]
    Backslash,
    /// `` ` ``, for files full of Windows paths.
    Backtick,
}

impl Escape {
    /// The character itself.
    #[must_use]
    pub fn as_char(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }
}

/// One instruction as written: keyword, flags, the rest, heredocs; not yet understood.
#[derive(Clone, Debug)]
pub struct Node {
    /// The first word as written; empty if the line is nothing but a continuation.
    pub keyword: Text,
    /// Where the keyword stands.
    pub keyword_span: Span,
    /// The leading words that begin with `--`, unquoted.
    pub flags: Vec<FlagWord>,
    /// The part of [`LogicalLine::text`] after keyword and flags, trimmed.
    pub rest: Range<usize>,
    /// The joined line.
    pub line: LogicalLine,
    /// The heredocs that the line opens, in order.
    pub heredocs: Vec<Heredoc>,
    /// From the first character to the end of the last line, heredoc ends included.
    pub span: Span,
    /// The comments directly above, blank lines allowed between.
    pub comments: Vec<Comment>,
    /// Blank lines inside the continuation, which the reference warns of.
    pub blank_continuations: Vec<Span>,
    /// The escape character in force.
    pub escape: Escape,
}

impl Node {
    /// The text after keyword and flags, trimmed.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.line.text[self.rest.clone()]
    }

    /// The same, to keep.
    #[must_use]
    pub fn rest_text(&self) -> Text {
        self.line.text.part(self.rest.clone())
    }

    /// Where the text after keyword and flags stands; the keyword's place if there is none.
    #[must_use]
    pub fn rest_span(&self) -> Span {
        if self.rest.is_empty() { self.keyword_span } else { self.line.span(self.rest.clone()) }
    }

    /// The span of a part of [`Self::rest`].
    #[must_use]
    pub fn span_in_rest(&self, part: Range<usize>) -> Span {
        self.line.span(self.rest.start + part.start..self.rest.start + part.end)
    }

    /// The place of the logical line, without heredoc bodies.
    #[must_use]
    pub fn line_span(&self) -> Span {
        self.line.span(0..self.line.text.len())
    }
}

/// A leading `--flag` word with quotes and escapes removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagWord {
    /// The word, with its `--`.
    pub text: Text,
    /// Where it stands, quotes included.
    pub span: Span,
}

/// A heredoc: its opening word, and the lines up to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, unquoted; the file's name for COPY and ADD.
    pub name: Text,
    /// The lines as they stand in the file, line endings and leading tabs included.
    pub body: Arc<[u8]>,
    /// Whether variables in the body are expanded: no part of the word was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs are stripped from each line.
    pub strip_tabs: bool,
    /// The number before `<<`, 0 if none.
    pub fd: u64,
    /// Where the body stands.
    pub body_span: Span,
}

impl Heredoc {
    /// The body with leading tabs stripped if `<<-` asks for it.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        if self.strip_tabs { without_tabs(&self.body) } else { self.body.to_vec() }
    }

    /// [`Self::content`] as text.
    #[must_use]
    pub fn content_text(&self) -> String {
        decode(&self.content())
    }

    /// The body as text, tabs kept.
    #[must_use]
    pub fn body_text(&self) -> String {
        decode(&self.body)
    }
}

/// Lines without the tabs that they begin with.
pub(crate) fn without_tabs(body: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(body.len());
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
        content.extend_from_slice(&line[tabs..]);
    }
    content
}

/// What stands for a byte that is no text, and its last byte.
const MARK: &str = "\u{fffd}";
const MARK_END: u8 = 0xbd;

/// Joined continuation lines, with the way back to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogicalLine {
    /// The joined text.
    pub text: Text,
    /// (offset in `text`, offset in the file) where a run of equal bytes begins; empty if there is one.
    runs: Vec<(usize, usize)>,
    /// Offset in the file of the first run.
    start: usize,
    /// Offset in the file of the end of the last run.
    end: usize,
}

impl LogicalLine {
    /// A line by itself, as if it were a file.
    pub(super) fn of(text: Text) -> Self {
        Self::alone(text, 0)
    }

    /// A lone line of the file, by its offset.
    pub(super) fn alone(text: Text, start: usize) -> Self {
        Self { end: start + text.len(), text, runs: Vec::new(), start }
    }

    /// Joins several pieces of a file that is text, each with its offset; `room` is memory to join them in.
    pub(super) fn join_text(file: &str, pieces: &[(usize, &[u8])], room: &mut String) -> Self {
        room.clear();
        let mut runs = Vec::with_capacity(pieces.len());
        for (offset, piece) in pieces {
            runs.push((room.len(), *offset));
            room.push_str(&file[*offset..offset + piece.len()]);
        }
        let start = pieces.first().map_or(0, |(offset, _)| *offset);
        let end = pieces.last().map_or(0, |(offset, piece)| offset + piece.len());
        Self { text: Text::from(room.as_str()), runs, start, end }
    }

    /// Joins pieces of the file, each with its offset; `room` is memory to join them in.
    pub(super) fn join(pieces: &[(usize, &[u8])], room: &mut Vec<u8>) -> Self {
        room.clear();
        let mut runs = Vec::with_capacity(if pieces.len() > 1 { pieces.len() } else { 0 });
        for (offset, piece) in pieces {
            if pieces.len() > 1 {
                runs.push((room.len(), *offset));
            }
            room.extend_from_slice(piece);
        }
        let start = pieces.first().map_or(0, |(offset, _)| *offset);
        let end = pieces.last().map_or(0, |(offset, piece)| offset + piece.len());
        if let Ok(text) = std::str::from_utf8(room) {
            return Self { text: Text::from(text), runs, start, end };
        }
        if runs.is_empty() {
            runs.push((0, start));
        }
        Self::join_invalid(room, &runs, end)
    }

    /// As [`Self::join`], for bytes that are no UTF-8: a bad byte grows to the three of U+FFFD, so
    /// the run ends there and the next begins after it.
    fn join_invalid(bytes: &[u8], runs: &[(usize, usize)], end: usize) -> Self {
        let start = runs.first().map_or(0, |(_, offset)| *offset);
        let mut text = String::new();
        let mut line = Self { text: Text::default(), runs: Vec::new(), start, end };
        let to_file = |at: usize| {
            let run = runs[runs.partition_point(|(start, _)| *start <= at).saturating_sub(1)];
            run.1 + (at - run.0)
        };
        let mut starts = runs.iter().map(|(start, _)| *start).peekable();
        let mut at = 0;
        for chunk in bytes.utf8_chunks() {
            let valid_end = at + chunk.valid().len();
            line.runs.push((text.len(), to_file(at)));
            while let Some(start) = starts.next_if(|start| *start < valid_end) {
                if start > at {
                    line.runs.push((text.len() + (start - at), to_file(start)));
                }
            }
            text.push_str(chunk.valid());
            at = valid_end;
            for _ in chunk.invalid() {
                line.runs.push((text.len(), to_file(at)));
                text.push(char::REPLACEMENT_CHARACTER);
                at += 1;
            }
        }
        Self { text: text.into(), ..line }
    }

    /// The offset in the file of the byte at `at` of the text.
    #[must_use]
    pub fn offset(&self, at: usize) -> usize {
        if self.runs.is_empty() {
            return (self.start + at).min(self.end);
        }
        let index = self.runs.partition_point(|(start, _)| *start <= at);
        match index.checked_sub(1).and_then(|run| self.runs.get(run)) {
            Some((start, offset)) => (offset + (at - start)).min(self.end),
            None => self.end,
        }
    }

    /// The span in the file of a part of the text. A part that crosses continuations covers what
    /// stands between, too.
    #[must_use]
    #[inline]
    pub fn span(&self, part: Range<usize>) -> Span {
        if self.runs.is_empty() && part.start < part.end {
            let file = |at: usize| (self.start + at).min(self.end);
            return Span::new(file(part.start), file(part.end - 1) + 1);
        }
        self.joined_span(part)
    }

    fn joined_span(&self, part: Range<usize>) -> Span {
        let start = self.offset(part.start);
        if part.end <= part.start {
            return Span::new(start, start);
        }
        // The end is one after the last byte, not the start of the run that follows.
        let is_mark = self.text.as_bytes().get(part.end - 1) == Some(&MARK_END)
            && self.text.is_char_boundary(part.end)
            && self.is_mark(part.end);
        let last = part.end - if is_mark { MARK.len() } else { 1 };
        Span::new(start, self.offset(last) + 1)
    }

    /// Whether the character that ends at `end` is a U+FFFD of ours, which stands for one byte.
    fn is_mark(&self, end: usize) -> bool {
        let Some(start) = end.checked_sub(MARK.len()) else { return false };
        self.text.get(start..end) == Some(MARK)
            && self.runs.binary_search_by_key(&start, |(at, _)| *at).is_ok()
            && self.offset(end) <= self.offset(start) + 1
    }
}
