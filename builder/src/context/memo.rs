//! What the files of a context hashed to, so that an unchanged file is not read again.
//!
//! A file is known by device, inode, size, modification and change time. It is not remembered when its
//! change time is so near to the time of hashing that a later write could leave all of these as they are
//! ("racy timestamps").
//!
//! ```text
//! magic "LAPMEMO1" │ record* │ blake3 of all before (32 bytes)
//! record: device u64 │ inode u64 │ size u64 │ mtime_ns i128 │ ctime_ns i128 │ content hash (32)     little endian
//! ```
//! A damaged or foreign file is as good as none.

use crate::tree::Stamp;
use lapstrake_layerstore::digest::ContentHash;
use std::collections::HashMap;

const MAGIC: &[u8; 8] = b"LAPMEMO1";
const RECORD_BYTES: usize = 8 * 3 + 16 * 2 + 32;
const CHECKSUM_BYTES: usize = 32;

/// A file whose change time is nearer than this to the start of the build is not remembered: two seconds,
/// the coarsest time stamps of file systems in use (FAT).
const RACY_NS: i128 = 2_000_000_000;

/// Hashes by file identity.
#[derive(Debug, Default)]
pub struct Memo {
    known: HashMap<Stamp, ContentHash>,
    /// What this build saw or hashed: only that is written again, so that the memo cannot grow forever.
    seen: HashMap<Stamp, ContentHash>,
    changed: bool,
}

impl Memo {
    /// Read what an earlier build left.
    pub fn decode(bytes: &[u8]) -> Self {
        Self { known: decode(bytes).unwrap_or_default(), ..Self::default() }
    }

    /// The hash of the file with this stamp, if it is known.
    pub fn get(&mut self, stamp: &Stamp) -> Option<ContentHash> {
        let hash = *self.known.get(stamp)?;
        self.seen.insert(*stamp, hash);
        Some(hash)
    }

    /// Remember a hash, unless the file is too young for its stamp to mean anything.
    pub fn put(&mut self, stamp: Stamp, hash: ContentHash, build_start_ns: i128) {
        if stamp.ctime_ns + RACY_NS <= build_start_ns {
            self.seen.insert(stamp, hash);
            self.changed = true;
        }
    }

    /// The bytes to store, when they differ from what was read.
    pub fn encode_if_changed(&self) -> Option<Vec<u8>> {
        (self.changed || self.seen.len() * 2 < self.known.len()).then(|| self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut records: Vec<_> = self.seen.iter().collect();
        records.sort_by_key(|(s, _)| (s.device, s.inode, s.mtime_ns, s.ctime_ns));
        let mut out =
            Vec::with_capacity(MAGIC.len() + records.len() * RECORD_BYTES + CHECKSUM_BYTES);
        out.extend_from_slice(MAGIC);
        for (stamp, hash) in records {
            out.extend_from_slice(&stamp.device.to_le_bytes());
            out.extend_from_slice(&stamp.inode.to_le_bytes());
            out.extend_from_slice(&stamp.size.to_le_bytes());
            out.extend_from_slice(&stamp.mtime_ns.to_le_bytes());
            out.extend_from_slice(&stamp.ctime_ns.to_le_bytes());
            out.extend_from_slice(hash.as_bytes());
        }
        let sum = blake3::hash(&out);
        out.extend_from_slice(sum.as_bytes());
        out
    }
}

fn decode(bytes: &[u8]) -> Option<HashMap<Stamp, ContentHash>> {
    let body_len = bytes.len().checked_sub(CHECKSUM_BYTES)?;
    let (body, sum) = bytes.split_at(body_len);
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    let records = body.strip_prefix(MAGIC)?;
    records
        .chunks(RECORD_BYTES)
        .map(|record| {
            let mut at = Cursor(record);
            let stamp = Stamp {
                device: u64::from_le_bytes(at.take()?),
                inode: u64::from_le_bytes(at.take()?),
                size: u64::from_le_bytes(at.take()?),
                mtime_ns: i128::from_le_bytes(at.take()?),
                ctime_ns: i128::from_le_bytes(at.take()?),
            };
            Some((stamp, ContentHash::from_bytes(at.take()?)))
        })
        .collect()
}

/// Takes fixed pieces from the front of a record.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64) -> Stamp {
        Stamp { device: 1, inode, size: 3, mtime_ns: 5, ctime_ns: 7 }
    }

    fn hash(n: u8) -> ContentHash {
        ContentHash::from_bytes([n; 32])
    }

    #[test]
    fn what_was_put_is_read_back() {
        let mut memo = Memo::default();
        memo.put(stamp(1), hash(1), RACY_NS + 7);
        memo.put(stamp(2), hash(2), RACY_NS + 7);
        let mut again = Memo::decode(&memo.encode());
        assert_eq!(again.get(&stamp(1)), Some(hash(1)));
        assert_eq!(again.get(&stamp(2)), Some(hash(2)));
        assert_eq!(again.get(&stamp(3)), None);
        assert!(again.encode_if_changed().is_none());
    }

    #[test]
    fn a_young_file_is_not_remembered() {
        let mut memo = Memo::default();
        memo.put(stamp(1), hash(1), RACY_NS + 6);
        assert!(memo.encode_if_changed().is_none());
    }

    #[test]
    fn a_damaged_memo_is_as_good_as_none() {
        let mut memo = Memo::default();
        memo.put(stamp(1), hash(1), RACY_NS + 7);
        let whole = memo.encode();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert_eq!(Memo::decode(&bytes).get(&stamp(1)), None);
            assert_eq!(Memo::decode(&whole[..at]).get(&stamp(1)), None);
        }
    }
}
