//! What the members of an archive, unpacked one after the other, would leave: one layer's entries.
//!
//! Archives may name a path twice, put something below a symbolic link of their own (`var/run ->
//! /run`, then `var/run/x`), replace a directory by a file, list whiteouts at any place. The
//! [`Assembler`] settles all this once, so that a TOC has one entry per path and every parent in it
//! is a directory; nothing that uses a TOC ever follows a link of the archive.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{
    ArchiveError,
    read::{AUFS_PREFIX, OPAQUE},
};
use crate::{
    limits::{PATH_STEPS_MAX, SYMLINKS_MAX},
    path::LayerPath,
    toc::{Entry, Kind},
};

/// Collects the entries of one archive in the order in which they come.
///
/// *Invariant:* what is above an entry is a directory of this archive or not in it. Every step costs
/// the logarithm of what is there, whatever the archive says.
#[derive(Debug, Default)]
pub struct Assembler {
    entries: BTreeMap<LayerPath, Entry>,
    opaque: BTreeSet<LayerPath>,
    /// Files with several names; by each of their names.
    group_of: HashMap<LayerPath, usize>,
    groups: Vec<Group>,
    /// The parent that was found sound last; most entries share theirs with the one before.
    sound: Option<LayerPath>,
    /// Names that were looked up one by one, in links and in directories that are not listed.
    steps: u64,
}

/// A file and the hard links to it; the file may be one of a layer below.
#[derive(Debug)]
struct Group {
    file: LayerPath,
    links: BTreeSet<LayerPath>,
}

impl Assembler {
    /// Adds what comes next.
    pub fn add(&mut self, mut entry: Entry) -> Result<(), ArchiveError> {
        if entry.kind == Kind::Opaque {
            let directory = self.settle_directory(&entry.path)?;
            self.remove_whiteout(&directory);
            self.opaque.insert(directory);
            return Ok(());
        }
        entry.path = self.settle_path(&entry.path)?;
        match entry.kind {
            Kind::Whiteout => {
                self.add_whiteout(entry);
                return Ok(());
            }
            Kind::Hardlink => {
                let Some(settled) = self.settle_link(&entry)? else { return Ok(()) };
                entry.link = settled.as_bytes().into();
            }
            Kind::CharDevice if entry.device == (0, 0) => {
                let what = "a character device 0:0 is how overlayfs removes a file";
                return Err(ArchiveError::Entry { name: entry.path.to_string(), what });
            }
            _ => {}
        }
        self.replace(&entry)?;
        if entry.kind == Kind::Hardlink {
            self.join_group(&entry);
        }
        if entry.kind != Kind::Dir
            && self.sound.as_ref().is_some_and(|at| at.starts_with(&entry.path))
        {
            self.sound = None;
        }
        self.entries.insert(entry.path.clone(), entry);
        Ok(())
    }

    /// All entries, in no order that matters.
    pub fn finish(mut self) -> Vec<Entry> {
        self.remove_aufs();
        let Assembler { entries, opaque, group_of, groups, .. } = self;
        let marks = opaque.into_iter().map(|path| Entry::new(path, Kind::Opaque));
        let named = entries.into_values().map(|mut entry| {
            if let (Kind::Hardlink, Some(group)) = (entry.kind, group_of.get(&entry.path)) {
                entry.link = groups[*group].file.as_bytes().into();
            }
            entry
        });
        named.chain(marks).collect()
    }

    /// Removes what aufs left in old images: the files in it live on in the hard links to them.
    fn remove_aufs(&mut self) {
        let first = LayerPath::from_raw(AUFS_PREFIX.to_vec());
        let is_aufs = |path: &&LayerPath| path.as_bytes().starts_with(AUFS_PREFIX);
        let paths: Vec<LayerPath> = self
            .entries
            .range(first..)
            .map(|(path, _)| path)
            .take_while(is_aufs)
            .cloned()
            .collect();
        for path in paths {
            self.unlink(&path);
            self.entries.remove(&path);
        }
        self.opaque.retain(|path| !path.as_bytes().starts_with(AUFS_PREFIX));
    }

    /// Where the directory `path` lies, its own symbolic link followed.
    fn settle_directory(&mut self, path: &LayerPath) -> Result<LayerPath, ArchiveError> {
        let inside = path.join(OPAQUE).map_err(|_| too_long(path))?;
        Ok(self.settle_path(&inside)?.parent().unwrap_or_default())
    }

    /// Where `path` lies once the symbolic links of this archive in its parents are followed.
    fn settle_path(&mut self, path: &LayerPath) -> Result<LayerPath, ArchiveError> {
        let Some(parent) = path.parent_bytes() else { return Ok(path.clone()) };
        if self.sound.as_ref().is_some_and(|sound| sound.as_bytes() == parent) {
            return Ok(path.clone());
        }
        // A directory that is listed lies where it says, as it was settled itself.
        let is_listed = |entry: &Entry| entry.kind == Kind::Dir;
        if parent.is_empty() || self.entries.get(parent).is_some_and(is_listed) {
            self.sound = Some(LayerPath::from_clean(parent));
            return Ok(path.clone());
        }
        self.follow(path, parent)
    }

