//! Layers that come as tars: one pass from the bytes to the table of contents.
//!
//! ```text
//! reader ─▶ chunks ─┬─▶ sha256 + file                       = blob
//!                   └─▶ decoder ─▶ chunks ─┬─▶ sha256       = diffID
//!                                          └─▶ tar ─▶ TOC, contents hashed (this thread)
//! ```
//!
//! *Invariant:* nothing is visible before every digest was compared at the very end of the stream.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
};

use super::{BlobForm, Layer, Layers, Origin, compressed::hash_chunks};
use crate::{
    ContentHash, DiffId, Digest, LayerId, StoreError,
    archive::{ArchiveError, Assembler, ReadLimits, TarReader},
    compress::{self, Codec},
    digest::Sha256,
    limits::LAYER_BYTES_MAX,
    pipe::{Chunk, ChunkReader, ChunkWriter, channel, join},
    toc::{Entry, Kind, Toc},
};

/// Bytes that go from thread to thread at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What a layer's bytes were promised to be; what is `None` is not checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// Digest and size of the bytes as they come.
    pub blob: Option<(Digest, u64)>,
    /// sha256 of the uncompressed tar.
    pub diff_id: Option<DiffId>,
}

/// What a stream turned out to be.
struct Taken {
    blob: (Digest, u64),
    codec: Codec,
    diff_id: DiffId,
    entries: Vec<Entry>,
}

/// A layer that was read to its end and is what it was promised to be; nothing of it is stored.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) blob: (Digest, u64),
    codec: Codec,
    diff_id: DiffId,
    toc: Toc,
}

impl Layers {
    /// Takes a layer as it comes: gzip, zstd or plain.
    ///
    /// One pass: the bytes are stored exactly, the table of contents is made, both digests are
    /// verified. Nothing stays if anything is wrong. A layer whose diffID is known is that layer;
    /// the bytes are kept all the same, since a manifest may name them.
    pub fn import_tar(
        &self,
        reader: &mut (dyn Read + Send),
        expected: Expected,
    ) -> Result<Arc<Layer>, StoreError> {
        let (path, verified) = self.verify_copy(reader, expected)?;
        self.blobs.adopt(&path, &verified.blob.0)?;
        self.keep(verified)
    }

    /// As [`import_tar`](Self::import_tar), for a blob that is in the store already.
    pub fn import_blob(
        &self,
        blob: &Digest,
        diff_id: Option<DiffId>,
    ) -> Result<Arc<Layer>, StoreError> {
        if let Some(diff_id) = &diff_id
            && let Some(layer) = self.reuse(self.by_diff_id(diff_id)?)?
        {
            return Ok(layer);
        }
        let mut file = self.blobs.open_blob(blob)?;
        let size = file.metadata().map_err(StoreError::io("stat", self.blobs.path(blob)))?.len();
        self.keep(verify(&mut file, Expected { blob: Some((*blob, size)), diff_id }, None)?)
    }

    /// Copies a layer into a file aside, where it can be adopted, and reads it on the way.
    pub(crate) fn verify_copy(
        &self,
        reader: &mut (dyn Read + Send),
        expected: Expected,
    ) -> Result<(PathBuf, Verified), StoreError> {
        let (path, file) = self.staging.new_file()?;
        match verify(reader, expected, Some((path.clone(), file))) {
            Ok(verified) => Ok((path, verified)),
            Err(error) => {
                // Nobody is told: the staging directory is swept as a whole.
                std::fs::remove_file(&path).unwrap_or_default();
                Err(error)
            }
        }
    }

    /// The layer that was read; its blob is in the store by now.
    pub(crate) fn keep(&self, verified: Verified) -> Result<Arc<Layer>, StoreError> {
        let Verified { blob: (digest, size), codec, diff_id, toc } = verified;
        if let Some(layer) = self.reuse(self.by_diff_id(&diff_id)?)? {
            return Ok(layer);
        }
        let blob = BlobForm { digest, size, codec };
        let staged = self.staging.new_dir()?;
        let id = LayerId::foreign(&diff_id);
        let layer = self.publish(&staged, id, Origin::Blob, Some(blob), toc)?;
        self.record_diff_id(&layer, None, &diff_id)?;
        Ok(layer)
    }
}

/// Reads a layer to its end, into `file` on the way if there is one.
pub(crate) fn verify(
    reader: &mut (dyn Read + Send),
    expected: Expected,
    file: Option<(PathBuf, File)>,
) -> Result<Verified, StoreError> {
    let taken = take(reader, expected.blob, file)?;
    check(&taken, &expected)?;
    let Taken { blob, codec, diff_id, entries } = taken;
    Ok(Verified { blob, codec, diff_id, toc: Toc::from_entries(entries)? })
}

