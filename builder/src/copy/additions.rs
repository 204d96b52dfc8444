//! Files by path, for those who mostly come in order.
//!
//! A COPY puts tens of thousands of files in the order of their paths. What comes behind everything else
//! is put at the end of a list, without a search; what comes out of order goes, and takes the list with
//! it, into a tree. So nothing moves more than once.

use crate::tree::Node;
use lapstrake_layerstore::path::LayerPath;
use std::collections::BTreeMap;
use std::collections::btree_map;

/// A map from paths to files.
///
/// *Invariant:* the list is sorted, and all of it comes behind all of the tree.
#[derive(Debug, Default)]
pub(super) struct Additions {
    tree: BTreeMap<LayerPath, Node>,
    list: Vec<(LayerPath, Node)>,
}

impl Additions {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tree.len() + self.list.len()
    }

    pub(super) fn get(&self, path: &LayerPath) -> Option<&Node> {
        match self.find(path) {
            Place::Listed(at) => Some(&self.list[at].1),
            Place::End => None,
            Place::Tree => self.tree.get(path),
        }
    }

    pub(super) fn get_mut(&mut self, path: &LayerPath) -> Option<&mut Node> {
        match self.find(path) {
            Place::Listed(at) => Some(&mut self.list[at].1),
            Place::End => None,
            Place::Tree => self.tree.get_mut(path),
        }
    }

    pub(super) fn contains(&self, path: &LayerPath) -> bool {
        self.get(path).is_some()
    }

    /// Adds a file, instead of what has this path.
    pub(super) fn insert(&mut self, path: LayerPath, node: Node) {
        match self.find(&path) {
            Place::Listed(at) => self.list[at].1 = node,
            Place::End => self.list.push((path, node)),
            Place::Tree => {
                self.tree.extend(self.list.drain(..));
                self.tree.insert(path, node);
            }
        }
    }

    pub(super) fn remove(&mut self, path: &LayerPath) {
        self.tree.extend(self.list.drain(..));
        self.tree.remove(path);
    }

    /// All of them in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&LayerPath, &Node)> {
        self.tree.iter().chain(pairs(&self.list))
    }

    /// Those from `path` on, in order.
    pub(super) fn from(&self, path: &LayerPath) -> impl Iterator<Item = (&LayerPath, &Node)> {
        let at = self.list.partition_point(|(listed, _)| listed < path);
        self.tree.range(path.clone()..).chain(pairs(&self.list[at..]))
    }

    /// Where `path` is, or would be.
    fn find(&self, path: &LayerPath) -> Place {
        let last = match self.list.last() {
            Some((last, _)) => Some(last),
            None => self.tree.last_key_value().map(|(last, _)| last),
        };
        if last.is_none_or(|last| last < path) {
            return Place::End;
        }
        match self.list.binary_search_by(|(listed, _)| listed.cmp(path)) {
            Ok(at) => Place::Listed(at),
            Err(_) => Place::Tree,
        }
    }
}

enum Place {
    Listed(usize),
    /// Behind everything that is here.
    End,
    /// In the tree, if it is here.
    Tree,
}

fn pairs(list: &[(LayerPath, Node)]) -> impl Iterator<Item = (&LayerPath, &Node)> {
    list.iter().map(|(path, node)| (path, node))
}

impl IntoIterator for Additions {
    type Item = (LayerPath, Node);
    type IntoIter =
        std::iter::Chain<btree_map::IntoIter<LayerPath, Node>, std::vec::IntoIter<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        self.tree.into_iter().chain(self.list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(number: u8) -> LayerPath {
        let mut path = LayerPath::root();
        for digit in [number / 16, number % 16] {
            path = path.join([b'a' + digit]).unwrap();
        }
        path
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(steps in prop::collection::vec((0..4u8, 0..64u8), 0..200)) {
            let (mut additions, mut map) = (Additions::default(), BTreeMap::new());
            let mut end = 64;
            for (step, number) in steps {
                let node = Node::empty_file(0o644, i64::from(number));
                match step {
                    // In order, as most come.
                    0 | 1 => {
                        end += 1;
                        additions.insert(path(end), node.clone());
                        map.insert(path(end), node);
                    }
                    2 => {
                        additions.insert(path(number), node.clone());
                        map.insert(path(number), node);
                    }
                    _ => {
                        let gone = path(if number % 2 == 0 { number } else { end });
                        additions.remove(&gone);
                        map.remove(&gone);
                    }
                }
                end %= 250;
            }
            let times = |node: &Node| node.mtime;
            prop_assert_eq!(additions.len(), map.len());
            for number in 0..=255 {
                let path = path(number);
                prop_assert_eq!(additions.get(&path).map(times), map.get(&path).map(times));
                prop_assert_eq!(additions.get_mut(&path).is_some(), map.contains_key(&path));
                let ours: Vec<_> = additions.from(&path).map(|(path, _)| path.clone()).collect();
                prop_assert!(ours.iter().eq(map.range(path..).map(|(path, _)| path)));
            }
            let ours: Vec<_> = additions.iter().map(|(path, node)| (path.clone(), node.mtime)).collect();
            let taken: Vec<_> = additions.into_iter().map(|(path, node)| (path, node.mtime)).collect();
            let theirs: Vec<_> = map.into_iter().map(|(path, node)| (path, node.mtime)).collect();
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(taken, theirs);
        }
    }
}
