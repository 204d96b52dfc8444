//! What a foreign layer says when it lies over certain layers.
//!
//! Layers of ours list every parent directory and link only to files of their own. Foreign ones need
//! not: their archive was meant to be unpacked over the layers below, where
//!
//! * a directory that the archive does not list keeps the metadata that it has (S-83),
//! * a name below a symbolic link of a lower layer goes where the link leads (`var/run/x` over
//!   `var/run -> /run` is `run/x`), never outside the root; a directory that is listed as such
//!   replaces the link,
//! * a hard link may name a file of a lower layer, which is copied up with it,
//! * a whiteout may hide nothing. In a directory that only one layer has, overlayfs would list it, as
//!   a name that is not there.
//!
//! [`moved`] answers for views, which know the rest by themselves; [`settled`] for trees, of which
//! overlayfs knows nothing but what is in them.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, VecDeque},
};

use super::{Found, View};
use crate::{
    StoreError,
    archive::ArchiveError,
    limits::{PATH_STEPS_MAX, SYMLINKS_MAX},
    path::LayerPath,
    toc::{Entry, Kind, Toc},
};

/// A table of contents for a tree, and what it took from below.
#[derive(Debug)]
pub(crate) struct Settled {
    /// The entries.
    pub(crate) toc: Toc,
    /// Files of layers below that are copied up: index of the layer, and the entry in the copy.
    pub(crate) copied: Vec<(usize, Entry)>,
}

/// Does the layer mean the same over any other?
pub(crate) fn is_self_contained(toc: &Toc) -> bool {
    let is_dir = |path: &[u8]| {
        path.is_empty() || toc.lookup_bytes(path).is_some_and(|entry| entry.kind == Kind::Dir)
    };
    let mut seen: &[u8] = &[];
    toc.iter().all(|entry| {
        let parent = entry.path.parent_bytes().unwrap_or_default();
        let fine = parent == seen || is_dir(parent);
        seen = parent;
        fine && match entry.kind {
            Kind::Hardlink => links_within(toc, entry),
            Kind::Opaque => is_dir(entry.path.as_bytes()),
            _ => true,
        }
    })
}

/// Does the layer's own tree show, over `below`, what the layer means there?
pub(crate) fn lies_well(toc: &Toc, below: &View) -> bool {
    // Alone, missing parents are no question of what is below; missing files still are.
    let is_alone = below.tocs().is_empty() && toc.iter().all(|entry| links_within(toc, entry));
    let places = Places::new(toc, below);
    (is_alone || is_self_contained(toc))
        && toc.iter().all(|entry| entry.kind != Kind::Whiteout || places.hides_something(entry))
}

/// Is the entry no hard link, or one to a file of its own layer?
fn links_within(toc: &Toc, entry: &Entry) -> bool {
    entry.kind != Kind::Hardlink
        || toc.lookup_bytes(&entry.link).is_some_and(|named| !named.kind.is_mark())
}

/// The entries where they belong over `below`; none if they belong where they are.
pub(super) fn moved(toc: &Toc, below: &View) -> Result<Option<Toc>, StoreError> {
    let mut places = Places::new(toc, below);
    let mut is_other = false;
    let mut entries = Vec::with_capacity(toc.len());
    for entry in toc {
        let settled = places.settle(entry)?;
        is_other |= settled != *entry;
        entries.push(settled);
    }
    if !is_other {
        return Ok(None);
    }
    Ok(Some(Toc::from_entries(in_order(toc, entries))?))
}

