//! The bytes of single files of a layer, whatever its authoritative form.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    num::NonZeroU64,
    os::fd::OwnedFd,
    sync::Arc,
};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Layer, Layers, Origin};
use crate::{
    LayerPath, StoreError,
    archive::{ReadLimits, TarReader},
    compress,
    contents::ContentReader,
    toc::{Entry, Kind},
};

impl Layers {
    /// The bytes of the file `entry` of `layer`.
    ///
    /// For a layer that came as a blob, this reads the blob up to the file unless its content was
    /// put into the packs by [`ensure_contents`](Self::ensure_contents), or there is a tree.
    pub fn open_content(
        &self,
        layer: &Arc<Layer>,
        entry: &Entry,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        if entry.size == 0 {
            return Ok(Box::new(io::empty()));
        }
        if layer.origin() != Origin::Tree
            && let Some(content) = &entry.content
            && let Some(located) = self.contents.locate(content)?
        {
            return Ok(Box::new(ContentReader::new(located)));
        }
        if let Some(path) = name_in_tree(layer, entry)? {
            return Ok(Box::new(open_in_tree(layer, path)?));
        }
        if layer.origin() != Origin::Blob {
            return Err(missing(entry));
        }
        let mut tar = TarReader::new(self.open_tar(layer)?, ReadLimits::default());
        while let Some(member) = tar.next_member()? {
            if member.data_at.is_some() && member.data_at == entry.tar_offset {
                return Ok(Box::new(tar));
            }
        }
        Err(StoreError::ContentChanged { layer: layer.short().clone(), path: entry.path.clone() })
    }

    /// Fills `content` with the bytes of a file small enough for memory.
    pub(super) fn read_small(
        &self,
        layer: &Arc<Layer>,
        entry: &Entry,
        content: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        content.clear();
        let mut data = self.open_content(layer, entry)?;
        let read = data.by_ref().take(entry.size + 1).read_to_end(content);
        read.map_err(|source| StoreError::Stream { action: "read a file of the layer", source })?;
        if content.len() as u64 == entry.size {
            return Ok(());
        }
        Err(StoreError::ContentChanged { layer: layer.short().clone(), path: entry.path.clone() })
    }

    /// Makes the contents of these files of `layer` present in the packs, in one pass.
    pub fn ensure_contents(&self, layer: &Arc<Layer>, entries: &[Entry]) -> Result<(), StoreError> {
        let mut writer = self.contents.writer();
        let mut wanted = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == Kind::File && entry.size > 0) {
            let content = entry.content.as_ref().ok_or_else(|| missing(entry))?;
            if !self.contents.is_known(content) {
                wanted.push(entry);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        if layer.origin() == Origin::Packs {
            // Another process may have written their pack anew since the packs were looked at.
            let content = |entry: &Entry| entry.content.map(|hash| self.contents.has(&hash));
            let lost = wanted.into_iter().find(|entry| content(entry) != Some(true));
            return lost.map_or(Ok(()), |entry| Err(missing(entry)));
        }
        let changed = |entry: &Entry| StoreError::ContentChanged {
            layer: layer.short().clone(),
            path: entry.path.clone(),
        };
        if layer.has_tree() {
            for entry in wanted {
                let path = name_in_tree(layer, entry)?.ok_or_else(|| changed(entry))?;
                let mut file = open_in_tree(layer, path)?;
                let (hash, _) = writer.put_file(&mut file, entry.size, &|_| ())?;
                if Some(hash) != entry.content {
                    return Err(changed(entry));
                }
            }
            return writer.finish();
        }
        let mut by_offset: HashMap<NonZeroU64, &Entry> =
            wanted.iter().filter_map(|entry| Some((entry.tar_offset?, *entry))).collect();
        let mut tar = TarReader::new(self.open_tar(layer)?, ReadLimits::default());
        while !by_offset.is_empty() {
            let Some(member) = tar.next_member()? else { break };
            if let Some(entry) = member.data_at.and_then(|at| by_offset.remove(&at)) {
                let (hash, _) = writer.put(&mut tar)?;
                if Some(hash) != entry.content {
                    return Err(changed(entry));
                }
            }
        }
        match by_offset.into_values().next() {
            Some(entry) => Err(changed(entry)),
            None => writer.finish(),
        }
    }

    /// The uncompressed tar that a layer came as.
    pub(super) fn open_tar(&self, layer: &Layer) -> Result<Box<dyn Read + Send>, StoreError> {
        let blob = layer
            .blob()
            .ok_or_else(|| StoreError::LayerMissing { layer: layer.short().clone() })?;
        let file = self.blobs.open_blob(&blob.digest)?;
        let (_, tar) = compress::decoder(file)
            .map_err(|source| StoreError::Stream { action: "read the layer's blob", source })?;
        Ok(tar)
    }
}

fn missing(entry: &Entry) -> StoreError {
    let content = entry.content.unwrap_or(crate::ContentHash::from_bytes([0; 32]));
    StoreError::ContentMissing { content, path: entry.path.clone() }
}

/// The path at which the layer's tree has the content of `entry`, if there is a tree.
///
/// A view shows a file under the name of a hard link to it, or where a lower layer's symbolic link
/// leads; the tree has it where the layer's own table says.
fn name_in_tree<'a>(layer: &'a Layer, entry: &Entry) -> Result<Option<&'a LayerPath>, StoreError> {
    if !layer.has_tree() {
        return Ok(None);
    }
    let toc = layer.toc()?;
    let same = |own: &&Entry| own.kind == Kind::File && own.content == entry.content;
    let found = toc.lookup(&entry.path).filter(same).or_else(|| toc.iter().find(same));
    Ok(found.map(|own| &own.path))
}

/// Opens a regular file of the layer's tree; no symbolic link is followed.
fn open_in_tree(layer: &Layer, path: &LayerPath) -> Result<File, StoreError> {
    let shown = || layer.tree_path().join(path.as_path());
    let root = File::open(layer.tree_path()).map_err(StoreError::io("open", layer.tree_path()))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file: OwnedFd = rustix::fs::openat2(&root, path.as_path(), flags, Mode::empty(), resolve)
        .map_err(StoreError::io("open", shown()))?;
    Ok(File::from(file))
}
