//! gzip, version 1: one member for each chunk of 512 KiB, by libdeflate.
//!
//! RFC 1952 makes concatenated members one file; Go, GNU gzip, Python and zlib read them so. A
//! member depends on its chunk alone, so threads cannot change the bytes. An empty stream is one
//! empty member.
//!
//! Levels mean what people know from gzip: each is at least as small as gzip's own, by the encoder
//! level that gets there first. A chunk whose bytes are all about equally frequent (compressed or
//! encrypted already) is given to the fastest level: entropy coding has nothing to win there, and
//! that level finds repeated strings, too.

use std::{
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
};

use libdeflater::{CompressionLvl, Compressor};

use crate::pipe::{Chunk, join};

/// The level for chunks that cannot be made much smaller.
const FAST_LEVEL: u32 = 1;
/// Shorter chunks have too few bytes to tell.
const UNIFORM_BYTES_MIN: usize = 16 << 10;

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

/// The encoder's level for gzip's `level`.
fn encoder_level(level: u32) -> u32 {
    match level {
        // Measured on three corpora: level 5 is smaller than `gzip -6` on each, and a seventh faster
        // than level 6.
        6 => 5,
        7 => 6,
        other => other,
    }
}

fn new_encoder(level: u32) -> Compressor {
    let level = CompressionLvl::new(level.cast_signed())
        .expect("because the level was brought into the codec's range");
    Compressor::new(level)
}

fn work(level: u32, todo: &Mutex<Receiver<Job>>) {
    let mut thorough = new_encoder(encoder_level(level));
    let mut fast = new_encoder(FAST_LEVEL);
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { chunk, done }) = job else { return };
        let encoder = if is_uniform(&chunk) { &mut fast } else { &mut thorough };
        let mut member = vec![0; encoder.gzip_compress_bound(chunk.len())];
        let length = encoder
            .gzip_compress(&chunk, &mut member)
            .expect("because the buffer has the size that the encoder asked for");
        member.truncate(length);
        // Whoever waited for it may be gone after an error.
        done.send(member).unwrap_or_default();
    }
}

/// Are all bytes about equally frequent, their frequencies a tenth apart on average?
///
/// In whole numbers, as part of the format: chi-square at most a hundredth of the length.
pub(super) fn is_uniform(chunk: &[u8]) -> bool {
    if chunk.len() < UNIFORM_BYTES_MIN {
        return false;
    }
    // Four tables, so that equal neighbours do not wait for each other.
    let mut tables = [[0u32; 256]; 4];
    for bytes in chunk.chunks(4) {
        for (table, byte) in tables.iter_mut().zip(bytes) {
            table[usize::from(*byte)] += 1;
        }
    }
    let count = |byte: usize| tables.iter().map(|table| u64::from(table[byte])).sum::<u64>();
    let length = chunk.len() as u64;
    // Everything times 256, as the expected count is a fraction.
    let deviation: u64 = (0..256).map(|byte| (count(byte) * 256).abs_diff(length).pow(2)).sum();
    deviation / 256 <= length * length / 100
}