/// The entries that a tree over `below` needs.
pub(crate) fn settled(toc: &Toc, below: &View) -> Result<Settled, StoreError> {
    let mut places = Places::new(toc, below);
    let mut entries = Vec::with_capacity(toc.len());
    let mut whiteouts = Vec::new();
    let mut copies = Copies::default();
    for entry in toc {
        let mut entry = places.settle(entry)?;
        if entry.kind == Kind::Whiteout && !places.hides_something(&entry) {
            // Its directory is made all the same, as by whoever unpacks the archive.
            whiteouts.push(entry);
            continue;
        }
        if entry.kind == Kind::Hardlink && places.own(&entry.link).is_none() {
            copies.link(&mut entry, toc, below)?;
        }
        entries.push(entry);
    }
    entries.extend(copies.beside);
    check_whiteouts(&whiteouts, &entries)?;
    let parents = parents(entries.iter().chain(&whiteouts), &places);
    let mut all = in_order(toc, entries);
    // What the layer lists itself comes later, and counts.
    all.splice(0..0, parents);
    let toc = Toc::from_entries(all)?;
    check_parents(&toc)?;
    Ok(Settled { toc, copied: copies.sources })
}

/// A whiteout that hides nothing still says that it lies in a directory; a link below may have put a
/// file in its place.
fn check_whiteouts(whiteouts: &[Entry], entries: &[Entry]) -> Result<(), ArchiveError> {
    if whiteouts.is_empty() {
        return Ok(());
    }
    let is_directory = |entry: &&Entry| entry.kind == Kind::Dir || entry.kind == Kind::Opaque;
    let others = entries.iter().filter(|entry| !is_directory(entry));
    let others = Above::new(others.map(|entry| entry.path.as_bytes()));
    match whiteouts.iter().find(|entry| others.has_one_above(entry.path.as_bytes())) {
        None => Ok(()),
        Some(entry) => {
            let what = "it lies below something that is not a directory";
            Err(ArchiveError::Entry { name: entry.path.to_string(), what })
        }
    }
}

/// Paths, to be asked whether one of them lies above another: one search, however deep that is.
pub(super) struct Above<'a> {
    /// Sorted as with a slash behind each, without those that lie below another one. So whatever is
    /// between one of them and something below it is below it, too.
    paths: Vec<&'a [u8]>,
}

