//! What few entries have, in one word of every entry.

use std::ops::{Deref, DerefMut};

/// A list that most of its owners do not have: it takes one word of them, and memory of its own
/// only if something is in it.
///
/// *Invariant:* what is there is not empty, so that two that are equal look the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::box_collection, reason = "a list without a box takes three words of each owner")]
pub struct Rare<T>(Option<Box<Vec<T>>>);

impl<T> Rare<T> {
    /// Nothing.
    pub const fn new() -> Rare<T> {
        Rare(None)
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Keeps what `is_kept` says.
    pub fn retain(&mut self, is_kept: impl FnMut(&T) -> bool) {
        let mut list = Vec::from(std::mem::take(self));
        list.retain(is_kept);
        *self = list.into();
    }
}

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Rare::new()
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Rare<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.deref().fmt(f)
    }
}

impl<T> Deref for Rare<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |list| list.as_slice())
    }
}

impl<T> DerefMut for Rare<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.0.as_mut().map_or(&mut [], |list| list.as_mut_slice())
    }
}

impl<T> AsRef<[T]> for Rare<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T> From<Vec<T>> for Rare<T> {
    fn from(list: Vec<T>) -> Self {
        Rare((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl<T: Clone> From<&[T]> for Rare<T> {
    fn from(list: &[T]) -> Self {
        list.to_vec().into()
    }
}

impl From<&str> for Rare<u8> {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl<T> From<Rare<T>> for Vec<T> {
    fn from(list: Rare<T>) -> Self {
        list.0.map(|list| *list).unwrap_or_default()
    }
}

impl<T> FromIterator<T> for Rare<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<T>>().into()
    }
}

impl<'a, T> IntoIterator for &'a Rare<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_is_none() {
        let mut list: Rare<u8> = vec![3, 1, 2].into();
        list.sort_unstable();
        assert_eq!(*list, [1, 2, 3]);
        list.retain(|item| *item != 2);
        assert_eq!(Vec::from(list.clone()), [1, 3]);
        list.retain(|_| false);
        assert_eq!((list.len(), &list), (0, &Rare::from(Vec::new())));
        assert_eq!(size_of::<Rare<(Vec<u8>, Vec<u8>)>>(), size_of::<usize>());
    }
}
