//! Physical lines to items: directives, comments, continuations, heredoc bodies.

use super::ast::{Ast, Comment, Escape, Heredoc, Item, ItemKind, LogicalLine, Node};
use super::directive::DirectiveZone;
use super::heredoc::{HeredocWord, heredoc_words};
use super::json::{JsonForm, json_form};
use super::word::{self, CommandSplit};
use crate::diagnostic::{self, Diagnostic, code};
use crate::limits::{
    MAX_DOCKERFILE_BYTES, MAX_FLAGS, MAX_INSTRUCTION_BYTES, MAX_INSTRUCTIONS, MAX_ITEMS,
    MAX_LINE_BYTES,
};
use crate::source::{SourceFile, Span, decode};
use crate::text::Text;
use std::ops::Range;
use std::sync::Arc;

/// The byte order mark, dropped from the first line.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Parses a file. Total: whatever the bytes, there is an [`Ast`] of what could be read, and a
/// diagnostic for each thing that could not.
#[must_use]
pub fn parse(source: &SourceFile) -> (Ast, Vec<Diagnostic>) {
    let mut nobody = |_: &Arc<Node>| {};
    let mut parser = Parser::new(source, text_of(source), &mut nobody);
    if source.bytes.len() > MAX_DOCKERFILE_BYTES {
        parser.give_up(0, &format!("the Dockerfile is larger than {MAX_DOCKERFILE_BYTES} bytes"));
    }
    parser.read_to(source.bytes.len());
    parser.check_not_empty(source);
    let Parser { ast, mut diagnostics, .. } = parser;
    diagnostic::tidy(&mut diagnostics);
    (ast, diagnostics)
}

/// The whole file, if it is UTF-8 and not too large.
pub(super) fn text_of(source: &SourceFile) -> Option<&str> {
    let bytes = Some(&source.bytes).filter(|bytes| bytes.len() <= MAX_DOCKERFILE_BYTES)?;
    std::str::from_utf8(bytes).ok()
}

/// So many items stand in so many bytes, as people write them; for more there will be room.
fn usual_items(bytes: usize) -> usize {
    const USUAL_ITEM_BYTES: usize = 64;
    bytes.min(MAX_DOCKERFILE_BYTES) / USUAL_ITEM_BYTES
}

/// A physical line: offsets of its first byte and of the byte after its newline.
#[derive(Clone, Copy)]
struct PhysicalLine {
    start: usize,
    end: usize,
}

/// Cuts bytes at `\n`.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = PhysicalLine;

    fn next(&mut self) -> Option<PhysicalLine> {
        let start = self.at;
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        self.at = start + length;
        Some(PhysicalLine { start, end: self.at })
    }
}

pub(super) struct Parser<'a> {
    lines: Lines<'a>,
    pub(super) ast: Ast,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) zone: DirectiveZone,
    /// Comments since the last instruction.
    pub(super) comments: Vec<Comment>,
    /// Instructions so far.
    pub(super) instructions: usize,
    /// Room for the pieces of one instruction.
    pieces: Vec<(usize, &'a [u8])>,
    /// Room for them together.
    room: Vec<u8>,
    /// The same, in a file that is text.
    joined: String,
    /// The whole file, if it is UTF-8.
    text: Option<&'a str>,
    /// The part of it that the words of the lines at hand share.
    block: Block,
    /// Hears of each instruction.
    tell: &'a mut dyn FnMut(&Arc<Node>),
}

/// Some whole lines of the file, which words share. Were it all of them, threads that read different
/// parts of a long file would have to agree with each change on how many words there are.
#[derive(Default)]
struct Block {
    start: usize,
    text: Text,
}

impl Block {
    /// A block has this many bytes, and the rest of the last line.
    const BYTES: usize = 2 * 1024;

    /// A part of one line of the file.
    fn part(&mut self, file: &str, range: Range<usize>) -> Text {
        if range.start < self.start || range.end > self.start + self.text.len() {
            let enough = (range.start + Self::BYTES).min(file.len()).max(range.end);
            let rest = &file.as_bytes()[enough..];
            let end = memchr::memchr(b'\n', rest).map_or(file.len(), |at| enough + at);
            *self = Self { start: range.start, text: Text::from(&file[range.start..end]) };
        }
        self.text.part(range.start - self.start..range.end - self.start)
    }
}

