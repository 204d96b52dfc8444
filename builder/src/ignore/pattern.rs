//! One pattern of an ignore file.
//!
//! Most patterns have a simple shape, which is compared directly; `**` in the middle is run as a
//! set of states over the path, in time path times path whatever the pattern: a state is entered by
//! taking a character, so there are never more of them than characters taken.

use crate::glob::{BadPattern, Pattern, first_char};

/// What every path that a pattern matches has in common; [`super::index`] sorts patterns by it.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// The path begins with these bytes.
    pub(super) prefix: Vec<u8>,
    /// The path ends with these bytes.
    pub(super) suffix: Vec<u8>,
    /// The path has that many slashes.
    pub(super) slashes: Option<usize>,
    /// No path matches.
    pub(super) never: bool,
}

/// A pattern with its `!` taken off.
#[derive(Clone, Debug)]
pub struct IgnorePattern {
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
    pub(super) fn parse(text: &str, negated: bool) -> Result<Self, BadPattern> {
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

    /// Whether it takes paths back.
    #[must_use]
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// The pattern without its `!`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the path itself matches; its parents are not asked.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
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

    /// What a path needs to have for this pattern to match it.
    pub(super) fn ends(&self) -> Ends {
        let slashes = |text: &str| Some(text.bytes().filter(|byte| *byte == b'/').count());
        match &self.shape {
            Shape::Exact => Ends {
                prefix: self.text.clone().into_bytes(),
                suffix: self.text.clone().into_bytes(),
                slashes: slashes(&self.text),
                never: false,
            },
            Shape::Prefix(prefix) => {
                Ends { prefix: prefix.clone().into_bytes(), ..Ends::default() }
            }
            Shape::Suffix(suffix) => {
                let name = suffix.strip_prefix('/').unwrap_or(suffix);
                Ends { suffix: name.as_bytes().to_vec(), ..Ends::default() }
            }
            Shape::Glob(glob) => Ends {
                prefix: glob.literal_prefix(),
                suffix: glob.literal_suffix().to_vec(),
                slashes: glob.slashes(),
                never: false,
            },
            Shape::Tail(glob, _) => {
                Ends { suffix: glob.literal_suffix().to_vec(), ..Ends::default() }
            }
            Shape::States(states) => {
                let byte = |state: &State| match state {
                    State::Byte(byte) => Some(*byte),
                    _ => None,
                };
                let mut suffix: Vec<u8> = states.iter().rev().map_while(byte).collect();
                suffix.reverse();
                let prefix = states.iter().map_while(byte).collect();
                Ends { prefix, suffix, ..Ends::default() }
            }
            Shape::Nothing => Ends { never: true, ..Ends::default() },
        }
    }

    /// Whether anything below `dir` could match; when in doubt, yes.
    pub(super) fn may_match_below(&self, dir: &[u8]) -> bool {
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
                } else if !matches!(states.last(), Some(State::Inside)) {
                    // A second one in a row takes nothing that the first does not.
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

/// Words of a set of states that needs no memory of its own; most patterns have one.
const SMALL_SET_WORDS: usize = 2;

/// Whether the states take the whole path.
fn run(states: &[State], path: &[u8]) -> bool {
    let words = states.len() / 64 + 1;
    if words <= SMALL_SET_WORDS {
        let (mut active, mut next) = ([0; SMALL_SET_WORDS], [0; SMALL_SET_WORDS]);
        return run_in(states, path, Set(&mut active), Set(&mut next));
    }
    let (mut active, mut next) = (vec![0; words], vec![0; words]);
    run_in(states, path, Set(&mut active), Set(&mut next))
}

fn run_in<'a>(states: &[State], path: &[u8], mut active: Set<'a>, mut next: Set<'a>) -> bool {
    active.reach(states, 0);
    let mut at = 0;
    while at < path.len() {
        let Some((c, length)) = first_char(&path[at..]) else { break };
        next.0.fill(0);
        let character = &path[at..at + length];
        for index in active.iter() {
            // The end takes nothing more.
            let Some(state) = states.get(index) else { continue };
            match state {
                State::Byte(_) => {
                    if let Some(after) = literal(states, index, character) {
                        next.reach(states, after);
                    }
                }
                State::Any if c != '/' => next.reach(states, index + 1),
                State::Star if c != '/' => next.reach(states, index),
                State::Class(class) if class.matches(character) => next.reach(states, index + 1),
                State::Inside | State::Rest if c != '\n' => {
                    next.insert(index);
                    if matches!(state, State::Rest) || c == '/' {
                        next.reach(states, index + 1);
                    }
                }
                _ => {}
            }
        }
        if next.0.iter().all(|word| *word == 0) {
            return false;
        }
        std::mem::swap(&mut active, &mut next);
        at += length;
    }
    active.contains(states.len())
}

/// The state after a run of byte states that spells a whole character.
fn literal(states: &[State], index: usize, character: &[u8]) -> Option<usize> {
    let spelled = character
        .iter()
        .enumerate()
        .all(|(at, byte)| matches!(states.get(index + at), Some(State::Byte(b)) if b == byte));
    spelled.then_some(index + character.len())
}

/// A set of states, one bit for each; the one after the last is the end.
struct Set<'a>(&'a mut [u64]);

impl Set<'_> {
    fn contains(&self, index: usize) -> bool {
        self.0[index / 64] >> (index % 64) & 1 == 1
    }

    fn insert(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// Adds a state and those that it leads to without a character.
    fn reach(&mut self, states: &[State], mut index: usize) {
        while !self.contains(index) {
            self.insert(index);
            match states.get(index) {
                Some(State::Star | State::Rest) => index += 1,
                Some(State::Dirs) => {
                    self.insert(index + 1);
                    index += 2;
                }
                _ => return,
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * 64 + bit)
            })
        })
    }
}
