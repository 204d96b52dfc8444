//! `.dockerignore`: which paths of a context a build does not see.
//!
//! Patterns are tried in order and the last that matches decides; `!` takes a path back. A pattern
//! that matches a directory matches everything below it, so the answer for a path needs the answers
//! for its parents: [`Matcher::decide`] takes those of the parent and gives those for the children.
//!
//! ```text
//! a/b      exactly that path, from the root      *  ?   not across '/'
//! **/x     x at any depth, 0 included            a/**   all below a, not a itself
//! [a-c]    one character; [^a] negates           \c     c itself
//! ```
//!
//! Patterns are sorted once by what a path must begin and end with to match ([`index`]), so that
//! few of them are tried on a path. The same matcher serves `COPY --exclude`, whose patterns are not
//! normalised as lines are.
//!
//! It stands by itself; a walk hands each directory's answer on and skips what cannot come back:
//!
//! ```
//! use lapstrake_builder::ignore::{Ignore, ParentMatches};
//!
//! let ignore = Ignore::parse(b"target\n**/*.log\n!keep.log\n")?;
//! assert!(ignore.is_excluded("web/errors.log"));
//! assert!(!ignore.is_excluded("keep.log"));
//!
//! let (ignored, matches) = ignore.decide("target", &ParentMatches::default());
//! assert!(ignored && ignore.can_prune("target", &matches));
//! let (below, _) = ignore.decide("target/debug", &matches);
//! assert!(below);
//! # Ok::<(), lapstrake_builder::ignore::IgnoreError>(())
//! ```

mod index;
mod pattern;
#[cfg(test)]
mod tests;

pub use pattern::IgnorePattern;

use crate::glob::{BadPattern, clean};
use crate::limits::{
    MAX_IGNORE_BYTES, MAX_IGNORE_PATTERN_BYTES, MAX_IGNORE_PATTERNS, MAX_IGNORE_WILDCARDS,
    MAX_LINE_BYTES,
};
use crate::source::{Span, decode};
use index::Index;

/// Why an ignore file or a list of patterns cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreError {
    /// A `!` without a pattern.
    #[error("illegal exclusion pattern: \"!\"")]
    Bare {
        /// The number of the pattern, from 0.
        index: usize,
    },
    /// A pattern that is malformed.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// A line over [`crate::limits::MAX_LINE_BYTES`].
    #[error("line of the ignore file is longer than {limit} bytes")]
    LineTooLong {
        /// Where the line stands.
        span: Span,
        /// The limit.
        limit: usize,
    },
    /// A pattern over [`crate::limits::MAX_IGNORE_PATTERN_BYTES`].
    #[error("pattern {index} is longer than {limit} bytes")]
    PatternTooLong {
        /// The number of the pattern, from 0.
        index: usize,
        /// The limit.
        limit: usize,
    },
    /// More patterns than [`crate::limits::MAX_IGNORE_PATTERNS`].
    #[error("there are more than {limit} patterns")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// More wildcards than [`crate::limits::MAX_IGNORE_WILDCARDS`].
    #[error("the patterns have more than {limit} wildcards")]
    TooManyWildcards {
        /// The limit.
        limit: usize,
    },
    /// A file over [`crate::limits::MAX_IGNORE_BYTES`].
    #[error("the ignore file is larger than {limit} bytes")]
    FileTooLarge {
        /// The limit.
        limit: usize,
    },
}

/// A parsed ignore file.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    matcher: Matcher,
}

impl Ignore {
    /// Reads an ignore file.
    pub fn parse(bytes: &[u8]) -> Result<Self, IgnoreError> {
        if bytes.len() > MAX_IGNORE_BYTES {
            return Err(IgnoreError::FileTooLarge { limit: MAX_IGNORE_BYTES });
        }
        let body = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut patterns = Vec::new();
        let mut start = bytes.len() - body.len();
        for line in body.split(|byte| *byte == b'\n') {
            if line.len() > MAX_LINE_BYTES {
                let span = Span::new(start, start + line.len());
                return Err(IgnoreError::LineTooLong { span, limit: MAX_LINE_BYTES });
            }
            start += line.len() + 1;
            patterns.extend(line_pattern(&decode(line)));
        }
        Ok(Self { matcher: Matcher::new(&patterns)? })
    }

    /// The patterns.
    #[must_use]
    pub fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// See [`Matcher::decide`].
    #[must_use]
    pub fn decide(&self, path: impl AsRef<[u8]>, parent: &ParentMatches) -> (bool, ParentMatches) {
        self.matcher.decide(path, parent)
    }

    /// See [`Matcher::can_prune`].
    #[must_use]
    pub fn can_prune(&self, dir: impl AsRef<[u8]>, matches: &ParentMatches) -> bool {
        self.matcher.can_prune(dir, matches)
    }

    /// See [`Matcher::is_excluded`].
    #[must_use]
    pub fn is_excluded(&self, path: impl AsRef<[u8]>) -> bool {
        self.matcher.is_excluded(path)
    }

