//! The first matcher, kept as it was: every pattern is tried on every path, and `**` runs over a list
//! of flags. It is slow and plain, and the judge of the one that a build uses.

use crate::glob::{BadPattern, Pattern, first_char};

/// A pattern with its `!` taken off.
#[derive(Clone, Debug)]
pub(super) struct IgnorePattern {
    text: String,
    negated: bool,
    shape: Shape,
    /// What every match below begins with: the components before the first wildcard.
    fixed: String,
}

#[derive(Clone, Debug)]
enum Shape {
    /// No wildcard at all.
    Exact,
    /// `text**`: everything that begins with it.
    Prefix(String),
    /// `**text` or `**/name`: everything that ends with it.
    Suffix(String),
    /// Wildcards without `**`.
    Glob(Pattern),
    /// `**/` and a glob that takes that many components.
    Tail(Pattern, usize),
    /// `**` anywhere else.
    States(Vec<State>),
    /// Matches nothing: the reference takes `^` for the start of the text, wherever it stands.
    Nothing,
}

/// A step of a pattern with `**`.
#[derive(Clone, Debug)]
enum State {
    /// What the piece of a glob takes: one byte, one character, or any but `/`.
    Byte(u8),
    Any,
    Star,
    Class(Pattern),
    /// `**` before something: nothing, or anything that ends in `/`. The state after it is
    /// [`State::Inside`].
    Dirs,
    /// Inside of [`State::Dirs`]: left only over a `/`.
    Inside,
    /// `**` at the end: anything.
    Rest,
}

impl IgnorePattern {
    /// Reads a cleaned pattern.
    fn parse(text: &str, negated: bool) -> Result<Self, BadPattern> {
        let glob = Pattern::parse(text)?;
        let shape = shape(text, glob)?;
        let wildcard = text.find(['*', '?', '[', '\\']).unwrap_or(text.len());
        // A name that goes on after the wildcard is no whole component.
        let fixed = if wildcard == text.len() {
            text
        } else {
            &text[..text[..wildcard].rfind('/').unwrap_or(0)]
        };
        Ok(Self { text: text.to_owned(), negated, shape, fixed: fixed.to_owned() })
    }

    /// Whether the path itself matches; its parents are not asked.
    fn matches(&self, path: &[u8]) -> bool {
        match &self.shape {
            Shape::Exact => path == self.text.as_bytes(),
            Shape::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
            Shape::Suffix(suffix) => {
                path.ends_with(suffix.as_bytes())
                    || suffix.strip_prefix('/').is_some_and(|name| path == name.as_bytes())
            }
            Shape::Glob(glob) => glob.matches(path),
            Shape::Tail(glob, components) => {
                tail(path, *components).is_some_and(|p| glob.matches(p))
            }
            Shape::States(states) => run(states, path),
            Shape::Nothing => false,
        }
    }

    /// Whether anything below `dir` could match; when in doubt, yes.
    fn may_match_below(&self, dir: &[u8]) -> bool {
        let fixed = self.fixed.as_bytes();
        if fixed.is_empty() {
            return true;
        }
        if matches!(self.shape, Shape::Exact) {
            return below(fixed, dir);
        }
        fixed == dir || below(fixed, dir) || below(dir, fixed)
    }
}

/// An ordered list of patterns.
pub(super) struct Oracle(Vec<IgnorePattern>);

impl Oracle {
    /// From patterns as [`super::super::Matcher::new`] takes them.
    pub(super) fn new<S: AsRef<str>>(patterns: &[S]) -> Option<Self> {
        let mut parsed = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref().trim();
            if pattern.is_empty() {
                continue;
            }
            let cleaned = crate::glob::clean(pattern);
            let (negated, text) = match cleaned.strip_prefix('!') {
                Some("") => return None,
                Some(text) => (true, text),
                None => (false, cleaned.as_str()),
            };
            parsed.push(IgnorePattern::parse(text, negated).ok()?);
        }
        Some(Self(parsed))
    }

    /// Whether the path is ignored, and which patterns matched it or its parents.
    pub(super) fn decide(&self, path: &[u8], parent: &[bool]) -> (bool, Vec<bool>) {
        let mut matches = vec![false; self.0.len()];
        let mut ignored = false;
        for (index, pattern) in self.0.iter().enumerate() {
            let above = parent.get(index).copied().unwrap_or(false);
            if above || (pattern.negated == ignored && pattern.matches(path)) {
                matches[index] = true;
                ignored = !pattern.negated;
            }
        }
        (ignored, matches)
    }

    /// Whether nothing below an ignored directory can be taken back.
    pub(super) fn can_prune(&self, dir: &[u8], matches: &[bool]) -> bool {
        let all = self.0.iter().enumerate();
        all.into_iter().all(|(index, pattern)| {
            !pattern.negated || matches[index] || !pattern.may_match_below(dir)
        })
    }
}

/// Whether `path` lies below `dir`.
fn below(path: &[u8], dir: &[u8]) -> bool {
    path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
}

