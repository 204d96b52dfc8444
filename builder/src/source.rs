//! A Dockerfile as bytes, and places in it.
//!
//! Everything before the plan works on the bytes that were read, never on a decoded copy, so that a
//! [`Span`] always names exact bytes of the file, whatever encoding they are in. Text that leaves
//! the front end is decoded with [`decode`], which replaces each byte that is no UTF-8 by U+FFFD,
//! one for one, as the reference does.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

/// A range of bytes of a [`SourceFile`]: `start` inclusive, `end` exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The span of `start..end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Number of bytes covered.
    #[must_use]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether no byte is covered.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The span as a range, for slicing.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A position as people count it: both numbers begin at 1, the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineColumn {
    /// Line number, from 1.
    pub line: usize,
    /// Character within the line, from 1.
    pub column: usize,
}

impl fmt::Display for LineColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A named file's bytes with an index of its lines.
#[derive(Clone)]
pub struct SourceFile {
    /// What to call the file in messages.
    pub name: String,
    /// The bytes as they were read.
    pub bytes: Vec<u8>,
    /// Where the lines begin; worked out when a place is first asked for, so that a file without
    /// problems never pays for it.
    line_starts: OnceLock<Vec<usize>>,
}

/// By name: the bytes as numbers would bury what the file is part of.
impl fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceFile({:?}, {} bytes)", self.name, self.bytes.len())
    }
}

impl SourceFile {
    /// Takes the bytes.
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: bytes.into(), line_starts: OnceLock::new() }
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            let newlines = self.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect()
        })
    }

    /// Line and column of a byte offset; an offset past the end counts as the end.
    #[must_use]
    pub fn line_col(&self, offset: usize) -> LineColumn {
        let offset = offset.min(self.bytes.len());
        let line = self.line_starts().partition_point(|start| *start <= offset);
        let start = self.line_starts()[line - 1];
        LineColumn { line, column: decode(&self.bytes[start..offset]).chars().count() + 1 }
    }

    /// Number of lines; the text after a final newline counts as an empty line.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.line_starts().len()
    }

    /// The span of a line (numbered from 1) without its line ending.
    #[must_use]
    pub fn line_span(&self, line: usize) -> Option<Span> {
        let start = *self.line_starts().get(line.checked_sub(1)?)?;
        let next = self.line_starts().get(line).copied().unwrap_or(self.bytes.len());
        let mut end = next;
        while end > start && matches!(self.bytes[end - 1], b'\n' | b'\r') {
            end -= 1;
        }
        Some(Span::new(start, end))
    }

    /// The decoded text of a line (numbered from 1), without its line ending.
    #[must_use]
    pub fn line_text(&self, line: usize) -> Option<String> {
        self.line_span(line).map(|span| self.text(span))
    }

    /// The bytes of a span; what lies outside the file is left out.
    #[must_use]
    pub fn slice(&self, span: Span) -> &[u8] {
        let end = span.end.min(self.bytes.len());
        &self.bytes[span.start.min(end)..end]
    }

    /// The decoded text of a span.
    #[must_use]
    pub fn text(&self, span: Span) -> String {
        decode(self.slice(span))
    }
}

/// Decodes bytes as UTF-8; each byte that belongs to no character becomes one U+FFFD.
///
/// `String::from_utf8_lossy` writes one mark for several bytes and so cannot be used: the
/// reference's strings become JSON with one mark for each byte.
#[must_use]
pub fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns() {
        let file = SourceFile::new("f", "a\né x\r\n\nlast");
        assert_eq!(file.line_col(0), LineColumn { line: 1, column: 1 });
        assert_eq!(file.line_col(1), LineColumn { line: 1, column: 2 });
        assert_eq!(file.line_col(5), LineColumn { line: 2, column: 3 });
        assert_eq!(file.line_col(999), LineColumn { line: 4, column: 5 });
        assert_eq!(file.line_text(2).as_deref(), Some("é x"));
        assert_eq!(file.line_text(3).as_deref(), Some(""));
        assert_eq!(file.line_text(5), None);
        assert_eq!(file.line_text(0), None);
    }

    #[test]
    fn one_mark_for_each_bad_byte() {
        assert_eq!(decode(b"caf\xe9"), "caf\u{fffd}");
        assert_eq!(decode(b"\xe2\x82x"), "\u{fffd}\u{fffd}x");
        assert_eq!(decode("né".as_bytes()), "né");
    }
}
