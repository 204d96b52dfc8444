//! The JSON form of arguments: `["a", "b"]`.
//!
//! The whole text must be a JSON value as Go's encoding/json reads it, else it is not the JSON form
//! and the instruction falls back to its other one, without an error: `['a']` and `["a",]` are shell
//! text. A valid array of something other than strings is an error. Nesting is walked with a stack
//! on the heap.

use crate::limits::MAX_JSON_DEPTH;
use std::borrow::Cow;

/// What a text is, read as the JSON form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonForm<'a> {
    /// No valid JSON array.
    NotJson,
    /// A valid array with an element that is no string.
    NotStrings,
    /// An array of strings.
    Strings(Vec<Cow<'a, str>>),
}

/// Reads a text as the JSON form.
#[must_use]
pub fn json_form(text: &str) -> JsonForm<'_> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return JsonForm::NotJson;
    }
    let mut reader = Reader { bytes: text.as_bytes(), text, at: 0 };
    reader.array().unwrap_or(JsonForm::NotJson)
}

struct Reader<'a> {
    bytes: &'a [u8],
    text: &'a str,
    at: usize,
}

/// What may come next while walking nested values.
#[derive(Clone, Copy, PartialEq)]
enum Expect {
    Value,
    ValueOrEnd,
    CommaOrEnd,
    KeyOrEnd,
    Key,
}

impl<'a> Reader<'a> {
    /// The outermost array; `None` where the text is no JSON.
    fn array(&mut self) -> Option<JsonForm<'a>> {
        let mut strings = Vec::new();
        let mut only_strings = true;
        self.at = 1;
        self.blanks();
        if self.eat(b']') {
            self.end()?;
            return Some(JsonForm::Strings(strings));
        }
        loop {
            self.blanks();
            if self.peek() == Some(b'"') {
                strings.push(self.string()?);
            } else {
                only_strings = false;
                self.value()?;
            }
            self.blanks();
            if self.eat(b']') {
                break;
            }
            if !self.eat(b',') {
                return None;
            }
        }
        self.end()?;
        Some(if only_strings { JsonForm::Strings(strings) } else { JsonForm::NotStrings })
    }

    fn end(&mut self) -> Option<()> {
        self.blanks();
        (self.at == self.bytes.len()).then_some(())
    }

    /// Any value, checked and dropped.
    fn value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        let mut expect = Expect::Value;
        loop {
            self.blanks();
            let next = self.peek()?;
            match (expect, next) {
                (Expect::ValueOrEnd | Expect::CommaOrEnd, b']') if open.last() == Some(&b'[') => {
                    self.at += 1;
                    open.pop();
                    expect = Expect::CommaOrEnd;
                }
                (Expect::KeyOrEnd | Expect::CommaOrEnd, b'}') if open.last() == Some(&b'{') => {
                    self.at += 1;
                    open.pop();
                    expect = Expect::CommaOrEnd;
                }
                (Expect::CommaOrEnd, b',') => {
                    self.at += 1;
                    expect = if open.last() == Some(&b'{') { Expect::Key } else { Expect::Value };
                }
                (Expect::KeyOrEnd | Expect::Key, b'"') => {
                    self.string()?;
                    self.blanks();
                    if !self.eat(b':') {
                        return None;
                    }
                    expect = Expect::Value;
                }
                (Expect::Value | Expect::ValueOrEnd, bracket @ (b'[' | b'{')) => {
                    self.at += 1;
                    open.push(bracket);
                    if open.len() >= MAX_JSON_DEPTH {
                        return None;
                    }
                    expect = if bracket == b'[' { Expect::ValueOrEnd } else { Expect::KeyOrEnd };
                }
                (Expect::Value | Expect::ValueOrEnd, _) => {
                    self.scalar()?;
                    expect = Expect::CommaOrEnd;
                }
                _ => return None,
            }
            if open.is_empty() {
                return Some(());
            }
        }
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let found = self.bytes[self.at..].starts_with(word);
        self.at += word.len();
        found.then_some(())
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            self.digits()?;
        }
        // Go cannot hold a number past its float's range and takes the text for no JSON.
        let value: f64 = self.text[start..self.at].parse().ok()?;
        value.is_finite().then_some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<Cow<'a, str>> {
        let mut string = Cow::Borrowed("");
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let run = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' '))?;
            // What is added to nothing is borrowed.
            string += &rest[..run];
            self.at += run;
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(string);
                }
                b'\\' => string.to_mut().push(self.escape()?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        self.at += 2;
        Some(match *self.bytes.get(self.at - 1)? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return None,
        })
    }

    /// After `\u`: a character, a pair of surrogates, or U+FFFD for half a pair.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            let after_first = self.at;
            self.at += 2;
            let second = self.hex()?;
            if (0xdc00..0xe000).contains(&second) {
                return char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
            self.at = after_first;
        }
        Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let value = u32::from_str_radix(self.text.get(self.at..self.at + 4)?, 16).ok()?;
        self.at += 4;
        Some(value)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }
}
