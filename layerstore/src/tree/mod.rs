//! Trees: a layer as directories and files in overlayfs's own form.
//!
//! A tree is made from its TOC, never by replaying an archive: every parent in a TOC is a
//! directory, so nothing is ever written through a link. All the same each parent is opened
//! beneath the tree's root without following links, in case a TOC lies.
//!
//! Order: directories, then files (their content in whatever order the source has it), links and
//! devices; then hard links; then the directories' own metadata, deepest first, since making
//! things in a directory changes its time. For each: owner, mode (which a change of owner clears
//! bits of), extended attributes (likewise), times.

mod meta;
mod sparse;
#[cfg(test)]
mod tests;
pub(crate) mod twin;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rayon::prelude::*;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, makedev},
    io::Errno,
};

pub use meta::OverlayXattr;
use meta::{apply_fd, apply_link};
pub(crate) use meta::{is_overlay_name, set_mtime};
pub(crate) use sparse::SparseFile;

use crate::{
    LayerPath, StoreError,
    contents::{Contents, Located},
    early_sync::{EarlySync, LargeFile},
    toc::{Entry, Kind, Toc},
    view,
};

/// Files made by one task: enough to share a parent, few enough to share work.
const FILES_PER_TASK: usize = 64;
/// Bytes moved at once.
const COPY_BYTES: usize = 1 << 17;

/// A tree in the making.
#[derive(Debug)]
pub(crate) struct TreeMaker {
    root: PathBuf,
    fd: OwnedFd,
    overlay: OverlayXattr,
    donor: OnceLock<twin::Donor>,
    early: Arc<EarlySync>,
}

