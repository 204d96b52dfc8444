//! Text that is shared: a word of a line holds the line, and a line may hold the whole file.
//!
//! ```text
//! whole   COPY --link go.mod go.sum ./\nRUN go build\n…      one allocation
//!                     └ start      └ end                     a word of it
//! ```
//!
//! Cutting words from a Dockerfile and handing them on, from the parser to the steps, is most of what
//! reading one costs; with a copy for each, allocating would cost as much as all the rest.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A text, or a part of one. Cloning and cutting copy nothing.
#[derive(Clone, Default)]
pub struct Text {
    whole: Arc<str>,
    start: usize,
    end: usize,
}

impl Text {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.whole[self.start..self.end]
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
    pub fn part_of(&self, part: &str) -> Self {
        // What lies in our memory, which we keep alive, is a part of ours; what lies before it has an
        // offset beyond any length.
        let start = part.as_ptr().addr().wrapping_sub(self.whole.as_ptr().addr());
        match start.checked_add(part.len()) {
            Some(end) if end <= self.whole.len() => {
                Self { whole: Arc::clone(&self.whole), start, end }
            }
            _ => Self::from(part),
        }
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
        let end = whole.len();
        Self { whole, start: 0, end }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from(Arc::<str>::from(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(Arc::<str>::from(text))
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

    #[test]
    fn parts_share_the_whole() {
        let text = Text::from("COPY --link a b");
        let word = text.part_of(text.split(' ').nth(1).unwrap());
        assert_eq!(word, "--link");
        assert!(Arc::ptr_eq(&word.whole, &text.whole));
        assert_eq!(word.part(2..6), "link");
        assert_eq!(word.part(6..6), "");
        let outside = word.part_of(&text[12..]);
        assert_eq!(outside, "a b");
        let elsewhere = word.part_of(&String::from("--link"));
        assert_eq!(elsewhere, word);
        assert!(!Arc::ptr_eq(&elsewhere.whole, &text.whole));
    }

    #[test]
    fn an_empty_part_of_anything_is_empty() {
        assert_eq!(Text::default().part_of(""), "");
        assert_eq!(Text::from("a").part_of(String::new().as_str()), "");
    }
}
