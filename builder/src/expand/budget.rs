//! How much expanding may cost, in steps.
//!
//! A step is a byte that a substitution yields, or a place of a pattern that is tried on a character.
//! A short word can ask for any number of them, because substitutions stand in each other; so each
//! word has a budget, and all words of a file have one together.

use super::ExpandError;
use crate::limits::{MAX_EXPANSION_STEPS, MAX_PLANNING_STEPS};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Steps that are left; stages that are planned at once share them.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// Enough for one word.
    #[must_use]
    pub fn of_word() -> Self {
        Self::new(MAX_EXPANSION_STEPS, MAX_EXPANSION_STEPS)
    }

    /// Enough for all words of a file.
    #[must_use]
    pub fn of_file() -> Self {
        Self::new(MAX_PLANNING_STEPS, MAX_PLANNING_STEPS)
    }

    /// What is left of the steps of a file.
    pub(crate) fn with_left(left: usize) -> Self {
        Self::new(left, MAX_PLANNING_STEPS)
    }

    /// What of this one word may use.
    pub(super) fn share(&self) -> Self {
        let left = self.left();
        if left >= MAX_EXPANSION_STEPS { Self::of_word() } else { Self::new(left, self.limit) }
    }

    /// Takes what is used of a share off the whole.
    pub(super) fn settle(&self, share: &Self, before: usize) {
        let used = before - share.left();
        if used > 0 {
            self.take(used).unwrap_or_else(|_| self.left.store(0, Relaxed));
        }
    }

    pub(crate) fn left(&self) -> usize {
        self.left.load(Relaxed)
    }

    fn new(left: usize, limit: usize) -> Self {
        Self { left: AtomicUsize::new(left), limit }
    }

    fn take(&self, steps: usize) -> Result<(), usize> {
        let rest = |left: usize| left.checked_sub(steps);
        self.left.fetch_update(Relaxed, Relaxed, rest).map(drop)
    }

    /// Takes steps off. What is over the limit leaves nothing, so that the next step fails, too.
    pub(crate) fn spend(&self, steps: usize) -> Result<(), ExpandError> {
        self.take(steps).map_err(|_| {
            self.left.store(0, Relaxed);
            ExpandError::TooMuchWork { limit: self.limit }
        })
    }
}