fn check(taken: &Taken, expected: &Expected) -> Result<(), StoreError> {
    check_blob(expected.blob, taken.blob)?;
    match expected.diff_id {
        Some(expected) if expected != taken.diff_id => {
            Err(StoreError::DiffIdMismatch { expected, actual: taken.diff_id })
        }
        _ => Ok(()),
    }
}

fn check_blob(expected: Option<(Digest, u64)>, blob: (Digest, u64)) -> Result<(), StoreError> {
    let (actual, actual_size) = blob;
    match expected {
        Some((expected, expected_size)) if (expected, expected_size) != blob => {
            Err(StoreError::Mismatch { expected, expected_size, actual, actual_size })
        }
        _ => Ok(()),
    }
}

fn take(
    reader: &mut (dyn Read + Send),
    expected: Option<(Digest, u64)>,
    file: Option<(PathBuf, File)>,
) -> Result<Taken, StoreError> {
    // One byte more than promised is enough to see that the promise was false.
    let limit = expected.map_or(u64::MAX, |(_, size)| size.saturating_add(1));
    std::thread::scope(|scope| {
        let (to_blob, blob_chunks) = channel();
        let (to_decoder, raw_chunks) = channel();
        let (to_hash, plain_chunks) = channel();
        let (to_tar, tar_chunks) = channel();
        let read = scope.spawn(move || {
            // What was promised is hashed to its end even where it cannot be decoded: bytes that
            // are not the promised ones are that, and not a broken archive.
            let mut chunks = ChunkWriter::new(CHUNK_BYTES, vec![to_blob, to_decoder]);
            if expected.is_some() {
                chunks = chunks.consumers_may_leave();
            }
            chunks.copy_from(&mut reader.take(limit))?;
            chunks.finish()
        });
        let blob = scope.spawn(move || keep_blob(blob_chunks, file));
        let decode = scope.spawn(move || {
            let (codec, mut plain) = compress::decoder(ChunkReader::new(raw_chunks))?;
            // Plain bytes are hashed as the blob that they are.
            let consumers = match codec {
                Codec::None => vec![to_tar],
                _ => vec![to_tar, to_hash],
            };
            let mut chunks = ChunkWriter::new(CHUNK_BYTES, consumers);
            chunks.copy_from(&mut plain)?;
            chunks.finish()?;
            Ok::<Codec, io::Error>(codec)
        });
        let hash = scope.spawn(move || hash_chunks(plain_chunks));
        let entries = read_entries(ChunkReader::new(tar_chunks));
        let (read, decoded, hashed) = (join(read), join(decode), join(hash));
        let blob = join(blob)?;
        real_error(read)
            .map_err(|source| StoreError::Stream { action: "read the layer", source })?;
        check_blob(expected, blob)?;
        let codec = real_error(decoded)
            .map_err(|source| StoreError::Stream { action: "decompress the layer", source })?;
        let entries = entries?;
        // Both are there, as nobody stopped early.
        let codec = codec.unwrap_or(Codec::None);
        let diff_id = if codec == Codec::None { blob.0 } else { hashed };
        Ok(Taken { blob, codec, diff_id: DiffId::from_digest(diff_id), entries })
    })
}

/// A broken pipe only says that a consumer stopped, for a reason of its own.
fn real_error<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(error),
    }
}

fn keep_blob(
    chunks: Receiver<Chunk>,
    mut file: Option<(PathBuf, File)>,
) -> Result<(Digest, u64), StoreError> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    for chunk in chunks {
        if let Some((path, file)) = &mut file {
            file.write_all(&chunk).map_err(StoreError::io("write", path.as_path()))?;
        }
        hasher.update(&chunk);
        size += chunk.len() as u64;
    }
    Ok((hasher.finish(), size))
}

/// The entries of a layer's tar, contents hashed; reads to the very end of the stream.
fn read_entries(plain: impl Read) -> Result<Vec<Entry>, StoreError> {
    let mut tar = TarReader::new(plain, ReadLimits::default());
    let mut entries = Assembler::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Some(member) = tar.next_member()? {
        let mut entry = member.entry()?;
        // Layers at rest have whole seconds.
        entry.mtime_nanos = 0;
        if entry.kind == Kind::File && entry.size > 0 {
            let mut hasher = blake3::Hasher::new();
            loop {
                match tar.read_data(&mut buffer)? {
                    0 => break,
                    count => hasher.update(&buffer[..count]),
                };
            }
            entry.content = Some(ContentHash::from_bytes(*hasher.finalize().as_bytes()));
        }
        entries.add(entry)?;
    }
    // What follows the end of the archive counts for the digests, within limits.
    let mut rest = tar.into_inner().take(LAYER_BYTES_MAX);
    io::copy(&mut rest, &mut io::sink()).map_err(|source| ArchiveError::Read { at: 0, source })?;
    Ok(entries.finish())
}
