//! Shell patterns in substitutions: `*` and `?`, escaped with `\`; brackets are text.
//!
//! Neither wildcard matches a newline. A pattern is run as a set of states over the text, so the
//! time is bounded by pattern times text whatever the pattern.

use super::ExpandError;
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
    pub(super) fn trim_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let end = self.match_end(&chars, longest).unwrap_or(0);
        chars[end..].iter().collect()
    }

    /// `value` without the shortest or longest end that matches.
    pub(super) fn trim_suffix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().rev().collect();
        let end = self.reversed().match_end(&chars, longest).unwrap_or(0);
        chars[end..].iter().rev().collect()
    }

    /// How many characters the shortest or longest match at the start of `text` takes.
    pub(super) fn match_end(&self, text: &[char], longest: bool) -> Option<usize> {
        let mut states = States::new(self);
        states.add(0);
        let mut found = None;
        for (at, c) in text.iter().enumerate() {
            if states.accepts() {
                found = Some(at);
                if !longest {
                    return found;
                }
            }
            if !states.step(*c, false) {
                return found;
            }
        }
        if states.accepts() { Some(text.len()) } else { found }
    }

    /// For each place of `text`, its end included, whether a match begins there.
    pub(super) fn match_starts(&self, text: &[char]) -> Vec<bool> {
        let reversed = self.reversed();
        let mut states = States::new(&reversed);
        states.add(0);
        let mut starts = vec![false; text.len() + 1];
        starts[text.len()] = states.accepts();
        for at in (0..text.len()).rev() {
            states.step(text[at], true);
            starts[at] = states.accepts();
        }
        starts
    }
}

/// Which places of a pattern may be reached after the text so far.
struct States<'a> {
    tokens: &'a [Token],
    active: Vec<bool>,
    next: Vec<bool>,
}

impl<'a> States<'a> {
    fn new(pattern: &'a Pattern) -> Self {
        let places = pattern.tokens.len() + 1;
        Self { tokens: &pattern.tokens, active: vec![false; places], next: vec![false; places] }
    }

    /// Adds a place, and those that stars let it reach without a character.
    fn add(&mut self, place: usize) {
        Self::reach(self.tokens, &mut self.active, place);
    }

    fn reach(tokens: &[Token], set: &mut [bool], mut place: usize) {
        while !set[place] {
            set[place] = true;
            if tokens.get(place) != Some(&Token::Star) {
                return;
            }
            place += 1;
        }
    }

    /// Takes a character; `restart` lets a match begin after it, too. Whether any place is left.
    fn step(&mut self, c: char, restart: bool) -> bool {
        self.next.fill(false);
        for (place, token) in self.tokens.iter().enumerate().filter(|(at, _)| self.active[*at]) {
            match token {
                Token::Char(expected) if *expected == c => {
                    Self::reach(self.tokens, &mut self.next, place + 1);
                }
                Token::Any if c != '\n' => Self::reach(self.tokens, &mut self.next, place + 1),
                Token::Star if c != '\n' => Self::reach(self.tokens, &mut self.next, place),
                _ => {}
            }
        }
        if restart {
            Self::reach(self.tokens, &mut self.next, 0);
        }
        std::mem::swap(&mut self.active, &mut self.next);
        self.active.contains(&true)
    }

    fn accepts(&self) -> bool {
        self.active[self.tokens.len()]
    }
}
