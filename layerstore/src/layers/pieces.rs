//! What the pieces of layers' tars were compressed to: the next version of a layer takes over what is
//! the same in it, and compresses only the rest.
//!
//! ```text
//! layers/<short>/<form>[.<epoch>].pieces =
//!     "LAPPIEC" version:u8, sha256 of the blob:32,
//!     (BLAKE3 of the piece:32 length:u32 CRC-32:u32)* of the blob's pieces in order, BLAKE3 of all:32
//! ```
//! Numbers are little-endian; length and CRC are of the compressed piece. *Invariant:* what a piece
//! becomes depends on its bytes and the form alone, so what is taken over is what compressing it again
//! would give. A record that is damaged, or whose blob is gone or damaged, is as good as none.

use std::{
    collections::HashMap,
    fs::{self, File},
    hash::BuildHasherDefault,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use super::Layers;
use crate::{
    ContentHash, Digest, StoreError,
    atomic::read_bounded,
    compress,
    contents::PrefixHasher,
    limits::{PIECE_BYTES_MAX, PIECES_BYTES_MAX},
};

const MAGIC: &[u8; 8] = b"LAPPIEC\x01";
const HASH_BYTES: usize = 32;
const RECORD_BYTES: usize = HASH_BYTES + 4 + 4;
/// The end of the names of these files.
const EXTENSION: &str = "pieces";
/// Smaller layers are compressed before their pieces are found.
const WORTH_BYTES: u64 = 2 << 20;
/// Most blobs that pieces are taken from: the newest.
const BLOBS_MAX: usize = 64;

/// Pieces that were compressed before, and those of the blob in the making.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    blobs: Vec<File>,
    known: HashMap<ContentHash, Place, BuildHasherDefault<PrefixHasher>>,
    /// The records of the blob in the making.
    noted: Mutex<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    blob: usize,
    offset: u64,
    length: u32,
    crc: u32,
}

impl Layers {
    /// The pieces of this form that the store has, if they are worth asking for a layer of `bytes`.
    ///
    /// Nothing here is an error: a piece that is not found is compressed.
    pub(super) fn pieces(&self, form: &str, bytes: u64) -> Option<Pieces> {
        if bytes < WORTH_BYTES {
            return None;
        }
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for short in self.list().unwrap_or_default() {
            let Ok(entries) = fs::read_dir(self.directory.join(short.as_str())) else { continue };
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            files.extend(paths.filter(|path| is_of(path, form)).filter_map(|path| {
                let modified = fs::metadata(&path).and_then(|meta| meta.modified()).ok()?;
                Some((modified, path))
            }));
        }
        files.sort_by(|a, b| b.cmp(a));
        let mut pieces = Pieces::default();
        let mut left = PIECES_BYTES_MAX;
        for (_, path) in files.into_iter().take(BLOBS_MAX) {
            let Ok(Some(record)) = read_bounded(&path, left) else { continue };
            left -= record.len() as u64;
            if let Some(digest) = blob_of(&record)
                && let Ok(blob) = self.blobs.open_blob(&digest)
            {
                pieces.add(blob, &record);
            }
        }
        Some(pieces)
    }

    /// Keeps what the pieces of a blob were, beside the record `of` the form.
    pub(super) fn keep_pieces(
        &self,
        of: &Path,
        pieces: Pieces,
        blob: &Digest,
    ) -> Result<(), StoreError> {
        let noted = pieces.noted.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut record = [MAGIC, blob.as_bytes().as_slice(), &noted].concat();
        record.extend_from_slice(blake3::hash(&record).as_bytes());
        self.staging.write(&of.with_extension(EXTENSION), &record)
    }
}

/// Is this a record of pieces that is whole?
pub(crate) fn is_sound(record: &[u8]) -> bool {
    blob_of(record).is_some()
}

/// Is this the name of a record of pieces?
pub(crate) fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION)
}

fn is_of(path: &Path, form: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let rest = name.strip_prefix(form).and_then(|rest| rest.strip_suffix(EXTENSION));
    rest.is_some_and(|epoch| epoch.starts_with('.') && epoch.ends_with('.'))
}

/// The blob whose pieces a record tells, if it is whole.
fn blob_of(record: &[u8]) -> Option<Digest> {
    let body = record.len().checked_sub(HASH_BYTES)?;
    let (body, sum) = record.split_at(body);
    let (blob, records) = body.strip_prefix(MAGIC)?.split_first_chunk::<HASH_BYTES>()?;
    let is_whole = records.len() % RECORD_BYTES == 0 && blake3::hash(body).as_bytes() == sum;
    is_whole.then(|| Digest::from_bytes(*blob))
}

impl Pieces {
    /// Adds the pieces of a blob, whose record is whole.
    fn add(&mut self, blob: File, record: &[u8]) {
        let records = &record[MAGIC.len() + HASH_BYTES..record.len() - HASH_BYTES];
        let number =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte));
        let mut offset = 0;
        for record in records.chunks_exact(RECORD_BYTES) {
            let (hash, rest) = record.split_at(HASH_BYTES);
            let mut plain = [0; HASH_BYTES];
            plain.copy_from_slice(hash);
            let (length, crc) = (number(&rest[..4]), number(&rest[4..]));
            let place = Place { blob: self.blobs.len(), offset, length, crc };
            offset += u64::from(length);
            self.known.entry(ContentHash::from_bytes(plain)).or_insert(place);
        }
        self.blobs.push(blob);
    }
}

