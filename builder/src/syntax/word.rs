//! Shapes of arguments: keyword and flags, blank-separated words, quoted words.
//!
//! Nothing is unquoted or expanded here but flags: quotes belong to the words until
//! [`crate::expand`] takes them off.

use std::ops::Range;

use super::ast::{Escape, FlagWord, LogicalLine};
use crate::limits::MAX_FLAGS;
use crate::text::Text;
use std::borrow::Cow;

/// An instruction that has flags at all has so many of them.
const USUAL_FLAGS: usize = 2;

/// A logical line cut into its parts.
#[derive(Debug)]
pub(crate) struct CommandSplit {
    /// The first word.
    pub(crate) keyword: Range<usize>,
    /// Leading `--` words, unquoted.
    pub(crate) flags: Vec<FlagWord>,
    /// What remains, trimmed.
    pub(crate) rest: Range<usize>,
}

/// A word of a text, and where it stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    /// The word.
    pub(crate) text: &'a str,
    /// Where it stands; longer than the word by an escape character that ends the text.
    pub(crate) range: Range<usize>,
}

/// The blanks between a keyword and its arguments, and between unquoted words.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

fn is_blank_byte(byte: u8) -> bool {
    IS_BLANK[usize::from(byte)]
}

/// [`is_blank`] for each byte; all blanks are of one.
static IS_BLANK: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = matches!(byte as u8, b'\t' | b'\x0b' | b'\x0c' | b'\r' | b' ');
        byte += 1;
    }
    table
};

/// Cuts a line into keyword, flags and the rest.
pub(crate) fn split_command(line: &LogicalLine, escape: Escape) -> CommandSplit {
    let text = line.text.as_str();
    let start = skip_space(text, 0);
    let end = match text.as_bytes().last() {
        Some(b'!'..=b'~') => text.len(),
        _ => text.trim_end().len().max(start),
    };
    let blank = text.as_bytes()[start..end].iter().position(|byte| is_blank_byte(*byte));
    let keyword_end = blank.map_or(end, |at| start + at);
    let (flags, rest) = flags(line, keyword_end..end, escape);
    CommandSplit { keyword: start..keyword_end, flags, rest }
}

/// Where white space at `at` ends.
fn skip_space(text: &str, mut at: usize) -> usize {
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'\t'..=b'\r' | b' ' => at += 1,
            0x80.. => return at + text[at..].len() - text[at..].trim_start().len(),
            _ => break,
        }
    }
    at
}

/// Where the leading words that begin with `--` stand, a bare `--` among them.
pub(crate) fn flag_ranges(text: &str, range: Range<usize>, escape: Escape) -> Vec<Range<usize>> {
    let text = &text[..range.end];
    let mut ranges = Vec::new();
    let mut at = range.start;
    loop {
        at = skip_space(text, at);
        if !text[at..].starts_with("--") {
            return ranges;
        }
        let (_, end) = flag_word(text, at, escape.as_char());
        ranges.push(at..end);
        at = end;
    }
}

/// Takes the leading words that begin with `--`. A bare `--` ends them and is dropped.
fn flags(line: &LogicalLine, range: Range<usize>, escape: Escape) -> (Vec<FlagWord>, Range<usize>) {
    let text = &line.text[..range.end];
    let mut flags = Vec::new();
    let mut at = range.start;
    loop {
        at = skip_space(text, at);
        if !text[at..].starts_with("--") {
            return (flags, at..range.end);
        }
        let (word, end) = flag_word(text, at, escape.as_char());
        let span = line.span(at..end);
        at = end;
        if word == "--" {
            return (flags, skip_space(text, at)..range.end);
        }
        // One more than may be shows that there are too many; the rest is read and dropped.
        if flags.len() <= MAX_FLAGS {
            if flags.is_empty() {
                flags.reserve_exact(USUAL_FLAGS);
            }
            let text = match word {
                Cow::Borrowed(word) => line.text.part_of(word),
                Cow::Owned(word) => Text::from(word),
            };
            flags.push(FlagWord { text, span });
        }
    }
}

