//! Owners that a tree could not be given: in a user namespace only mapped ids exist.
//!
//! A tree made there leaves such a file to the namespace's root, and its TOC keeps the truth. When
//! a step copies it up, the upper directory shows root again; that is no change of owner.

use std::sync::OnceLock;

use crate::toc::Entry;

/// The ids that this process can give to files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owners {
    uids: Vec<Mapped>,
    gids: Vec<Mapped>,
}

/// A range of ids as seen in this namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mapped {
    first: u32,
    count: u32,
}

impl Owners {
    /// Whether both ids exist in this process's user namespace, which it entered before it made a tree.
    pub(crate) fn are_here(uid: u32, gid: u32) -> bool {
        static HERE: OnceLock<Owners> = OnceLock::new();
        let here = HERE.get_or_init(Owners::of_this_process);
        contains(&here.uids, uid) && contains(&here.gids, gid)
    }

    /// The ids of this process's user namespace; where the system does not say, all of them.
    pub(super) fn of_this_process() -> Owners {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Owners::parse(&read("/proc/self/uid_map"), &read("/proc/self/gid_map"))
    }

    fn parse(uids: &str, gids: &str) -> Owners {
        Owners { uids: mapped(uids), gids: mapped(gids) }
    }

    /// Gives `entry`, as found in an upper directory, the owner of `below` where the tree of the
    /// layer below could not have it.
    pub(super) fn keep(&self, entry: &mut Entry, below: &Entry) {
        if entry.uid == 0 && !contains(&self.uids, below.uid) {
            entry.uid = below.uid;
        }
        if entry.gid == 0 && !contains(&self.gids, below.gid) {
            entry.gid = below.gid;
        }
    }
}

fn mapped(map: &str) -> Vec<Mapped> {
    let line = |line: &str| {
        // First id inside, first id outside, how many.
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        Some(Mapped { first: numbers.next()??, count: numbers.nth(1)?? })
    };
    map.lines().filter_map(line).collect()
}

fn contains(ranges: &[Mapped], id: u32) -> bool {
    // An id below the first one wraps around to a great distance.
    ranges.is_empty() || ranges.iter().any(|range| id.wrapping_sub(range.first) < range.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LayerPath, toc::Kind};

    #[test]
    fn owners_that_cannot_be_are_kept() {
        let entry = |uid, gid| {
            let path = LayerPath::parse("f").unwrap();
            Entry { uid, gid, ..Entry::new(path, Kind::File) }
        };
        let check = |map: &str, found: (u32, u32), below: (u32, u32), kept: (u32, u32)| {
            let mut found = entry(found.0, found.1);
            Owners::parse(map, map).keep(&mut found, &entry(below.0, below.1));
            assert_eq!((found.uid, found.gid), kept, "{map}");
        };
        let single = "         0       1000          1\n";
        check(single, (0, 0), (33, 0), (33, 0));
        check(single, (0, 0), (0, 33), (0, 33));
        check(single, (0, 0), (0, 0), (0, 0));
        let several = "0 1000 1\n1 100000 65536\n";
        check(several, (0, 0), (33, 70_000), (0, 70_000));
        check(several, (5, 6), (70_000, 70_000), (5, 6));
        let all = "0 0 4294967295\n";
        check(all, (0, 0), (33, 4_000_000_000), (0, 0));
        check("", (0, 0), (33, 33), (0, 0));
    }
}
