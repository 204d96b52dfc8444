//! Taking contents in: each is read once, hashed on the way, and kept only if it is new.

use std::{
    collections::HashSet,
    fs::{self, File},
    hash::BuildHasherDefault,
    io::{self, Read, Write},
    path::PathBuf,
    sync::{Arc, mpsc::Receiver},
};

use super::{Contents, PackRecord, PrefixHasher, pack};
use crate::{
    ContentHash, StoreError,
    atomic::publish,
    early_sync::LargeFile,
    limits::{OWN_PACK_BYTES, PACK_BYTES_MAX},
    pipe::{Chunk, Piece, channel_of_large, join},
};

/// Bytes gathered before they go to the pack's file.
const BUFFER_BYTES: usize = 1 << 20;

/// Who is given the pieces of a large file while it is taken in.
pub type TakePiece<'t> = dyn Fn(&Arc<Piece>) + 't;

/// Appends contents to packs of its own; they become visible with [`finish`](Self::finish).
///
/// Dropped without it, nothing stays.
#[derive(Debug)]
pub struct ContentWriter {
    contents: Arc<Contents>,
    pack: Option<OpenPack>,
    /// Packs that are complete but not yet published.
    closed: Vec<OpenPack>,
    fresh: HashSet<ContentHash, BuildHasherDefault<PrefixHasher>>,
    /// One small content at a time.
    content: Vec<u8>,
    /// Was the last one too large to be held there?
    was_large: bool,
}

#[derive(Debug)]
struct OpenPack {
    path: PathBuf,
    file: LargeFile,
    pending: Vec<u8>,
    length: u64,
    records: Vec<PackRecord>,
}

impl ContentWriter {
    pub(super) fn new(contents: Arc<Contents>) -> ContentWriter {
        ContentWriter {
            contents,
            pack: None,
            closed: Vec::new(),
            fresh: HashSet::default(),
            content: Vec::new(),
            was_large: false,
        }
    }

    /// Takes `length` bytes of `file` from where it stands, or what there is of them.
    ///
    /// What is too much to be held in memory is given to `pieces` on the way. Whoever must know that the
    /// file did not grow looks at it afterwards; here nobody reads on to see.
    pub fn put_file(
        &mut self,
        file: &mut File,
        length: u64,
        pieces: &TakePiece<'_>,
    ) -> Result<(ContentHash, u64), StoreError> {
        self.put_sized(&mut file.take(length), length, pieces)
    }

    /// The bytes that were [read](Self::put) last, unless they were too many to be held in memory.
    pub fn last(&self) -> Option<&[u8]> {
        (!self.was_large).then_some(&self.content)
    }

    /// Takes all of `reader`.
    pub fn put(&mut self, reader: &mut dyn Read) -> Result<(ContentHash, u64), StoreError> {
        self.put_sized(reader, 0, &|_| ())
    }

    fn put_sized(
        &mut self,
        reader: &mut dyn Read,
        length: u64,
        pieces: &TakePiece<'_>,
    ) -> Result<(ContentHash, u64), StoreError> {
        let mut content = std::mem::take(&mut self.content);
        content.clear();
        content.reserve(length.min(OWN_PACK_BYTES) as usize + 1);
        let read = reader.take(OWN_PACK_BYTES + 1).read_to_end(&mut content);
        self.was_large = content.len() as u64 > OWN_PACK_BYTES;
        let result = match read {
            Err(source) => Err(StoreError::Stream { action: "read the content", source }),
            Ok(_) if content.len() as u64 > OWN_PACK_BYTES => {
                self.put_large(&content, reader, pieces)
            }
            Ok(_) => self.put_bytes(&content),
        };
        self.content = content;
        result
    }

    /// Takes `bytes`.
    pub fn put_bytes(&mut self, bytes: &[u8]) -> Result<(ContentHash, u64), StoreError> {
        let hash = ContentHash::of(bytes);
        let length = bytes.len() as u64;
        if bytes.is_empty() || self.is_known(&hash) {
            return Ok((hash, length));
        }
        if self.pack.as_ref().is_some_and(|pack| pack.length + length > PACK_BYTES_MAX) {
            self.closed.extend(self.pack.take());
        }
        let pack = match &mut self.pack {
            Some(pack) => pack,
            none => none.insert(OpenPack::create(&self.contents)?),
        };
        pack.records.push(PackRecord { hash, offset: pack.length, length });
        pack.append(bytes)?;
        self.fresh.insert(hash);
        Ok((hash, length))
    }

