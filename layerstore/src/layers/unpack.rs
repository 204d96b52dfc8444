//! Files of a layer's blob on their way to its tree.
//!
//! ```text
//! blob ─▶ decoder ─▶ chunks ─▶ tar ─┬─▶ batches of small files ─▶ makers, one for each processor
//!         (a thread)   (this thread)└─▶ large files, written as they come
//! ```
//! Creating a file costs the kernel more than decompressing it costs us: so the makers are several.

use std::{
    collections::HashMap,
    io::Read,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::{Layer, Layers};
use crate::{
    StoreError,
    archive::{ReadLimits, TarReader},
    compress,
    pipe::{ChunkReader, ChunkWriter, channel, join},
    toc::{Entry, Kind, Toc},
    tree::{ParentCache, TreeMaker},
};

/// Bytes that go from the decoder to the unpacker at once.
const CHUNK_BYTES: usize = 256 << 10;
/// Larger files are written while they are read.
const SMALL_BYTES: u64 = 128 << 10;
/// A batch is complete with this many bytes, or files: worth waking somebody, and small in memory.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_FILES: usize = 64;

/// Small files with their contents.
type Batch<'t> = Vec<(&'t Entry, Vec<u8>)>;

/// Files that are still to come, by where they are in the tar.
type Wanted<'t> = HashMap<u64, &'t Entry>;

impl Layers {
    /// Takes the files out of the blob, decompressing on another thread.
    pub(super) fn unpack(
        &self,
        layer: &Arc<Layer>,
        toc: &Toc,
        tree: &TreeMaker<'_>,
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
                let mut chunks = ChunkWriter::new(CHUNK_BYTES, vec![to_tar]);
                chunks.copy_from(&mut plain)?;
                chunks.finish()
            });
            let tar = TarReader::new(ChunkReader::new(chunks), ReadLimits::default());
            let unpacked = unpack_tar(tar, wanted, tree);
            match join(decode) {
                // The unpacker has all it wants, or stopped for a reason of its own.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                    return Err(StoreError::Stream {
                        action: "decompress the layer",
                        source: error,
                    });
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
        tree: &TreeMaker<'_>,
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
    mut tar: TarReader<impl Read>,
    mut wanted: Wanted<'t>,
    tree: &TreeMaker<'_>,
) -> Result<Wanted<'t>, StoreError> {
    let makers = std::thread::available_parallelism().map_or(1, usize::from);
    let (to_makers, batches) = sync_channel::<Batch<'_>>(makers);
    let batches = Mutex::new(batches);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let made: Vec<_> =
            (0..makers).map(|_| scope.spawn(|| make_batches(tree, &batches, &failed))).collect();
        let read = read_tar(&mut tar, &mut wanted, tree, (&to_makers, &failed));
        // The makers end when nothing can come any more.
        drop(to_makers);
        made.into_iter().try_for_each(join)?;
        read
    })?;
    Ok(wanted)
}

fn read_tar<'t>(
    tar: &mut TarReader<impl Read>,
    wanted: &mut Wanted<'t>,
    tree: &TreeMaker<'_>,
    (to_makers, failed): (&SyncSender<Batch<'t>>, &AtomicBool),
) -> Result<(), StoreError> {
    let mut parent = ParentCache::default();
    let (mut batch, mut bytes) = (Batch::new(), 0);
    while !wanted.is_empty() {
        let Some(member) = tar.next_member()? else { break };
        let Some(entry) = member.data_at.and_then(|at| wanted.remove(&at)) else { continue };
        if entry.size > SMALL_BYTES {
            tree.file(&mut parent, entry, tar)?;
            continue;
        }
        let mut content = Vec::with_capacity(entry.size as usize);
        tar.take(entry.size)
            .read_to_end(&mut content)
            .map_err(|source| StoreError::Stream { action: "read the layer", source })?;
        bytes += content.len();
        batch.push((entry, content));
        if bytes >= BATCH_BYTES || batch.len() >= BATCH_FILES {
            bytes = 0;
            if failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            to_makers.send(std::mem::take(&mut batch)).expect("because makers stay to the end");
        }
    }
    to_makers.send(batch).expect("because makers stay to the end");
    Ok(())
}

/// Makes files until there are no more. After an error the rest is taken and dropped, so that nobody
/// waits for ever.
fn make_batches(
    tree: &TreeMaker<'_>,
    batches: &Mutex<Receiver<Batch<'_>>>,
    failed: &AtomicBool,
) -> Result<(), StoreError> {
    let mut parent = ParentCache::default();
    let mut result = Ok(());
    loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return result };
        if result.is_ok() {
            let mut files = batch.iter();
            result = files.try_for_each(|(entry, content)| {
                tree.file(&mut parent, entry, &mut content.as_slice())
            });
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
        }
    }
}