fn shape(text: &str, glob: Pattern) -> Result<Shape, BadPattern> {
    let plain = !text.contains(['*', '?', '[', ']', '\\']);
    if plain {
        return Ok(Shape::Exact);
    }
    let special = |text: &str| text.contains(['*', '?', '[', ']', '\\']);
    if let Some(after) = text.strip_prefix("**") {
        if !special(after) {
            return Ok(Shape::Suffix(after.to_owned()));
        }
        if let Some(inner) = after.strip_prefix('/').filter(|inner| is_simple(inner)) {
            let components = inner.matches('/').count() + 1;
            return Ok(Shape::Tail(Pattern::parse(inner)?, components));
        }
    } else if let Some(before) = text.strip_suffix("**").filter(|before| !special(before)) {
        return Ok(Shape::Prefix(before.to_owned()));
    }
    if has_bare_caret(text) {
        return Ok(Shape::Nothing);
    }
    if text.contains("**") { states(text).map(Shape::States) } else { Ok(Shape::Glob(glob)) }
}

/// Whether a glob has no `**`, and no class or escape that could take or hide a `/`.
fn is_simple(text: &str) -> bool {
    !text.contains("**") && !text.contains(['[', '\\', '^'])
}

/// Whether a `^` stands outside a class after the pattern's start.
fn has_bare_caret(text: &str) -> bool {
    let mut in_class = false;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'[' => in_class = true,
            b']' => in_class = false,
            b'^' if !in_class && at > 0 => return true,
            _ => {}
        }
    }
    false
}

/// The last so many components of a path; `None` if it has fewer.
fn tail(path: &[u8], components: usize) -> Option<&[u8]> {
    let mut after = components;
    for (at, _) in path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/') {
        after -= 1;
        if after == 0 {
            return Some(&path[at + 1..]);
        }
    }
    (after == 1).then_some(path)
}

fn states(text: &str) -> Result<Vec<State>, BadPattern> {
    let bytes = text.as_bytes();
    let mut states = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'*', b'*', rest @ ..] => {
                at += 2 + usize::from(rest.first() == Some(&b'/'));
                if at >= bytes.len() {
                    states.push(State::Rest);
                } else {
                    states.extend([State::Dirs, State::Inside]);
                }
                continue;
            }
            [b'*', ..] => states.push(State::Star),
            [b'?', ..] => states.push(State::Any),
            [b'\\', escaped, ..] => {
                states.push(State::Byte(*escaped));
                at += 1;
            }
            [b'[', ..] => {
                let end = class_end(bytes, at);
                states.push(State::Class(Pattern::parse(&bytes[at..end])?));
                at = end;
                continue;
            }
            [byte, ..] => states.push(State::Byte(*byte)),
            [] => break,
        }
        at += 1;
    }
    Ok(states)
}

/// Where the class that begins at `start` ends; the whole pattern was found well-formed before.
fn class_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1 + usize::from(bytes.get(start + 1) == Some(&b'^'));
    while at < bytes.len() && bytes[at] != b']' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Whether the states take the whole path.
fn run(states: &[State], path: &[u8]) -> bool {
    let mut active = vec![false; states.len() + 1];
    let mut next = active.clone();
    reach(states, &mut active, 0);
    let mut at = 0;
    while at < path.len() {
        let Some((c, length)) = first_char(&path[at..]) else { break };
        next.fill(false);
        let character = &path[at..at + length];
        let mut alive = false;
        for (index, state) in states.iter().enumerate().filter(|(index, _)| active[*index]) {
            match state {
                State::Byte(_) => {
                    if let Some(after) = literal(states, index, character) {
                        reach(states, &mut next, after);
                    }
                }
                State::Any if c != '/' => reach(states, &mut next, index + 1),
                State::Star if c != '/' => reach(states, &mut next, index),
                State::Class(class) if class.matches(character) => {
                    reach(states, &mut next, index + 1);
                }
                State::Inside | State::Rest if c != '\n' => {
                    next[index] = true;
                    if matches!(state, State::Rest) || c == '/' {
                        reach(states, &mut next, index + 1);
                    }
                }
                _ => {}
            }
            alive = true;
        }
        if !alive {
            return false;
        }
        std::mem::swap(&mut active, &mut next);
        at += length;
    }
    active[states.len()]
}

/// The state after a run of byte states that spells a whole character.
fn literal(states: &[State], index: usize, character: &[u8]) -> Option<usize> {
    let spelled = character
        .iter()
        .enumerate()
        .all(|(at, byte)| matches!(states.get(index + at), Some(State::Byte(b)) if b == byte));
    spelled.then_some(index + character.len())
}

/// Adds a state and those that it leads to without a character.
fn reach(states: &[State], set: &mut [bool], index: usize) {
    let mut index = index;
    while !set[index] {
        set[index] = true;
        match states.get(index) {
            Some(State::Star | State::Rest) => index += 1,
            Some(State::Dirs) => {
                set[index + 1] = true;
                index += 2;
            }
            _ => return,
        }
    }
}