    fn is_known(&self, hash: &ContentHash) -> bool {
        self.fresh.contains(hash) || self.contents.is_known(hash)
    }

    /// A content of `head` and all of `rest`, in a pack of its own; hashed on a thread of its own while
    /// it is written.
    fn put_large(
        &mut self,
        head: &[u8],
        rest: &mut dyn Read,
        pieces: &TakePiece<'_>,
    ) -> Result<(ContentHash, u64), StoreError> {
        let mut pack = OpenPack::create(&self.contents)?;
        let taken = std::thread::scope(|scope| {
            let (to_hash, chunks) = channel_of_large();
            let hash = scope.spawn(move || hash_chunks(&chunks));
            let taken = pack.append_all(head, rest, &|piece| {
                // Whoever hashes takes all there is.
                to_hash.send(Arc::clone(piece)).unwrap_or_default();
                pieces(piece);
            });
            drop(to_hash);
            taken.map(|()| join(hash))
        });
        let hash = match taken {
            Ok(hash) => hash,
            Err(error) => {
                pack.remove();
                return Err(error);
            }
        };
        let length = pack.length;
        if self.is_known(&hash) {
            pack.remove();
            return Ok((hash, length));
        }
        pack.records.push(PackRecord { hash, offset: 0, length });
        self.fresh.insert(hash);
        self.closed.push(pack);
        Ok((hash, length))
    }

    /// Publishes what was taken in.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.closed.extend(self.pack.take());
        for pack in std::mem::take(&mut self.closed) {
            pack.publish(&self.contents)?;
        }
        Ok(())
    }
}

fn hash_chunks(chunks: &Receiver<Chunk>) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    for chunk in chunks {
        hasher.update(&chunk);
    }
    ContentHash::from_bytes(*hasher.finalize().as_bytes())
}

impl Drop for ContentWriter {
    fn drop(&mut self) {
        self.closed.drain(..).chain(self.pack.take()).for_each(OpenPack::remove);
    }
}

impl OpenPack {
    fn create(contents: &Contents) -> Result<OpenPack, StoreError> {
        let (path, file) = contents.staging.new_large_file()?;
        Ok(OpenPack { path, file, pending: Vec::new(), length: 0, records: Vec::new() })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.length += bytes.len() as u64;
        if self.pending.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            return self.file.write_all(bytes).map_err(StoreError::io("write", &self.path));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let written = self.file.write_all(&self.pending);
        self.pending.clear();
        written.map_err(StoreError::io("write", &self.path))
    }

    fn publish(mut self, contents: &Contents) -> Result<(), StoreError> {
        self.flush()?;
        let id = pack::close(&mut self.file, self.length, &mut self.records)
            .map_err(StoreError::io("write", &self.path))?;
        publish(&self.path, &contents.pack_path(id))?;
        contents.published(id, &self.records);
        Ok(())
    }

    /// Appends `head` and all of `rest`, and gives the same on.
    fn append_all(
        &mut self,
        head: &[u8],
        rest: &mut dyn Read,
        pieces: &TakePiece<'_>,
    ) -> Result<(), StoreError> {
        let mut chunk = head.to_vec();
        while !chunk.is_empty() {
            let shared: Chunk = Arc::new(chunk.into());
            pieces(&shared);
            self.append(&shared)?;
            chunk = Vec::with_capacity(BUFFER_BYTES);
            rest.take(BUFFER_BYTES as u64).read_to_end(&mut chunk).map_err(|error| {
                // The place says how far the content was readable.
                let at = self.length + chunk.len() as u64;
                let source = io::Error::new(error.kind(), format!("{error} (after {at} bytes)"));
                StoreError::Stream { action: "read the content", source }
            })?;
        }
        Ok(())
    }

    fn remove(self) {
        // Nobody is told: the staging directory is swept as a whole.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}
