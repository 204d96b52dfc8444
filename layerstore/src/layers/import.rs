//! Layers that come as tars: one pass from the bytes to the table of contents.
//!
//! ```text
//! reader ─▶ chunks ─┬─▶ sha256 + file                       = blob
//!                   └─▶ decoder ─▶ chunks ─┬─▶ sha256       = diffID
//!                                          └─▶ tar ─▶ TOC, contents hashed (this thread)
//!                                                      └─▶ the tree, where one is wanted
//! ```
//!
//! *Invariant:* nothing is visible before every digest was compared at the very end of the stream.

use std::{
    fs::File,
    io::{self, BufRead, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, mpsc::Receiver},
};

use rustix::fs::ioctl_ficlone;

use super::{BlobForm, Layer, Layers, Origin, early::EarlyTree, sound::stage_tree};
use crate::{
    ContentHash, DiffId, Digest, LayerId, StoreError,
    archive::{ArchiveError, Assembler, ReadLimits, TarReader},
    compress::{self, Codec},
    digest::both::{ToHash, hash_two},
    early_sync::LargeFile,
    limits::LAYER_BYTES_MAX,
    pipe::{CHANNEL_CHUNKS, Chunk, ChunkReader, ChunkWriter, Consumer, Consumers, channel, join},
    toc::{Entry, Kind, Toc},
};

/// Bytes that go from thread to thread at once.
const CHUNK_BYTES: usize = 256 << 10;

/// What layers come for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// To be here: most are only looked at, copied from, or sent on.
    #[default]
    Keep,
    /// A program will run over them: their trees are made from the bytes as they come.
    Run,
}

/// What a layer's bytes were promised to be; what is `None` is not checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// Digest and size of the bytes as they come.
    pub blob: Option<(Digest, u64)>,
    /// sha256 of the uncompressed tar.
    pub diff_id: Option<DiffId>,
}

/// A layer that was read to its end and is what it was promised to be; nothing of it is stored.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) blob: (Digest, u64),
    codec: Codec,
    diff_id: DiffId,
    toc: Toc,
    /// Its tree, where one was made; in the staging directory.
    tree: Option<PathBuf>,
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
        self.import_tar_for(reader, expected, Purpose::Keep)
    }

    /// As [`import_tar`](Self::import_tar), with what the layer comes for.
    pub fn import_tar_for(
        &self,
        reader: &mut (dyn Read + Send),
        expected: Expected,
        purpose: Purpose,
    ) -> Result<Arc<Layer>, StoreError> {
        let (path, verified) = self.verify_copy(reader, None, expected, purpose)?;
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
        self.keep(verify_into(
            &mut file,
            Expected { blob: Some((*blob, size)), diff_id },
            None,
            None,
        )?)
    }

    /// Copies a layer into a file aside, where it can be adopted, and reads it on the way.
    ///
    /// What the reader gives may be the whole of `source`: where the file system lets two files share
    /// their blocks, nothing is copied then. The copy is read, and not what may change meanwhile.
    pub(crate) fn verify_copy(
        &self,
        reader: &mut (dyn Read + Send),
        source: Option<&Path>,
        expected: Expected,
        purpose: Purpose,
    ) -> Result<(PathBuf, Verified), StoreError> {
        let (path, mut file) = self.staging.new_large_file()?;
        let early = match purpose {
            Purpose::Keep => None,
            Purpose::Run => Some(EarlyTree::begin(self)?),
        };
        if early.is_some() {
            // Who needs the layer reads its tree.
            file = file.not_read_soon();
        }
        let source = source.and_then(|source| File::open(source).ok());
        let is_copied = source.is_some_and(|source| ioctl_ficlone(file.as_file(), source).is_ok());
        let verified = if is_copied {
            verify_into(file.as_file(), expected, None, early)
        } else {
            verify_into(reader, expected, Some((path.clone(), file)), early)
        };
        match verified {
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
        let Verified { blob: (digest, size), codec, diff_id, toc, tree } = verified;
        if let Some(layer) = self.reuse(self.by_diff_id(&diff_id)?)? {
            return Ok(layer);
        }
        let blob = BlobForm { digest, size, codec };
        let staged = self.staging.new_dir()?;
        if let Some(tree) = tree {
            stage_tree(&tree, &staged)?;
        }
        let id = LayerId::foreign(&diff_id);
        let layer = self.publish(&staged, id, Origin::Blob, Some(blob), toc)?;
        self.record_diff_id(&layer, None, &diff_id)?;
        Ok(layer)
    }
}

/// Reads a layer to its end, into `file` on the way if there is one.
fn verify_into(
    reader: &mut (dyn Read + Send),
    expected: Expected,
    file: Option<(PathBuf, LargeFile)>,
    mut early: Option<EarlyTree<'_>>,
) -> Result<Verified, StoreError> {
    // One byte more than promised is enough to see that the promise was false.
    let limit = expected.blob.map_or(u64::MAX, |(_, size)| size.saturating_add(1));
    // What was promised is hashed to its end even where it cannot be decoded: bytes that are not the
    // promised ones are that, and not a broken archive.
    let to_the_end = expected.blob.is_some();
    let examined = examine_into(&mut reader.take(limit), to_the_end, file, early.as_mut())?;
    check_blob(expected.blob, examined.blob)?;
    let verified = examined.layer?.checked(expected.diff_id)?;
    let tree = early.and_then(|early| early.finish(&verified.toc));
    Ok(Verified { tree, ..verified })
}

