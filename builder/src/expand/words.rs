//! The words of an expanded text.

/// Collects words while text goes by; they stand one after the other.
#[derive(Debug, Default)]
pub(crate) struct Words {
    text: String,
    /// Where in the text each word ends; none is empty.
    ends: Vec<usize>,
}

impl Words {
    /// Text of which each blank separates words.
    pub(super) fn push_all(&mut self, text: &str) {
        for (at, piece) in text.split(char::is_whitespace).enumerate() {
            if at > 0 {
                self.end_word();
            }
            self.text.push_str(piece);
        }
    }

    /// Text that belongs to the word at hand, blanks and all.
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn end_word(&mut self) {
        if self.text.len() > self.ends.last().copied().unwrap_or(0) {
            self.ends.push(self.text.len());
        }
    }

    /// The words, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| &self.text[std::mem::replace(&mut start, *end)..*end])
    }
}
