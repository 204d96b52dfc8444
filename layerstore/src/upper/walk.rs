//! Listing an upper directory: every name with what `stat` says of it, sorted by path.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, major, minor,
        openat, openat2, readlinkat, statat,
    },
    io::Errno,
};

use crate::{LayerPath, StoreError, limits::XATTR_VALUE_MAX, toc::Kind};

/// An upper directory, everything opened beneath it.
#[derive(Debug)]
pub(super) struct Upper {
    path: PathBuf,
    fd: OwnedFd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    Entry(Kind),
    Whiteout,
    /// Sockets are in no layer.
    Socket,
}

/// One name of the upper directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) path: LayerPath,
    pub(super) kind: NodeKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) mtime_nanos: u32,
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    pub(super) inode: (u64, u64),
    pub(super) links: u64,
    /// A directory in which nothing of the layers below shows.
    pub(super) pure_inside: bool,
    /// A directory without anything in it.
    empty: bool,
}

impl Node {
    pub(super) fn is_dir(&self) -> bool {
        self.kind == NodeKind::Entry(Kind::Dir)
    }

    /// Is this what a runner makes to mount something on?
    pub(super) fn is_stub(&self) -> bool {
        match self.kind {
            NodeKind::Entry(Kind::Dir) => self.empty,
            NodeKind::Entry(Kind::File) => self.size == 0,
            _ => false,
        }
    }
}

impl Upper {
    pub(super) fn open(path: &Path) -> Result<Upper, StoreError> {
        let fd = openat(CWD, path, directory_flags(), Mode::empty())
            .map_err(StoreError::io("open", path))?;
        Ok(Upper { path: path.to_owned(), fd })
    }

    pub(super) fn shown(&self, path: &LayerPath) -> PathBuf {
        self.path.join(path.as_path())
    }

    fn beneath(&self, path: &LayerPath, flags: OFlags) -> Result<OwnedFd, StoreError> {
        if path.is_root() {
            return self.fd.try_clone().map_err(StoreError::io("open", self.shown(path)));
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.fd, path.as_path(), flags, Mode::empty(), resolve)
            .map_err(StoreError::io("open", self.shown(path)))
    }

    pub(super) fn open_directory(&self, path: &LayerPath) -> Result<OwnedFd, StoreError> {
        self.beneath(path, directory_flags())
    }

    pub(super) fn open_file(&self, path: &LayerPath) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        self.beneath(path, flags).map(File::from)
    }

    pub(super) fn read_link(&self, path: &LayerPath) -> Result<Vec<u8>, StoreError> {
        let directory = self.open_directory(&path.parent().unwrap_or_default())?;
        readlinkat(&directory, path.file_name().unwrap_or_default(), Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(StoreError::io("read the link", self.shown(path)))
    }
}

fn directory_flags() -> OFlags {
    OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW
}

/// Everything in `upper`, the root included, sorted by path.
pub(super) fn walk(upper: &Upper) -> Result<Vec<Node>, StoreError> {
    let root =
        statat(&upper.fd, "", AtFlags::EMPTY_PATH).map_err(StoreError::io("stat", &upper.path))?;
    let mut nodes = Vec::new();
    let mut pending = vec![node(LayerPath::root(), &root, false)];
    while let Some(mut found) = pending.pop() {
        if found.is_dir() {
            let directory = upper.open_directory(&found.path)?;
            check_overlay_attributes(upper, &directory, &mut found)?;
            let children = children(upper, &directory, &found)?;
            found.empty = children.is_empty();
            pending.extend(children);
        }
        nodes.push(found);
    }
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(nodes)
}

fn children(upper: &Upper, directory: &OwnedFd, parent: &Node) -> Result<Vec<Node>, StoreError> {
    let failed = || upper.shown(&parent.path);
    let mut children = Vec::new();
    for entry in Dir::read_from(directory).map_err(StoreError::io("read", failed()))? {
        let entry = entry.map_err(StoreError::io("read", failed()))?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let path = parent.path.join(name)?;
        let stat = statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(StoreError::io("stat", upper.shown(&path)))?;
        children.push(node(path, &stat, parent.pure_inside));
    }
    Ok(children)
}

fn node(path: LayerPath, stat: &Stat, pure: bool) -> Node {
    let device = (major(stat.st_rdev), minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => NodeKind::Entry(Kind::Dir),
        FileType::Symlink => NodeKind::Entry(Kind::Symlink),
        FileType::Fifo => NodeKind::Entry(Kind::Fifo),
        FileType::CharacterDevice if device == (0, 0) => NodeKind::Whiteout,
        FileType::CharacterDevice => NodeKind::Entry(Kind::CharDevice),
        FileType::BlockDevice => NodeKind::Entry(Kind::BlockDevice),
        FileType::RegularFile => NodeKind::Entry(Kind::File),
        _ => NodeKind::Socket,
    };
    let is_device = matches!(kind, NodeKind::Entry(Kind::CharDevice | Kind::BlockDevice));
    Node {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        mtime_nanos: stat.st_mtime_nsec as u32,
        size: stat.st_size.cast_unsigned(),
        device: if is_device { device } else { (0, 0) },
        inode: (stat.st_dev, stat.st_ino),
        links: stat.st_nlink,
        pure_inside: pure,
        empty: false,
    }
}

/// Reads the marks of overlayfs on a directory; those that a layer cannot express are refused.
fn check_overlay_attributes(
    upper: &Upper,
    directory: &OwnedFd,
    node: &mut Node,
) -> Result<(), StoreError> {
    for space in ["trusted", "user"] {
        for (mark, supported) in [("opaque", true), ("redirect", false)] {
            let name = format!("{space}.overlay.{mark}");
            let value = xattr(directory, name.as_bytes())
                .map_err(StoreError::io("read the attributes of", upper.shown(&node.path)))?;
            match value {
                Some(value) if supported => node.pure_inside |= value.starts_with(b"y"),
                Some(_) => {
                    return Err(StoreError::OverlayAttribute {
                        path: node.path.clone(),
                        attribute: name,
                    });
                }
                None => {}
            }
        }
    }
    Ok(())
}

/// The value of an extended attribute, if the file has it and this process may see it.
pub(super) fn xattr(file: &impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = Vec::with_capacity(256);
    loop {
        match fgetxattr(file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => return Ok(Some(value)),
            Err(Errno::RANGE) if value.capacity() < XATTR_VALUE_MAX => {
                value.reserve(XATTR_VALUE_MAX);
            }
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}
