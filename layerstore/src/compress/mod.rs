//! Codecs: what layers are compressed with, and how they are read.
//!
//! Compressed bytes are a promise: the same input gives the same output at any thread count, on any
//! processor, for as long as the [format name](Compression::format_name) stays. The encoder crates
//! are pinned with `=`; golden digests in the tests hold them to it.

mod gunzip;
mod gzip;
mod noise;
mod ordered;
mod ration;
#[cfg(test)]
mod tests;
mod zstd;

use std::{
    io::{self, BufRead, BufReader, Read},
    sync::mpsc::Receiver,
};

use serde::{Deserialize, Serialize};

use ration::{Counting, Rationed};

use crate::{
    ContentHash,
    limits::ZSTD_WINDOW_LOG_MAX,
    oci::media_type::{OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD},
    pipe::{Chunk, ChunkWriter, Consumers},
};

/// The version of the gzip encoding: block size, container and encoder.
const GZIP_VERSION: u32 = 3;
/// The version of the zstd encoding.
const ZSTD_VERSION: u32 = 3;
/// The version of the plain form, which has nothing to change.
const NONE_VERSION: u32 = 1;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// Cuts a stream as [`encode`] wants it: part of the format.
    pub(crate) fn chunk_writer(self, consumers: Consumers) -> ChunkWriter {
        match self {
            Codec::None => ChunkWriter::new(CHUNK_BYTES, consumers),
            Codec::Gzip => ChunkWriter::cutting(gzip::CUTS, consumers),
            Codec::Zstd => ChunkWriter::cutting(zstd::CUTS, consumers),
        }
    }

    /// The media type of an OCI layer that is compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Codec::None => OCI_LAYER,
            Codec::Gzip => OCI_LAYER_GZIP,
            Codec::Zstd => OCI_LAYER_ZSTD,
        }
    }

    /// The levels that the codec has.
    pub fn levels(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Codec::None => 0..=0,
            Codec::Gzip => 1..=12,
            Codec::Zstd => 1..=22,
        }
    }

    /// What the first bytes of a stream say.
    pub fn detect(start: &[u8]) -> Codec {
        match start {
            [0x1f, 0x8b, ..] => Codec::Gzip,
            // A zstd stream may begin with a skippable frame.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Codec::Zstd,
            _ => Codec::None,
        }
    }
}

/// How a layer is to be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    /// The codec.
    pub codec: Codec,
    /// Its level; `None` is the codec's default.
    pub level: Option<u32>,
    /// Compress also what came compressed with another codec.
    pub force: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Compression::new(Codec::Gzip)
    }
}

impl Compression {
    /// `codec` at its default level.
    pub const fn new(codec: Codec) -> Compression {
        Compression { codec, level: None, force: false }
    }

    /// The level that is used: the one asked for, brought into the codec's range.
    pub fn effective_level(&self) -> u32 {
        let default = match self.codec {
            Codec::None => 0,
            Codec::Gzip => 6,
            Codec::Zstd => 3,
        };
        let levels = self.codec.levels();
        self.level.unwrap_or(default).clamp(*levels.start(), *levels.end())
    }

    /// The name of the exact encoding: codec, level, version.
    pub fn format_name(&self) -> String {
        let (name, version) = match self.codec {
            Codec::None => ("none", NONE_VERSION),
            Codec::Gzip => ("gzip", GZIP_VERSION),
            Codec::Zstd => ("zstd", ZSTD_VERSION),
        };
        format!("{name}-{}-v{version}", self.effective_level())
    }
}

/// The size of a tar's chunks where nothing asks for another one, and of gzip's largest.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;
/// Decompressed bytes that go from thread to thread at once, at most: a long member of ours, or short ones
/// together.
const DECODED_CHUNK_BYTES: usize = CHUNK_BYTES + (256 << 10);

/// Reads a [`decoder`] into chunks with room for what it gives at once, so that nothing is copied twice.
pub(crate) fn decoded_chunks(consumers: Consumers) -> ChunkWriter {
    ChunkWriter::new(DECODED_CHUNK_BYTES, consumers).with_room(gunzip::PLAIN_BYTES_MAX)
}

/// What chunks became when they were compressed in this very way before.
pub(crate) trait Pieces: Sync {
    /// What the chunk with this hash became.
    fn recall(&self, plain: &ContentHash) -> Option<Vec<u8>>;
    /// What the next chunk, in their order, became now.
    fn note(&self, plain: ContentHash, compressed: &[u8]);
}

/// What takes the compressed stream, piece by piece.
pub(crate) type Out<'o> = dyn FnMut(Chunk) -> io::Result<()> + Send + 'o;

/// Compresses a stream of chunks, cut as the [codec](Codec::chunk_writer) wants them, with all processors.
pub(crate) fn encode(
    compression: &Compression,
    chunks: Receiver<Chunk>,
    pieces: Option<&dyn Pieces>,
    out: &mut Out<'_>,
) -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    encode_with(compression, (chunks, pieces), out, threads)
}

fn encode_with(
    compression: &Compression,
    (chunks, pieces): (Receiver<Chunk>, Option<&dyn Pieces>),
    out: &mut Out<'_>,
    threads: usize,
) -> io::Result<()> {
    let level = compression.effective_level();
    let input = (chunks, pieces);
    match compression.codec {
        Codec::None => input.0.into_iter().try_for_each(out),
        Codec::Gzip => ordered::encode(|| Ok(gzip::encoder(level)), input, out, threads),
        Codec::Zstd => ordered::encode(|| zstd::encoder(level), input, out, threads),
    }
}

/// A checksum against accidents, for a fraction of what a hash costs.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    libdeflater::crc32(bytes)
}

/// Decompresses `reader`, whatever it is compressed with.
///
/// gzip streams may have several members, zstd streams several frames. A bomb is an error.
pub fn decoder<'a>(
    reader: impl Read + Send + 'a,
) -> io::Result<(Codec, Box<dyn Read + Send + 'a>)> {
    let (reader, taken) = Counting::new(reader);
    let mut reader = BufReader::with_capacity(1 << 17, StartKept::new(reader)?);
    let codec = Codec::detect(reader.fill_buf()?);
    let decoder: Box<dyn Read + Send + 'a> = match codec {
        Codec::None => Box::new(reader),
        Codec::Gzip => Box::new(Rationed::new(gunzip::Gunzip::new(reader), taken)),
        Codec::Zstd => Box::new(Rationed::new(zstd::decoder(reader, ZSTD_WINDOW_LOG_MAX)?, taken)),
    };
    Ok((codec, decoder))
}

/// Reads the first bytes of a stream at once, however small its pieces are.
struct StartKept<R> {
    start: io::Cursor<Vec<u8>>,
    rest: R,
}

impl<R: Read> StartKept<R> {
    fn new(mut rest: R) -> io::Result<Self> {
        let mut start = Vec::new();
        (&mut rest).take(4).read_to_end(&mut start)?;
        Ok(StartKept { start: io::Cursor::new(start), rest })
    }
}

impl<R: Read> Read for StartKept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.start.read(buffer)? {
            0 => self.rest.read(buffer),
            count => Ok(count),
        }
    }
}
