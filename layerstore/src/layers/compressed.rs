//! The tar of a layer, its diffID, and its compressed forms: one pass for all of them.
//!
//! ```text
//! tar producer ──▶ chunks ──┬──▶ sha256                                      = diffID
//!  (this thread)            └──▶ encoder's workers ──▶ file + sha256 in order = blob
//! ```

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Receiver},
};

use super::{Layer, Layers, Origin, pieces::Pieces};
use crate::{
    DiffId, Digest, StoreError,
    archive::{Epoch, TarWriter},
    atomic::read_record,
    compress::{self, CHUNK_BYTES, Codec, Compression},
    digest::Sha256,
    oci::Descriptor,
    pipe::{Chunk, channel, channel_of_large, join},
    toc::Kind,
};

impl Layers {
    /// The layer's diffID, computed from its tar and recorded if it was not known.
    pub fn diff_id(&self, layer: &Arc<Layer>) -> Result<DiffId, StoreError> {
        self.diff_id_at(layer, None)
    }

    /// The diffID of the layer with its times changed as `epoch` says.
    ///
    /// Layers that came as blobs are never changed.
    pub fn diff_id_at(
        &self,
        layer: &Arc<Layer>,
        epoch: Option<Epoch>,
    ) -> Result<DiffId, StoreError> {
        let epoch = own_epoch(layer, epoch);
        if let Some(known) = layer.recorded_diff_id(epoch) {
            return Ok(known);
        }
        let (diff_id, _) = self.pass(layer, epoch, None)?;
        self.record_diff_id(layer, epoch, &diff_id)?;
        Ok(diff_id)
    }

    /// Whether [`diff_id_at`](Self::diff_id_at) has nothing to compute.
    pub fn knows_diff_id(&self, layer: &Layer, epoch: Option<Epoch>) -> bool {
        layer.recorded_diff_id(own_epoch(layer, epoch)).is_some()
    }

    /// Writes the layer's uncompressed tar: the canonical one, or the one that it came as.
    pub fn write_tar(
        &self,
        layer: &Arc<Layer>,
        out: &mut dyn Write,
        epoch: Option<Epoch>,
    ) -> Result<(), StoreError> {
        let stream = |source| StoreError::Stream { action: "write the layer's tar", source };
        if layer.origin() == Origin::Blob {
            let mut tar = self.open_tar(layer)?;
            return io::copy(&mut tar, out).map(drop).map_err(stream);
        }
        let mut tar = TarWriter::new(out, epoch);
        let mut content = Vec::new();
        for entry in layer.toc()? {
            if entry.kind != Kind::File || entry.size == 0 {
                tar.append_bytes(entry, &[]).map_err(stream)?;
            } else if entry.size <= CHUNK_BYTES as u64 {
                self.read_small(layer, entry, &mut content)?;
                tar.append_bytes(entry, &content).map_err(stream)?;
            } else {
                let mut data = self.open_content(layer, entry)?;
                tar.append(entry, &mut data).map_err(stream)?;
            }
        }
        tar.finish().map(drop).map_err(stream)
    }

    /// The descriptor of the layer's compressed form, which is in the blobs afterwards.
    ///
    /// Done once for each compression; the diffID is recorded on the way. A layer that came
    /// compressed keeps that form unless `compression.force` is set and its codec is another one.
    pub fn compressed(
        &self,
        layer: &Arc<Layer>,
        compression: &Compression,
        epoch: Option<Epoch>,
    ) -> Result<Descriptor, StoreError> {
        let epoch = own_epoch(layer, epoch);
        if let Some(blob) = layer.blob()
            && (blob.codec == compression.codec
                || (blob.codec != Codec::None && !compression.force))
        {
            return Ok(Descriptor::new(blob.codec.media_type(), blob.digest, blob.size));
        }
        let record = record_path(layer, compression, epoch);
        if let Some(known) = self.recorded(&record)? {
            return Ok(known);
        }
        let _lock = layer.lock()?;
        if let Some(known) = self.recorded(&record)? {
            return Ok(known);
        }
        let form = compression.format_name();
        let pieces = match compression.codec {
            Codec::None => None,
            _ => self.pieces(&form, layer.toc()?.stats().bytes),
        };
        let how = Encoding { compression, pieces: pieces.as_ref() };
        let (diff_id, compressed) = self.pass(layer, epoch, Some(how))?;
        let known = layer.recorded_diff_id(epoch);
        if let Some(expected) = known.filter(|known| *known != diff_id) {
            return Err(StoreError::DiffIdMismatch { expected, actual: diff_id });
        }
        if known.is_none() {
            self.record_diff_id(layer, epoch, &diff_id)?;
        }
        let (digest, size) = compressed.unwrap_or((diff_id.digest(), 0));
        let descriptor = Descriptor::new(compression.codec.media_type(), digest, size);
        if let Some(pieces) = pieces {
            self.keep_pieces(&record, pieces, &digest)?;
        }
        let json = serde_json::to_vec(&descriptor).expect("because a descriptor has string keys");
        self.staging.write(&record, &json)?;
        Ok(descriptor)
    }