/// Quotes and blanks; a byte of a character beyond ASCII may belong to one.
static ENDS_PLAIN_FLAG: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = matches!(byte as u8, b'\'' | b'"' | b'\t'..=b'\r' | b' ' | 0x80..);
        byte += 1;
    }
    table
};

/// Reads one flag at `at`: quotes go, the escape character makes the next one literal, in quotes of
/// either kind too.
fn flag_word(text: &str, at: usize, escape: char) -> (Cow<'_, str>, usize) {
    let from = &text[at..];
    let special = |byte: &u8| ENDS_PLAIN_FLAG[usize::from(*byte)] || *byte == escape as u8;
    let end = from.as_bytes().iter().position(special).unwrap_or(from.len());
    if from[end..].chars().next().is_none_or(char::is_whitespace) {
        return (Cow::Borrowed(&from[..end]), at + end);
    }
    let mut word = from[..end].to_owned();
    let mut quote = None;
    let mut chars = from[end..].char_indices().map(|(offset, c)| (end + offset, c));
    while let Some((offset, c)) = chars.next() {
        if c == escape {
            word.extend(chars.next().map(|(_, escaped)| escaped));
            continue;
        }
        match quote {
            Some(open) if c == open => quote = None,
            None if c.is_whitespace() => return (word.into(), at + offset),
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => word.push(c),
        }
    }
    (word.into(), text.len())
}

/// Words between blanks, nothing quoted.
pub(crate) fn blank_words(text: &str) -> Vec<Word<'_>> {
    each_blank_word(text).collect()
}

/// The same, one by one.
pub(crate) fn each_blank_word(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = text.as_bytes();
        let start = at + bytes[at..].iter().position(|byte| !is_blank_byte(*byte))?;
        let length = bytes[start..].iter().position(|byte| is_blank_byte(*byte));
        at = length.map_or(text.len(), |length| start + length);
        Some(Word { text: &text[start..at], range: start..at })
    })
}

/// Words between white space outside quotes; quotes and escapes stay in the words.
pub(crate) fn quoted_words(text: &str, escape: Escape) -> Vec<Word<'_>> {
    each_quoted_word(text, escape).collect()
}

/// The same, one by one.
pub(crate) fn each_quoted_word(text: &str, escape: Escape) -> QuotedWords<'_> {
    QuotedWords { text, at: 0, escape: escape.as_char() }
}

/// See [`each_quoted_word`].
pub(crate) struct QuotedWords<'a> {
    text: &'a str,
    /// Where the words so far end.
    at: usize,
    escape: char,
}

impl<'a> Iterator for QuotedWords<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        let Self { text, escape, .. } = *self;
        let start = skip_space(text, self.at);
        let mut at = start;
        let mut quote = None;
        // Where the last word ends.
        let mut end = text.len();
        while let Some(c) = text[at..].chars().next() {
            if quote.is_none() && c.is_whitespace() {
                self.at = at;
                return Some(Word { text: &text[start..at], range: start..at });
            }
            match quote {
                Some(open) if c == open => quote = None,
                None if c == '\'' || c == '"' => quote = Some(c),
                _ => {}
            }
            let here = at;
            at += c.len_utf8();
            if c == escape && quote != Some('\'') {
                match text[at..].chars().next() {
                    Some(escaped) => at += escaped.len_utf8(),
                    // An escape character at the very end is dropped.
                    None => end = here,
                }
            } else {
                at += plain_run(&text.as_bytes()[at..], quote, escape as u8);
            }
        }
        self.at = text.len();
        (start < end).then(|| Word { text: &text[start..end], range: start..text.len() })
    }
}

/// How many bytes at the start are characters that mean nothing, within quotes or between them.
fn plain_run(bytes: &[u8], quote: Option<char>, escape: u8) -> usize {
    let end = match quote {
        Some(open) => memchr::memchr2(open as u8, escape, bytes),
        None => bytes.iter().position(|byte| !IS_PLAIN[usize::from(*byte)] || *byte == escape),
    };
    end.unwrap_or(bytes.len())
}

/// Characters of ASCII that are no blanks and no quotes.
static IS_PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = matches!(byte as u8, b'#'..=b'&' | b'('..0x7f);
        byte += 1;
    }
    table
};