impl<'a> Above<'a> {
    pub(super) fn new(paths: impl Iterator<Item = &'a [u8]>) -> Above<'a> {
        let mut paths: Vec<&[u8]> = paths.collect();
        paths.sort_by(|a, b| {
            if a.len() < b.len() {
                with_slash(a, b).then(Ordering::Less)
            } else {
                with_slash(b, a).then(b.len().cmp(&a.len())).reverse()
            }
        });
        paths.dedup_by(|below, above| below == above || is_above(above, below));
        Above { paths }
    }

    pub(super) fn has_one_above(&self, path: &[u8]) -> bool {
        let after = self.paths.partition_point(|above| {
            above.len() < path.len() && with_slash(above, path) != Ordering::Greater
                || above.len() >= path.len() && above[..path.len()] < *path
        });
        after > 0 && is_above(self.paths[after - 1], path)
    }
}

/// Compares a path with a slash behind it with the beginning of one that is not shorter.
fn with_slash(short: &[u8], long: &[u8]) -> Ordering {
    let slash = |byte: &u8| b'/'.cmp(byte);
    short
        .cmp(&long[..short.len()])
        .then_with(|| long.get(short.len()).map_or(Ordering::Equal, slash))
}

fn is_above(directory: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

/// A link below may have led names into a file.
fn check_parents(toc: &Toc) -> Result<(), ArchiveError> {
    let mut seen: &[u8] = &[];
    for entry in toc {
        let parent = entry.path.parent_bytes().unwrap_or_default();
        let is_dir = |entry: &Entry| entry.kind == Kind::Dir;
        if parent != seen && !parent.is_empty() && !toc.lookup_bytes(parent).is_some_and(is_dir) {
            let what = "it lies below something that is not a directory";
            return Err(ArchiveError::Entry { name: entry.path.to_string(), what });
        }
        seen = parent;
    }
    Ok(())
}

/// Files of layers below that are copied up because hard links name them.
#[derive(Default)]
struct Copies {
    /// Where the copy is of what a link names.
    places: HashMap<LayerPath, LayerPath>,
    /// Copies that are no link's own entry.
    beside: Vec<Entry>,
    sources: Vec<(usize, Entry)>,
}

impl Copies {
    /// Makes `link` one of the names of the copy; it is the copy if the layer removes the file.
    fn link(&mut self, link: &mut Entry, toc: &Toc, below: &View) -> Result<(), ArchiveError> {
        let target = LayerPath::from_clean(&link.link);
        if let Some(place) = self.places.get(&target) {
            link.link = place.as_bytes().into();
            return Ok(());
        }
        let (layer, copy) = copy_up(link, &target, below)?;
        if toc.lookup(&target).is_some() {
            self.places.insert(target, link.path.clone());
            *link = Entry { path: link.path.clone(), ..copy };
            self.sources.push((layer, link.clone()));
        } else {
            self.places.insert(target.clone(), target);
            self.beside.push(copy.clone());
            self.sources.push((layer, copy));
        }
        Ok(())
    }
}

/// What was moved first: an entry that stands at its place in the archive counts more.
fn in_order(toc: &Toc, mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| toc.lookup(&entry.path).is_some());
    entries
}

/// The file below that a hard link names, to be copied up.
fn copy_up(link: &Entry, target: &LayerPath, below: &View) -> Result<(usize, Entry), ArchiveError> {
    let refused = |what| ArchiveError::Entry { name: link.path.to_string(), what };
    let found = below.get(target).ok_or_else(|| refused("it is a hard link to nothing"))?;
    if found.entry.kind == Kind::Dir {
        return Err(refused("it is a hard link to a directory"));
    }
    let layer = found.layer.ok_or_else(|| refused("it is a hard link to nothing"))?;
    // The data is not in this layer's archive.
    Ok((layer, Entry { tar_offset: None, ..found.entry }))
}

/// Directories that the entries need and do not list, as they are below.
fn parents<'a>(entries: impl Iterator<Item = &'a Entry>, places: &Places<'_>) -> Vec<Entry> {
    let mut parents: BTreeMap<LayerPath, Entry> = BTreeMap::new();
    for entry in entries {
        let mut next =
            if entry.kind == Kind::Opaque { Some(entry.path.clone()) } else { entry.path.parent() };
        while let Some(path) = next.filter(|path| !path.is_root()) {
            // What is above it came with it.
            if parents.contains_key(&path) {
                break;
            }
            let found = places.shown_below(&path).filter(|found| found.entry.kind == Kind::Dir);
            let directory = found.map_or_else(|| super::flat::implied(path.clone()), |f| f.entry);
            next = path.parent();
            parents.insert(path, directory);
        }
    }
    parents.into_values().collect()
}

/// Where the names of one layer lead.
struct Places<'a> {
    toc: &'a Toc,
    below: &'a View,
    /// Directories in which this layer hides what lower ones have.
    hidden: Above<'a>,
    hides_all: bool,
    /// Directories that were followed before.
    known: HashMap<LayerPath, Place>,
    steps: u64,
}

/// Where a directory lies.
#[derive(Clone, Default)]
struct Place {
    path: LayerPath,
    /// How many symbolic links led there.
    links: usize,
}

