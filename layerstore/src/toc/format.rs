//! The bytes of a table of contents, and the hashes made of it.
//!
//! ```text
//! file  = "LAPTOC" version:u8 0x0a, count:varint, entry*, checksum
//! entry = shared:varint (bytes in common with the path before), rest:bytes,
//!         kind:u8, flags:u8, mode:varint, uid:varint, gid:varint, mtime:zigzag, size:varint,
//!         [nanos:varint] [content: 32 bytes] [link:bytes] [major:varint minor:varint]
//!         [count:varint (name:bytes value:bytes)*] [tar offset:varint]
//! bytes = length:varint, that many bytes          varint = LEB128, 7 bits a byte, low bits first
//! checksum = BLAKE3 of everything before it (32 bytes)
//! flags: 1 content  2 link  4 device  8 xattrs  16 tar offset  32 nanos
//! ```
//!
//! The hashes take the same entry bytes behind a domain word, without what is not identity: a
//! layer's id leaves out nanoseconds and tar offsets, a content id leaves out the times too.

use std::{cmp::Ordering, io::Write as _, num::NonZeroU64, ops::Range, sync::Arc};

use super::{Entry, Kind, Rare, TOC_VERSION, TocError, Xattrs};
use crate::{
    digest::ContentHash,
    limits::{LAYER_ENTRIES_MAX, PATH_BYTES_MAX, XATTR_VALUE_MAX, XATTRS_MAX},
    path::LayerPath,
};

const MAGIC: &[u8; 6] = b"LAPTOC";
const HEADER_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 32;
/// Paths are kept in pieces of this size: an allocation for each thousand of them, and a path that
/// outlives its table keeps no more than its piece.
const PATHS_PIECE_BYTES: usize = 64 << 10;
/// Of a table of this size on, the checksum is worked out beside the entries: handing over costs
/// as much as the checksum of some 64 KiB.
const TWO_THREADS_BYTES_MIN: usize = 256 << 10;
const CONTENT: u8 = 1;
const LINK: u8 = 2;
const DEVICE: u8 = 4;
const XATTRS: u8 = 8;
const OFFSET: u8 = 16;
const NANOS: u8 = 32;

/// Which fields of the entries are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Select {
    /// All: the file.
    Everything,
    /// What makes a layer the same layer.
    Layer,
    /// What makes two layers have the same contents, whenever they were made.
    Content,
}

pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + entries.len() * 72 + CHECKSUM_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[TOC_VERSION, b'\n']);
    put_varint(&mut out, entries.len() as u64);
    let mut previous: &[u8] = &[];
    for entry in entries {
        put_entry(&mut out, entry, previous, Select::Everything);
        previous = entry.path.as_bytes();
    }
    let checksum = blake3::hash(&out);
    out.extend_from_slice(checksum.as_bytes());
    out
}

