//! One pass over a layer's tar: its diffID and, if asked for, its compressed form, in a file aside.
//!
//! ```text
//! tar ─▶ chunks ─┬─────────────────────▶ sha256 = diffID
//!                └─▶ encoders ─▶ file ─▶ sha256 = the blob's digest
//! ```

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::mpsc::Receiver,
};

use super::{Layers, pieces::Pieces};
use crate::{
    DiffId, Digest, StoreError,
    compress::{self, CHUNK_BYTES, Codec, Compression},
    digest::{
        Sha256,
        both::{ToHash, hash_two},
    },
    early_sync::LargeFile,
    pipe::{
        CHANNEL_CHUNKS, Chunk, ChunkWriter, Consumer, LARGE_CHUNKS, channel, channel_of_large, join,
    },
};

/// The tar of a layer, as something that writes it.
pub(super) type WriteTar<'t> = dyn FnOnce(&mut ChunkWriter) -> Result<(), StoreError> + 't;

/// The compressed form of a tar, which nobody sees yet; dropped, it leaves nothing.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) compression: Compression,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// What of it was compressed before, and what it is made of.
    pub(super) pieces: Option<Pieces>,
    aside: Aside,
}

impl Form {
    /// The file that it is in.
    pub(super) fn path(&self) -> &Path {
        &self.aside.0
    }
}

/// A file that is removed unless it was taken away.
#[derive(Debug)]
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // Nobody is told: the staging directory is swept as a whole, and what was adopted is elsewhere.
        fs::remove_file(&self.0).unwrap_or_default();
    }
}

/// The diffID of the tar that `write_tar` writes.
pub(super) fn hash_pass(write_tar: Box<WriteTar<'_>>) -> Result<DiffId, StoreError> {
    std::thread::scope(|scope| {
        let (to_hash, chunks) = channel();
        let hash = scope.spawn(move || hash_chunks(chunks));
        let mut chunks = ChunkWriter::new(CHUNK_BYTES, vec![Box::new(to_hash)]);
        write_tar(&mut chunks)?;
        finish(chunks)?;
        Ok(DiffId::from_digest(join(hash)))
    })
}

impl Layers {
    /// The diffID of the tar that `write_tar` writes, of about `bytes`, and its compressed form.
    pub(super) fn pass(
        &self,
        compression: &Compression,
        bytes: u64,
        write_tar: Box<WriteTar<'_>>,
    ) -> Result<(DiffId, Form), StoreError> {
        let (path, file) = self.staging.new_large_file()?;
        let aside = Aside(path);
        let codec = compression.codec;
        let pieces = match codec {
            Codec::None => None,
            _ => self.pieces(&compression.format_name(), bytes),
        };
        let (channel, waiting): (fn() -> _, _) = match codec {
            Codec::Zstd => (channel_of_large, LARGE_CHUNKS),
            _ => (channel, CHANNEL_CHUNKS),
        };
        let (hashes, written) = std::thread::scope(|scope| {
            let ([plain_hash, blob_hash], hashing) = hash_two(scope, waiting);
            let (to_encoder, chunks) = channel();
            let mut file = AsideFile { path: &aside.0, file, hash: blob_hash, size: 0 };
            let (how, pieces) = (compression, pieces.as_ref());
            let encode = scope.spawn(move || file.encode(how, chunks, pieces).map(|()| file.size));
            let mut chunks = codec.chunk_writer(vec![Box::new(plain_hash), Box::new(to_encoder)]);
            let produced = write_tar(&mut chunks);
            // After an error the consumers get a half, and what they make of it is dropped.
            let finished = finish(chunks);
            let (hashes, encoded) = (hashing.join(), join(encode));
            // A full disk breaks the producer's pipe: the encoder knows why.
            let size = encoded?;
            produced?;
            finished?;
            Ok::<_, StoreError>((hashes, size))
        })?;
        let [plain, blob] = hashes;
        // Plain bytes are hashed as the tar that they are.
        let digest = if codec == Codec::None { plain } else { blob };
        let form = Form { compression: *compression, digest, size: written, pieces, aside };
        Ok((DiffId::from_digest(plain), form))
    }
}

fn finish(chunks: ChunkWriter) -> Result<(), StoreError> {
    let stream = |source| StoreError::Stream { action: "make the tar", source };
    chunks.finish().map(drop).map_err(stream)
}

fn hash_chunks(chunks: Receiver<Chunk>) -> Digest {
    let mut hasher = Sha256::new();
    for chunk in chunks {
        hasher.update(&chunk);
    }
    hasher.finish()
}

/// A file that is hashed while it is written.
struct AsideFile<'a> {
    path: &'a Path,
    file: LargeFile,
    hash: ToHash,
    size: u64,
}

impl AsideFile<'_> {
    fn encode(
        &mut self,
        compression: &Compression,
        chunks: Receiver<Chunk>,
        pieces: Option<&Pieces>,
    ) -> Result<(), StoreError> {
        let is_plain = compression.codec == Codec::None;
        let mut take = |chunk: Chunk| {
            self.file.write_all(&chunk)?;
            self.size += chunk.len() as u64;
            if !is_plain {
                self.hash.take(chunk);
            }
            Ok(())
        };
        let pieces = pieces.map(|pieces| pieces as &dyn compress::Pieces);
        compress::encode(compression, chunks, pieces, &mut take)
            .map_err(StoreError::io("write", self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::layers::tests::fixture;

    #[test]
    fn a_tar_that_cannot_be_made_is_an_error_and_leaves_nothing() {
        let fixture = fixture();
        let broken = || -> Box<WriteTar<'_>> {
            Box::new(|out: &mut ChunkWriter| {
                out.write_all(&vec![7; 3 << 20]).unwrap();
                Err(StoreError::Stream {
                    action: "find the end",
                    source: io::ErrorKind::NotFound.into(),
                })
            })
        };
        assert!(matches!(
            hash_pass(broken()),
            Err(StoreError::Stream { action: "find the end", .. })
        ));
        for codec in [Codec::Gzip, Codec::Zstd, Codec::None] {
            let made = fixture.layers.pass(&Compression::new(codec), 3 << 20, broken());
            assert!(
                matches!(made, Err(StoreError::Stream { action: "find the end", .. })),
                "{codec:?}"
            );
        }
        assert_eq!(fs::read_dir(fixture.layers.staging.path()).unwrap().count(), 0);
    }
}
