//! ADD of an archive: known by its content, unpacked as if into a root of its own at the destination.
//!
//! Names, links and `..` in the archive are taken from the destination directory on and cannot lead out of
//! it, as in the reference, which changes its root there.

use super::session::Session;
use super::sources::Source;
use super::trees::ViewTree;
use crate::copy::place::ensure_directory;
use crate::copy::{Placement, Selected, Staging};
use crate::error::BuildError;
use crate::tree::{Node, Resolved, Tree, clean_from_root, lossy, resolve};
use lapstrake_layerstore::archive::{ArchiveError, Member, MemberKind, ReadLimits, TarReader};
use lapstrake_layerstore::contents::ContentWriter;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::Kind;
use std::io::{BufRead as _, BufReader, Read};

/// Directories that an archive implies.
const IMPLIED_MODE: u32 = 0o755;
/// The one extended attribute that layers keep.
const KEPT_XATTR: &[u8] = b"security.capability";
/// Bytes that tell every compression apart.
const MAGIC_BYTES: usize = 6;

pub(crate) type Archive<'r> = TarReader<Box<dyn Read + Send + 'r>>;

/// Unpack the selected file if it is an archive; say whether it was one.
pub(crate) fn unpack(
    session: &Session<'_>,
    source: &Source<'_>,
    below: &ViewTree<'_>,
    selected: &Selected,
    (staging, how): (&mut Staging<'_>, &Placement),
) -> Result<bool, BuildError> {
    let name = format!("/{}", selected.source);
    let reader = source.read(&selected.source)?;
    let Some(archive) = open(reader, &name)? else { return Ok(false) };
    // Modes given with --chmod are for copied files, not for an archive's own.
    let plain = Placement { mode: None, ..how.clone() };
    let writer = session.deps.store.contents().writer();
    extract(archive, name, writer, Some(below), (staging, &plain))?;
    Ok(true)
}

/// Put the members of an archive below the destination. Bytes of hard links to what is there already come
/// from `below`.
pub(crate) fn extract(
    (mut archive, first): (Archive<'_>, Member),
    name: String,
    writer: ContentWriter,
    below: Option<&ViewTree<'_>>,
    (staging, how): (&mut Staging<'_>, &Placement),
) -> Result<(), BuildError> {
    let dest = ensure_directory(staging, &how.dest, how)?;
    let (links, times) = (0, Vec::new());
    let mut unpacker = Unpacker { name, dest, how, below, staging, writer, links, times };
    let mut next = Some(first);
    while let Some(member) = next {
        unpacker.member(&member, &mut archive)?;
        next = archive.next_member().map_err(|e| unpacker.bad(&e))?;
    }
    for (path, mtime) in &unpacker.times {
        unpacker.staging.set_time(path, *mtime)?;
    }
    unpacker.writer.finish()?;
    Ok(())
}

/// The archive and its first member, when the bytes are one.
pub(crate) fn open<'r>(
    reader: Box<dyn Read + Send + 'r>,
    name: &str,
) -> Result<Option<(Archive<'r>, Member)>, BuildError> {
    let mut reader = BufReader::new(reader);
    let unreadable = |e: std::io::Error| archive_error(name, &e);
    let magic = reader.fill_buf().map_err(unreadable)?;
    let magic = magic[..magic.len().min(MAGIC_BYTES)].to_vec();
    let Ok(plain) = decompressed(&magic, reader) else { return Ok(None) };
    let mut archive = TarReader::new(plain, ReadLimits::default());
    // What has no header at its start is no archive but a file, however it is called.
    Ok(archive.next_member().ok().flatten().map(|first| (archive, first)))
}

/// Whether the beginning of a file is that of an archive: a compression's mark, or a tar header.
pub fn is_archive(head: &[u8]) -> bool {
    is_compressed(head)
        || head.get(257..262) == Some(b"ustar")
        || TarReader::new(head, ReadLimits::default())
            .next_member()
            .is_ok_and(|first| first.is_some())
}

fn is_compressed(magic: &[u8]) -> bool {
    matches!(
        magic,
        [0x1f, 0x8b, 0x08, ..]
            | [b'B', b'Z', b'h', ..]
            | [0xfd, b'7', b'z', b'X', b'Z', 0, ..]
            | [0x28, 0xb5, 0x2f, 0xfd, ..]
            | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
    )
}

fn decompressed<'r>(
    magic: &[u8],
    reader: BufReader<Box<dyn Read + Send + 'r>>,
) -> std::io::Result<Box<dyn Read + Send + 'r>> {
    Ok(match magic {
        [0x1f, 0x8b, 0x08, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(lzma_rust2::XzReader::new(reader, true)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(reader)?)
        }
        _ => Box::new(reader),
    })
}

struct Unpacker<'a, 'b> {
    name: String,
    dest: LayerPath,
    how: &'a Placement,
    below: Option<&'a ViewTree<'a>>,
    staging: &'a mut Staging<'b>,
    writer: ContentWriter,
    /// Number of the next group of hard links.
    links: u64,
    /// Times of the archive's directories, set when all is unpacked.
    times: Vec<(LayerPath, i64)>,
}

