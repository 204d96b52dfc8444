//! gzip, version 1: one member for each chunk of 512 KiB, by libdeflate.
//!
//! RFC 1952 makes concatenated members one file; Go, GNU gzip, Python and zlib read them so. A
//! member depends on its chunk alone, so threads cannot change the bytes. An empty stream is one
//! empty member.

use std::{
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
};

use libdeflater::{CompressionLvl, Compressor};

use crate::pipe::{Chunk, join};

struct Job {
    chunk: Chunk,
    done: Sender<Vec<u8>>,
}

pub(super) fn encode(
    level: u32,
    chunks: Receiver<Chunk>,
    out: &mut (dyn Write + Send),
    threads: usize,
) -> io::Result<()> {
    let threads = threads.max(1);
    let (jobs, todo) = sync_channel::<Job>(threads);
    let todo = Mutex::new(todo);
    // Finished members wait here in order; its bound is the bound of memory.
    let (ordered, members) = sync_channel::<Receiver<Vec<u8>>>(threads * 2);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(level, &todo));
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
        let mut result = Ok(());
        // After an error the rest is taken without being written, so that nobody waits for ever.
        for member in members {
            let Ok(bytes) = member.recv() else { break };
            if result.is_ok() {
                result = out.write_all(&bytes);
            }
            if result.is_err() {
                break;
            }
        }
        join(dispatch);
        result
    })
}

fn send(
    jobs: &std::sync::mpsc::SyncSender<Job>,
    ordered: &std::sync::mpsc::SyncSender<Receiver<Vec<u8>>>,
    chunk: Chunk,
) -> bool {
    let (done, member) = channel();
    ordered.send(member).is_ok() && jobs.send(Job { chunk, done }).is_ok()
}

fn work(level: u32, todo: &Mutex<Receiver<Job>>) {
    let level = CompressionLvl::new(level.cast_signed())
        .expect("because the level was brought into the codec's range");
    let mut compressor = Compressor::new(level);
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { chunk, done }) = job else { return };
        let mut member = vec![0; compressor.gzip_compress_bound(chunk.len())];
        let length = compressor
            .gzip_compress(&chunk, &mut member)
            .expect("because the buffer has the size that the encoder asked for");
        member.truncate(length);
        // Whoever waited for it may be gone after an error.
        done.send(member).unwrap_or_default();
    }
}
