//! gzip, version 2: chunks of 512 KiB, cut where noise begins and ends; one member for each part.
//!
//! ```text
//! chunk = part*    part = member: text and the like by libdeflate, noise in stored blocks
//! ```
//! RFC 1952 makes concatenated members one file; Go, GNU gzip, Python and zlib read them so. A
//! member depends on its chunk alone, so threads cannot change the bytes. An empty stream is one
//! empty member.
//!
//! Levels mean what people know from gzip: each is at least as small as gzip's own, by the encoder
//! level that gets there first. What is noise is said in `noise.rs`: no level makes it smaller.

use std::{
    io::{self, Write},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
};

use libdeflater::{CompressionLvl, Compressor};

use super::noise;
use crate::pipe::{Chunk, join};

/// A member's header as libdeflate writes it: deflate, no name, no time, no system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The longest stored block: its length has 16 bits.
const STORED_BYTES_MAX: usize = 0xffff;

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
    let mut encoder = new_encoder(encoder_level(level));
    loop {
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { chunk, done }) = job else { return };
        let mut members = Vec::with_capacity(chunk.len());
        for part in noise::parts(&chunk) {
            let bytes = &chunk[part.bytes];
            if part.is_noise {
                store(bytes, &mut members);
            } else {
                deflate(&mut encoder, bytes, &mut members);
            }
        }
        // Whoever waited for it may be gone after an error.
        done.send(members).unwrap_or_default();
    }
}

/// Appends a member of `bytes`, compressed.
fn deflate(encoder: &mut Compressor, bytes: &[u8], members: &mut Vec<u8>) {
    let start = members.len();
    members.resize(start + encoder.gzip_compress_bound(bytes.len()), 0);
    let length = encoder
        .gzip_compress(bytes, &mut members[start..])
        .expect("because the buffer has the size that the encoder asked for");
    members.truncate(start + length);
}

/// Appends a member of `bytes` as they are; there are some.
fn store(bytes: &[u8], members: &mut Vec<u8>) {
    members.extend_from_slice(&HEADER);
    let mut blocks = bytes.chunks(STORED_BYTES_MAX).peekable();
    while let Some(block) = blocks.next() {
        let length = block.len() as u16;
        // The last block has the bit that says so; the other bits are type 0 and padding.
        members.push(u8::from(blocks.peek().is_none()));
        members.extend_from_slice(&length.to_le_bytes());
        members.extend_from_slice(&(!length).to_le_bytes());
        members.extend_from_slice(block);
    }
    members.extend_from_slice(&libdeflater::crc32(bytes).to_le_bytes());
    members.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
}
