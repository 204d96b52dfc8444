//! What the members of an archive, unpacked one after the other, would leave: one layer's entries.
//!
//! Archives may name a path twice, put something below a symbolic link of their own (`var/run ->
//! /run`, then `var/run/x`), replace a directory by a file, list whiteouts at any place. The
//! [`Assembler`] settles all this once, so that a TOC has one entry per path and every parent in it
//! is a directory; nothing that uses a TOC ever follows a link of the archive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ArchiveError;
use crate::{
    limits::SYMLINKS_MAX,
    path::LayerPath,
    toc::{Entry, Kind},
};

/// Collects the entries of one archive in the order in which they come.
#[derive(Debug, Default)]
pub struct Assembler {
    entries: BTreeMap<LayerPath, Entry>,
    opaque: BTreeSet<LayerPath>,
    /// Files that hard links name.
    linked: BTreeSet<LayerPath>,
    /// The parent that was found sound last; most entries share theirs with the one before.
    sound: Option<LayerPath>,
}

impl Assembler {
    /// Adds what comes next.
    pub fn add(&mut self, mut entry: Entry) -> Result<(), ArchiveError> {
        entry.path = self.settle_path(&entry.path)?;
        match entry.kind {
            Kind::Opaque => {
                self.remove_whiteout(&entry.path);
                self.opaque.insert(entry.path);
                return Ok(());
            }
            Kind::Whiteout => {
                self.add_whiteout(entry);
                return Ok(());
            }
            Kind::Hardlink => {
                let Some(settled) = self.settle_link(&entry)? else { return Ok(()) };
                entry.link = settled.as_bytes().to_vec();
            }
            _ => {}
        }
        self.replace(&entry)?;
        if entry.kind == Kind::Hardlink {
            self.linked.insert(LayerPath::from_clean(&entry.link));
        }
        if entry.kind != Kind::Dir {
            self.sound = None;
        }
        self.entries.insert(entry.path.clone(), entry);
        Ok(())
    }

    /// All entries, in no order that matters.
    pub fn finish(self) -> Vec<Entry> {
        let marks = self.opaque.into_iter().map(|path| Entry::new(path, Kind::Opaque));
        self.entries.into_values().chain(marks).collect()
    }

    /// Where `path` lies once the symbolic links of this archive in its parents are followed.
    fn settle_path(&mut self, path: &LayerPath) -> Result<LayerPath, ArchiveError> {
        let Some(parent) = path.parent() else { return Ok(path.clone()) };
        if self.sound.as_ref() == Some(&parent) {
            return Ok(path.clone());
        }
        let refused = |what| ArchiveError::Entry { name: path.to_string(), what };
        let mut pending: VecDeque<Vec<u8>> = parent.components().map(<[u8]>::to_vec).collect();
        let mut at = LayerPath::root();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                at = at.parent().unwrap_or_default();
                continue;
            }
            let next = at.join(&name).map_err(|_| refused("its links lead to too long a path"))?;
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
        let settled = at.join(name).map_err(|_| refused("its links lead to too long a path"))?;
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
        match self.entries.get(&target) {
            Some(named) if named.kind == Kind::Hardlink => {
                let first = LayerPath::from_clean(&named.link);
                Ok((first != entry.path).then_some(first))
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
        let mut after = self.entries.range(path.clone()..).map(|(path, _)| path);
        after
            .find(|next| *next != path && !is_sibling(path, next))
            .is_some_and(|next| next.starts_with(path))
    }

    fn remove_whiteout(&mut self, path: &LayerPath) {
        if self.entries.get(path).is_some_and(|there| there.kind == Kind::Whiteout) {
            self.entries.remove(path);
        }
    }

    /// Makes room for `entry` as unpacking it would.
    fn replace(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let Some(there) = self.entries.get(&entry.path) else {
            if self.linked.contains(&entry.path) {
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
        let first = [path.as_bytes(), b"/"].concat();
        let last = [path.as_bytes(), b"0"].concat();
        let (first, last) = (LayerPath::from_raw(first), LayerPath::from_raw(last));
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

    /// If hard links name `path`, the first of them becomes the file.
    fn unlink(&mut self, path: &LayerPath) {
        if !self.linked.remove(path) {
            return;
        }
        let Some(file) = self.entries.get(path).cloned() else { return };
        let names =
            |entry: &&mut Entry| entry.kind == Kind::Hardlink && entry.link == path.as_bytes();
        let mut links = self.entries.values_mut().filter(names);
        let Some(first) = links.next() else { return };
        let heir = first.path.clone();
        *first = Entry { path: heir.clone(), ..file };
        let mut more = false;
        for link in links {
            link.link = heir.as_bytes().to_vec();
            more = true;
        }
        if more {
            self.linked.insert(heir);
        }
    }
}

/// Does `next`, which sorts after `path`, stand beside it (`a-b` beside `a`)?
fn is_sibling(path: &LayerPath, next: &LayerPath) -> bool {
    next.as_bytes().get(path.as_bytes().len()).is_some_and(|byte| *byte < b'/')
        && next.as_bytes().starts_with(path.as_bytes())
}
