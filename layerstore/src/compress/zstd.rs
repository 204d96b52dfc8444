//! Zstandard, version 1: one frame, made with worker threads even if it is one thread.
//!
//! libzstd's output with workers depends neither on their number nor on the sizes of writes, but
//! differs from its output without workers; so there always are some.

use std::{
    io::{self, BufRead, Read, Write},
    sync::mpsc::Receiver,
};

use crate::pipe::{Chunk, ChunkWriter, channel, join};

/// More workers than this bring nothing and cost memory.
const WORKERS_MAX: usize = 16;
/// Compressed bytes that go to the writer at once.
const PIECE_BYTES: usize = 256 << 10;

pub(super) fn encode(
    level: u32,
    chunks: Receiver<Chunk>,
    out: &mut (dyn Write + Send),
    threads: usize,
) -> io::Result<()> {
    std::thread::scope(|scope| {
        // Writing is hashing, too: it must not keep the workers waiting for input.
        let (to_out, compressed) = channel();
        let write =
            scope.spawn(move || compressed.iter().try_for_each(|piece| out.write_all(&piece)));
        let encoded = feed(level, chunks, ChunkWriter::new(PIECE_BYTES, vec![to_out]), threads);
        // If writing went wrong, the encoder only knows that nobody listens.
        join(write).and(encoded)
    })
}

fn feed(level: u32, chunks: Receiver<Chunk>, out: ChunkWriter, threads: usize) -> io::Result<()> {
    let mut encoder = zstd::stream::Encoder::new(out, level.cast_signed())?;
    encoder.multithread(threads.clamp(1, WORKERS_MAX) as u32)?;
    for chunk in chunks {
        encoder.write_all(&chunk)?;
    }
    encoder.finish()?.finish().map(drop)
}

pub(super) fn decoder<'a>(
    reader: impl BufRead + Send + 'a,
    window_log_max: u32,
) -> io::Result<impl Read + Send + 'a> {
    let mut decoder = zstd::stream::Decoder::with_buffer(reader)?;
    decoder.window_log_max(window_log_max)?;
    Ok(decoder)
}
