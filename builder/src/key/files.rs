//! One digest for the files that a step reads: everything of them but their times and where they lie.

use crate::copy::Selected;
use crate::tree::Node;
use lapstrake_layerstore::toc::Kind;

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
    number(&mut hasher, selected.len() as u64);
    for each in selected {
        let is_dir = each.node.is_dir();
        bytes(&mut hasher, if is_dir { b"" } else { &each.name });
        number(&mut hasher, u64::from(each.parents));
        if !is_dir {
            node(&mut hasher, &each.node);
        }
        number(&mut hasher, each.items.len() as u64);
        for item in &each.items {
            bytes(&mut hasher, item.relative.as_bytes());
            node(&mut hasher, &item.node);
        }
    }
    FilesDigest(*hasher.finalize().as_bytes())
}

fn node(hasher: &mut blake3::Hasher, node: &Node) {
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
    hasher.update(&[kind]);
    for n in [node.mode, node.uid, node.gid, node.device.0, node.device.1] {
        hasher.update(&n.to_le_bytes());
    }
    number(hasher, node.size);
    bytes(hasher, &node.link);
    if let Some(content) = node.content.filter(|_| node.size > 0) {
        hasher.update(content.as_bytes());
    }
    number(hasher, node.xattrs.len() as u64);
    for (name, value) in &node.xattrs {
        bytes(hasher, name);
        bytes(hasher, value);
    }
}

fn bytes(hasher: &mut blake3::Hasher, value: &[u8]) {
    number(hasher, value.len() as u64);
    hasher.update(value);
}

fn number(hasher: &mut blake3::Hasher, value: u64) {
    hasher.update(&value.to_le_bytes());
}
