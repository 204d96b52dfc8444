//! Deriving a layer's tree from its authoritative form, once.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use super::{Layer, Layers, Origin, sound::has_fresh_tree};
use crate::{
    StoreError,
    archive::{ReadLimits, TarReader},
    atomic::publish,
    compress,
    pipe::{ChunkReader, ChunkWriter, channel, join},
    toc::{Entry, Kind, Toc},
    tree::{ParentCache, TreeMaker},
};

/// Bytes that go from the decoder to the unpacker at once.
const CHUNK_BYTES: usize = 256 << 10;

impl Layers {
    /// The layer's tree in overlayfs's own form, made if it is not there.
    ///
    /// Others who ask meanwhile, in this process or another, wait and get the same.
    pub fn tree(&self, layer: &Arc<Layer>) -> Result<PathBuf, StoreError> {
        let path = layer.tree_path();
        if has_fresh_tree(layer) {
            return Ok(path);
        }
        let _lock = layer.lock()?;
        if self.has_sound_tree(layer)? {
            return Ok(path);
        }
        let toc = layer.toc()?;
        let staged = self.staging.new_dir()?;
        let tree = TreeMaker::begin(&staged, toc, self.overlay)?;
        match layer.origin() {
            Origin::Packs => tree.files_from(&self.contents)?,
            Origin::Blob => self.unpack(layer, toc, &tree)?,
            Origin::Tree => {
                return Err(StoreError::LayerMissing { layer: layer.short().clone() });
            }
        }
        tree.finish()?;
        self.mark_tree(layer)?;
        publish(&staged, &path)?;
        Ok(path)
    }

    /// Takes the files out of the blob, decompressing on another thread.
    fn unpack(
        &self,
        layer: &Arc<Layer>,
        toc: &Toc,
        tree: &TreeMaker<'_>,
    ) -> Result<(), StoreError> {
        let mut files: HashMap<u64, &Entry> = HashMap::with_capacity(toc.len());
        let mut parent = ParentCache::default();
        for entry in toc.iter().filter(|entry| entry.kind == Kind::File) {
            match (entry.tar_offset, &entry.content) {
                (Some(offset), _) => drop(files.insert(offset, entry)),
                (None, Some(_)) => {
                    // Copied up from a layer below.
                    let mut content = self.open_content(layer, entry)?;
                    tree.file(&mut parent, entry, &mut content)?;
                }
                (None, None) => tree.file(&mut parent, entry, &mut std::io::empty())?,
            }
        }
        let blob = layer
            .blob()
            .ok_or_else(|| StoreError::LayerMissing { layer: layer.short().clone() })?;
        let compressed = self.blobs.open_blob(&blob.digest)?;
        std::thread::scope(|scope| {
            let (to_tar, chunks) = channel();
            let decode = scope.spawn(move || {
                let (_, mut plain) = compress::decoder(compressed)?;
                let mut chunks = ChunkWriter::new(CHUNK_BYTES, vec![to_tar]);
                chunks.copy_from(&mut plain)?;
                chunks.finish()
            });
            let mut tar = TarReader::new(ChunkReader::new(chunks), ReadLimits::default());
            let mut unpack = || -> Result<(), StoreError> {
                while !files.is_empty() {
                    let Some(member) = tar.next_member()? else { break };
                    if let Some(entry) = member.data_at.and_then(|at| files.remove(&at)) {
                        tree.file(&mut parent, entry, &mut tar)?;
                    }
                }
                Ok(())
            };
            let unpacked = unpack();
            drop(tar);
            match join(decode) {
                // The unpacker has all it wants, or stopped for a reason of its own.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(StoreError::Stream {
                        action: "decompress the layer",
                        source: error,
                    });
                }
                _ => unpacked?,
            }
            match files.into_values().next() {
                None => Ok(()),
                Some(entry) => Err(StoreError::ContentChanged {
                    layer: layer.short().clone(),
                    path: entry.path.clone(),
                }),
            }
        })
    }
}
