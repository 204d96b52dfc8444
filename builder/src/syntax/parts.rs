//! A long file in parts that threads parse at once.
//!
//! ```text
//! FROM … ┄ RUN …\n│COPY … ┄ RUN …\n│ENV … ┄        cut before what looks like an instruction
//!     part 0      │     part 1      │    part 2
//! ```
//!
//! Whether a line begins an instruction is only known to who has read all before it: it may belong to a
//! heredoc. So each part is read as if it did, and counts if the part before ends exactly there.
//!
//! *Invariant:* [`Parts::join`] yields what [`super::parse`] does, or nothing.

use super::ast::{Ast, Escape, Node};
use super::line::{Parser, text_of};
use crate::diagnostic::{self, Diagnostic};
use crate::limits::{MAX_DIAGNOSTICS, MAX_DOCKERFILE_BYTES, MAX_INSTRUCTIONS, MAX_ITEMS};
use crate::source::SourceFile;
use std::sync::Arc;

/// A file and where it is cut.
pub(crate) struct Parts<'a> {
    source: &'a SourceFile,
    text: Option<&'a str>,
    escape: Escape,
    /// Where each part begins.
    starts: Vec<usize>,
}

/// What was found in one part.
pub(crate) struct Part {
    ast: Ast,
    diagnostics: Vec<Diagnostic>,
    instructions: usize,
    /// Where the next part has to begin.
    end: usize,
    /// Whether a comment belongs to what follows.
    has_comments: bool,
}

impl<'a> Parts<'a> {
    /// Cuts a file into parts of about these lengths, whose unit does not matter, if that can be done.
    pub(crate) fn new(source: &'a SourceFile, lengths: &[usize]) -> Option<Self> {
        let length = source.bytes.len();
        if lengths.len() < 2 || length > MAX_DOCKERFILE_BYTES {
            return None;
        }
        let (mut starts, mut before) = (vec![0], 0);
        let unit = length / lengths.iter().sum::<usize>().max(1);
        for part in &lengths[..lengths.len() - 1] {
            before += part * unit;
            let from = starts.last().copied().max(Some(before))?;
            starts.extend(cut(&source.bytes, from));
        }
        let text = text_of(source);
        (starts.len() > 1).then(|| Self { source, text, escape: escape(source, text), starts })
    }

    /// How many parts there are.
    pub(crate) fn count(&self) -> usize {
        self.starts.len()
    }

    /// Parses one of them; `tell` hears of each instruction as soon as it was read.
    pub(crate) fn parse(&self, index: usize, tell: &mut dyn FnMut(&Arc<Node>)) -> Part {
        let mut parser = Parser::new(self.source, self.text, tell);
        if index > 0 {
            parser.skip_to(self.starts[index], self.escape);
        } else {
            // What the other parts hold comes after it.
            parser.expect(self.source.bytes.len());
        }
        parser.read_to(self.start_of(index + 1));
        Part {
            instructions: parser.instructions,
            end: parser.place(),
            has_comments: !parser.comments.is_empty(),
            ast: parser.ast,
            diagnostics: parser.diagnostics,
        }
    }

    fn start_of(&self, index: usize) -> usize {
        self.starts.get(index).copied().unwrap_or(self.source.bytes.len())
    }

    /// All parts as one file, if each ends where the next one begins and no limit is reached.
    pub(crate) fn join(&self, parts: Vec<Part>) -> Option<(Ast, Vec<Diagnostic>)> {
        let last = parts.len().checked_sub(1)?;
        let items = parts.iter().map(|part| part.ast.items.len()).sum::<usize>();
        let (mut whole, mut diagnostics, mut instructions) = (Ast::default(), Vec::new(), 0);
        for (index, part) in parts.into_iter().enumerate() {
            if part.end != self.start_of(index + 1) || (part.has_comments && index < last) {
                return None;
            }
            instructions += part.instructions;
            diagnostics.extend(part.diagnostics);
            if index == 0 {
                whole = part.ast;
                whole.items.reserve(items - whole.items.len());
            } else {
                whole.items.extend(part.ast.items);
            }
        }
        let within = instructions <= MAX_INSTRUCTIONS
            && whole.items.len() < MAX_ITEMS
            && diagnostics.len() < MAX_DIAGNOSTICS;
        if !within {
            return None;
        }
        diagnostic::tidy(&mut diagnostics);
        Some((whole, diagnostics))
    }
}

