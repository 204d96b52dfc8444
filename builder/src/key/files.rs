//! One digest for the files that a step reads: everything of them but their times and where they lie.

use crate::copy::Selected;
use crate::tree::Node;
use lapstrake_layerstore::toc::Kind;

/// Bytes that are hashed at once.
const PENDING_BYTES: usize = 64 << 10;

/// Digest of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesDigest([u8; 32]);

impl FilesDigest {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Digest selected files, whose contents are hashed already. Names count from the selected directory on,
/// so that moving it elsewhere changes nothing; a single file counts by the name that it brings along.
pub fn digest_selected(selected: &[Selected]) -> FilesDigest {
    let mut hasher = blake3::Hasher::new();
    // Hashing many bytes at once is what blake3 is fast at.
    let mut pending = Vec::with_capacity(2 * PENDING_BYTES);
    number(&mut pending, selected.len() as u64);
    for each in selected {
        let is_dir = each.node.is_dir();
        bytes(&mut pending, if is_dir { b"" } else { &each.name });
        number(&mut pending, u64::from(each.parents));
        if !is_dir {
            node(&mut pending, &each.node);
        }
        number(&mut pending, each.items.len() as u64);
        for item in &each.items {
            bytes(&mut pending, item.relative.as_bytes());
            node(&mut pending, &item.node);
            if pending.len() >= PENDING_BYTES {
                hasher.update(&pending);
                pending.clear();
            }
        }
    }
    hasher.update(&pending);
    FilesDigest(*hasher.finalize().as_bytes())
}

fn node(out: &mut Vec<u8>, node: &Node) {
    let kind = match node.kind {
        Kind::Dir => b'd',
        Kind::File => b'f',
        Kind::Symlink => b'l',
        Kind::CharDevice => b'c',
        Kind::BlockDevice => b'b',
        Kind::Fifo => b'p',
        Kind::Hardlink => b'h',
        Kind::Whiteout => b'w',
        Kind::Opaque => b'o',
    };
    out.push(kind);
    for n in [node.mode, node.uid, node.gid, node.device.0, node.device.1] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    number(out, node.size);
    bytes(out, &node.link);
    if let Some(content) = node.content.filter(|_| node.size > 0) {
        out.extend_from_slice(content.as_bytes());
    }
    number(out, node.xattrs.len() as u64);
    for (name, value) in &node.xattrs {
        bytes(out, name);
        bytes(out, value);
    }
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}