pub(super) fn hash(entries: &[Entry], select: Select) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(match select {
        Select::Content => b"lapstrake content 1\0",
        Select::Layer | Select::Everything => b"lapstrake layer 1\0\0\0",
    });
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut previous: &[u8] = &[];
    for entry in entries {
        put_entry(&mut buffer, entry, previous, select);
        previous = entry.path.as_bytes();
        if buffer.len() > (1 << 16) - 1024 {
            hasher.update(&buffer);
            buffer.clear();
        }
    }
    hasher.update(&buffer);
    *hasher.finalize().as_bytes()
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, previous: &[u8], select: Select) {
    let path = entry.path.as_bytes();
    let shared = path.iter().zip(previous).take_while(|(a, b)| a == b).count();
    let everything = select == Select::Everything;
    let offset = entry.tar_offset.filter(|_| everything).map(NonZeroU64::get);
    let nanos = if everything { entry.mtime_nanos } else { 0 };
    let mtime = if select == Select::Content { 0 } else { entry.mtime };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    put_varint(out, shared as u64);
    put_bytes(out, &path[shared..]);
    out.push(entry.kind as u8);
    out.push(
        flag(entry.content.is_some(), CONTENT)
            | flag(!entry.link.is_empty(), LINK)
            | flag(entry.device != (0, 0), DEVICE)
            | flag(!entry.xattrs.is_empty(), XATTRS)
            | flag(offset.is_some(), OFFSET)
            | flag(nanos != 0, NANOS),
    );
    put_varint(out, u64::from(entry.mode));
    put_varint(out, u64::from(entry.uid));
    put_varint(out, u64::from(entry.gid));
    put_varint(out, ((mtime << 1) ^ (mtime >> 63)).cast_unsigned());
    put_varint(out, entry.size);
    if nanos != 0 {
        put_varint(out, u64::from(nanos));
    }
    if let Some(content) = &entry.content {
        out.extend_from_slice(content.as_bytes());
    }
    if !entry.link.is_empty() {
        put_bytes(out, &entry.link);
    }
    if entry.device != (0, 0) {
        put_varint(out, u64::from(entry.device.0));
        put_varint(out, u64::from(entry.device.1));
    }
    if !entry.xattrs.is_empty() {
        put_varint(out, entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            put_bytes(out, name);
            put_bytes(out, value);
        }
    }
    if let Some(offset) = offset {
        put_varint(out, offset);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.write_all(bytes).expect("because writing to a vector cannot go wrong");
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Entry>, TocError> {
    let damaged = |what| TocError::Damaged { what };
    if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES || &bytes[..6] != MAGIC || bytes[7] != b'\n' {
        return Err(damaged("it does not begin like one"));
    }
    if bytes[6] != TOC_VERSION {
        return Err(TocError::Version { found: bytes[6] });
    }
    let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
    let is_whole = || blake3::hash(body).as_bytes() == checksum;
    let read = || decode_entries(Cursor { rest: &body[HEADER_BYTES..] });
    let (is_whole, entries) = if body.len() < TWO_THREADS_BYTES_MIN {
        (is_whole(), read())
    } else {
        rayon::join(is_whole, read)
    };
    if is_whole { entries } else { Err(damaged("its checksum does not fit")) }
}

fn decode_entries(mut cursor: Cursor<'_>) -> Result<Vec<Entry>, TocError> {
    let damaged = |what| TocError::Damaged { what };
    let count = cursor.length(LAYER_ENTRIES_MAX)?;
    // An entry is at least nine bytes, so a lying count cannot reserve much.
    let mut entries = Vec::with_capacity(count.min(cursor.rest.len() / 9 + 1));
    let mut paths = Paths::default();
    let mut was_opaque = false;
    for _ in 0..count {
        let order = paths.next(&mut cursor, &mut entries)?;
        let entry = cursor.entry()?;
        entry.check_place(paths.last())?;
        if !entry.is_normal() {
            return Err(damaged("an entry has what its kind cannot have"));
        }
        let is_opaque = entry.kind == Kind::Opaque;
        let is_after = order.then_with(|| is_opaque.cmp(&was_opaque)) == Ordering::Greater;
        if !is_after && !entries.is_empty() {
            return Err(damaged("its entries are not sorted"));
        }
        was_opaque = is_opaque;
        entries.push(entry);
    }
    paths.seal(&mut entries);
    if !cursor.rest.is_empty() {
        return Err(damaged("bytes follow the last entry"));
    }
    Ok(entries)
}

/// The paths of the entries that were read last, put together in one piece of memory; the entries
/// get theirs when the piece is full.
#[derive(Default)]
struct Paths {
    piece: Vec<u8>,
    /// Where they lie in the piece.
    places: Vec<Range<usize>>,
    /// Where the last one does.
    last: Range<usize>,
    /// Where the last one's last name begins in it.
    name: usize,
}

impl Paths {
    fn last(&self) -> &[u8] {
        &self.piece[self.last.clone()]
    }

    /// Reads the path of the next entry and compares it with the one before.
    #[inline]
    fn next(
        &mut self,
        cursor: &mut Cursor<'_>,
        entries: &mut [Entry],
    ) -> Result<Ordering, TocError> {
        let shared = cursor.length(self.last.len())?;
        let rest = cursor.bytes(PATH_BYTES_MAX)?;
        if self.piece.len() + shared + rest.len() > PATHS_PIECE_BYTES {
            self.seal(entries);
        }
        if shared < self.name {
            let slash = self.last()[..shared].iter().rposition(|byte| *byte == b'/');
            self.name = slash.map_or(0, |slash| slash + 1);
        }
        let (start, common) = (self.piece.len(), self.last.start..self.last.start + shared);
        // What both begin with needs no look; mostly the first byte behind it says all.
        let before = &self.piece[common.end..self.last.end];
        let order = match rest.first().cmp(&before.first()) {
            Ordering::Equal => rest.cmp(before),
            order => order,
        };
        self.piece.extend_from_within(common);
        self.piece.extend_from_slice(rest);
        self.name = LayerPath::name_of_clean(&self.piece[start..], self.name, shared)
            .ok_or(TocError::Damaged { what: "a path is not a clean one" })?;
        self.last = start..self.piece.len();
        self.places.push(self.last.clone());
        Ok(order)
    }

    /// Gives the last of `entries` their paths; the next piece begins with the last one, which the
    /// next path may begin like.
    fn seal(&mut self, entries: &mut [Entry]) {
        let shared: Arc<[u8]> = self.piece.as_slice().into();
        let first = entries.len() - self.places.len();
        for (entry, place) in entries[first..].iter_mut().zip(self.places.drain(..)) {
            entry.path = LayerPath::of_shared(&shared, place.start, place.len());
        }
        self.piece.copy_within(self.last.clone(), 0);
        self.piece.truncate(self.last.len());
        self.last = 0..self.last.len();
    }
}

const CUT: TocError = TocError::Damaged { what: "it ends within an entry" };

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], TocError> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(CUT)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, TocError> {
        let (byte, rest) = self.rest.split_first().ok_or(CUT)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// Most numbers are one byte.
    #[inline]
    fn varint(&mut self) -> Result<u64, TocError> {
        match self.rest {
            [byte @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.eight_bytes().map_or_else(|| self.long_varint(), Ok),
        }
    }

    /// A number of at most eight bytes, where so many can be looked at together.
    #[inline]
    fn eight_bytes(&mut self) -> Option<u64> {
        let word = u64::from_le_bytes(*self.rest.first_chunk()?);
        // The first byte whose high bit is not set is the last.
        let end = !word & 0x8080_8080_8080_8080;
        let length = (end != 0).then(|| end.trailing_zeros() as usize / 8 + 1)?;
        let bits = word & (end ^ (end - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
        // Each step puts two neighbours together: groups of 14 bits, of 28, of 56.
        let bits = bits & 0x007f_007f_007f_007f | (bits & 0x7f00_7f00_7f00_7f00) >> 1;
        let bits = bits & 0x0000_3fff_0000_3fff | (bits & 0x3fff_0000_3fff_0000) >> 2;
        let bits = bits & 0x0fff_ffff | (bits & 0x0fff_ffff_0000_0000) >> 4;
        self.rest = &self.rest[length..];
        Some(bits)
    }

    fn long_varint(&mut self) -> Result<u64, TocError> {
        let mut value = 0u64;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        if self.rest.len() < 10 {
            return Err(CUT);
        }
        Err(TocError::Damaged { what: "a number has too many bytes" })
    }

    #[inline]
    fn small(&mut self) -> Result<u32, TocError> {
        u32::try_from(self.varint()?)
            .map_err(|_| TocError::Damaged { what: "a number is too large" })
    }

    #[inline]
    fn length(&mut self, limit: usize) -> Result<usize, TocError> {
        let value = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if value > limit {
            return Err(TocError::Damaged { what: "a length is over its limit" });
        }
        Ok(value)
    }

    #[inline]
    fn bytes(&mut self, limit: usize) -> Result<&'a [u8], TocError> {
        let length = self.length(limit)?;
        self.take(length)
    }

    /// An entry behind its path.
    #[inline]
    fn entry(&mut self) -> Result<Entry, TocError> {
        let kind = self.kind()?;
        let flags = self.byte()?;
        if flags & !(CONTENT | LINK | DEVICE | XATTRS | OFFSET | NANOS) != 0 {
            return Err(TocError::Damaged { what: "an entry has an unknown flag" });
        }
        let has = |flag| flags & flag != 0;
        let (mode, uid, gid) = (self.small()?, self.small()?, self.small()?);
        let zigzag = self.varint()?;
        // In the order in which they stand.
        Ok(Entry {
            path: LayerPath::root(),
            kind,
            mode,
            uid,
            gid,
            mtime: (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed(),
            size: self.varint()?,
            mtime_nanos: if has(NANOS) { self.small()? } else { 0 },
            content: if has(CONTENT) { Some(self.content()?) } else { None },
            link: if has(LINK) { self.bytes(PATH_BYTES_MAX)?.into() } else { Rare::new() },
            device: if has(DEVICE) { (self.small()?, self.small()?) } else { (0, 0) },
            xattrs: if has(XATTRS) { self.xattrs()? } else { Rare::new() },
            tar_offset: if has(OFFSET) { Some(self.offset()?) } else { None },
        })
    }

    fn offset(&mut self) -> Result<NonZeroU64, TocError> {
        const WHAT: &str = "data begins before the first header";
        NonZeroU64::new(self.varint()?).ok_or(TocError::Damaged { what: WHAT })
    }

    #[inline]
    fn content(&mut self) -> Result<ContentHash, TocError> {
        let (hash, rest) = self.rest.split_first_chunk::<32>().ok_or(CUT)?;
        self.rest = rest;
        Ok(ContentHash::from_bytes(*hash))
    }

    #[inline]
    fn kind(&mut self) -> Result<Kind, TocError> {
        Ok(match self.byte()? {
            0 => Kind::Dir,
            1 => Kind::File,
            2 => Kind::Symlink,
            3 => Kind::Hardlink,
            4 => Kind::CharDevice,
            5 => Kind::BlockDevice,
            6 => Kind::Fifo,
            7 => Kind::Whiteout,
            8 => Kind::Opaque,
            _ => return Err(TocError::Damaged { what: "an entry is of no known kind" }),
        })
    }

    fn xattrs(&mut self) -> Result<Xattrs, TocError> {
        let count = self.length(XATTRS_MAX)?;
        (0..count)
            .map(|_| {
                Ok((self.bytes(XATTR_VALUE_MAX)?.to_vec(), self.bytes(XATTR_VALUE_MAX)?.to_vec()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One bit of ten after another, as the format has it.
    fn plain(bytes: &[u8]) -> Option<(u64, usize)> {
        let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
        let add = |sum, (at, byte): (usize, &u8)| sum | u64::from(byte & 0x7f) << (7 * at);
        Some((bytes[..length].iter().enumerate().fold(0, add), length))
    }

    fn same(bytes: &[u8]) {
        let mut cursor = Cursor { rest: bytes };
        let read = cursor.varint().ok();
        let read = read.map(|number| (number, bytes.len() - cursor.rest.len()));
        assert_eq!(read, plain(bytes), "{bytes:?}");
    }

    #[test]
    fn numbers_of_any_length_come_back() {
        for shift in 0..64 {
            for number in [1 << shift, u64::MAX >> shift, 0x5555_5555_5555_5555 >> shift] {
                let mut bytes = Vec::new();
                put_varint(&mut bytes, number);
                assert_eq!(Cursor { rest: &bytes }.varint(), Ok(number));
                same(&bytes);
                (1..10).for_each(|more| same(&[&bytes[..], &[0xff; 9][..more - 1]].concat()));
            }
        }
        (0..13).for_each(|length| same(&[0xff; 13][..length]));
    }

    proptest! {
        #[test]
        fn numbers_are_read_together_as_one_by_one(
            bytes in proptest::collection::vec(any::<u8>(), 0..13),
            high in any::<u16>(),
        ) {
            let with = |(at, byte): (usize, u8)| byte | u8::from(high >> at & 1 == 1) << 7;
            same(&bytes.into_iter().enumerate().map(with).collect::<Vec<u8>>());
        }
    }
}