impl TreeMaker {
    /// Begins a tree in the empty directory `root`.
    pub(crate) fn begin(
        root: &Path,
        overlay: OverlayXattr,
        early: &Arc<EarlySync>,
    ) -> Result<TreeMaker, StoreError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(CWD, root, flags, Mode::empty())
            .map_err(StoreError::io("open", root))?;
        let early = Arc::clone(early);
        Ok(TreeMaker { root: root.to_owned(), fd, overlay, donor: OnceLock::new(), early })
    }

    /// Files are shared with `donor` from now on where it has the same; the first one stays.
    pub(crate) fn share_with(&self, donor: twin::Donor) {
        self.donor.set(donor).unwrap_or_default();
    }

    /// Makes the directories that the table needs and that are not there yet.
    pub(crate) fn make_directories(&self, toc: &Toc) -> Result<(), StoreError> {
        let mut made = LayerPath::root();
        for entry in toc {
            let directory = match entry.kind {
                Kind::Dir | Kind::Opaque => &entry.path,
                _ => &entry.path.parent().unwrap_or_default(),
            };
            if *directory != made {
                self.make_directory(directory)?;
                made = directory.clone();
            }
        }
        Ok(())
    }

    /// Makes a directory and what is missing above it (S-83: 0755).
    pub(crate) fn make_directory(&self, path: &LayerPath) -> Result<(), StoreError> {
        if path.is_root() {
            return Ok(());
        }
        let make = || rustix::fs::mkdirat(&self.fd, path.as_path(), Mode::from_raw_mode(0o755));
        match make() {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(Errno::NOENT) => {
                for above in path.ancestors() {
                    match rustix::fs::mkdirat(&self.fd, above, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(self.error("create", path)(error)),
                    }
                }
                // Another maker may have been faster.
                match make() {
                    Ok(()) | Err(Errno::EXIST) => Ok(()),
                    Err(error) => Err(self.error("create", path)(error)),
                }
            }
            Err(error) => Err(self.error("create", path)(error)),
        }
    }

    fn error<E: Into<io::Error>>(
        &self,
        action: &'static str,
        path: &LayerPath,
    ) -> impl FnOnce(E) -> StoreError {
        StoreError::io(action, self.root.join(path.as_path()))
    }

    fn open_directory(&self, path: &LayerPath) -> Result<OwnedFd, StoreError> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if path.is_root() {
            return self.fd.try_clone().map_err(self.error("open", path));
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.fd, path.as_path(), flags, Mode::empty(), resolve)
            .map_err(self.error("open", path))
    }

    /// Opens a directory, which is made where files come before the table does.
    fn open_or_make(&self, path: &LayerPath) -> Result<OwnedFd, StoreError> {
        match self.open_directory(path) {
            Err(error) if error.is_not_found() => {
                self.make_directory(path)?;
                self.open_directory(path)
            }
            other => other,
        }
    }

    /// Makes all files, their contents taken from the packs, on all processors.
    pub(crate) fn files_from(&self, toc: &Toc, contents: &Contents) -> Result<(), StoreError> {
        let files: Vec<&Entry> = toc.iter().filter(|entry| entry.kind == Kind::File).collect();
        files.par_chunks(FILES_PER_TASK).try_for_each(|files| {
            let mut parent = ParentCache::default();
            let mut buffer = Vec::new();
            files.iter().try_for_each(|entry| {
                if self.share(&mut parent, entry)? {
                    return Ok(());
                }
                let located = match &entry.content {
                    Some(content) if entry.size > 0 => {
                        let missing = || StoreError::ContentMissing {
                            content: *content,
                            path: entry.path.clone(),
                        };
                        Some(contents.locate(content)?.ok_or_else(missing)?)
                    }
                    _ => None,
                };
                let file = self.new_file(&mut parent, entry)?;
                if let Some(located) = located {
                    copy_content(&located, &file, &mut buffer)
                        .map_err(self.error("write", &entry.path))?;
                }
                apply_fd(&file, entry).map_err(self.error("set the metadata of", &entry.path))
            })
        })
    }

    /// Makes one file of all of `content`.
    pub(crate) fn file(
        &self,
        parent: &mut ParentCache,
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<(), StoreError> {
        let mut file = self.begin_file(parent, entry)?;
        let content = &mut content.take(entry.size);
        let mut buffer = vec![0; COPY_BYTES.min(entry.size as usize + 1)];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => return self.finish_file(file, entry),
                Ok(count) => file.write(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error("write", &entry.path)(error)),
            }
        }
    }

    /// Begins a file whose content comes piece by piece.
    pub(crate) fn begin_file(
        &self,
        parent: &mut ParentCache,
        entry: &Entry,
    ) -> Result<SparseFile, StoreError> {
        let file = LargeFile::new(self.new_file(parent, entry)?, Arc::clone(&self.early));
        Ok(SparseFile::new(file))
    }

    /// The file has all its content, if that is as long as `entry` says.
    pub(crate) fn finish_file(&self, file: SparseFile, entry: &Entry) -> Result<(), StoreError> {
        let file = file.finish(entry.size).map_err(self.error("write", &entry.path))?;
        apply_fd(&file, entry).map_err(self.error("set the metadata of", &entry.path))
    }

    fn new_file(&self, parent: &mut ParentCache, entry: &Entry) -> Result<File, StoreError> {
        let directory = parent.open(self, entry)?;
        let name = entry.path.file_name().unwrap_or_default();
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(self.error("create", &entry.path))
    }

    /// Makes everything but directories and files, then gives directories their metadata.
    pub(crate) fn finish(&self, toc: &Toc) -> Result<(), StoreError> {
        let mut parent = ParentCache::default();
        for entry in toc {
            match entry.kind {
                Kind::Dir | Kind::File | Kind::Hardlink | Kind::Opaque => {}
                Kind::Symlink => self.symlink(&mut parent, entry)?,
                Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                    self.special(&mut parent, entry)?;
                }
                Kind::Whiteout => {
                    let directory = parent.open(self, entry)?;
                    let name = entry.path.file_name().unwrap_or_default();
                    make_whiteout(directory, name)
                        .map_err(self.error("make a whiteout at", &entry.path))?;
                }
            }
        }
        for entry in toc.iter().filter(|entry| entry.kind == Kind::Hardlink) {
            self.hard_link(&mut parent, entry)?;
        }
        self.directories(toc)
    }

    fn directories(&self, toc: &Toc) -> Result<(), StoreError> {
        for entry in implied(toc) {
            let directory = self.open_directory(&entry.path)?;
            apply_fd(&directory, &entry).map_err(self.error("set the metadata of", &entry.path))?;
        }
        for entry in toc.entries().iter().rev() {
            match entry.kind {
                Kind::Dir => {
                    let directory = self.open_directory(&entry.path)?;
                    apply_fd(&directory, entry)
                        .map_err(self.error("set the metadata of", &entry.path))?;
                }
                Kind::Opaque => {
                    let directory = self.open_directory(&entry.path)?;
                    meta::set_opaque(&directory, self.overlay)
                        .map_err(self.error("mark as opaque", &entry.path))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn symlink(&self, parent: &mut ParentCache, entry: &Entry) -> Result<(), StoreError> {
        let directory = parent.open(self, entry)?;
        let name = entry.path.file_name().unwrap_or_default();
        rustix::fs::symlinkat(&*entry.link, directory, name)
            .map_err(self.error("create", &entry.path))?;
        apply_link(directory, name, entry).map_err(self.error("set the metadata of", &entry.path))
    }

    fn special(&self, parent: &mut ParentCache, entry: &Entry) -> Result<(), StoreError> {
        let directory = parent.open(self, entry)?;
        let name = entry.path.file_name().unwrap_or_default();
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(0o600);
        match rustix::fs::mknodat(directory, name, kind, mode, device) {
            // In a user namespace there are no devices: an empty file holds the place, the TOC
            // keeps the truth.
            Err(Errno::PERM) => self.new_file(parent, entry).map(drop)?,
            other => other.map_err(self.error("create", &entry.path))?,
        }
        let directory = parent.open(self, entry)?;
        apply_link(directory, name, entry).map_err(self.error("set the metadata of", &entry.path))
    }

    fn hard_link(&self, parent: &mut ParentCache, entry: &Entry) -> Result<(), StoreError> {
        let target = LayerPath::parse(&entry.link)?;
        let from = self.open_directory(&target.parent().unwrap_or_default())?;
        let to = parent.open(self, entry)?;
        let names =
            (target.file_name().unwrap_or_default(), entry.path.file_name().unwrap_or_default());
        rustix::fs::linkat(from, names.0, to, names.1, AtFlags::empty())
            .map_err(self.error("make the hard link", &entry.path))
    }
}

/// Directories that are needed and not listed, as a view shows them.
fn implied(toc: &Toc) -> Vec<Entry> {
    let is_listed = |path: &[u8]| {
        path.is_empty() || toc.lookup_bytes(path).is_some_and(|entry| entry.kind == Kind::Dir)
    };
    let mut implied = BTreeSet::new();
    let mut seen: &[u8] = &[];
    for entry in toc {
        let parent = match entry.kind {
            Kind::Opaque => entry.path.as_bytes(),
            _ => entry.path.parent_bytes().unwrap_or_default(),
        };
        if parent != seen && !is_listed(parent) {
            let above = entry.path.ancestors().chain([parent]);
            implied.extend(above.filter(|path| !is_listed(path)));
        }
        seen = parent;
    }
    implied.into_iter().map(|path| view::implied(LayerPath::from_clean(path))).collect()
}

/// The directories that were opened last: entries come sorted, so they are mostly the right ones.
#[derive(Debug, Default)]
pub(crate) struct ParentCache {
    own: Option<(LayerPath, OwnedFd)>,
    /// The same directory in the tree that files are shared with.
    donor: Option<(Vec<u8>, Arc<OwnedFd>)>,
}

impl ParentCache {
    fn open(&mut self, tree: &TreeMaker, entry: &Entry) -> Result<&OwnedFd, StoreError> {
        let parent = entry.path.parent_bytes().unwrap_or_default();
        let known = self.own.take().filter(|(path, _)| path.as_bytes() == parent);
        let cached = if let Some(cached) = known {
            cached
        } else {
            let path = LayerPath::from_clean(parent);
            let directory = tree.open_or_make(&path)?;
            (path, directory)
        };
        Ok(&self.own.insert(cached).1)
    }
}

/// A whiteout is a character device 0:0, which user namespaces may make, too (Linux 5.8).
pub(crate) fn make_whiteout(directory: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0);
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, mode, makedev(0, 0))
}

fn copy_content(located: &Located, file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    if located.length <= COPY_BYTES as u64 {
        buffer.resize(located.length as usize, 0);
        located.file.read_exact_at(buffer, located.offset)?;
        return file.write_all_at(buffer, 0);
    }
    if located.offset == 0 && rustix::fs::ioctl_ficlone(file, &located.file).is_ok() {
        // The pack's index came along.
        return file.set_len(located.length);
    }
    let (mut from, mut to, mut left) = (located.offset, 0u64, located.length);
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX);
        let copied =
            rustix::fs::copy_file_range(&*located.file, Some(&mut from), file, Some(&mut to), want);
        match copied {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => left -= count as u64,
            Err(Errno::INTR) => {}
            // Old kernels, or two file systems: by hand.
            Err(_) if to == 0 => return copy_by_hand(located, file, buffer),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(located: &Located, file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut at = 0;
    while at < located.length {
        buffer.resize((located.length - at).min(COPY_BYTES as u64) as usize, 0);
        located.file.read_exact_at(buffer, located.offset + at)?;
        file.write_all_at(buffer, at)?;
        at += buffer.len() as u64;
    }
    Ok(())
}
