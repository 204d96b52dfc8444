//! The file format of a pack; drawn in the parent module.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use crate::{ContentHash, StoreError, atomic::open_stored};

/// The version of the pack format.
pub const PACK_VERSION: u8 = 1;
const MAGIC: &[u8; 7] = b"LAPPACK";
const RECORD_BYTES: usize = 48;
/// Bytes moved at once from pack to pack.
const COPY_BYTES: usize = 1 << 18;
const FOOTER_BYTES: usize = 8 + 8 + 32 + 8;

/// The name of a pack: sixteen hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(u64);

impl PackId {
    /// The id that follows from the pack's index: the same contents have the same pack.
    pub(super) fn of_index(index: &[u8]) -> PackId {
        let hash = blake3::hash(index);
        let prefix = hash.as_bytes().first_chunk::<8>().expect("because a hash has 32 bytes");
        PackId(u64::from_be_bytes(*prefix))
    }

    pub(super) fn file_name(self) -> String {
        format!("{self}.pack")
    }

    pub(super) fn of_file_name(name: &OsStr) -> Option<PackId> {
        let hex = name.to_str()?.strip_suffix(".pack").filter(|hex| hex.len() == 16)?;
        u64::from_str_radix(hex, 16).ok().map(PackId)
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One content of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackRecord {
    /// Its name.
    pub hash: ContentHash,
    /// Where it starts.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

/// Writes index and footer behind `data_length` bytes of data; sorts `records`.
pub(super) fn close(
    out: &mut impl Write,
    data_length: u64,
    records: &mut [PackRecord],
) -> io::Result<PackId> {
    records.sort();
    let mut index = Vec::with_capacity(records.len() * RECORD_BYTES + FOOTER_BYTES);
    for record in records.iter() {
        index.extend_from_slice(record.hash.as_bytes());
        index.extend_from_slice(&record.offset.to_le_bytes());
        index.extend_from_slice(&record.length.to_le_bytes());
    }
    let id = PackId::of_index(&index);
    let checksum = blake3::hash(&index);
    index.extend_from_slice(&(records.len() as u64).to_le_bytes());
    index.extend_from_slice(&data_length.to_le_bytes());
    index.extend_from_slice(checksum.as_bytes());
    index.extend_from_slice(MAGIC);
    index.push(PACK_VERSION);
    out.write_all(&index)?;
    Ok(id)
}

fn number(bytes: &[u8]) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(raw)
}

pub(super) fn read_index(path: &Path) -> Result<Vec<PackRecord>, StoreError> {
    let file = open_stored(path)?;
    records_of(&file, path)
}

fn records_of(file: &File, path: &Path) -> Result<Vec<PackRecord>, StoreError> {
    let damaged = |what: &str| StoreError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let size = file.metadata().map_err(StoreError::io("stat", path))?.len();
    let footer_at =
        size.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| damaged("it is too short"))?;
    let mut footer = [0; FOOTER_BYTES];
    file.read_exact_at(&mut footer, footer_at).map_err(StoreError::io("read", path))?;
    if &footer[48..55] != MAGIC {
        return Err(damaged("it does not end like a pack"));
    }
    if footer[55] != PACK_VERSION {
        return Err(damaged("it has another format version"));
    }
    let (count, data_length) = (number(&footer), number(&footer[8..]));
    let index_bytes = count.checked_mul(RECORD_BYTES as u64);
    let index_bytes = index_bytes
        .filter(|bytes| data_length.checked_add(*bytes) == Some(footer_at))
        .ok_or_else(|| damaged("its numbers do not add up"))?;
    let mut index = vec![0; index_bytes as usize];
    file.read_exact_at(&mut index, data_length).map_err(StoreError::io("read", path))?;
    if blake3::hash(&index).as_bytes() != &footer[16..48] {
        return Err(damaged("its index does not fit its checksum"));
    }
    let record = |bytes: &[u8]| {
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[..32]);
        let hash = ContentHash::from_bytes(hash);
        PackRecord { hash, offset: number(&bytes[32..]), length: number(&bytes[40..]) }
    };
    let records: Vec<PackRecord> = index.chunks_exact(RECORD_BYTES).map(record).collect();
    let inside = |record: &PackRecord| {
        record.offset.checked_add(record.length).is_some_and(|end| end <= data_length)
    };
    if records.iter().all(inside) {
        Ok(records)
    } else {
        Err(damaged("a content is outside of it"))
    }
}

/// Writes a pack with these contents of another one, in the order in which they lie there.
pub(super) fn copy(
    from: &Path,
    mut records: Vec<PackRecord>,
    to: &Path,
    file: File,
) -> Result<PackId, StoreError> {
    let source = File::open(from).map_err(StoreError::io("open", from))?;
    records.sort_by_key(|record| record.offset);
    let mut out = BufWriter::with_capacity(COPY_BYTES, file);
    let mut buffer = vec![0; COPY_BYTES];
    let mut length = 0;
    for record in &mut records {
        let (mut at, end) = (record.offset, record.offset + record.length);
        while at < end {
            let want = (end - at).min(buffer.len() as u64) as usize;
            source.read_exact_at(&mut buffer[..want], at).map_err(StoreError::io("read", from))?;
            out.write_all(&buffer[..want]).map_err(StoreError::io("write", to))?;
            at += want as u64;
        }
        record.offset = length;
        length += record.length;
    }
    let id = close(&mut out, length, &mut records).map_err(StoreError::io("write", to))?;
    out.flush().map_err(StoreError::io("write", to))?;
    Ok(id)
}

pub(super) fn verify(path: &Path) -> Result<Vec<ContentHash>, StoreError> {
    let file = open_stored(path)?;
    let mut records = records_of(&file, path)?;
    records.sort_by_key(|record| record.offset);
    let mut damaged = Vec::new();
    let mut buffer = vec![0; 1 << 18];
    for record in records {
        let mut hasher = blake3::Hasher::new();
        let (mut at, end) = (record.offset, record.offset + record.length);
        while at < end {
            let want = (end - at).min(buffer.len() as u64) as usize;
            file.read_exact_at(&mut buffer[..want], at).map_err(StoreError::io("read", path))?;
            hasher.update(&buffer[..want]);
            at += want as u64;
        }
        if hasher.finalize().as_bytes() != record.hash.as_bytes() {
            damaged.push(record.hash);
        }
    }
    Ok(damaged)
}
