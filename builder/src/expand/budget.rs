//! How much expanding may cost, in steps.
//!
//! A step is a byte that a substitution yields, or a place of a pattern that is tried on a character.
//! A short word can ask for any number of them, because substitutions stand in each other; so each
//! word has a budget, and all words of a file have one together.

use super::ExpandError;
use crate::limits::{MAX_EXPANSION_STEPS, MAX_PLANNING_STEPS};
use std::cell::Cell;

/// Steps that are left.
#[derive(Debug)]
pub struct Budget {
    left: Cell<usize>,
    limit: usize,
}

impl Budget {
    /// Enough for one word.
    #[must_use]
    pub fn of_word() -> Self {
        Self { left: Cell::new(MAX_EXPANSION_STEPS), limit: MAX_EXPANSION_STEPS }
    }

    /// Enough for all words of a file.
    #[must_use]
    pub fn of_file() -> Self {
        Self { left: Cell::new(MAX_PLANNING_STEPS), limit: MAX_PLANNING_STEPS }
    }

    /// What is left of the steps of a file.
    pub(crate) fn with_left(left: usize) -> Self {
        Self { left: Cell::new(left), limit: MAX_PLANNING_STEPS }
    }

    /// What of this one word may use.
    pub(super) fn share(&self) -> Self {
        let word = Self::of_word();
        if self.left.get() >= word.limit {
            return word;
        }
        Self { left: self.left.clone(), limit: self.limit }
    }

    /// Takes what is used of a share off the whole.
    pub(super) fn settle(&self, share: &Self, before: usize) {
        let used = before - share.left.get();
        self.left.set(self.left.get().saturating_sub(used));
    }

    pub(crate) fn left(&self) -> usize {
        self.left.get()
    }

    /// Takes steps off. What is over the limit leaves nothing, so that the next step fails, too.
    pub(crate) fn spend(&self, steps: usize) -> Result<(), ExpandError> {
        if let Some(left) = self.left.get().checked_sub(steps) {
            self.left.set(left);
            return Ok(());
        }
        self.left.set(0);
        Err(ExpandError::TooMuchWork { limit: self.limit })
    }
}
