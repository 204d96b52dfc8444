//! Chunks compressed on several threads and written in their order.
//!
//! ```text
//! chunks ─▶ dispatch ─▶ jobs ─▶ workers, each with an encoder of its own
//!               └─▶ what becomes of them, in order ─▶ out (this thread)
//! ```
//! A chunk that was compressed before is not compressed again: its hash is asked for what it became.
//!
//! *Invariant:* what a chunk becomes depends on the chunk alone, so neither the number of threads nor
//! their speed can change the bytes. Memory is bounded by the two channels.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
};

use super::{Out, Pieces};
use crate::{
    ContentHash,
    pipe::{Chunk, join},
};

/// Turns chunks into what stands for them in the compressed stream.
pub(super) trait Encoder {
    fn encode(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>>;
}

/// What a chunk became, and its hash where somebody wants to know.
type Encoded = io::Result<(Option<ContentHash>, Vec<u8>)>;

struct Job {
    chunk: Chunk,
    done: Sender<Encoded>,
}

/// Encodes `chunks`; a stream without any is one empty chunk.
pub(super) fn encode<E: Encoder>(
    new_encoder: impl Fn() -> io::Result<E> + Sync,
    (chunks, pieces): (Receiver<Chunk>, Option<&dyn Pieces>),
    out: &mut Out<'_>,
    threads: usize,
) -> io::Result<()> {
    let threads = threads.max(1);
    let (jobs, todo) = sync_channel::<Job>(threads);
    let todo = Mutex::new(todo);
    // What is finished waits here in order; its bound is the bound of memory.
    let (ordered, encoded) = sync_channel::<Receiver<Encoded>>(threads * 2);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&new_encoder, &todo, pieces));
        }
        let dispatch = scope.spawn(move || {
            let mut any = false;
            for chunk in chunks {
                any = true;
                if !send(&jobs, &ordered, chunk) {
                    return;
                }
            }
            if !any {
                send(&jobs, &ordered, Chunk::default());
            }
        });
        let result = write_in_order(encoded, pieces, out);
        join(dispatch);
        result
    })
}

/// Ends at the first error; the channel ends with it, so that nobody waits for ever.
fn write_in_order(
    encoded: Receiver<Receiver<Encoded>>,
    pieces: Option<&dyn Pieces>,
    out: &mut Out<'_>,
) -> io::Result<()> {
    for next in encoded {
        // A worker that is gone without an answer panicked, and its panic goes on in the scope.
        let Ok(encoded) = next.recv() else { break };
        let (plain, bytes) = encoded?;
        let bytes: Chunk = Arc::new(bytes.into());
        out(Arc::clone(&bytes))?;
        if let (Some(pieces), Some(plain)) = (pieces, plain) {
            pieces.note(plain, &bytes);
        }
    }
    Ok(())
}

/// Queues a job and its place in the output; false when nobody works any more.
fn send(jobs: &SyncSender<Job>, ordered: &SyncSender<Receiver<Encoded>>, chunk: Chunk) -> bool {
    let (done, encoded) = channel();
    ordered.send(encoded).is_ok() && jobs.send(Job { chunk, done }).is_ok()
}

fn work<E: Encoder>(
    new_encoder: impl Fn() -> io::Result<E>,
    todo: &Mutex<Receiver<Job>>,
    pieces: Option<&dyn Pieces>,
) {
    let mut encoder = None;
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { chunk, done }) = job else { return };
        let plain = pieces.map(|_| ContentHash::of(&chunk));
        let known = pieces.zip(plain).and_then(|(pieces, plain)| pieces.recall(&plain));
        let encoded = known.map_or_else(
            || {
                let made = match &mut encoder {
                    Some(encoder) => Ok(encoder),
                    none => new_encoder().map(|made| none.insert(made)),
                };
                made.and_then(|encoder| encoder.encode(&chunk))
            },
            Ok,
        );
        // Whoever waited for it may be gone after an error.
        done.send(encoded.map(|bytes| (plain, bytes))).unwrap_or_default();
    }
}