    /// As [`settle_path`](Self::settle_path), name by name from the root.
    fn follow(&mut self, path: &LayerPath, parent: &[u8]) -> Result<LayerPath, ArchiveError> {
        let refused = |what| ArchiveError::Entry { name: path.to_string(), what };
        let mut pending: VecDeque<Vec<u8>> =
            parent.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut at = LayerPath::root();
        let mut links = 0;
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
            let next = at.join(&name).map_err(|_| too_long(path))?;
            match self.entries.get(&next) {
                Some(entry) if entry.kind == Kind::Symlink => {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return Err(refused("it lies below a loop of symbolic links"));
                    }
                    if entry.link.starts_with(b"/") {
                        at = LayerPath::root();
                    }
                    let names = entry.link.split(|byte| *byte == b'/');
                    let names = names.filter(|name| !matches!(*name, b"" | b"."));
                    for name in names.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter().rev() {
                        pending.push_front(name);
                    }
                    continue;
                }
                Some(entry) if entry.kind == Kind::Whiteout => {
                    // Removed below, and made again here: a directory that hides what was in it.
                    self.entries.remove(&next);
                    self.opaque.insert(next.clone());
                }
                Some(entry) if entry.kind != Kind::Dir => {
                    return Err(refused("it lies below something that is not a directory"));
                }
                _ => {}
            }
            at = next;
        }
        let name = path.file_name().unwrap_or_default();
        let settled = at.join(name).map_err(|_| too_long(path))?;
        self.sound = Some(at);
        Ok(settled)
    }

    /// The file that a hard link names in the end; `None` for a link to itself.
    fn settle_link(&mut self, entry: &Entry) -> Result<Option<LayerPath>, ArchiveError> {
        let refused = |what| ArchiveError::Entry { name: entry.path.to_string(), what };
        let target = self.settle_path(&LayerPath::from_clean(&entry.link))?;
        if target == entry.path {
            return Ok(None);
        }
        if target.starts_with(&entry.path) {
            return Err(refused(
                "it is a hard link to something in the directory that it replaces",
            ));
        }
        match self.entries.get(&target) {
            Some(named) if named.kind == Kind::Hardlink => {
                let group = self.group_of.get(&target).map(|group| &self.groups[*group]);
                let file = group.map(|group| group.file.clone());
                Ok(file.filter(|file| *file != entry.path))
            }
            Some(named) if named.kind == Kind::Dir => {
                Err(refused("it is a hard link to a directory"))
            }
            Some(named) if named.kind == Kind::Whiteout => {
                Err(refused("it is a hard link to something that is removed"))
            }
            // A file of a layer below may be meant.
            _ => Ok(Some(target)),
        }
    }

    fn add_whiteout(&mut self, entry: Entry) {
        // It speaks of the layers below only, wherever it stands.
        match self.entries.get(&entry.path).map(|there| there.kind) {
            Some(Kind::Dir) => {
                self.opaque.insert(entry.path);
            }
            Some(_) => {}
            None if self.has_below(&entry.path) => {
                self.opaque.insert(entry.path);
            }
            None => {
                self.entries.insert(entry.path.clone(), entry);
            }
        }
    }

    fn has_below(&self, path: &LayerPath) -> bool {
        let (first, last) = bounds_below(path);
        self.entries.range(first..last).next().is_some()
    }

    fn remove_whiteout(&mut self, path: &LayerPath) {
        if self.entries.get(path).is_some_and(|there| there.kind == Kind::Whiteout) {
            self.entries.remove(path);
        }
    }

    /// Makes room for `entry` as unpacking it would.
    fn replace(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let Some(there) = self.entries.get(&entry.path) else {
            if self.group_of.contains_key(&entry.path) {
                // Afterwards nobody could tell the old file from the new one.
                let what = "it replaces a file of another layer that has a hard link in this one";
                return Err(ArchiveError::Entry { name: entry.path.to_string(), what });
            }
            if entry.kind != Kind::Dir {
                self.remove_below(&entry.path);
            }
            return Ok(());
        };
        match (there.kind, entry.kind) {
            (Kind::Whiteout, Kind::Dir) => {
                self.opaque.insert(entry.path.clone());
            }
            (Kind::Dir, Kind::Dir) => {}
            (Kind::Dir, _) => self.remove_below(&entry.path),
            _ => {}
        }
        self.unlink(&entry.path);
        Ok(())
    }

    fn remove_below(&mut self, path: &LayerPath) {
        let (first, last) = bounds_below(path);
        let below: Vec<LayerPath> =
            self.entries.range(first.clone()..last.clone()).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.unlink(&path);
            self.entries.remove(&path);
        }
        let marks: Vec<LayerPath> = self.opaque.range(first..last).cloned().collect();
        for mark in marks.iter().chain([path]) {
            self.opaque.remove(mark);
        }
    }

    /// Makes the hard link one of the names of its file.
    fn join_group(&mut self, link: &Entry) {
        let file = LayerPath::from_clean(&link.link);
        let group = *self.group_of.entry(file.clone()).or_insert_with(|| {
            self.groups.push(Group { file, links: BTreeSet::new() });
            self.groups.len() - 1
        });
        self.groups[group].links.insert(link.path.clone());
        self.group_of.insert(link.path.clone(), group);
    }

    /// Takes the name `path` from its file; if that was its first name, another one becomes it.
    fn unlink(&mut self, path: &LayerPath) {
        let Some(number) = self.group_of.remove(path) else { return };
        let group = &mut self.groups[number];
        if group.links.remove(path) {
            return;
        }
        let Some(file) = self.entries.get(path).cloned() else { return };
        if let Some(heir) = group.links.pop_first() {
            self.entries.insert(heir.clone(), Entry { path: heir.clone(), ..file });
            group.file = heir;
        }
    }
}

/// Between what everything strictly below `path` sorts.
fn bounds_below(path: &LayerPath) -> (LayerPath, LayerPath) {
    // '0' is the byte after '/'.
    let bound = |byte: &[u8]| LayerPath::from_raw([path.as_bytes(), byte].concat());
    (bound(b"/"), bound(b"0"))
}

fn too_long(path: &LayerPath) -> ArchiveError {
    ArchiveError::Entry { name: path.to_string(), what: "its links lead to too long a path" }
}
