//! Wildcards of COPY and ADD sources, as Go's `filepath.Match` reads them, and Go's `path.Clean`.
//!
//! ```text
//! *      any bytes but '/'          [a-z] [^a]   one character of a class, '/' too if it is listed
//! ?      one character but '/'      \c           c itself
//! ```
//!
//! `**` is `*`. A pattern is checked whole when it is parsed, so matching cannot fail. Matching
//! takes time pattern times name at worst, since only the last `*` is ever taken back.

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// The plain bytes at the end: most names that do not match end otherwise.
    suffix: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

/// A pattern that is malformed: a class without its end, or a `\` at the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern: {pattern}")]
pub struct BadPattern {
    /// The pattern, decoded.
    pub pattern: String,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(pattern: impl AsRef<[u8]>) -> Result<Self, BadPattern> {
        let bytes = pattern.as_ref();
        let bad = || BadPattern { pattern: crate::source::decode(bytes) };
        let mut tokens = Vec::new();
        let mut rest = bytes;
        while let [first, after @ ..] = rest {
            rest = after;
            match first {
                b'*' if tokens.last() == Some(&Token::Star) => {}
                b'*' => tokens.push(Token::Star),
                b'?' => tokens.push(Token::Any),
                b'[' => {
                    let (class, after) = class(rest).ok_or_else(bad)?;
                    tokens.push(class);
                    rest = after;
                }
                b'\\' => {
                    let [escaped, after @ ..] = rest else { return Err(bad()) };
                    tokens.push(Token::Byte(*escaped));
                    rest = after;
                }
                byte => tokens.push(Token::Byte(*byte)),
            }
        }
        let mut suffix: Vec<u8> = tokens.iter().rev().map_while(Token::byte).collect();
        suffix.reverse();
        Ok(Self { tokens, suffix })
    }

    /// Whether the whole name matches.
    #[must_use]
    pub fn matches(&self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        if !name.ends_with(&self.suffix) {
            return false;
        }
        let (mut token, mut at) = (0, 0);
        // Where to go on if the text after the last star does not fit.
        let mut star = None;
        loop {
            if token == self.tokens.len() && at == name.len() {
                return true;
            }
            if let Some(Token::Star) = self.tokens.get(token) {
                token += 1;
                star = Some((token, at));
                continue;
            }
            let step = self.tokens.get(token).and_then(|token| token.step(&name[at..]));
            if let Some(length) = step {
                token += 1;
                at += length;
                continue;
            }
            match star {
                Some((after, from)) if name.get(from).is_some_and(|byte| *byte != b'/') => {
                    star = Some((after, from + 1));
                    token = after;
                    at = from + 1;
                }
                _ => return false,
            }
        }
    }
}

impl Pattern {
    /// The bytes that every match begins with.
    pub(crate) fn literal_prefix(&self) -> Vec<u8> {
        self.tokens.iter().map_while(Token::byte).collect()
    }

    /// The bytes that every match ends with.
    pub(crate) fn literal_suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// How many slashes every match has, if that is sure: a class may list one.
    pub(crate) fn slashes(&self) -> Option<usize> {
        let is_class = |token: &Token| matches!(token, Token::Class { .. });
        let is_slash = |token: &&Token| token.byte() == Some(b'/');
        (!self.tokens.iter().any(is_class)).then(|| self.tokens.iter().filter(is_slash).count())
    }
}

impl Token {
    fn byte(&self) -> Option<u8> {
        if let Self::Byte(byte) = self { Some(*byte) } else { None }
    }

    /// How many bytes this takes off the front of `rest`, if it fits there.
    fn step(&self, rest: &[u8]) -> Option<usize> {
        match self {
            Self::Byte(byte) => (rest.first() == Some(byte)).then_some(1),
            Self::Any => {
                let (c, length) = first_char(rest)?;
                (c != '/').then_some(length)
            }
            Self::Class { negated, ranges } => {
                let (c, length) = first_char(rest)?;
                let listed = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                (listed != *negated).then_some(length)
            }
            Self::Star => None,
        }
    }
}

/// The first character and its length; a byte that is no UTF-8 counts as U+FFFD.
pub(crate) fn first_char(bytes: &[u8]) -> Option<(char, usize)> {
    let head = &bytes[..bytes.len().min(4)];
    let chunk = head.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(c) => Some((c, c.len_utf8())),
        None => Some((char::REPLACEMENT_CHARACTER, 1)),
    }
}

/// A class after its `[`, and what follows its `]`.
fn class(text: &[u8]) -> Option<(Token, &[u8])> {
    let (negated, mut rest) = match text {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut ranges = Vec::new();
    loop {
        if let ([b']', after @ ..], false) = (rest, ranges.is_empty()) {
            return Some((Token::Class { negated, ranges }, after));
        }
        let (low, after) = class_char(rest)?;
        let (high, after) = match after {
            [b'-', after @ ..] => class_char(after)?,
            after => (low, after),
        };
        ranges.push((low, high));
        rest = after;
    }
}

/// One character of a class, escaped or not, with something after it.
fn class_char(text: &[u8]) -> Option<(char, &[u8])> {
    let text = match text {
        [] | [b'-' | b']', ..] => return None,
        [b'\\', rest @ ..] | rest => rest,
    };
    let (c, length) = first_char(text)?;
    if c == char::REPLACEMENT_CHARACTER && length == 1 {
        return None;
    }
    let rest = &text[length..];
    if rest.is_empty() { None } else { Some((c, rest)) }
}

/// Whether a path has an unescaped wildcard. A path without one is taken literally, backslashes
/// and all.
#[must_use]
pub fn has_wildcard(path: &str) -> bool {
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// Cuts a clean path before its first component with a wildcard: what is looked up, and what is
/// matched below it.
#[must_use]
pub fn split_wildcards(path: &str) -> (&str, &str) {
    let mut at = 0;
    for component in path.split('/') {
        if has_wildcard(component) {
            let base = path[..at].trim_end_matches('/');
            return (if base.is_empty() && at > 0 { "/" } else { base }, &path[at..]);
        }
        at += component.len() + 1;
    }
    (path, "")
}

/// Go's `path.Clean`: no empty or `.` components, `..` resolved as far as it goes, `.` for nothing.
#[must_use]
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut components: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if components.last().is_some_and(|last| *last != "..") => {
                components.pop();
            }
            ".." if rooted => {}
            component => components.push(component),
        }
    }
    let joined = components.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests;