impl compress::Pieces for Pieces {
    fn recall(&self, plain: &ContentHash) -> Option<Vec<u8>> {
        let place = self.known.get(plain).filter(|place| place.length <= PIECE_BYTES_MAX)?;
        let mut bytes = vec![0; place.length as usize];
        self.blobs[place.blob].read_exact_at(&mut bytes, place.offset).ok()?;
        (compress::crc32(&bytes) == place.crc).then_some(bytes)
    }

    fn note(&self, plain: ContentHash, compressed: &[u8]) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend_from_slice(plain.as_bytes());
        noted.extend_from_slice(&(compressed.len() as u32).to_le_bytes());
        noted.extend_from_slice(&compress::crc32(compressed).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compress::{Codec, Compression},
        layers::tests::{Fixture, fixture, new_fixture},
        toc::Entry,
    };

    /// Six megabytes in files, of which one has this content.
    fn version(fixture: &Fixture, changed: &[u8]) -> Vec<Entry> {
        let text = |number: u32| -> Vec<u8> {
            let words = (0..20_000u32).map(|at| at.wrapping_mul(at ^ number) >> 7);
            words.flat_map(|word| format!("{word} ").into_bytes()).collect()
        };
        let mut files: Vec<Entry> =
            (0..40).map(|number| fixture.file(&format!("f{number:02}"), &text(number))).collect();
        files.push(fixture.file("f10-changed", changed));
        files
    }

    fn records(fixture: &Fixture) -> Vec<PathBuf> {
        let layers = fixture.layers.list().unwrap();
        let directories = layers.iter().map(|short| fixture.layers.directory.join(short.as_str()));
        directories
            .flat_map(|path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()))
            .filter(|path| is_record(path))
            .collect()
    }

    fn compressed(fixture: &Fixture, codec: Codec, changed: &[u8]) -> (Digest, u64) {
        let layer = fixture.layers.create(version(fixture, changed)).unwrap();
        let made = fixture.layers.compressed(&layer, &Compression::new(codec), None).unwrap();
        (made.digest, made.size)
    }

    #[test]
    fn what_is_taken_over_is_what_would_be_made() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let fixture = fixture();
            compressed(&fixture, codec, b"one");
            let form = Compression::new(codec).format_name();
            let before = fixture.layers.pieces(&form, WORTH_BYTES).unwrap();
            // Another size, so that what follows stands elsewhere in the tar.
            for changed in [b"two".to_vec(), vec![b'x'; 3000]] {
                let warm = compressed(&fixture, codec, &changed);
                assert_eq!(warm, compressed(&new_fixture(), codec, &changed), "{codec:?}");
            }
            assert_eq!(records(&fixture).len(), 3);
            let all = fixture.layers.pieces(&form, WORTH_BYTES).unwrap();
            let (old, new) = (before.known.len(), all.known.len() - before.known.len());
            assert!(new < old, "{codec:?}: {new} new pieces, and {old} before");
            assert!(fixture.layers.pieces("gzip-9-v3", WORTH_BYTES).unwrap().known.is_empty());
            assert!(fixture.layers.pieces(&form, WORTH_BYTES - 1).is_none());
        }
    }

    /// The format at rest: this changes only with its version.
    #[test]
    fn golden_pieces() {
        let fixture = fixture();
        compressed(&fixture, Codec::Gzip, b"one");
        let record = fs::read(&records(&fixture)[0]).unwrap();
        let (count, hash) = ((record.len() - 72) / RECORD_BYTES, ContentHash::of(&record));
        insta::assert_snapshot!(format!("{count} pieces, {hash}"));
    }

    #[test]
    fn damaged_pieces_are_made_again() {
        let expected = compressed(&new_fixture(), Codec::Gzip, b"two");
        let fixture = fixture();
        let (old, size) = compressed(&fixture, Codec::Gzip, b"one");
        let blob = fixture.layers.blobs().path(&old);
        let mut bytes = fs::read(&blob).unwrap();
        (0..size as usize).step_by(1000).for_each(|at| bytes[at] ^= 1);
        fs::write(&blob, &bytes).unwrap();
        assert_eq!(compressed(&fixture, Codec::Gzip, b"two"), expected);
        for record in records(&fixture) {
            let whole = fs::read(&record).unwrap();
            assert!(is_sound(&whole));
            for at in (0..whole.len()).step_by(7) {
                let mut damaged = whole.clone();
                damaged[at] ^= 1;
                assert!(!is_sound(&damaged) && !is_sound(&whole[..at]), "{at}");
            }
            fs::write(&record, &whole[..whole.len() / 2]).unwrap();
        }
        let form = Compression::new(Codec::Gzip).format_name();
        assert!(fixture.layers.pieces(&form, WORTH_BYTES).unwrap().known.is_empty());
    }
}
