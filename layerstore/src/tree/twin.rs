//! Files that a tree has in common with one that is there already: they share the disk's blocks.
//!
//! Versions of one layer hold mostly the same files at the same paths. Where the file system can, the
//! new file is a reflink of the old one; else it is a hard link, which is faster still.
//!
//! *Invariants:* a file is linked only to the same path of another tree, which no root shows beside
//! it: of two trees in one overlay the upper hides the lower at that path. Only what the other table
//! lists as a file of its own is linked, never the second name of one, so no inode ever has two paths
//! that the tables do not say. Nothing writes into a tree, so nobody can reach the other through it;
//! the upper directories of steps, which something wrote into, give nothing away and get nothing.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{ParentCache, TreeMaker, apply_fd};
use crate::{
    StoreError,
    toc::{Entry, Kind, Toc},
};

/// Files that are compared to see how much two tables have in common.
const SAMPLES: usize = 256;

/// A tree that files may be shared with.
#[derive(Debug)]
pub(crate) struct Donor {
    root: OwnedFd,
    toc: Arc<Toc>,
    /// Whether the file system may know reflinks: until it said no.
    clones: AtomicBool,
}

impl Donor {
    /// The tree in `root`, whose table is `toc`.
    pub(crate) fn open(root: &Path, toc: Arc<Toc>) -> Result<Donor, StoreError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(CWD, root, flags, Mode::empty())
            .map_err(StoreError::io("open", root))?;
        Ok(Donor { root: fd, toc, clones: AtomicBool::new(true) })
    }

    fn has(&self, entry: &Entry) -> bool {
        self.toc.lookup(&entry.path).is_some_and(|own| is_same(own, entry))
    }
}

/// How many in 256 of the files of `toc` are in `other`, by a sample.
pub(crate) fn common_files(toc: &Toc, other: &Toc) -> usize {
    let files: Vec<&Entry> = toc.iter().filter(|entry| is_shareable(entry)).collect();
    let every = files.len().div_ceil(SAMPLES).max(1);
    let sample: Vec<&Entry> = files.into_iter().step_by(every).collect();
    common_of(&sample, other)
}

/// How many in 256 of these files are in `other`.
pub(crate) fn common_of(files: &[&Entry], other: &Toc) -> usize {
    let is_common =
        |entry: &&&Entry| other.lookup(&entry.path).is_some_and(|own| is_same(own, entry));
    files.iter().filter(is_common).count() * SAMPLES / files.len().max(1)
}

/// Is there something to share?
pub(crate) fn is_shareable(entry: &Entry) -> bool {
    entry.kind == Kind::File && entry.size > 0 && entry.content.is_some()
}

/// Would the two be the same file, byte for byte and in all that `stat` shows?
fn is_same(old: &Entry, new: &Entry) -> bool {
    is_shareable(new)
        && old.kind == Kind::File
        && (old.content, old.size) == (new.content, new.size)
        && (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid)
        && (old.mtime, old.mtime_nanos) == (new.mtime, new.mtime_nanos)
        && old.xattrs == new.xattrs
}

impl TreeMaker {
    /// Makes the file of `entry` out of the same file of another tree; false if there is none.
    pub(crate) fn share(
        &self,
        parents: &mut ParentCache,
        entry: &Entry,
    ) -> Result<bool, StoreError> {
        let Some(donor) = self.donor.get().filter(|donor| donor.has(entry)) else {
            return Ok(false);
        };
        // Whatever stops it (too many links, a tree that is being removed), a new file is as good.
        let parent = entry.path.parent_bytes().unwrap_or_default();
        let Ok(from) = parents.open_donor(&donor.root, parent) else { return Ok(false) };
        if donor.clones.load(Ordering::Relaxed) {
            if self.reflink(&from, parents, entry)? {
                return Ok(true);
            }
            donor.clones.store(false, Ordering::Relaxed);
        }
        let name = entry.path.file_name().unwrap_or_default();
        let to = parents.open(self, entry)?;
        Ok(rustix::fs::linkat(&from, name, to, name, AtFlags::empty()).is_ok())
    }

    /// Puts the same file of another tree, if there is one, in the place of one that was made.
    pub(crate) fn share_instead(
        &self,
        parents: &mut ParentCache,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        if !self.donor.get().is_some_and(|donor| donor.has(entry)) {
            return Ok(());
        }
        let name = entry.path.file_name().unwrap_or_default();
        let removed = rustix::fs::unlinkat(parents.open(self, entry)?, name, AtFlags::empty());
        removed.map_err(self.error("remove", &entry.path))?;
        if self.share(parents, entry)? {
            return Ok(());
        }
        Err(self.error("share", &entry.path)(Errno::NOENT))
    }

    fn reflink(
        &self,
        from: &OwnedFd,
        parents: &mut ParentCache,
        entry: &Entry,
    ) -> Result<bool, StoreError> {
        let name = entry.path.file_name().unwrap_or_default();
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let Ok(old) = rustix::fs::openat(from, name, flags, Mode::empty()) else {
            return Ok(false);
        };
        let file: File = self.new_file(parents, entry)?;
        if rustix::fs::ioctl_ficlone(&file, &old).is_err() {
            let to = parents.open(self, entry)?;
            rustix::fs::unlinkat(to, name, AtFlags::empty())
                .map_err(self.error("remove", &entry.path))?;
            return Ok(false);
        }
        apply_fd(&file, entry).map_err(self.error("set the metadata of", &entry.path))?;
        Ok(true)
    }
}

impl ParentCache {
    /// The donor's directory `parent`, itself held by the cache and the caller.
    fn open_donor(&mut self, root: &OwnedFd, parent: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        if let Some((path, directory)) = &self.donor
            && path.as_slice() == parent
        {
            return Ok(Arc::clone(directory));
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let name: &[u8] = if parent.is_empty() { b"." } else { parent };
        let directory = rustix::fs::openat2(root, name, flags, Mode::empty(), resolve)?;
        let directory = Arc::new(directory);
        self.donor = Some((parent.to_vec(), Arc::clone(&directory)));
        Ok(directory)
    }
}
