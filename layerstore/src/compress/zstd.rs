//! Zstandard, version 1: one frame, made with worker threads even if it is one thread.
//!
//! libzstd's output with workers depends neither on their number nor on the sizes of writes, but
//! differs from its output without workers; so there always are some.

use std::{
    io::{self, BufRead, Read, Write},
    sync::mpsc::Receiver,
};

use crate::pipe::Chunk;

/// More workers than this bring nothing and cost memory.
const WORKERS_MAX: usize = 16;

pub(super) fn encode(
    level: u32,
    chunks: Receiver<Chunk>,
    out: &mut (dyn Write + Send),
    threads: usize,
) -> io::Result<()> {
    let mut encoder = zstd::stream::Encoder::new(out, level.cast_signed())?;
    encoder.multithread(threads.clamp(1, WORKERS_MAX) as u32)?;
    for chunk in chunks {
        encoder.write_all(&chunk)?;
    }
    encoder.finish().map(drop)
}

pub(super) fn decoder<'a>(
    reader: impl BufRead + Send + 'a,
    window_log_max: u32,
) -> io::Result<impl Read + Send + 'a> {
    let mut decoder = zstd::stream::Decoder::with_buffer(reader)?;
    decoder.window_log_max(window_log_max)?;
    Ok(decoder)
}
