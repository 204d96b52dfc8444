//! Shell patterns in substitutions: `*` and `?`, escaped with `\`; brackets are text.
//!
//! Neither wildcard matches a newline. A pattern is run as a set of states over the text, so the
//! time is bounded by pattern times text whatever the pattern.

use super::{Budget, ExpandError};
use crate::limits::MAX_PATTERN_CHARS;

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    Any,
    /// `*`
    Star,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, ExpandError> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if tokens.len() == MAX_PATTERN_CHARS {
                return Err(ExpandError::PatternTooLong { limit: MAX_PATTERN_CHARS });
            }
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match chars.next() {
                    // `}` and `/` are escaped only to get past the substitution's own syntax.
                    Some(escaped @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(escaped),
                    other => {
                        return Err(ExpandError::Escape {
                            pattern: text.to_owned(),
                            escaped: other.map(String::from).unwrap_or_default(),
                        });
                    }
                },
                c => Token::Char(c),
            });
        }
        Ok(Self { tokens })
    }

    fn reversed(&self) -> Self {
        Self { tokens: self.tokens.iter().rev().copied().collect() }
    }

    /// `value` without the shortest or longest beginning that matches.
    pub(super) fn trim_prefix<'v>(
        &self,
        value: &'v str,
        longest: bool,
        budget: &Budget,
    ) -> Result<&'v str, ExpandError> {
        let end = States::new(self).match_end(value.chars(), longest, budget)?.unwrap_or(0);
        let bytes = value.chars().take(end).map(char::len_utf8).sum();
        Ok(&value[bytes..])
    }

    /// `value` without the shortest or longest end that matches.
    pub(super) fn trim_suffix<'v>(
        &self,
        value: &'v str,
        longest: bool,
        budget: &Budget,
    ) -> Result<&'v str, ExpandError> {
        let reversed = self.reversed();
        let mut states = States::new(&reversed);
        let end = states.match_end(value.chars().rev(), longest, budget)?.unwrap_or(0);
        let bytes: usize = value.chars().rev().take(end).map(char::len_utf8).sum();
        Ok(&value[..value.len() - bytes])
    }

    /// For each place of `text`, its end included, whether a match begins there.
    pub(super) fn match_starts(
        &self,
        text: &[char],
        budget: &Budget,
    ) -> Result<Vec<bool>, ExpandError> {
        let reversed = self.reversed();
        let mut states = States::new(&reversed);
        let mut starts = vec![false; text.len() + 1];
        starts[text.len()] = states.accepts;
        for at in (0..text.len()).rev() {
            states.step(text[at], true, budget)?;
            starts[at] = states.accepts;
        }
        Ok(starts)
    }
}

/// Which places of a pattern may be reached after the text so far. The work is that of the places
/// that are, which for most patterns and texts are few.
pub(super) struct States<'a> {
    tokens: &'a [Token],
    active: Vec<usize>,
    next: Vec<usize>,
    /// The step at which each place was reached last.
    reached_at: Vec<usize>,
    step: usize,
    /// Whether the end of the pattern is among the active places.
    accepts: bool,
}

impl<'a> States<'a> {
    pub(super) fn new(pattern: &'a Pattern) -> Self {
        let mut states = Self {
            tokens: &pattern.tokens,
            active: Vec::new(),
            next: Vec::new(),
            reached_at: vec![0; pattern.tokens.len() + 1],
            step: 0,
            accepts: false,
        };
        states.begin();
        states
    }

    /// Forgets the text so far.
    fn begin(&mut self) {
        self.step += 1;
        self.accepts = false;
        self.next.clear();
        self.reach(0);
        std::mem::swap(&mut self.active, &mut self.next);
    }

    /// How many characters the shortest or longest match at the start of `text` takes.
    pub(super) fn match_end(
        &mut self,
        text: impl Iterator<Item = char>,
        longest: bool,
        budget: &Budget,
    ) -> Result<Option<usize>, ExpandError> {
        self.begin();
        let mut found = self.accepts.then_some(0);
        for (at, c) in text.enumerate() {
            if found.is_some() && !longest {
                break;
            }
            self.step(c, false, budget)?;
            if self.active.is_empty() {
                break;
            }
            if self.accepts {
                found = Some(at + 1);
            }
        }
        Ok(found)
    }

    /// Adds a place, and those that stars let it reach without a character.
    fn reach(&mut self, mut place: usize) {
        while self.reached_at[place] != self.step {
            self.reached_at[place] = self.step;
            self.next.push(place);
            match self.tokens.get(place) {
                Some(Token::Star) => place += 1,
                Some(_) => return,
                None => {
                    self.accepts = true;
                    return;
                }
            }
        }
    }

    /// Takes a character; `restart` lets a match begin after it, too.
    fn step(&mut self, c: char, restart: bool, budget: &Budget) -> Result<(), ExpandError> {
        budget.spend(self.active.len() + 1)?;
        self.step += 1;
        self.accepts = false;
        self.next.clear();
        for at in 0..self.active.len() {
            let place = self.active[at];
            match self.tokens.get(place) {
                Some(Token::Char(expected)) if *expected == c => self.reach(place + 1),
                Some(Token::Any) if c != '\n' => self.reach(place + 1),
                Some(Token::Star) if c != '\n' => self.reach(place),
                _ => {}
            }
        }
        if restart {
            self.reach(0);
        }
        std::mem::swap(&mut self.active, &mut self.next);
        Ok(())
    }
}
