//! Zstandard, version 3: chunks of 2 to 4 MiB, one frame each.
//!
//! RFC 8878 makes concatenated frames one stream, and every reader of layers takes them so. A frame
//! depends on its chunk alone, so threads cannot change the bytes. It is made in one call on the chunk
//! where it lies, which saves libzstd the copy that its own threads need; its window is the whole
//! chunk, which makes up for what it cannot see before it. An empty stream is one empty frame.

use std::io::{self, BufRead, Read};

use zstd::{bulk::Compressor, zstd_safe::CParameter};

use super::ordered::Encoder;
use crate::pipe::Cuts;

/// Where the tar is cut: as for gzip, with everything eight times as large. The longest frame is as large
/// as its window.
pub(super) const CUTS: Cuts =
    Cuts { min: 1 << (WINDOW_LOG - 1), max: 1 << WINDOW_LOG, zero_bits: 11 };
/// Twice what libzstd takes at the default level, and half of what every reader must allow.
const WINDOW_LOG: u32 = 22;

pub(super) fn encoder(level: u32) -> io::Result<impl Encoder> {
    let mut encoder = Compressor::new(level.cast_signed())?;
    encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    Ok(Frames(encoder))
}

/// Makes a frame of each chunk.
struct Frames(Compressor<'static>);

impl Encoder for Frames {
    fn encode(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let mut frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(chunk.len()));
        self.0.compress_to_buffer(chunk, &mut frame)?;
        Ok(frame)
    }
}

pub(super) fn decoder<'a>(
    reader: impl BufRead + Send + 'a,
    window_log_max: u32,
) -> io::Result<impl Read + Send + 'a> {
    let mut decoder = zstd::stream::Decoder::with_buffer(reader)?;
    decoder.window_log_max(window_log_max)?;
    Ok(decoder)
}