impl<'a> Parser<'a> {
    /// A parser at the beginning of a file, which tells of each instruction as soon as it was read.
    pub(super) fn new(
        source: &'a SourceFile,
        text: Option<&'a str>,
        tell: &'a mut dyn FnMut(&Arc<Node>),
    ) -> Self {
        Self {
            lines: Lines { bytes: &source.bytes, at: 0 },
            ast: Ast::default(),
            diagnostics: Vec::new(),
            zone: DirectiveZone::default(),
            comments: Vec::new(),
            instructions: 0,
            pieces: Vec::new(),
            room: Vec::new(),
            joined: String::new(),
            text,
            block: Block::default(),
            tell,
        }
    }

    /// Goes to a line that stands after instructions, none of whose comments is waiting.
    pub(super) fn skip_to(&mut self, start: usize, escape: Escape) {
        self.lines.at = start;
        self.zone = DirectiveZone::ended();
        self.ast.directives.escape = escape;
    }

    /// Where the next line begins.
    pub(super) fn place(&self) -> usize {
        self.lines.at
    }

    /// Makes room for the items of so many bytes.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.ast.items.reserve(usual_items(bytes));
    }

    /// Reads what begins before `end`.
    pub(super) fn read_to(&mut self, end: usize) {
        self.expect(end.saturating_sub(self.lines.at));
        while self.lines.at < end {
            self.read_next();
        }
    }

    /// Reads the next line, and those that belong to it.
    pub(super) fn read_next(&mut self) {
        let Some(line) = self.lines.next() else { return };
        if self.instructions > MAX_INSTRUCTIONS {
            let message = format!("there are more than {MAX_INSTRUCTIONS} instructions");
            self.give_up(line.start, &message);
        } else if self.ast.items.len() >= MAX_ITEMS {
            let message = format!("there are more than {MAX_ITEMS} blank lines and comments");
            self.give_up(line.start, &message);
        } else {
            self.top_level(line);
        }
    }

    /// The line's bytes without its line ending; too long a line is reported once, here.
    fn content(&mut self, line: PhysicalLine) -> Option<&'a [u8]> {
        let bytes = &self.lines.bytes[line.start..line.end];
        let content = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if content.len() > MAX_LINE_BYTES {
            if self.diagnostics.len() < crate::limits::MAX_DIAGNOSTICS {
                self.diagnostics.push(Diagnostic::error(
                    code::LINE_TOO_LONG,
                    Span::new(line.start, line.start + content.len()),
                    format!("dockerfile line greater than max allowed size of {MAX_LINE_BYTES}"),
                ));
            }
            return None;
        }
        Some(trim_newline(content))
    }

    /// Leaves the rest of the file unread, for a limit that it is over.
    fn give_up(&mut self, start: usize, message: &str) {
        let end = self.lines.bytes.len();
        self.lines.at = end;
        self.push(start, end, ItemKind::Unreadable);
        let span = Span::new(start, start);
        self.diagnostics.push(Diagnostic::error(code::OVER_LIMIT, span, message));
    }

    fn push(&mut self, start: usize, end: usize, kind: ItemKind) {
        self.ast.items.push(Item { span: Span::new(start, end), kind });
    }

    /// A line that begins something: blank, comment, directive or instruction.
    fn top_level(&mut self, line: PhysicalLine) {
        let Some(mut content) = self.content(line) else {
            self.push(line.start, line.end, ItemKind::Unreadable);
            return;
        };
        let mut start = line.start;
        if start == 0 && content.starts_with(BOM) {
            content = &content[BOM.len()..];
            start += BOM.len();
        }
        let trimmed = trim_start(content);
        start += content.len() - trimmed.len();
        let span = Span::new(start, start + trimmed.len());
        let directive =
            self.zone.read(trimmed, span, &mut self.ast.directives, &mut self.diagnostics);
        if let Some(directive) = directive {
            self.push(line.start, line.end, ItemKind::Directive(directive));
        } else if let Some(text) = trimmed.strip_prefix(b"#") {
            let comment = Comment { text: self.comment(text, start + 1), span };
            self.comments.push(comment.clone());
            self.push(line.start, line.end, ItemKind::Comment(comment));
        } else if trimmed.is_empty() {
            self.push(line.start, line.end, ItemKind::Blank);
        } else {
            self.instructions += 1;
            let node = Arc::new(self.instruction(start, trimmed));
            (self.tell)(&node);
            let end = self.lines.at;
            self.push(line.start, end, ItemKind::Instruction(node));
        }
    }

    /// What a comment says, from the bytes after its `#`.
    fn comment(&mut self, bytes: &[u8], start: usize) -> Text {
        match self.text {
            Some(file) => {
                let text = self.block.part(file, start..start + bytes.len());
                text.part_of(text.trim())
            }
            None => Text::from(decode(bytes).trim()),
        }
    }

    /// An instruction that begins with `first`, at offset `start`.
    fn instruction(&mut self, start: usize, first: &'a [u8]) -> Node {
        let escape = self.ast.directives.escape;
        let mut pieces = std::mem::take(&mut self.pieces);
        pieces.clear();
        let mut blank_continuations = Vec::new();
        let mut end = start + first.len();
        let (piece, mut continued) = trim_continuation(first, escape);
        pieces.push((start, piece));
        let mut length = piece.len();
        while continued {
            let Some(line) = self.lines.next() else { break };
            let Some(content) = self.content(line) else { continue };
            let trimmed = trim_start(content);
            if trimmed.starts_with(b"#") {
                continue;
            }
            if trimmed.is_empty() {
                blank_continuations.push(Span::new(line.start, line.end));
                continue;
            }
            end = line.start + content.len();
            let (piece, more) = trim_continuation(content, escape);
            continued = more;
            length += piece.len() + 1;
            if length <= MAX_INSTRUCTION_BYTES {
                pieces.push((line.start, piece));
            }
        }
        if length > MAX_INSTRUCTION_BYTES {
            let message = format!("the instruction is longer than {MAX_INSTRUCTION_BYTES} bytes");
            self.over_limit(Span::new(start, start + first.len()), message);
        }
        let line = match (self.text, pieces.as_slice()) {
            (Some(file), [(start, piece)]) => {
                let text = self.block.part(file, *start..start + piece.len());
                LogicalLine::alone(text, *start)
            }
            (Some(file), pieces) => LogicalLine::join_text(file, pieces, &mut self.joined),
            (None, pieces) => LogicalLine::join(pieces, &mut self.room),
        };
        self.pieces = pieces;
        let CommandSplit { keyword, flags, rest } = word::split_command(&line, escape);
        let mut node = Node {
            keyword: line.text.part(keyword.clone()),
            keyword_span: line.span(keyword),
            flags,
            rest,
            heredocs: Vec::new(),
            span: Span::new(start, end),
            comments: std::mem::take(&mut self.comments),
            blank_continuations,
            escape,
            line,
        };
        if node.flags.len() > MAX_FLAGS {
            let message = format!("the instruction has more than {MAX_FLAGS} flags");
            self.over_limit(node.keyword_span, message);
        }
        if takes_heredocs(&node) {
            self.heredocs(&mut node);
        }
        node
    }

    fn over_limit(&mut self, span: Span, message: String) {
        self.diagnostics.push(Diagnostic::error(code::OVER_LIMIT, span, message));
    }

    /// Reads the bodies of all heredocs that the line opens.
    fn heredocs(&mut self, node: &mut Node) {
        let words = match heredoc_words(&node.line.text) {
            Ok(words) => words,
            Err(error) => {
                self.diagnostics.push(Diagnostic::error(
                    code::BAD_EXPANSION,
                    node.line_span(),
                    format!("cannot read a heredoc's name: {error}"),
                ));
                return;
            }
        };
        node.heredocs.reserve_exact(words.len());
        for word in words {
            match self.heredoc_body(&word) {
                (heredoc, Some(end)) => {
                    node.span.end = end;
                    node.heredocs.push(heredoc);
                }
                (heredoc, None) => {
                    node.span.end = heredoc.body_span.end;
                    self.diagnostics.push(
                        Diagnostic::error(
                            code::UNTERMINATED_HEREDOC,
                            node.line_span(),
                            format!("unterminated heredoc `{}`", word.name),
                        )
                        .with_help(format!("end it with a line `{}` of its own", word.name)),
                    );
                    node.heredocs.push(heredoc);
                    return;
                }
            }
        }
    }

    /// The lines up to the one that equals the word; the offset of that line's end if there is one.
    fn heredoc_body(&mut self, word: &HeredocWord) -> (Heredoc, Option<usize>) {
        let body_start = self.lines.at;
        let mut body_end = body_start;
        let mut end = None;
        while let Some(line) = self.lines.next() {
            let content = self.content(line).unwrap_or_default();
            let tabs = if word.strip_tabs { count_tabs(content) } else { 0 };
            if &content[tabs..] == word.name.as_bytes() {
                end = Some(line.start + content.len());
                break;
            }
            body_end = line.end;
        }
        let heredoc = Heredoc {
            name: word.name.clone(),
            body: self.lines.bytes[body_start..body_end].into(),
            expand: word.expand,
            strip_tabs: word.strip_tabs,
            fd: word.fd,
            body_span: Span::new(body_start, body_end),
        };
        (heredoc, end)
    }

    /// Reports a file in which nothing was found to build.
    fn check_not_empty(&mut self, source: &SourceFile) {
        let nothing = self
            .ast
            .items
            .iter()
            .all(|item| !matches!(item.kind, ItemKind::Instruction(_) | ItemKind::Unreadable));
        if !nothing {
            return;
        }
        let message = if source.bytes.is_empty() {
            "the Dockerfile cannot be empty"
        } else {
            "file with no instructions"
        };
        let span = Span::new(source.bytes.len(), source.bytes.len());
        self.diagnostics.push(
            Diagnostic::error(code::EMPTY_FILE, span, message)
                .with_help("a Dockerfile begins with `FROM <image>`"),
        );
    }
}

