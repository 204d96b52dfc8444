//! Text that is shared: a long word of a line holds the line, and a line holds some lines of its file.
//!
//! ```text
//! whole   COPY --link example.org/some/where/else go.sum ./\nRUN go build\n…    one allocation
//!                     └ start                   └ end                          a long word of it
//!              --link                             go.sum ./                    short ones, by themselves
//! ```
//!
//! Cutting words from a Dockerfile and handing them on, from the parser to the steps, is most of what
//! reading one costs; with a copy for each, allocating would cost as much as all the rest. Most words
//! are so short that counting who holds the whole would cost more than copying them.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use arrayvec::ArrayString;

/// A text of so many bytes takes no more room by itself than its place in another one.
const SHORT: usize = 24;

/// A text, or a part of one. Cloning and cutting copy [`SHORT`] bytes at most.
#[derive(Clone)]
pub struct Text(Repr);

#[derive(Clone)]
enum Repr {
    Short(ArrayString<SHORT>),
    Whole(Arc<str>),
    Part { whole: Arc<str>, start: u32, end: u32 },
}

impl Text {
    /// The text itself.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Short(text) => text,
            Repr::Whole(whole) => whole,
            Repr::Part { whole, start, end } => &whole[*start as usize..*end as usize],
        }
    }

    /// A part by its place in this text.
    ///
    /// # Panics
    ///
    /// When the range does not lie in the text or cuts a character, as slicing a `str` does.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        let part = &self.as_str()[range];
        self.part_of(part)
    }

    /// A part that was found in [`Self::as_str`]. A text from elsewhere is copied.
    #[must_use]
    #[inline]
    pub fn part_of(&self, part: &str) -> Self {
        match Self::short(part) {
            Some(short) => short,
            None => self.long_part_of(part),
        }
    }

    fn long_part_of(&self, part: &str) -> Self {
        let (Repr::Whole(whole) | Repr::Part { whole, .. }) = &self.0 else {
            return Self::from(part);
        };
        // What lies in our memory, which we keep alive, is a part of ours; what lies before it has an
        // offset beyond any length.
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        let end = start.checked_add(part.len()).filter(|end| *end <= whole.len());
        match (u32::try_from(start), end.map(u32::try_from)) {
            (Ok(start), Some(Ok(end))) => Self(Repr::Part { whole: Arc::clone(whole), start, end }),
            _ => Self(Repr::Whole(part.into())),
        }
    }

    /// The text without white space at its ends.
    pub(crate) fn trimmed(&self) -> Self {
        match self.as_bytes() {
            [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => {
                self.clone()
            }
            _ => self.part_of(self.trim()),
        }
    }

    #[inline]
    fn short(text: &str) -> Option<Self> {
        ArrayString::from(text).ok().map(|short| Self(Repr::Short(short)))
    }
}

/// What stands before and after the first of some byte of ASCII: `split_once` for texts so short that
/// preparing a search takes longer than it.
pub(crate) fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    debug_assert!(at.is_ascii());
    let place = text.as_bytes().iter().position(|byte| *byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

impl Default for Text {
    fn default() -> Self {
        Self(Repr::Short(ArrayString::new_const()))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<Arc<str>> for Text {
    fn from(whole: Arc<str>) -> Self {
        Self::short(&whole).unwrap_or(Self(Repr::Whole(whole)))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::short(text).unwrap_or_else(|| Self(Repr::Whole(text.into())))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&Self> for Text {
    fn from(text: &Self) -> Self {
        text.clone()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<Text> for str {
    fn eq(&self, other: &Text) -> bool {
        self == other.as_str()
    }
}

impl PartialEq<Text> for String {
    fn eq(&self, other: &Text) -> bool {
        self == other.as_str()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other)
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &Text) -> Option<&Arc<str>> {
        match &text.0 {
            Repr::Short(_) => None,
            Repr::Whole(whole) | Repr::Part { whole, .. } => Some(whole),
        }
    }

    #[test]
    fn a_text_takes_four_words() {
        assert_eq!(size_of::<Text>(), 32);
    }

    #[test]
    fn long_parts_share_the_whole() {
        let long = "x".repeat(SHORT + 1);
        let text = Text::from(format!("COPY --link {long} b"));
        let word = text.part_of(text.split(' ').nth(2).unwrap());
        assert_eq!(word, long);
        assert!(Arc::ptr_eq(whole(&word).unwrap(), whole(&text).unwrap()));
        let same = word.part(0..word.len());
        assert!(Arc::ptr_eq(whole(&same).unwrap(), whole(&text).unwrap()));
        assert_eq!(text.part_of(&word), long);
        let elsewhere = word.part_of(&long.clone());
        assert_eq!(elsewhere, word);
        assert!(!Arc::ptr_eq(whole(&elsewhere).unwrap(), whole(&text).unwrap()));
    }

    #[test]
    fn short_parts_are_by_themselves() {
        let text = Text::from("COPY --link a b, and a long rest");
        let word = text.part(5..11);
        assert_eq!(word, "--link");
        assert!(whole(&word).is_none());
        assert_eq!(word.part(2..6), "link");
        assert_eq!(word.part_of(&word[2..]), "link");
        assert_eq!(word.part(6..6), "");
        let is_short = |length: usize| whole(&Text::from("y".repeat(length))).is_none();
        assert!(is_short(SHORT) && !is_short(SHORT + 1));
    }

    #[test]
    fn trimmed_is_without_white_space() {
        for text in ["", " ", "a", " a", "a\n", "a b", "\u{a0}a", "\u{e9} ", "\t a b\u{2003} "] {
            assert_eq!(Text::from(text).trimmed(), text.trim());
            let long = format!("{text}{}{text}", "x".repeat(SHORT));
            assert_eq!(Text::from(&long).trimmed(), long.trim());
        }
    }

    #[test]
    fn an_empty_part_of_anything_is_empty() {
        assert_eq!(Text::default().part_of(""), "");
        assert_eq!(Text::from("a").part_of(String::new().as_str()), "");
    }
}
