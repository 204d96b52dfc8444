//! What of an instruction's line is fixed, and where white space is free.
//!
//! ```text
//! RUN  --mount=…   apt-get update  && …        exact: the shell's text, blank for blank
//! COPY --link  a  b   /c/                      words
//! CMD  [ "a" , "b" ]                           JSON
//! ENV  A=b  C="d  e"                           words with quotes
//! ```

use std::ops::Range;

use crate::syntax::word::{Word, blank_words, flag_ranges, is_blank, quoted_words};
use crate::syntax::{JsonForm, Node, json_form};

/// A part of the line whose text stays as it is, line breaks in it included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Where it stands in the logical line.
    pub(super) range: Range<usize>,
    /// Another way to write it, the same to the parser: keywords in upper case.
    pub(super) rewritten: Option<String>,
    /// What stands between it and the token before.
    pub(super) gap: Gap,
}

/// What stands before a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// A blank, or a line break if there was one.
    Space,
    /// Nothing, or a line break if there was one.
    Tight,
    /// Nothing, or a line break without indentation if there was one: a closing bracket.
    Closing,
    /// Nothing at all: a line break comes after the token instead. A comma.
    Stuck,
}

impl Token {
    fn new(range: Range<usize>) -> Self {
        Self { range, rewritten: None, gap: Gap::Space }
    }

    fn json(range: Range<usize>, gap: Gap) -> Self {
        Self { range, rewritten: None, gap }
    }

    /// The token in upper case.
    fn upper(range: Range<usize>, text: &str) -> Self {
        let rewritten = Some(text[range.clone()].to_ascii_uppercase());
        Self { range, rewritten, gap: Gap::Space }
    }
}

/// The tokens of an instruction that has no errors.
pub(super) fn tokens(node: &Node) -> Vec<Token> {
    let text = node.line.text.as_str();
    let start = text.len() - text.trim_start().len();
    let keyword = start..start + node.keyword.len();
    let mut tokens = vec![Token::upper(keyword.clone(), text)];
    let name = node.keyword.to_ascii_uppercase();
    if name == "ONBUILD" {
        // The image keeps the rest of the line as it stands, blanks at its end included.
        let rest = &text[keyword.end..];
        let trimmed = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        tokens.push(Token::new(text.len() - trimmed.len()..text.len()));
        return tokens;
    }
    let flags = flag_ranges(text, keyword.end..node.rest.start, node.escape);
    tokens.extend(flags.into_iter().map(Token::new));
    tokens.extend(arguments(&name, node));
    tokens
}

/// The tokens after the flags.
fn arguments(name: &str, node: &Node) -> Vec<Token> {
    let (rest, at) = (node.rest(), node.rest.start);
    if rest.is_empty() {
        return Vec::new();
    }
    match name {
        "FROM" => {
            let mut tokens = words(blank_words(rest), at);
            if let [_, keyword, _] = tokens.as_mut_slice() {
                *keyword = Token::upper(keyword.range.clone(), &node.line.text);
            }
            tokens
        }
        "EXPOSE" => words(blank_words(rest), at),
        "COPY" | "ADD" | "VOLUME" => json(node, at).unwrap_or_else(|| words(blank_words(rest), at)),
        "ARG" => words(quoted_words(rest, node.escape), at),
        "ENV" | "LABEL" => pairs(node),
        "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" => json(node, at).unwrap_or_else(|| exact(node, at)),
        "HEALTHCHECK" => {
            let kind = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let text = rest[kind..].trim_start();
            let mut tokens = vec![Token::upper(at..at + kind, &node.line.text)];
            if !text.is_empty() {
                let at = node.rest.end - text.len();
                tokens.extend(json(node, at).unwrap_or_else(|| exact(node, at)));
            }
            tokens
        }
        _ => exact(node, at),
    }
}

/// Everything from `at` on, as one token.
fn exact(node: &Node, at: usize) -> Vec<Token> {
    vec![Token::new(at..node.rest.end)]
}

fn words(words: Vec<Word<'_>>, at: usize) -> Vec<Token> {
    words.into_iter().map(|word| Token::new(at + word.range.start..at + word.range.end)).collect()
}

/// `name=value …`, or a name and then a value in which every blank counts.
fn pairs(node: &Node) -> Vec<Token> {
    let (rest, at) = (node.rest(), node.rest.start);
    let found = quoted_words(rest, node.escape);
    if found.first().is_some_and(|word| word.text.contains('=')) {
        return words(found, at);
    }
    let name = rest.find(is_blank).unwrap_or(rest.len());
    let value = rest[name..].trim_start_matches(is_blank);
    vec![Token::new(at..at + name), Token::new(node.rest.end - value.len()..node.rest.end)]
}

/// The tokens of the JSON form that begins at `at`; `None` if there is none.
fn json(node: &Node, at: usize) -> Option<Vec<Token>> {
    let text = &node.line.text[at..node.rest.end];
    let JsonForm::Strings(_) = json_form(text) else { return None };
    let mut tokens = Vec::new();
    let mut next = Gap::Tight;
    let mut place = 0;
    while let Some(byte) = text.as_bytes().get(place) {
        let start = at + place;
        let length = if *byte == b'"' { string_length(&text[place..]) } else { 1 };
        let token = start..start + length;
        match byte {
            b'[' => tokens.push(Token::json(token, Gap::Space)),
            b']' => tokens.push(Token::json(token, Gap::Closing)),
            b'"' => tokens.push(Token::json(token, next)),
            b',' => {
                tokens.push(Token::json(token, Gap::Stuck));
                next = Gap::Space;
            }
            _ => {}
        }
        place += length;
    }
    Some(tokens)
}

/// The length of the JSON string that a text begins with, quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}