/// The escape character that the directives of a file ask for.
fn escape(source: &SourceFile, text: Option<&str>) -> Escape {
    let mut nobody = |_: &Arc<Node>| {};
    let mut parser = Parser::new(source, text, &mut nobody);
    while !parser.zone.has_ended() && parser.place() < source.bytes.len() {
        parser.read_next();
    }
    parser.ast.directives.escape
}

/// The first place after `from` where a line looks as if it began an instruction, and the line before it
/// as if it ended one.
fn cut(bytes: &[u8], from: usize) -> Option<usize> {
    let next = |at: usize| Some(at + memchr::memchr(b'\n', bytes.get(at..)?)? + 1);
    let (mut before, mut at) = (from, next(from)?);
    while at < bytes.len() {
        if ends_instruction(&bytes[before..at]) && begins_instruction(&bytes[at..]) {
            return Some(at);
        }
        (before, at) = (at, next(at)?);
    }
    None
}

/// Whether a word in capitals stands at the start, and a blank after it.
fn begins_instruction(bytes: &[u8]) -> bool {
    let capitals = bytes.iter().position(|byte| !byte.is_ascii_uppercase()).unwrap_or_default();
    capitals > 0 && bytes[capitals] == b' '
}

/// Whether a line is not blank, no comment, and not continued.
fn ends_instruction(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.first().is_some_and(|first| *first != b'#')
        && line.last().is_some_and(|last| !matches!(last, b'\\' | b'`'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::parse;

    fn joined(text: &str, count: usize) -> Option<(Ast, Vec<Diagnostic>)> {
        let source = SourceFile::new("f", text);
        let parts = Parts::new(&source, &vec![2; count])?;
        parts.join((0..parts.count()).map(|index| parts.parse(index, &mut |_| {})).collect())
    }

    #[track_caller]
    fn check(text: &str, count: usize, can_be_joined: bool) {
        let found = joined(text, count);
        assert_eq!(found.is_some(), can_be_joined, "{text}");
        if let Some(found) = found {
            let whole = parse(&SourceFile::new("f", text));
            assert_eq!(format!("{found:?}"), format!("{whole:?}"));
        }
    }

    #[test]
    fn parts_are_the_whole() {
        check("FROM a\nRUN b\nRUN c\nRUN d\n", 2, true);
        check("FROM a\nRUN b\nRUN c\nRUN d", 3, true);
        check("# escape=`\nFROM a\nRUN b `\n  c\nRUN `\n c\nRUN d \\\nRUN e\n", 2, true);
        check("FROM a\nRUN b\nRUN c\nRUN d\n# last\n", 2, true);
        let after = "RUN d\nRUN e\nRUN f\nRUN g\nRUN h\n";
        check(&format!("\u{feff}FROM a\nNOPE\nRUN <<E\nRUN c\nE\n{after}"), 2, true);
    }

    #[test]
    fn what_only_looks_like_an_instruction_is_found_out() {
        check("FROM a\nRUN <<E\nRUN b\nRUN c\nRUN d\nRUN e\nE\n", 2, false);
        check("FROM a\nRUN b \\\n c \\\n# no\n d \\\n\n\\\n# x\n", 2, false);
        check("FROM a\nNOPE\nRUN b\nRUN <<E\nRUN c\nE\nRUN d\n", 2, false);
        check("FROM a\n", 2, false);
        check("FROM a\nRUN b\nRUN c\nRUN d\n", 1, false);
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_joined_right_or_not_at_all(
            lines in proptest::collection::vec(proptest::sample::select(vec![
                "FROM a", "RUN b", "RUN b \\", "RUN b `", "RUN <<E", "E", "# c", "#", "", "  ", "COPY <<E <<F /",
                "F", " RUN x", "run y", "ENV \u{e9}=1 \\", "\\", "NOPE", "# escape=`", "ARG x\r", "RUN <<-`E`",
            ]), 0..30),
            count in 2_usize..5,
        ) {
            let text = lines.join("\n");
            if let Some(found) = joined(&text, count) {
                let whole = parse(&SourceFile::new("f", text));
                proptest::prop_assert_eq!(format!("{found:?}"), format!("{whole:?}"));
            }
        }
    }
}
