//! The list of what is visible through a stack of layers.
//!
//! *Invariant:* sorted by path bytes, one slot per path, no marks (whiteouts, opaque), and every
//! slot's parent directory has a slot, too; a directory that no layer lists gets an implied one.
//! Hard links to files of their own layer lead there; where those of a foreign layer lead that name a
//! file of a layer below is found when the layer is laid over it, once.
//! Eight bytes a slot: a stack of ten layers costs no more than its top view.

use crate::{
    path::LayerPath,
    toc::{Entry, Kind, Toc, range_below},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The mode of a directory that a layer forgot to list (S-83).
const IMPLIED_MODE: u32 = 0o755;
/// In [`Slot::layer`]: the entry is one of the implied directories.
const IMPLIED: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    layer: u32,
    entry: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Flat {
    slots: Vec<Slot>,
    implied: Vec<Entry>,
    /// The files below that hard links name.
    named_below: HashMap<Slot, Slot>,
}

type Tocs = [Arc<Toc>];

/// A directory that no layer lists but that must be there.
pub(crate) fn implied(path: LayerPath) -> Entry {
    Entry::directory(path, IMPLIED_MODE, 0)
}

impl Flat {
    pub(super) fn build(tocs: &Tocs) -> Flat {
        (0..tocs.len()).fold(Flat::default(), |flat, top| flat.push(&tocs[..=top]))
    }

    /// This list of all but the last of `tocs` with the last one laid over it.
    pub(super) fn push(&self, tocs: &Tocs) -> Flat {
        let Some((toc, _)) = tocs.split_last() else { return Flat::default() };
        let layer = u32::try_from(tocs.len() - 1).expect("because images have far fewer layers");
        let kept = self.visible_below(tocs, toc);
        let mut slots = Vec::with_capacity(kept.len() + toc.len());
        let mut named_below = self.named_below.clone();
        let mut at = 0;
        for (index, entry) in toc.iter().enumerate().filter(|(_, entry)| !entry.kind.is_mark()) {
            let path = entry.path.as_bytes();
            let end = at + count_before(&kept[at..], |slot| self.path(tocs, *slot) < path);
            slots.extend_from_slice(&kept[at..end]);
            // What was visible at the very path is replaced.
            at = end + usize::from(kept.get(end).is_some_and(|s| self.path(tocs, *s) == path));
            let index = u32::try_from(index).expect("because LAYER_ENTRIES_MAX is below 2^32");
            let slot = Slot { layer, entry: index };
            if entry.kind == Kind::Hardlink
                && file_in(toc, &entry.link).is_none()
                && let Some(named) = self.file_at(tocs, &entry.link)
            {
                named_below.insert(slot, named);
            }
            slots.push(slot);
        }
        slots.extend_from_slice(&kept[at..]);
        Flat { slots, implied: self.implied.clone(), named_below }.add_implied(tocs, toc)
    }

    /// The slot of what is visible at `path`, a hard link's of what it names.
    fn file_at(&self, tocs: &Tocs, path: &[u8]) -> Option<Slot> {
        let slot = self.slots[self.position(tocs, path).ok()?];
        match self.slot_entry(tocs, slot) {
            _ if slot.layer == IMPLIED => None,
            link if link.kind == Kind::Hardlink => {
                let own = file_in(&tocs[slot.layer as usize], &link.link);
                let own = own.map(|entry| Slot { layer: slot.layer, entry });
                Some(own.or_else(|| self.named_below.get(&slot).copied()).unwrap_or(slot))
            }
            _ => Some(slot),
        }
    }

    /// What the hard link in a slot names, and its layer; the link itself where that is nothing.
    pub(super) fn named<'a>(&'a self, tocs: &'a Tocs, at: usize) -> (Option<usize>, &'a Entry) {
        let link = self.slots[at];
        let toc = &tocs[link.layer as usize];
        let own = file_in(toc, &toc.entry(link.entry as usize).link);
        let own = own.map(|entry| Slot { layer: link.layer, entry });
        let named = own.or_else(|| self.named_below.get(&link).copied()).unwrap_or(link);
        (Some(named.layer as usize), self.slot_entry(tocs, named))
    }

    /// The slots that `toc`, laid over this list, does not hide; those that it replaces included.
    fn visible_below(&self, tocs: &Tocs, toc: &Toc) -> Vec<Slot> {
        let mut hidden = Vec::new();
        for entry in toc {
            let path = entry.path.as_bytes();
            if entry.kind != Kind::Dir {
                hidden.push(self.below(tocs, path));
            }
            if entry.kind == Kind::Whiteout
                && let Ok(at) = self.position(tocs, path)
            {
                hidden.push(at..at + 1);
            }
        }
        hidden.retain(|range| !range.is_empty());
        hidden.sort_by_key(|range| range.start);
        let mut kept = Vec::with_capacity(self.slots.len());
        let mut from = 0;
        for range in hidden {
            kept.extend_from_slice(&self.slots[from.min(range.start)..range.start]);
            from = from.max(range.end);
        }
        kept.extend_from_slice(&self.slots[from..]);
        kept
    }

    /// Gives every parent of an entry of `toc` that is no directory a slot as one; unpacking a mark
    /// makes its directory, too. Slots from below need no look: what hid a directory hid everything in it.
    fn add_implied(mut self, tocs: &Tocs, toc: &Toc) -> Flat {
        let mut missing: HashSet<LayerPath> = HashSet::new();
        let mut seen: &[u8] = &[];
        for entry in toc {
            let direct = match entry.kind {
                Kind::Opaque => entry.path.as_bytes(),
                _ => entry.path.parent_bytes().unwrap_or_default(),
            };
            if direct == seen {
                continue;
            }
            seen = direct;
            let is_dir = |path: &[u8]| {
                self.position(tocs, path).is_ok_and(|at| self.entry(tocs, at).kind == Kind::Dir)
            };
            let mut ancestors: Vec<&[u8]> = entry.path.ancestors().collect();
            if entry.kind == Kind::Opaque && !direct.is_empty() {
                ancestors.push(direct);
            }
            while let Some(directory) = ancestors.pop_if(|directory| !is_dir(directory)) {
                // What is above it was looked at with it.
                if !missing.insert(LayerPath::from_clean(directory)) {
                    break;
                }
            }
        }
        if missing.is_empty() {
            return self;
        }
        let mut missing: Vec<LayerPath> = missing.into_iter().collect();
        missing.sort();
        let is_missing = |slot: &Slot| {
            missing.binary_search_by(|path| path.as_bytes().cmp(self.path(tocs, *slot))).is_ok()
        };
        let mut slots: Vec<Slot> =
            self.slots.iter().copied().filter(|slot| !is_missing(slot)).collect();
        for path in missing {
            let index = u32::try_from(self.implied.len()).expect("because slots are fewer");
            self.implied.push(implied(path));
            slots.push(Slot { layer: IMPLIED, entry: index });
        }
        slots.sort_by(|a, b| self.path(tocs, *a).cmp(self.path(tocs, *b)));
        self.slots = slots;
        self
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn entry<'a>(&'a self, tocs: &'a Tocs, at: usize) -> &'a Entry {
        self.slot_entry(tocs, self.slots[at])
    }

    pub(super) fn layer(&self, at: usize) -> Option<usize> {
        Some(self.slots[at].layer).filter(|layer| *layer != IMPLIED).map(|layer| layer as usize)
    }

    fn slot_entry<'a>(&'a self, tocs: &'a Tocs, slot: Slot) -> &'a Entry {
        match slot.layer {
            IMPLIED => &self.implied[slot.entry as usize],
            layer => tocs[layer as usize].entry(slot.entry as usize),
        }
    }

    fn path<'a>(&'a self, tocs: &'a Tocs, slot: Slot) -> &'a [u8] {
        self.slot_entry(tocs, slot).path.as_bytes()
    }

    pub(super) fn position(&self, tocs: &Tocs, path: &[u8]) -> Result<usize, usize> {
        self.slots.binary_search_by(|slot| self.path(tocs, *slot).cmp(path))
    }

    fn below(&self, tocs: &Tocs, directory: &[u8]) -> std::ops::Range<usize> {
        range_below(self.slots.len(), directory, |at| self.path(tocs, self.slots[at]))
    }

    /// The positions of what is directly in `directory`, by name.
    pub(super) fn children(&self, tocs: &Tocs, directory: &[u8]) -> Vec<usize> {
        let range = self.below(tocs, directory);
        let prefix = if directory.is_empty() { 0 } else { directory.len() + 1 };
        let mut children = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let path = self.entry(tocs, at).path.as_bytes();
            match path[prefix..].iter().position(|b| *b == b'/') {
                None => {
                    children.push(at);
                    at += 1;
                }
                // Something deeper; its directory had its slot, so the whole subtree is skipped.
                Some(slash) => at = self.below(tocs, &path[..prefix + slash]).end,
            }
        }
        children
    }
}

/// The index of the entry that a hard link of the same layer to `path` names.
fn file_in(toc: &Toc, path: &[u8]) -> Option<u32> {
    let at = toc.entries().partition_point(|entry| entry.path.as_bytes() < path);
    let is_file = |entry: &&Entry| {
        entry.path.as_bytes() == path && entry.kind != Kind::Hardlink && !entry.kind.is_mark()
    };
    toc.entries().get(at).filter(is_file)?;
    Some(u32::try_from(at).expect("because LAYER_ENTRIES_MAX is below 2^32"))
}

/// How many slots at the start are `before`: looks further and further, as a small layer over a
/// large image skips far and a large one hardly.
fn count_before(slots: &[Slot], before: impl Fn(&Slot) -> bool) -> usize {
    let (mut low, mut step) = (0, 1);
    while low + step <= slots.len() && before(&slots[low + step - 1]) {
        low += step;
        step *= 2;
    }
    let high = slots.len().min(low + step);
    low + slots[low..high].partition_point(before)
}
