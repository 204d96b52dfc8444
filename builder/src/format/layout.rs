//! Tokens to lines.
//!
//! The line breaks of the file stay where they are, between tokens and within them:
//!
//! ```text
//! between    COPY a  \            ▶  COPY a \            one blank, four for the next line
//!              b /c/                     b /c/
//! within     RUN a  \             ▶  RUN a \             three blanks before, three after: the
//!              && b                    && b              shell's text does not change
//! ```
//!
//! Comments between the lines move along; blank lines there go.

use std::ops::Range;

use super::comment_line;
use super::token::{Gap, Token};
use crate::source::{SourceFile, Span};
use crate::syntax::Node;

/// What a line that continues an instruction begins with.
const INDENT: &str = "    ";

/// A place in the logical line where the file has a line break.
#[derive(Debug)]
struct Joint {
    /// Offset in the logical line.
    at: usize,
    /// The comments that stand there.
    comments: Vec<String>,
}

/// Writes the tokens of `node`, whose lines end at `lines_end` in the file.
pub(super) fn lay_out(
    source: &SourceFile,
    node: &Node,
    tokens: &[Token],
    lines_end: usize,
    newline: &str,
) -> String {
    let text = node.line.text.as_str();
    let joints = joints(source, node);
    let mut page =
        Page { text, joints: &joints, escape: node.escape.as_char(), newline, out: String::new() };
    let mut written = tokens.first().map_or(0, |token| token.range.start);
    let mut carried: Option<Vec<String>> = None;
    for (index, token) in tokens.iter().enumerate() {
        let broken = merge(carried.take(), page.comments_between(written, token.range.start));
        match (token.gap, broken) {
            _ if index == 0 => {}
            (Gap::Stuck, broken) => carried = broken,
            (Gap::Closing, Some(comments)) => page.line_break(" ", &comments, INDENT, ""),
            (_, Some(comments)) => page.line_break(" ", &comments, INDENT, INDENT),
            (Gap::Space, None) => page.out.push(' '),
            (Gap::Tight | Gap::Closing, None) => {}
        }
        match &token.rewritten {
            Some(text) => page.out.push_str(text),
            None => page.exact(token.range.clone()),
        }
        written = token.range.end;
    }
    let mut out = page.out;
    for comment in last_comments(source, node, written, lines_end) {
        out.push_str(newline);
        out.push_str(&comment);
    }
    out
}

/// The line breaks in the logical line, in order. Several in one place are one.
fn joints(source: &SourceFile, node: &Node) -> Vec<Joint> {
    let mut joints = Vec::new();
    let mut end = None;
    for (at, _) in node.line.text.bytes().enumerate() {
        let offset = node.line.offset(at);
        if let Some(end) = end.filter(|end| *end != offset) {
            joints.push(Joint { at, comments: comments(source.slice(Span::new(end, offset))) });
        }
        end = Some(offset + 1);
    }
    joints
}

/// The comments after the last token: the file ends within a continuation.
fn last_comments(
    source: &SourceFile,
    node: &Node,
    written: usize,
    lines_end: usize,
) -> Vec<String> {
    let start = written.checked_sub(1).map_or(node.span.start, |last| node.line.offset(last) + 1);
    comments(source.slice(Span::new(start, lines_end.max(start))))
}

/// The comment lines of what stands between the two sides of a line break.
fn comments(between: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(between);
    let lines = text.split('\n').skip(1).map(str::trim).filter(|line| line.starts_with('#'));
    let comment = |line: &str| String::from_utf8_lossy(&comment_line(line.as_bytes())).into_owned();
    lines.map(comment).collect()
}

/// One line break out of two that fell together.
fn merge(a: Option<Vec<String>>, b: Option<Vec<String>>) -> Option<Vec<String>> {
    match (a, b) {
        (Some(mut a), Some(b)) => {
            a.extend(b);
            Some(a)
        }
        (a, b) => a.or(b),
    }
}

/// The lines written so far.
struct Page<'a> {
    text: &'a str,
    joints: &'a [Joint],
    escape: char,
    newline: &'a str,
    out: String,
}

impl Page<'_> {
    /// The joints at or after `start` and before `end`.
    fn joints_in(&self, start: usize, end: usize) -> &[Joint] {
        let first = self.joints.partition_point(|joint| joint.at < start);
        let last = self.joints.partition_point(|joint| joint.at < end);
        &self.joints[first..last.max(first)]
    }

    /// The comments of the line break in a gap, `None` if there is no line break. A break right
    /// before the token belongs to the gap.
    fn comments_between(&self, start: usize, end: usize) -> Option<Vec<String>> {
        let joints = self.joints_in(start, end + 1);
        if joints.is_empty() {
            return None;
        }
        Some(joints.iter().flat_map(|joint| joint.comments.iter().cloned()).collect())
    }

    /// Ends the line and begins the next.
    fn line_break(
        &mut self,
        before: &str,
        comments: &[String],
        comment_indent: &str,
        indent: &str,
    ) {
        self.out.push_str(before);
        self.out.push(self.escape);
        self.out.push_str(self.newline);
        for comment in comments {
            self.out.push_str(comment_indent);
            self.out.push_str(comment);
            self.out.push_str(self.newline);
        }
        self.out.push_str(indent);
    }

    /// Writes a part of the line as it is. Where it has line breaks the white space around them is
    /// kept to the last blank: one blank stays before the break, the others follow it.
    fn exact(&mut self, range: Range<usize>) {
        let text = self.text;
        let joints = self.joints_in(range.start + 1, range.end);
        let breaks: Vec<(usize, Vec<String>)> =
            joints.iter().map(|joint| (joint.at, joint.comments.clone())).collect();
        let mut at = range.start;
        let mut breaks = breaks.into_iter().peekable();
        while let Some((place, mut comments)) = breaks.next() {
            let start = at + text[at..place].trim_end_matches(is_movable).len();
            let rest = &text[place..range.end];
            let end = range.end - rest.trim_start_matches(is_movable).len();
            // Breaks with nothing but blanks between them are one.
            while let Some((_, more)) = breaks.next_if(|(place, _)| *place <= end) {
                comments.extend(more);
            }
            self.out.push_str(&text[at..start]);
            at = end;
            let blanks = &text[start..end];
            if end == range.end && comments.is_empty() {
                self.out.push_str(blanks);
                continue;
            }
            // Two escape characters would stand for one of them and continue nothing.
            let keep = blanks.starts_with(' ') || self.out.ends_with(self.escape);
            let (before, indent) = blanks.split_at(usize::from(keep && !blanks.is_empty()));
            self.line_break(before, &comments, indent, indent);
        }
        self.out.push_str(&text[at..range.end]);
    }
}

/// White space that may move from one side of a line break to the other.
fn is_movable(c: char) -> bool {
    matches!(c, ' ' | '\t')
}
