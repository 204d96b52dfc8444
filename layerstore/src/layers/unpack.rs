//! Files of a layer's blob on their way to its tree.
//!
//! ```text
//! blob ─▶ decoder ─▶ chunks ─▶ tar ─┬─▶ batches of small files ─▶ makers, one for each processor
//!         (a thread)   (this thread)└─▶ large files, written as they come
//! ```

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    num::NonZeroU64,
    sync::Arc,
};

use super::{
    Layer, Layers,
    import::{hash_data, read_entries},
    makers::{Makers, SMALL_BYTES, small_data, with_makers},
};
use crate::{
    StoreError,
    archive::{ReadLimits, TarReader},
    compress,
    error::DECOMPRESS_STORED,
    pipe::{ChunkReader, channel, join},
    toc::{Entry, Kind, Toc},
    tree::{ParentCache, TreeMaker},
};

/// Files that are still to come, by where they are in the tar.
type Wanted<'t> = HashMap<NonZeroU64, &'t Entry>;

impl Layers {
    /// The table of contents that the blob of a layer has, read anew.
    pub(crate) fn toc_of_blob(&self, layer: &Layer) -> Result<Toc, StoreError> {
        let missing = || StoreError::LayerMissing { layer: layer.short().clone() };
        let blob = self.blobs.open_blob(&layer.blob().ok_or_else(missing)?.digest)?;
        let stream = |source| StoreError::Stream { action: DECOMPRESS_STORED, source };
        let (_, plain) = compress::decoder(blob).map_err(stream)?;
        let entries = read_entries(BufReader::new(plain), &mut hash_data)?;
        Ok(Toc::from_entries(entries)?)
    }

    /// Takes the files out of the blob, decompressing on another thread.
    pub(super) fn unpack(
        &self,
        layer: &Arc<Layer>,
        toc: &Toc,
        tree: &TreeMaker,
    ) -> Result<(), StoreError> {
        let wanted = self.without_blob(layer, toc, tree)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let blob = layer
            .blob()
            .ok_or_else(|| StoreError::LayerMissing { layer: layer.short().clone() })?;
        let compressed = self.blobs.open_blob(&blob.digest)?;
        std::thread::scope(|scope| {
            let (to_tar, chunks) = channel();
            let decode = scope.spawn(move || {
                let (_, mut plain) = compress::decoder(compressed)?;
                let mut chunks = compress::decoded_chunks(vec![Box::new(to_tar)]);
                chunks.copy_from(&mut plain)?;
                chunks.finish()
            });
            let tar = TarReader::new(ChunkReader::new(chunks), ReadLimits::default());
            let unpacked = unpack_tar(tar, wanted, tree);
            match join(decode) {
                // The unpacker has all it wants, or stopped for a reason of its own.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(StoreError::Stream { action: DECOMPRESS_STORED, source: error });
                }
                _ => {}
            }
            match unpacked?.into_values().next() {
                None => Ok(()),
                Some(entry) => Err(StoreError::ContentChanged {
                    layer: layer.short().clone(),
                    path: entry.path.clone(),
                }),
            }
        })
    }

    /// Makes the files whose contents are elsewhere; the others are returned.
    fn without_blob<'t>(
        &self,
        layer: &Arc<Layer>,
        toc: &'t Toc,
        tree: &TreeMaker,
    ) -> Result<Wanted<'t>, StoreError> {
        let mut wanted = HashMap::with_capacity(toc.len());
        let mut parent = ParentCache::default();
        for entry in toc.iter().filter(|entry| entry.kind == Kind::File) {
            if tree.share(&mut parent, entry)? {
                continue;
            }
            match (entry.tar_offset, &entry.content) {
                (Some(offset), _) => drop(wanted.insert(offset, entry)),
                (None, Some(_)) => {
                    // Copied up from a layer below.
                    let mut content = self.open_content(layer, entry)?;
                    tree.file(&mut parent, entry, &mut content)?;
                }
                (None, None) => tree.file(&mut parent, entry, &mut std::io::empty())?,
            }
        }
        Ok(wanted)
    }
}

/// Makes the wanted files of the tar; those that it does not have are returned.
fn unpack_tar<'t>(
    mut tar: TarReader<impl BufRead>,
    mut wanted: Wanted<'t>,
    tree: &TreeMaker,
) -> Result<Wanted<'t>, StoreError> {
    with_makers(tree, |makers| read_tar(&mut tar, &mut wanted, tree, makers))?;
    Ok(wanted)
}

fn read_tar<'t>(
    tar: &mut TarReader<impl BufRead>,
    wanted: &mut Wanted<'t>,
    tree: &TreeMaker,
    makers: &mut Makers<'_, &'t Entry>,
) -> Result<(), StoreError> {
    let mut parent = ParentCache::default();
    while !wanted.is_empty() {
        let Some(member) = tar.next_member()? else { break };
        let Some(at) = member.data_at else { continue };
        // One of another size is not it, and stays wanted.
        let Some(entry) = wanted.get(&at).copied().filter(|entry| entry.size == member.size) else {
            continue;
        };
        wanted.remove(&at);
        if entry.size > SMALL_BYTES {
            let mut file = tree.begin_file(&mut parent, entry)?;
            tar.each_piece(|piece| file.write(piece))?;
            tree.finish_file(file, entry)?;
            continue;
        }
        if makers.add(entry, small_data(tar, entry)?) {
            if makers.have_failed() {
                break;
            }
            makers.send();
        }
    }
    Ok(())
}