    /// Whether nothing is ever ignored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.matcher.patterns.is_empty()
    }
}

/// What a line says, normalised; `None` for comments and blank lines.
fn line_pattern(line: &str) -> Option<String> {
    // Only a `#` in the first column makes a comment.
    let trimmed = Some(line).filter(|line| !line.starts_with('#'))?.trim();
    if trimmed.is_empty() {
        return None;
    }
    let (mark, text) = match trimmed.strip_prefix('!') {
        Some(text) => ("!", text.trim()),
        None => ("", trimmed),
    };
    if text.is_empty() {
        return Some(mark.to_owned());
    }
    let cleaned = clean(text);
    let relative =
        if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
    Some(format!("{mark}{relative}"))
}

/// An ordered list of patterns.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    patterns: Vec<IgnorePattern>,
    index: Index,
    /// The patterns that begin with `!`.
    negated: Vec<usize>,
}

/// Which patterns matched a directory or its parents; the default is that of the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParentMatches {
    /// Empty if nothing matched, else one bit for each pattern.
    bits: Vec<u64>,
}

impl ParentMatches {
    fn get(&self, index: usize) -> bool {
        self.bits.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn word(&self, word: usize) -> u64 {
        self.bits.get(word).copied().unwrap_or(0)
    }

    fn set(&mut self, index: usize, words: usize) {
        self.bits.resize(words, 0);
        self.bits[index / 64] |= 1 << (index % 64);
    }
}

impl Matcher {
    /// Reads patterns as they stand: trimmed and cleaned, nothing else.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, IgnoreError> {
        let mut parsed = Vec::new();
        let mut wildcards = 0;
        for (index, pattern) in patterns.iter().enumerate() {
            let pattern = pattern.as_ref().trim();
            if pattern.is_empty() {
                continue;
            }
            if pattern.len() > MAX_IGNORE_PATTERN_BYTES {
                return Err(IgnoreError::PatternTooLong { index, limit: MAX_IGNORE_PATTERN_BYTES });
            }
            if parsed.len() == MAX_IGNORE_PATTERNS {
                return Err(IgnoreError::TooMany { limit: MAX_IGNORE_PATTERNS });
            }
            wildcards += pattern.bytes().filter(|byte| matches!(byte, b'*' | b'?' | b'[')).count();
            if wildcards > MAX_IGNORE_WILDCARDS {
                return Err(IgnoreError::TooManyWildcards { limit: MAX_IGNORE_WILDCARDS });
            }
            let cleaned = clean(pattern);
            let (negated, text) = match cleaned.strip_prefix('!') {
                Some("") => return Err(IgnoreError::Bare { index }),
                Some(text) => (true, text),
                None => (false, cleaned.as_str()),
            };
            parsed.push(IgnorePattern::parse(text, negated)?);
        }
        let negated = (0..parsed.len()).filter(|at| parsed[*at].is_negated()).collect();
        Ok(Self { index: Index::new(&parsed), negated, patterns: parsed })
    }

    /// The patterns in order.
    #[must_use]
    pub fn patterns(&self) -> &[IgnorePattern] {
        &self.patterns
    }

    /// Whether any pattern begins with `!`: then an ignored directory may hold what is not.
    #[must_use]
    pub fn has_negations(&self) -> bool {
        !self.negated.is_empty()
    }

    /// Whether `path` (relative, clean) is ignored, and what its children need to be asked with.
    /// `parent` is what the parent directory gave; the default at the root.
    #[must_use]
    pub fn decide(&self, path: impl AsRef<[u8]>, parent: &ParentMatches) -> (bool, ParentMatches) {
        let path = path.as_ref();
        let mut matches = ParentMatches::default();
        let mut ignored = false;
        let likely = self.index.likely(path);
        for word in 0..self.index.words() {
            let mut left = likely.word(word) | parent.word(word);
            while left != 0 {
                let index = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                let pattern = &self.patterns[index];
                // A pattern that could not change the answer is not tried, and counts as no match
                // for the children: that is the reference's rule, not only its speed.
                let matched =
                    parent.get(index) || (pattern.is_negated() == ignored && pattern.matches(path));
                if matched {
                    matches.set(index, self.index.words());
                    ignored = !pattern.is_negated();
                }
            }
        }
        (ignored, matches)
    }

    /// Whether nothing below an ignored directory can be taken back, so that it need not be walked.
    /// `matches` is what [`Self::decide`] gave for the directory.
    #[must_use]
    pub fn can_prune(&self, dir: impl AsRef<[u8]>, matches: &ParentMatches) -> bool {
        let dir = dir.as_ref();
        self.negated
            .iter()
            .all(|index| matches.get(*index) || !self.patterns[*index].may_match_below(dir))
    }

    /// Whether `path` is ignored, its parents asked first.
    #[must_use]
    pub fn is_excluded(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        let mut matches = ParentMatches::default();
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            matches = self.decide(&path[..at], &matches).1;
        }
        self.decide(path, &matches).0
    }
}
