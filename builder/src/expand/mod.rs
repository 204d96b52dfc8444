//! Variables: `$name`, `${name}`, `${name:-word}` and its kin, quotes and escapes.
//!
//! A pure function of a word and a [`Scope`]. The result names every variable that was looked up,
//! set or not: the cache key of a step holds exactly those.
//!
//! ```text
//! unquoted   $…  '…'  "…"   \c makes c literal, a last \ goes
//! '…'        nothing is special
//! "…"        $…, and \ before " $ \ ; before anything else it stays
//! ${name M word}   M: - + ? :- :+ :?  # ## % %%      ${name/p/r}  ${name//p/r}
//! ```
//!
//! The word of a modifier is expanded whether it is used or not, so an error in it counts always.
//! Names are Unicode letters, digits and `_`; one that begins with digits is digits alone; the
//! special parameters of a shell are names of one character, and unset.

mod budget;
mod lexer;
mod pattern;
mod replace;
#[cfg(test)]
mod tests;
mod words;

pub use budget::Budget;
pub use lexer::{Expanded, Lexer};

/// Where variables get their values.
pub trait Scope {
    /// The value of a variable, `None` if it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

/// A scope in which nothing is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoScope;

impl Scope for NoScope {
    fn get(&self, _name: &str) -> Option<&str> {
        None
    }
}

impl Scope for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        std::collections::BTreeMap::get(self, name).map(String::as_str)
    }
}

/// The last of equal names wins, as in an environment list.
impl Scope for [(String, String)] {
    fn get(&self, name: &str) -> Option<&str> {
        self.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The last of equal names wins, as in an environment list.
impl Scope for Vec<(String, String)> {
    fn get(&self, name: &str) -> Option<&str> {
        Scope::get(self.as_slice(), name)
    }
}

/// Expands one word: the result is one word, whatever blanks the values hold; quotes go.
pub fn expand(word: &str, escape: char, scope: &dyn Scope) -> Result<Expanded, ExpandError> {
    Lexer::new(escape).expand(word, scope)
}

/// Expands and then cuts at unquoted blanks, those that came with values too: EXPOSE alone does so.
pub fn expand_words(
    word: &str,
    escape: char,
    scope: &dyn Scope,
) -> Result<Vec<String>, ExpandError> {
    Lexer::new(escape).words(word, scope)
}

/// Expands the body of a COPY or ADD heredoc, see [`Lexer::of_bodies`].
pub fn expand_body(body: &str, scope: &dyn Scope) -> Result<Expanded, ExpandError> {
    Lexer::of_bodies().expand(body, scope)
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A `'` without a second one.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// A `"` without a second one.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// A `${` without its `}`.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// A `${name/pattern` without the second `/`.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:…}` or `${{`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// A modifier that does not exist.
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier {
        /// The modifier as written.
        modifier: String,
    },
    /// `${name:?message}` of a variable that is not set, or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message as given, or what is wrong.
        message: String,
    },
    /// A pattern with an escape that means nothing.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'")]
    Escape {
        /// The pattern.
        pattern: String,
        /// The character after the backslash.
        escaped: String,
    },
    /// A pattern over [`crate::limits::MAX_PATTERN_CHARS`].
    #[error("pattern in substitution is longer than {limit} characters")]
    PatternTooLong {
        /// The limit.
        limit: usize,
    },
    /// Nesting over [`crate::limits::MAX_EXPANSION_DEPTH`].
    #[error("substitutions are nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A result over [`crate::limits::MAX_EXPANDED_BYTES`].
    #[error("the expanded text is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// More work than [`crate::limits::MAX_EXPANSION_STEPS`], or for a whole file more than
    /// [`crate::limits::MAX_PLANNING_STEPS`].
    #[error("expanding takes more than {limit} steps")]
    TooMuchWork {
        /// The limit.
        limit: usize,
    },
}

impl ExpandError {
    /// Whether what follows would cost as much again: time or memory is used up.
    #[must_use]
    pub fn is_exhaustion(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::TooMuchWork { .. })
    }
}
