//! One way to look at files, wherever they are: a build context on disk, or the layers of an image.
//!
//! COPY and ADD read through [`Tree`] and never care which it is. Nothing here follows a symbolic link on
//! its own; [`resolve`] does so inside the tree, with `..` stopping at its root.

use crate::error::BuildError;
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::{Kind, Rare, Xattrs};

/// How many symbolic links one path may pass through; the kernel's own limit (`MAXSYMLINKS`).
const SYMLINKS_MAX: usize = 40;

/// What a tree knows of one file.
#[derive(Debug, Clone)]
pub struct Node {
    /// Never [`Kind::Hardlink`], [`Kind::Whiteout`] or [`Kind::Opaque`]: trees show files as they are seen.
    pub kind: Kind,
    /// Permission bits and suid, sgid, sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in whole seconds since 1970.
    pub mtime: i64,
    /// Bytes, for regular files.
    pub size: u64,
    /// Target, for symbolic links.
    pub link: Rare<u8>,
    /// Major and minor, for devices.
    pub device: (u32, u32),
    /// Extended attributes that layers keep, sorted by name.
    pub xattrs: Xattrs,
    /// Hash of the bytes, for regular files, once known.
    pub content: Option<ContentHash>,
    /// Equal for names of one file, where the tree knows of hard links.
    pub link_group: Option<(u64, u64)>,
    /// Where the content can be read, for trees on disk: what was seen when the file was looked at.
    pub stamp: Option<Stamp>,
}

/// Identity and change marks of a file on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Change time in nanoseconds since 1970.
    pub ctime_ns: i128,
}

impl Node {
    /// A directory that the build itself makes.
    pub fn directory(mode: u32, uid: u32, gid: u32, mtime: i64) -> Self {
        Self { kind: Kind::Dir, mode, uid, gid, mtime, ..Self::empty_file(0, 0) }
    }

    /// An empty regular file, owned by root.
    pub fn empty_file(mode: u32, mtime: i64) -> Self {
        Self {
            kind: Kind::File,
            mode,
            uid: 0,
            gid: 0,
            mtime,
            size: 0,
            link: Rare::new(),
            device: (0, 0),
            xattrs: Rare::new(),
            content: None,
            link_group: None,
            stamp: None,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }
}

/// A read-only view of files by path from a root.
pub trait Tree: Sync {
    /// The file at exactly this path, links not followed; the root is always a directory.
    fn get(&self, path: &LayerPath) -> Result<Option<Node>, BuildError>;

    /// What a directory holds, sorted by name; empty when it is not a directory.
    fn children(&self, path: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError>;
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// A file is there.
    Found(LayerPath),
    /// Nothing is there; this is where it would be, with links on the way followed.
    Missing(LayerPath),
    /// A component on the way is not a directory; its path.
    NotADirectory(LayerPath),
}

impl Resolved {
    /// The path of what is there.
    pub fn found(self) -> Option<LayerPath> {
        match self {
            Self::Found(path) => Some(path),
            Self::Missing(_) | Self::NotADirectory(_) => None,
        }
    }
}

/// Follow `path` from the root of `tree`, links inside it included; the last component's link only when
/// `follow_last` says so. Absolute targets start at the tree's root and `..` stops there.
pub fn resolve(tree: &dyn Tree, path: &[u8], follow_last: bool) -> Result<Resolved, BuildError> {
    let mut todo: Vec<Vec<u8>> = split_reversed(path);
    let mut at = LayerPath::root();
    let mut links = 0;
    while let Some(name) = todo.pop() {
        if name == b".." {
            at = at.parent().unwrap_or_else(LayerPath::root);
            continue;
        }
        let next =
            at.join(&name).map_err(|source| BuildError::BadPath { path: lossy(path), source })?;
        let Some(node) = tree.get(&next)? else {
            return missing(next, todo, path);
        };
        match node.kind {
            Kind::Symlink if follow_last || !todo.is_empty() => {
                links += 1;
                if links > SYMLINKS_MAX {
                    return Err(BuildError::SymlinkLoop { path: lossy(path) });
                }
                if node.link.first() == Some(&b'/') {
                    at = LayerPath::root();
                }
                todo.extend(split_reversed(&node.link));
            }
            Kind::Dir => at = next,
            _ if todo.is_empty() => at = next,
            _ => return Ok(Resolved::NotADirectory(next)),
        }
    }
    Ok(Resolved::Found(at))
}

/// The rest of a path below something that is not there, taken literally.
fn missing(from: LayerPath, mut todo: Vec<Vec<u8>>, path: &[u8]) -> Result<Resolved, BuildError> {
    let mut at = from;
    while let Some(name) = todo.pop() {
        at = if name == b".." {
            at.parent().unwrap_or_else(LayerPath::root)
        } else {
            at.join(&name).map_err(|source| BuildError::BadPath { path: lossy(path), source })?
        };
    }
    Ok(Resolved::Missing(at))
}

/// Components in reverse order, so that the next one can be popped; empty ones and `.` mean nothing.
fn split_reversed(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&b| b == b'/')
        .rev()
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// Bytes of a path for a message.
pub fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Clean `path` as if it stood at the root: no `.`, no empty parts, `..` stopping at the root.
pub fn clean_from_root(path: &[u8]) -> Result<LayerPath, BuildError> {
    let mut clean = Vec::with_capacity(path.len() + 1);
    clean_onto(&mut clean, path);
    LayerPath::parse(clean).map_err(|source| BuildError::BadPath { path: lossy(path), source })
}

/// Go on from a clean path along `path`. Clean paths begin with a slash each part; the root is empty.
pub(crate) fn clean_onto(clean: &mut Vec<u8>, path: &[u8]) {
    // Most are clean: no part is empty or begins with a dot.
    let ends_part = |pair: &[u8]| pair[0] == b'/' && matches!(pair[1], b'/' | b'.');
    let is_clean = path.len() > 1
        && !matches!(path, [b'.', ..] | [.., b'/'])
        && !path.windows(2).any(ends_part);
    if is_clean {
        if path[0] != b'/' {
            clean.push(b'/');
        }
        clean.extend_from_slice(path);
        return;
    }
    let mut rest = path;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let part = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        match part {
            b"" | b"." => {}
            b".." => clean.truncate(clean.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            name => {
                clean.push(b'/');
                clean.extend_from_slice(name);
            }
        }
    }
}
