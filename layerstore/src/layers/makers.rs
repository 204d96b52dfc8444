//! Files on their way into a tree: small ones in batches to several makers.
//!
//! Creating a file costs the kernel more than decompressing it costs us: so the makers are several.

use std::{
    borrow::Borrow,
    io::BufRead,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use crate::{
    StoreError,
    archive::TarReader,
    pipe::join,
    toc::Entry,
    tree::{ParentCache, TreeMaker},
};

/// Larger files are written while they are read.
pub(super) const SMALL_BYTES: u64 = 128 << 10;
/// A batch is complete with this many bytes, or files: worth waking somebody, and small in memory.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_FILES: usize = 64;

/// Small files with their contents.
type Batch<E> = Vec<(E, Vec<u8>)>;

/// Where small files are handed over.
pub(super) struct Makers<'m, E> {
    batches: &'m SyncSender<Batch<E>>,
    failed: &'m AtomicBool,
    batch: Batch<E>,
    bytes: usize,
}

impl<E: Borrow<Entry>> Makers<'_, E> {
    /// Takes a file; true if it completes a batch, which is for the caller to [`send`](Self::send).
    pub(super) fn add(&mut self, entry: E, content: Vec<u8>) -> bool {
        self.bytes += content.len();
        self.batch.push((entry, content));
        self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_FILES
    }

    /// The files that were not sent yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Entry> {
        self.batch.iter().map(|(entry, _)| entry.borrow())
    }

    /// Has a maker failed? Nothing more is made then.
    pub(super) fn have_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Sends what was added.
    pub(super) fn send(&mut self) {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.batches.send(batch).expect("because makers stay to the end");
    }
}

/// The data of a small file, which the reader is at.
pub(super) fn small_data<R: BufRead>(
    tar: &mut TarReader<R>,
    entry: &Entry,
) -> Result<Vec<u8>, StoreError> {
    let mut data = Vec::with_capacity(entry.size.min(SMALL_BYTES) as usize);
    tar.each_piece(|piece| data.extend_from_slice(piece))?;
    Ok(data)
}

/// Runs `work`, whose small files are made by one thread for each processor.
///
/// What a maker could not do is told first: what `work` says is only its consequence.
pub(super) fn with_makers<E: Borrow<Entry> + Send, T>(
    tree: &TreeMaker,
    work: impl FnOnce(&mut Makers<'_, E>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (to_makers, batches) = sync_channel::<Batch<E>>(threads);
    let batches = Mutex::new(batches);
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let made: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| make_batches(tree, &batches, &failed))).collect();
        let mut makers =
            Makers { batches: &to_makers, failed: &failed, batch: Vec::new(), bytes: 0 };
        let result = work(&mut makers);
        makers.send();
        // The makers end when nothing can come any more.
        drop(to_makers);
        made.into_iter().try_for_each(join)?;
        result
    })
}

/// Makes files until there are no more. After an error the rest is taken and dropped, so that nobody
/// waits for ever.
fn make_batches<E: Borrow<Entry>>(
    tree: &TreeMaker,
    batches: &Mutex<Receiver<Batch<E>>>,
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
                let entry = entry.borrow();
                if tree.share(&mut parent, entry)? {
                    return Ok(());
                }
                tree.file(&mut parent, entry, &mut content.as_slice())
            });
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
        }
    }
}