    /// The compressed form, if it was made before and its blob is still here.
    fn recorded(&self, record: &Path) -> Result<Option<Descriptor>, StoreError> {
        let Some(bytes) = read_record(record)? else { return Ok(None) };
        // A damaged record is no record: the form is made again.
        let descriptor: Option<Descriptor> = serde_json::from_slice(&bytes).ok();
        let here = |known: &Descriptor| self.blobs.size(&known.digest) == Some(known.size);
        Ok(descriptor.filter(here))
    }

    /// One pass over the layer's tar: its diffID and, if asked for, the compressed blob.
    fn pass(
        &self,
        layer: &Arc<Layer>,
        epoch: Option<Epoch>,
        encoding: Option<Encoding<'_>>,
    ) -> Result<(DiffId, Option<(Digest, u64)>), StoreError> {
        let target = encoding
            .map(|encoding| self.staging.new_file().map(|(path, file)| (encoding, path, file)))
            .transpose()?;
        let codec = encoding.map_or(Codec::None, |how| how.compression.codec);
        let channel = if codec == Codec::Zstd { channel_of_large } else { channel };
        std::thread::scope(|scope| {
            let (to_hash, hashed) = channel();
            let hash = scope.spawn(move || hash_chunks(hashed));
            let mut consumers = vec![to_hash];
            let encode = target.map(|(encoding, path, file)| {
                let (to_encoder, chunks) = channel();
                consumers.push(to_encoder);
                scope.spawn(move || encode_file(encoding, chunks, path, file))
            });
            let mut chunks = codec.chunk_writer(consumers);
            let produced = self.write_tar(layer, &mut chunks, epoch);
            let finished = match &produced {
                Ok(()) => chunks.finish().map(drop),
                // The consumers must not take a half for the whole, but their results are dropped.
                Err(_) => Ok(()),
            };
            let diff_id = DiffId::from_digest(join(hash));
            let encoded = encode.map(join).transpose();
            // A full disk breaks the producer's pipe: the encoder knows why.
            let encoded = encoded?;
            produced?;
            finished.map_err(|source| StoreError::Stream { action: "make the tar", source })?;
            let compressed = encoded.map(|(path, written)| {
                let (digest, size) = written.finish(&diff_id);
                self.blobs.adopt(&path, &digest).map(|()| (digest, size))
            });
            Ok((diff_id, compressed.transpose()?))
        })
    }
}

/// How a layer is compressed, and what of it may be compressed already.
#[derive(Clone, Copy)]
struct Encoding<'a> {
    compression: &'a Compression,
    pieces: Option<&'a Pieces>,
}

/// What came as a blob is never changed, so it has no epoch.
fn own_epoch(layer: &Layer, epoch: Option<Epoch>) -> Option<Epoch> {
    epoch.filter(|_| layer.origin() != Origin::Blob)
}

fn record_path(layer: &Layer, compression: &Compression, epoch: Option<Epoch>) -> PathBuf {
    let epoch = epoch.map_or_else(String::new, |epoch| format!(".{}", epoch.label()));
    layer.directory().join(format!("{}{epoch}.json", compression.format_name()))
}

pub(super) fn hash_chunks(chunks: Receiver<Chunk>) -> Digest {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update(&chunk);
    }
    hasher.finish()
}

fn encode_file(
    Encoding { compression, pieces }: Encoding<'_>,
    chunks: Receiver<Chunk>,
    path: PathBuf,
    file: File,
) -> Result<(PathBuf, HashingFile), StoreError> {
    // Uncompressed bytes are hashed already, as the diffID.
    let hasher = (compression.codec != Codec::None).then(Sha256::new);
    let mut out = HashingFile { file, hasher, size: 0 };
    let pieces = pieces.map(|pieces| pieces as &dyn compress::Pieces);
    compress::encode(compression, chunks, pieces, &mut out)
        .map_err(StoreError::io("write", &path))?;
    Ok((path, out))
}

/// A file that is hashed while it is written.
struct HashingFile {
    file: File,
    hasher: Option<Sha256>,
    size: u64,
}

impl HashingFile {
    fn finish(self, diff_id: &DiffId) -> (Digest, u64) {
        let digest = self.hasher.map_or(diff_id.digest(), Sha256::finish);
        (digest, self.size)
    }
}

impl Write for HashingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..count]);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
