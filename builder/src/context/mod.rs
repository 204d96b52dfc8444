//! The build context: a directory on this machine, seen through its ignore file.
//!
//! Only the parts that some instruction names are ever looked at. Every file is opened below the
//! context's own directory descriptor, and no symbolic link is followed by the kernel, so neither a link
//! nor a race can lead out of it.

pub mod feed;
pub mod hash;
pub mod memo;

use crate::error::BuildError;
use crate::ignore::{Ignore, ParentMatches};
use crate::tree::{Node, Stamp, Tree};
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::Kind;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A directory as a tree. Owners are root's, extended attributes are dropped: that is what a context is.
#[derive(Debug)]
pub struct ContextTree {
    root: OwnedFd,
    path: PathBuf,
    ignore: Option<Ignore>,
}

impl ContextTree {
    /// Open the directory at `path`; `ignore` hides files from every instruction.
    pub fn open(path: &Path, ignore: Option<Ignore>) -> Result<Self, BuildError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| BuildError::context("open", path, e))?;
        Ok(Self { root, path: path.to_owned(), ignore })
    }

    /// Where the context is on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Open a regular file for reading.
    pub fn open_file(&self, path: &LayerPath) -> Result<File, BuildError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(File::from(self.open_beneath(path, flags)?))
    }

    /// The ignore file's patterns, when there is one.
    pub fn ignore(&self) -> Option<&Ignore> {
        self.ignore.as_ref()
    }

    fn open_beneath(&self, path: &LayerPath, flags: OFlags) -> Result<OwnedFd, BuildError> {
        let name = if path.is_root() { Path::new(".") } else { path.as_path() };
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, name, flags, Mode::empty(), how)
            .map_err(|e| BuildError::context("open", &self.path.join(path.as_path()), e))
    }

    /// The file as it is on disk, the ignore file apart.
    fn raw(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Some(Node::directory(0o755, 0, 0, self.root_mtime()?)));
        };
        let holder;
        let fd = if dir.is_root() {
            &self.root
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match self.open_beneath(&dir, flags) {
                Ok(fd) => holder = fd,
                Err(BuildError::Context { errno, .. }) if is_absent(errno) => return Ok(None),
                Err(e) => return Err(e),
            }
            &holder
        };
        match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.node(fd, name, &stat, &dir).map(Some),
            Err(e) if is_absent(e.raw_os_error()) => Ok(None),
            Err(e) => Err(BuildError::context("look at", &self.path.join(path.as_path()), e)),
        }
    }

    fn root_mtime(&self) -> Result<i64, BuildError> {
        let stat = rustix::fs::fstat(&self.root)
            .map_err(|e| BuildError::context("look at", &self.path, e))?;
        Ok(stat.st_mtime)
    }

    /// How a file in the directory `path` is named in a message.
    fn shown(&self, path: &LayerPath, name: &[u8]) -> PathBuf {
        self.path.join(path.as_path()).join(OsStr::from_bytes(name))
    }

    /// What `name` in the directory `path` is, which is open as `dir`.
    fn node(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        stat: &Stat,
        path: &LayerPath,
    ) -> Result<Node, BuildError> {
        let kind = kind_of(stat);
        let mut node = Node::empty_file(stat.st_mode & 0o7777, stat.st_mtime);
        node.kind = kind;
        match kind {
            Kind::File if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                node.size = stat.st_size.unsigned_abs();
                node.stamp = Some(stamp(stat));
                if stat.st_nlink > 1 {
                    node.link_group = Some((stat.st_dev, stat.st_ino));
                }
            }
            Kind::Symlink => {
                node.mode = 0o777;
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|e| {
                    BuildError::context("read the link", &self.shown(path, name), e)
                })?;
                node.link = target.into_bytes().into();
            }
            Kind::CharDevice | Kind::BlockDevice => {
                node.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            }
            _ => {}
        }
        Ok(node)
    }

    fn raw_children(&self, path: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError> {
        let wrap =
            |e| BuildError::context("read the directory", &self.path.join(path.as_path()), e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match self.open_beneath(path, flags) {
            Ok(fd) => fd,
            Err(BuildError::Context { errno, .. }) if is_absent(errno) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut all = Vec::new();
        for found in Dir::read_from(&fd).map_err(wrap)? {
            let found = found.map_err(wrap)?;
            let name = found.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => all.push((name.to_vec(), self.node(&fd, name, &stat, path)?)),
                // It went away between the listing and the look: as if it had never been listed.
                Err(e) if is_absent(e.raw_os_error()) => {}
                Err(e) => {
                    return Err(BuildError::context("look at", &self.shown(path, name), e));
                }
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}

impl Tree for ContextTree {
    fn get(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        let Some(node) = self.raw(path)? else { return Ok(None) };
        let (Some(ignore), Some(dir)) = (&self.ignore, path.parent()) else {
            return Ok(Some(node));
        };
        let visible = visible(
            &|dir| self.raw_children(dir),
            ignore,
            (path, node.is_dir()),
            &matches_of(ignore, &dir),
        )?;
        Ok(visible.then_some(node))
    }

    fn children(&self, path: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError> {
        let all = self.raw_children(path)?;
        let Some(ignore) = &self.ignore else { return Ok(all) };
        let above = matches_of(ignore, path);
        let mut kept = Vec::with_capacity(all.len());
        for (name, node) in all {
            let child = crate::copy::staging::join(path, &name)?;
            if visible(&|dir| self.raw_children(dir), ignore, (&child, node.is_dir()), &above)? {
                kept.push((name, node));
            }
        }
        Ok(kept)
    }
}

/// Lists a directory, ignored files included.
type List<'a> = &'a dyn Fn(&LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError>;

/// Whether the ignore file leaves this path visible, given what its directory matched. A directory that is
/// ignored itself is still there when something below it is taken back by a `!` pattern.
fn visible(
    list: List<'_>,
    ignore: &Ignore,
    (path, is_dir): (&LayerPath, bool),
    above: &ParentMatches,
) -> Result<bool, BuildError> {
    let (ignored, matches) = ignore.decide(path.as_bytes(), above);
    if !ignored {
        return Ok(true);
    }
    if !is_dir || ignore.can_prune(path.as_bytes(), &matches) {
        return Ok(false);
    }
    for (name, node) in list(path)? {
        let child = crate::copy::staging::join(path, &name)?;
        if visible(list, ignore, (&child, node.is_dir()), &matches)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A context that is not a directory of this machine, seen through its ignore file.
#[derive(Debug)]
pub(crate) struct Ignoring<T> {
    /// All files.
    pub(crate) tree: T,
    /// What hides some of them.
    pub(crate) ignore: Ignore,
}

impl<T: Tree> Tree for Ignoring<T> {
    fn get(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        let (Some(node), Some(dir)) = (self.tree.get(path)?, path.parent()) else {
            return self.tree.get(path);
        };
        let list = |dir: &LayerPath| self.tree.children(dir);
        let above = matches_of(&self.ignore, &dir);
        let seen = visible(&list, &self.ignore, (path, node.is_dir()), &above)?;
        Ok(seen.then_some(node))
    }

    fn children(&self, path: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError> {
        let list = |dir: &LayerPath| self.tree.children(dir);
        let above = matches_of(&self.ignore, path);
        let mut kept = Vec::new();
        for (name, node) in self.tree.children(path)? {
            let child = crate::copy::staging::join(path, &name)?;
            if visible(&list, &self.ignore, (&child, node.is_dir()), &above)? {
                kept.push((name, node));
            }
        }
        Ok(kept)
    }
}

/// What a directory and those above it matched.
fn matches_of(ignore: &Ignore, dir: &LayerPath) -> ParentMatches {
    let mut matches = ParentMatches::default();
    let ancestors = dir.ancestors().chain((!dir.is_root()).then_some(dir.as_bytes()));
    for path in ancestors {
        matches = ignore.decide(path, &matches).1;
    }
    matches
}

fn stamp(stat: &Stat) -> Stamp {
    const NANOS: i128 = 1_000_000_000;
    Stamp {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: stat.st_size.unsigned_abs(),
        mtime_ns: i128::from(stat.st_mtime) * NANOS + i128::from(stat.st_mtime_nsec),
        ctime_ns: i128::from(stat.st_ctime) * NANOS + i128::from(stat.st_ctime_nsec),
    }
}

/// The stamp of an open file.
pub(crate) fn stamp_of(file: &File, path: &dyn Fn() -> PathBuf) -> Result<Stamp, BuildError> {
    let stat = rustix::fs::fstat(file).map_err(|e| BuildError::context("look at", &path(), e))?;
    Ok(stamp(&stat))
}

/// Sockets have no content and no meaning in an image: they become empty files, as in the reference.
fn kind_of(stat: &Stat) -> Kind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::RegularFile | FileType::Socket | FileType::Unknown => Kind::File,
    }
}

/// Errors that say "there is nothing at this path" (a component that is a link cannot be walked through
/// here, because links were resolved before).
fn is_absent(errno: i32) -> bool {
    [rustix::io::Errno::NOENT, rustix::io::Errno::NOTDIR, rustix::io::Errno::LOOP]
        .iter()
        .any(|e| e.raw_os_error() == errno)
}
