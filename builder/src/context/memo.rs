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
use std::cmp::Ordering;
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
    /// The records that were stored, as they lie there: sorted, so that they need not be taken apart.
    known: Vec<u8>,
    /// Which of them this build saw. What it did not see is not written again, so that the memo cannot
    /// grow forever.
    seen: Vec<bool>,
    /// What this build hashed.
    fresh: HashMap<Stamp, ContentHash>,
}

impl Memo {
    /// Read what an earlier build left.
    pub fn decode(mut bytes: Vec<u8>) -> Self {
        match records(&bytes).map(<[u8]>::len) {
            Some(length) => {
                bytes.truncate(MAGIC.len() + length);
                bytes.drain(..MAGIC.len());
                Self {
                    seen: vec![false; length / RECORD_BYTES],
                    known: bytes,
                    fresh: HashMap::new(),
                }
            }
            None => Self::default(),
        }
    }

    /// The hash of the file with this stamp, if it is known.
    pub fn get(&mut self, stamp: &Stamp) -> Option<ContentHash> {
        let Some(at) = self.find(stamp) else { return self.fresh.get(stamp).copied() };
        self.seen[at] = true;
        self.record(at).map(|(_, hash)| hash)
    }

    /// Remember a hash, unless the file is too young for its stamp to mean anything.
    pub fn put(&mut self, stamp: Stamp, hash: ContentHash, build_start_ns: i128) {
        if stamp.ctime_ns + RACY_NS <= build_start_ns {
            self.fresh.insert(stamp, hash);
        }
    }

    /// The bytes to store, when they differ from what was read.
    pub fn encode_if_changed(&self) -> Option<Vec<u8>> {
        let seen = self.seen.iter().filter(|seen| **seen).count();
        (!self.fresh.is_empty() || seen * 2 < self.seen.len()).then(|| self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let seen = (0..self.seen.len()).filter(|at| self.seen[*at]);
        let seen =
            seen.filter_map(|at| self.record(at)).filter(|(s, _)| !self.fresh.contains_key(s));
        let mut records: Vec<_> = seen.chain(self.fresh.iter().map(|(s, h)| (*s, *h))).collect();
        records.sort_by_key(|(stamp, _)| order(stamp));
        let mut out =
            Vec::with_capacity(MAGIC.len() + records.len() * RECORD_BYTES + CHECKSUM_BYTES);
        out.extend_from_slice(MAGIC);
        for (stamp, hash) in &records {
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

    fn record(&self, at: usize) -> Option<(Stamp, ContentHash)> {
        let mut at = Cursor(self.known.get(at * RECORD_BYTES..)?);
        let stamp = Stamp {
            device: u64::from_le_bytes(at.take()?),
            inode: u64::from_le_bytes(at.take()?),
            size: u64::from_le_bytes(at.take()?),
            mtime_ns: i128::from_le_bytes(at.take()?),
            ctime_ns: i128::from_le_bytes(at.take()?),
        };
        Some((stamp, ContentHash::from_bytes(at.take()?)))
    }

    fn find(&self, stamp: &Stamp) -> Option<usize> {
        let (mut low, mut high) = (0, self.seen.len());
        while low < high {
            let middle = low.midpoint(high);
            let (known, _) = self.record(middle)?;
            match order(&known).cmp(&order(stamp)) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return (known == *stamp).then_some(middle),
            }
        }
        None
    }
}

/// The order of records in the file.
fn order(stamp: &Stamp) -> (u64, u64, i128, i128) {
    (stamp.device, stamp.inode, stamp.mtime_ns, stamp.ctime_ns)
}

/// The records of a whole file, if it is one.
fn records(bytes: &[u8]) -> Option<&[u8]> {
    let body_len = bytes.len().checked_sub(CHECKSUM_BYTES)?;
    let (body, sum) = bytes.split_at(body_len);
    if blake3::hash(body).as_bytes() != sum {
        return None;
    }
    body.strip_prefix(MAGIC).filter(|records| records.len() % RECORD_BYTES == 0)
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
        let mut again = Memo::decode(memo.encode());
        assert_eq!(again.get(&stamp(1)), Some(hash(1)));
        assert_eq!(again.get(&stamp(2)), Some(hash(2)));
        assert_eq!(again.get(&stamp(3)), None);
        assert!(again.encode_if_changed().is_none());
    }

    #[test]
    fn only_what_was_seen_stays() {
        let mut memo = Memo::default();
        (1..=50).rev().for_each(|inode| memo.put(stamp(inode), hash(inode as u8), RACY_NS + 7));
        assert_eq!(memo.get(&stamp(3)), Some(hash(3)), "what this build hashed is known, too");
        let mut second = Memo::decode(memo.encode());
        for inode in 1..=20 {
            assert_eq!(second.get(&stamp(inode)), Some(hash(inode as u8)));
        }
        assert_eq!(second.get(&Stamp { size: 4, ..stamp(1) }), None);
        second.put(stamp(100), hash(100), RACY_NS + 7);
        second.put(stamp(1), hash(101), RACY_NS + 7);
        let mut third = Memo::decode(second.encode_if_changed().unwrap());
        assert_eq!(third.seen.len(), 21);
        assert_eq!(third.get(&stamp(20)), Some(hash(20)));
        assert_eq!(third.get(&stamp(21)), None);
        assert_eq!(
            (third.get(&stamp(100)), third.get(&stamp(1))),
            (Some(hash(100)), Some(hash(101)))
        );
        assert!(third.encode_if_changed().is_some(), "most of it is not needed any more");
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
            assert_eq!(Memo::decode(bytes).get(&stamp(1)), None);
            assert_eq!(Memo::decode(whole[..at].to_vec()).get(&stamp(1)), None);
        }
    }
}