impl Verified {
    /// The layer, if it is the one that was promised.
    pub(crate) fn checked(self, expected: Option<DiffId>) -> Result<Verified, StoreError> {
        match expected {
            Some(expected) if expected != self.diff_id => {
                Err(StoreError::DiffIdMismatch { expected, actual: self.diff_id })
            }
            _ => Ok(self),
        }
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

/// What a stream turned out to be.
#[derive(Debug)]
pub(crate) struct Examined {
    /// Its bytes.
    pub(crate) blob: (Digest, u64),
    /// The layer that they are, or why they are none.
    pub(crate) layer: Result<Verified, StoreError>,
}

/// Reads a stream that may be a layer, into `file` on the way if there is one.
///
/// To the end, if `to_the_end` says so; else what is no layer is not read any further.
pub(crate) fn examine(
    reader: &mut (dyn Read + Send),
    to_the_end: bool,
    file: Option<(PathBuf, LargeFile)>,
) -> Result<Examined, StoreError> {
    examine_into(reader, to_the_end, file, None)
}

fn examine_into(
    reader: &mut (dyn Read + Send),
    to_the_end: bool,
    file: Option<(PathBuf, LargeFile)>,
    early: Option<&mut EarlyTree<'_>>,
) -> Result<Examined, StoreError> {
    std::thread::scope(|scope| {
        let (to_blob, blob_chunks) = channel();
        let (to_decoder, raw_chunks) = channel();
        let ([blob_hash, plain_hash], hashing) = hash_two(scope, CHANNEL_CHUNKS);
        let (to_tar, tar_chunks) = channel();
        let read = scope.spawn(move || {
            let mut chunks =
                ChunkWriter::new(CHUNK_BYTES, vec![Box::new(to_blob), Box::new(to_decoder)]);
            if to_the_end {
                chunks = chunks.consumers_may_leave();
            }
            chunks.copy_from(reader)?;
            chunks.finish()
        });
        let blob = scope.spawn(move || keep_blob(blob_chunks, file, &blob_hash));
        let decode = scope.spawn(move || {
            let (codec, mut plain) = compress::decoder(ChunkReader::new(raw_chunks))?;
            // Plain bytes are hashed as the blob that they are.
            let mut consumers: Consumers = vec![Box::new(to_tar)];
            if codec != Codec::None {
                consumers.push(Box::new(plain_hash));
            }
            let mut chunks = compress::decoded_chunks(consumers);
            chunks.copy_from(&mut plain)?;
            chunks.finish()?;
            Ok::<Codec, io::Error>(codec)
        });
        let tar = ChunkReader::new(tar_chunks);
        let entries = match early {
            Some(early) => early.read(tar),
            None => read_entries(tar, &mut hash_data),
        };
        let (read, decoded, kept) = (join(read), join(decode), join(blob));
        let [blob, plain] = hashing.join();
        let blob = (blob, kept?);
        real_error(read)
            .map_err(|source| StoreError::Stream { action: "read the layer", source })?;
        let layer = real_error(decoded)
            .map_err(|source| StoreError::Stream { action: "decompress the layer", source })
            .and_then(|codec| Ok((codec, Toc::from_entries(entries?)?)))
            .map(|(codec, toc)| {
                // It is there, as nobody stopped early.
                let codec = codec.unwrap_or(Codec::None);
                let diff_id = if codec == Codec::None { blob.0 } else { plain };
                Verified { blob, codec, diff_id: DiffId::from_digest(diff_id), toc, tree: None }
            });
        Ok(Examined { blob, layer })
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
    mut file: Option<(PathBuf, LargeFile)>,
    hash: &ToHash,
) -> Result<u64, StoreError> {
    let mut size = 0;
    for chunk in chunks {
        if let Some((path, file)) = &mut file {
            file.write_all(&chunk).map_err(StoreError::io("write", path.as_path()))?;
        }
        size += chunk.len() as u64;
        hash.take(chunk);
    }
    Ok(size)
}

/// The entries of a layer's tar; reads to the very end of the stream.
pub(super) fn read_entries<R: Read>(
    plain: R,
    take: &mut TakeFile<'_, R>,
) -> Result<Vec<Entry>, StoreError> {
    let mut tar = TarReader::new(plain, ReadLimits::default());
    let mut entries = Assembler::default();
    while let Some(member) = tar.next_member()? {
        let mut entry = member.entry()?;
        // Layers at rest have whole seconds.
        entry.mtime_nanos = 0;
        if entry.kind == Kind::File {
            take(&mut tar, &mut entry)?;
        }
        entries.add(entry)?;
    }
    // What follows the end of the archive counts for the digests, within limits.
    let mut rest = tar.into_inner().take(LAYER_BYTES_MAX);
    io::copy(&mut rest, &mut io::sink()).map_err(|source| ArchiveError::Read { at: 0, source })?;
    Ok(entries.finish())
}

/// What takes the data of each file, and says in its entry what it is.
pub(super) type TakeFile<'t, R> =
    dyn FnMut(&mut TarReader<R>, &mut Entry) -> Result<(), StoreError> + 't;

/// Says in the entry of a file what its data is.
pub(super) fn hash_data<R: BufRead>(
    tar: &mut TarReader<R>,
    entry: &mut Entry,
) -> Result<(), StoreError> {
    if entry.size > 0 {
        let mut hasher = blake3::Hasher::new();
        tar.each_piece(|piece| {
            hasher.update(piece);
        })?;
        entry.content = Some(ContentHash::from_bytes(*hasher.finalize().as_bytes()));
    }
    Ok(())
}