impl Unpacker<'_, '_> {
    fn member(&mut self, member: &Member, archive: &mut Archive<'_>) -> Result<(), BuildError> {
        let path = clean_from_root(&member.name)?;
        if path.is_root() {
            return Ok(());
        }
        let target = self.locate(&path, true)?;
        if member.kind == MemberKind::Hardlink {
            return self.hard_link(member, target);
        }
        let mut node = node(member);
        if let Some((uid, gid)) = self.how.owner {
            (node.uid, node.gid) = (uid, gid);
        }
        if node.kind == Kind::File {
            let (hash, size) = self.writer.put(&mut Data(archive))?;
            (node.content, node.size) = (Some(hash), size);
        }
        if node.is_dir() {
            self.times.push((target.clone(), node.mtime));
        }
        self.staging.put(target, node)
    }

    /// Where a member goes: links above it are followed from the destination on, its own name is not.
    fn locate(&mut self, path: &LayerPath, make_parents: bool) -> Result<LayerPath, BuildError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(self.dest.clone());
        };
        let rooted = Rooted { tree: self.staging, root: &self.dest };
        let there = resolve(&rooted, parent.as_bytes(), false)?.found().is_some();
        let dir = match resolve(&rooted, parent.as_bytes(), true)? {
            Resolved::Found(dir) => dir,
            Resolved::Missing(dir) if !there && make_parents => {
                self.make_parents(&dir)?;
                dir
            }
            Resolved::Missing(_) | Resolved::NotADirectory(_) => {
                return Err(self.bad(&format!("{path}: no such file or directory")));
            }
        };
        crate::copy::staging::join(&self.absolute(&dir)?, name)
    }

    fn absolute(&self, below: &LayerPath) -> Result<LayerPath, BuildError> {
        self.dest.append(below).map_err(|source| BuildError::BadPath {
            path: format!("{}/{below}", self.dest),
            source,
        })
    }

    fn make_parents(&mut self, dir: &LayerPath) -> Result<(), BuildError> {
        let (uid, gid) = self.how.owner.unwrap_or((0, 0));
        let mut missing = Vec::new();
        let mut at = Some(dir.clone());
        while let Some(path) = at {
            let absolute = self.absolute(&path)?;
            if self.staging.get(&absolute)?.is_some() {
                break;
            }
            missing.push(absolute);
            at = path.parent();
        }
        for path in missing.into_iter().rev() {
            self.staging.put(path, Node::directory(IMPLIED_MODE, uid, gid, self.how.now))?;
        }
        Ok(())
    }

    fn hard_link(&mut self, member: &Member, path: LayerPath) -> Result<(), BuildError> {
        let target = self.locate(&clean_from_root(&member.link)?, false)?;
        let Some(mut node) = self.staging.get(&target)?.filter(|node| !node.is_dir()) else {
            let link = lossy(&member.link);
            return Err(self.bad(&format!("hard link to {link}: no such file or directory")));
        };
        if node.link_group.is_none() {
            self.links += 1;
            node.link_group = Some((u64::MAX, self.links));
            // A file of the layers below becomes one of this layer too, so its bytes are needed.
            if let Some(below) = self.below {
                below.ensure_contents(std::slice::from_ref(&target))?;
            }
            self.staging.put(target, node.clone())?;
        }
        self.staging.put(path, node)
    }

    fn bad(&self, message: &dyn ToString) -> BuildError {
        BuildError::Archive { name: self.name.clone(), message: message.to_string() }
    }
}

fn archive_error(name: &str, error: &dyn std::error::Error) -> BuildError {
    BuildError::Archive { name: name.to_owned(), message: error.to_string() }
}

fn node(member: &Member) -> Node {
    let mut node = Node::empty_file(member.mode, member.mtime);
    node.kind = match member.kind {
        MemberKind::Dir => Kind::Dir,
        MemberKind::File | MemberKind::Hardlink => Kind::File,
        MemberKind::Symlink => Kind::Symlink,
        MemberKind::CharDevice => Kind::CharDevice,
        MemberKind::BlockDevice => Kind::BlockDevice,
        MemberKind::Fifo => Kind::Fifo,
    };
    (node.uid, node.gid) = (member.uid, member.gid);
    node.device = member.device;
    node.link = member.link.as_slice().into();
    node.xattrs = member.xattrs.iter().filter(|(name, _)| name == KEPT_XATTR).cloned().collect();
    if node.kind == Kind::Symlink {
        node.mode = 0o777;
    } else {
        node.link.clear();
    }
    node
}

/// The data of the archive's present member.
struct Data<'a, 'r>(&'a mut Archive<'r>);

impl Read for Data<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_data(buffer).map_err(|e: ArchiveError| std::io::Error::other(e))
    }
}

/// A directory of a tree as a root of its own.
struct Rooted<'a, 'b> {
    tree: &'a Staging<'b>,
    root: &'a LayerPath,
}

impl Rooted<'_, '_> {
    fn path(&self, path: &LayerPath) -> Result<LayerPath, BuildError> {
        self.root
            .append(path)
            .map_err(|source| BuildError::BadPath { path: format!("{}/{path}", self.root), source })
    }
}

impl Tree for Rooted<'_, '_> {
    fn get(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        self.tree.get(&self.path(path)?)
    }

    fn children(&self, path: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError> {
        self.tree.children(&self.path(path)?)
    }
}
