//! gzip, version 3: chunks of 256 to 512 KiB, cut where noise begins and ends; one member for each part.
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

use std::io;

use libdeflater::{CompressionLvl, Compressor};

use super::{CHUNK_BYTES, noise, ordered::Encoder};
use crate::pipe::Cuts;

/// Where the tar is cut: one block in 256 ends a chunk, so that two versions of a layer have the same
/// chunks from the second or third one behind a change. One in seven is as long as can be.
pub(super) const CUTS: Cuts = Cuts { min: CHUNK_BYTES / 2, max: CHUNK_BYTES, zero_bits: 8 };

/// A member's header as libdeflate writes it: deflate, no name, no time, no system.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The longest stored block: its length has 16 bits.
const STORED_BYTES_MAX: usize = 0xffff;

pub(super) fn encoder(level: u32) -> impl Encoder {
    Members(new_encoder(encoder_level(level)))
}

/// Makes a chunk's members.
struct Members(Compressor);

impl Encoder for Members {
    fn encode(&mut self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let mut members = Vec::with_capacity(chunk.len());
        for part in noise::parts(chunk) {
            let bytes = &chunk[part.bytes];
            if part.is_noise {
                store(bytes, &mut members);
            } else {
                deflate(&mut self.0, bytes, &mut members);
            }
        }
        Ok(members)
    }
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