impl<'a> Places<'a> {
    fn new(toc: &'a Toc, below: &'a View) -> Places<'a> {
        let marks = || toc.iter().filter(|entry| entry.kind.is_mark());
        let hides_all = marks().any(|entry| entry.path.is_root());
        let hidden = marks().map(|entry| entry.path.as_bytes()).filter(|path| !path.is_empty());
        let hidden = Above::new(hidden);
        Places { toc, below, hidden, hides_all, known: HashMap::new(), steps: 0 }
    }

    fn settle(&mut self, entry: &Entry) -> Result<Entry, ArchiveError> {
        let path = self.place(&entry.path)?;
        let mut settled = Entry { path, ..entry.clone() };
        if entry.kind == Kind::Hardlink {
            let target = LayerPath::from_clean(&entry.link);
            settled.link = self.place(&target)?.as_bytes().into();
        }
        Ok(settled)
    }

    /// The entry of this layer at `path`, wherever it stood.
    fn own(&self, path: &[u8]) -> Option<&'a Entry> {
        self.toc.lookup_bytes(path).filter(|entry| !entry.kind.is_mark())
    }

    fn place(&mut self, path: &LayerPath) -> Result<LayerPath, ArchiveError> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else {
            return Ok(path.clone());
        };
        let directory = self.directory(&parent)?;
        if directory == parent {
            return Ok(path.clone());
        }
        directory.join(path.file_name().unwrap_or_default()).map_err(|_| too_long(path))
    }

    /// Where a directory lies: below where the one above it lies, which most often is known.
    fn directory(&mut self, path: &LayerPath) -> Result<LayerPath, ArchiveError> {
        let mut unknown = Vec::new();
        let mut next = path.clone();
        let mut place = loop {
            match self.known.get(&next) {
                Some(known) => break known.clone(),
                None if next.is_root() => break Place::default(),
                None => {}
            }
            let above = next.parent().unwrap_or_default();
            unknown.push(std::mem::replace(&mut next, above));
        };
        for directory in unknown.into_iter().rev() {
            place = self.follow(place, &directory)?;
            if place.path == directory {
                // The same bytes need no second place in memory.
                place.path = directory.clone();
            }
            self.known.insert(directory, place.clone());
        }
        Ok(place.path)
    }

    /// Follows the symbolic links at the last name of `directory`, whose parent lies at `parent`.
    fn follow(&mut self, parent: Place, directory: &LayerPath) -> Result<Place, ArchiveError> {
        let Place { path: mut at, mut links } = parent;
        let mut pending: VecDeque<Vec<u8>> =
            directory.file_name().map(<[u8]>::to_vec).into_iter().collect();
        while let Some(name) = pending.pop_front() {
            self.steps += 1;
            if self.steps > PATH_STEPS_MAX {
                let what = "names in paths through links and unlisted directories";
                return Err(ArchiveError::Limit { limit: PATH_STEPS_MAX, what });
            }
            if name == b".." {
                at = at.parent().unwrap_or_default();
                continue;
            }
            let next = at.join(&name).map_err(|_| too_long(directory))?;
            let Some(target) = self.link_at(&next) else {
                at = next;
                continue;
            };
            links += 1;
            if links > SYMLINKS_MAX {
                let what = "it lies below a loop of symbolic links";
                return Err(ArchiveError::Entry { name: directory.to_string(), what });
            }
            if target.starts_with(b"/") {
                at = LayerPath::root();
            }
            let names = target.split(|byte| *byte == b'/');
            let names = names.filter(|name| !matches!(*name, b"" | b"."));
            for name in names.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev() {
                pending.push_front(name);
            }
        }
        Ok(Place { path: at, links })
    }

    /// The target of the symbolic link that stands at `path` once the layer is there.
    fn link_at(&self, path: &LayerPath) -> Option<Vec<u8>> {
        let link = |entry: &Entry| (entry.kind == Kind::Symlink).then(|| entry.link.to_vec());
        if let Some(own) = self.toc.lookup(path) {
            return link(own);
        }
        link(&self.shown_below(path)?.entry)
    }

    /// What a lower layer has at `path`, unless this one hides all of its directory.
    fn shown_below(&self, path: &LayerPath) -> Option<Found> {
        let is_hidden = self.hides_all || self.hidden.has_one_above(path.as_bytes());
        if is_hidden { None } else { self.below.get(path) }
    }

    fn hides_something(&self, whiteout: &Entry) -> bool {
        self.shown_below(&whiteout.path).is_some()
    }
}

fn too_long(path: &LayerPath) -> ArchiveError {
    ArchiveError::Entry { name: path.to_string(), what: "its links lead to too long a path" }
}