/// Whether the instruction (or the trigger of an ONBUILD) may open heredocs: RUN, COPY and ADD in
/// other than JSON form.
fn takes_heredocs(node: &Node) -> bool {
    let names = ["run", "copy", "add", "onbuild"];
    if !names.iter().any(|name| node.keyword.eq_ignore_ascii_case(name)) {
        return false;
    }
    // Most lines have no `<` at all, which is found out faster.
    let Some(at) = memchr::memchr(b'<', node.line.text.as_bytes()) else { return false };
    if !node.line.text[at..].contains("<<") {
        return false;
    }
    if !node.keyword.eq_ignore_ascii_case("onbuild") {
        return word_takes_heredocs(&node.keyword, node.rest());
    }
    let inner = LogicalLine::of(node.rest_text());
    let split = word::split_command(&inner, node.escape);
    word_takes_heredocs(&inner.text[split.keyword], &inner.text[split.rest])
}

fn word_takes_heredocs(keyword: &str, rest: &str) -> bool {
    ["run", "copy", "add"].iter().any(|name| keyword.eq_ignore_ascii_case(name))
        && json_form(rest) == JsonForm::NotJson
}

/// Removes an escape character that continues the line, and the blanks after it. Another escape
/// character before it means that it stands for itself.
fn trim_continuation(content: &[u8], escape: Escape) -> (&[u8], bool) {
    let mark = escape.as_char() as u8;
    if content.last().is_none_or(|last| !matches!(last, b' ' | b'\t') && *last != mark) {
        return (content, false);
    }
    let blanks = content.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let Some(before) = content[..content.len() - blanks].strip_suffix(&[mark]) else {
        return (content, false);
    };
    if before.last() == Some(&mark) { (content, false) } else { (before, true) }
}

/// Without trailing carriage returns and newlines.
fn trim_newline(mut content: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r' | b'\n'] = content {
        content = rest;
    }
    content
}

fn count_tabs(content: &[u8]) -> usize {
    content.iter().take_while(|byte| **byte == b'\t').count()
}

/// Without leading Unicode white space.
fn trim_start(content: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ');
    let start = content.iter().position(|byte| !is_blank(byte)).unwrap_or(content.len());
    let content = &content[start..];
    if content.first().is_none_or(u8::is_ascii) {
        return content;
    }
    let valid = content.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    &content[valid.len() - valid.trim_start().len()..]
}
