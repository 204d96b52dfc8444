//! Reading a tar stream, member by member, as the reference (Go's archive/tar) understands it.
//!
//! Only `tar`'s ideas of the format are shared with the `tar` crate: its reader takes PAX headers of
//! any size into memory, and reads PAX sparse files wrong without a word.
//!
//! *Invariants:* memory is bounded by [`ReadLimits`], whatever the stream says; a member's data is
//! what the file had, holes filled with zeros; a stream that ends within a member is an error, one
//! that ends between members is not (many archives lack the end blocks).

mod pieces;
mod seek;

use std::{
    collections::VecDeque,
    io::{self, Read},
    num::NonZeroU64,
};

use super::{
    ArchiveError,
    header::{Announced, BLOCK, Block, SparseMap},
    pax::{Pax, PaxSparse, decimal},
};
use crate::{
    limits::{
        BOMB_FREE_BYTES, BOMB_RATIO_MAX, LAYER_BYTES_MAX, LAYER_ENTRIES_MAX, LAYER_NAMES_MAX,
        LINK_BYTES_MAX, PAX_BYTES_MAX, SPARSE_SEGMENTS_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX,
        XATTRS_MAX,
    },
    path::LayerPath,
    toc::{Entry, Kind},
};

/// How much of an archive is read before it is called hostile.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Members.
    pub members: usize,
    /// Bytes of all files, holes included.
    pub bytes: u64,
}

impl Default for ReadLimits {
    fn default() -> Self {
        ReadLimits { members: LAYER_ENTRIES_MAX, bytes: LAYER_BYTES_MAX }
    }
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A directory.
    Dir,
    /// A regular file, perhaps sparse.
    File,
    /// A symbolic link.
    Symlink,
    /// Another name of an earlier member.
    Hardlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
}

/// One member of an archive, names as they stand there.
#[derive(Debug, Clone)]
pub struct Member {
    /// The name, as it stands in the archive.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// The fraction.
    pub mtime_nanos: u32,
    /// Bytes of a file, holes included.
    pub size: u64,
    /// Target of a symbolic link, or name of a hard link's member.
    pub link: Vec<u8>,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Extended attributes, sorted.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the member's first header stands in the archive.
    pub header_at: u64,
    /// Where the stored data of a file starts; for a sparse file not all of it is there.
    pub data_at: Option<NonZeroU64>,
}

const WHITEOUT: &[u8] = b".wh.";
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// In the root, aufs kept its own files under such names (and an opaque root is marked by one).
pub(super) const AUFS_PREFIX: &[u8] = b".wh..wh.";

impl Member {
    /// The member as an entry of a layer: names cleaned, whiteouts understood.
    pub fn entry(&self) -> Result<Entry, ArchiveError> {
        let at = self.header_at;
        let bad_name = |source| ArchiveError::Name { at, source };
        let path = LayerPath::parse(&self.name).map_err(bad_name)?;
        let name = path.file_name().unwrap_or_default();
        let is_aufs = name == path.as_bytes() && name.starts_with(AUFS_PREFIX) && name != OPAQUE;
        if let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|_| !is_aufs) {
            let parent = path.parent().unwrap_or_default();
            if name == OPAQUE {
                return Ok(Entry::new(parent, Kind::Opaque));
            }
            let hidden = parent.join(hidden).map_err(bad_name)?;
            if hidden == parent {
                return Err(self.refused("a whiteout must name something"));
            }
            return Ok(Entry::whiteout(hidden));
        }
        let kind = match self.kind {
            MemberKind::Dir => Kind::Dir,
            _ if path.is_root() => return Err(self.refused("the root must be a directory")),
            MemberKind::File => Kind::File,
            MemberKind::Symlink => Kind::Symlink,
            MemberKind::Hardlink => Kind::Hardlink,
            MemberKind::CharDevice => Kind::CharDevice,
            MemberKind::BlockDevice => Kind::BlockDevice,
            MemberKind::Fifo => Kind::Fifo,
        };
        let mut entry = Entry { mode: self.mode, ..Entry::new(path, kind) };
        (entry.uid, entry.gid) = (self.uid, self.gid);
        (entry.mtime, entry.mtime_nanos) = (self.mtime, self.mtime_nanos);
        (entry.size, entry.tar_offset) = (self.size, self.data_at);
        (entry.device, entry.xattrs) = (self.device, self.xattrs.clone().into());
        entry.link = match kind {
            Kind::Hardlink => LayerPath::parse(&self.link).map_err(bad_name)?.as_bytes().into(),
            _ => self.link.as_slice().into(),
        };
        if matches!(kind, Kind::Symlink | Kind::Hardlink) && entry.link.is_empty() {
            return Err(self.refused("a link must name something"));
        }
        Ok(entry)
    }

    fn refused(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Entry { name: shown(&self.name), what }
    }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// A piece of a member's data.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Zeros(u64),
    Data(u64),
}

/// Reads an archive; [`Read`] gives the data of the member that came last.
#[derive(Debug)]
pub struct TarReader<R> {
    inner: R,
    limits: ReadLimits,
    at: u64,
    members: usize,
    bytes: u64,
    /// Bytes of names, links and attributes.
    names: u64,
    /// What is left of the current member's data as the file had it.
    pieces: VecDeque<Piece>,
    /// What is left of it in the archive, without padding.
    stored: u64,
    padding: u64,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    /// A reader over an uncompressed archive.
    pub fn new(inner: R, limits: ReadLimits) -> TarReader<R> {
        TarReader {
            inner,
            limits,
            at: 0,
            members: 0,
            bytes: 0,
            names: 0,
            pieces: VecDeque::new(),
            stored: 0,
            padding: 0,
            ended: false,
        }
    }

    /// The stream, of which everything up to the archive's end was read.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next member; what was not read of the one before is skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>, ArchiveError> {
        self.skip_data()?;
        let (mut pax, mut long_name, mut long_link) = (None, None, None);
        let mut first_header = None;
        loop {
            let at = self.at;
            let Some(block) = self.header_block()? else {
                if first_header.is_some() {
                    return Err(ArchiveError::Truncated { at });
                }
                return Ok(None);
            };
            let header_at = *first_header.get_or_insert(at);
            let bad = |what| ArchiveError::Header { at, what };
            let header = Block(&block);
            if !header.checksum_fits() {
                return Err(bad("its checksum is wrong"));
            }
            self.members += 1;
            check_limit(self.members as u64, self.limits.members as u64, "entries")?;
            let announced = header.announced().ok_or_else(|| bad("its type is unknown"))?;
            let size = header.size().ok_or_else(|| bad("its size is no number"))?;
            match announced {
                Announced::Pax => {
                    let bytes = self.small_data(size)?;
                    let parsed = Pax::parse(&bytes);
                    pax = Some(parsed.ok_or_else(|| bad("its PAX records are malformed"))?);
                }
                Announced::LongName => long_name = Some(until_nul(self.small_data(size)?)),
                Announced::LongLink => long_link = Some(until_nul(self.small_data(size)?)),
                // The reference ignores them, too.
                Announced::PaxGlobal | Announced::Label => {
                    self.small_data(size)?;
                    if header_at == at {
                        first_header = None;
                    }
                }
                Announced::Member(_) | Announced::GnuSparse => {
                    let found = Headers {
                        header_at,
                        at,
                        pax: pax.unwrap_or_default(),
                        long_name,
                        long_link,
                    };
                    return self.member(&header, &announced, found).map(Some);
                }
            }
        }
    }

    /// The next header block; `None` at the end of the archive.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.at;
        let Some(block) = self.block_or_end()? else {
            self.ended = true;
            return Ok(None);
        };
        if !Block::is_zero(&block) {
            return Ok(Some(block));
        }
        self.ended = true;
        match self.block_or_end()? {
            Some(second) if !Block::is_zero(&second) => {
                Err(ArchiveError::Header { at, what: "a lone block of zeros stands in its place" })
            }
            _ => Ok(None),
        }
    }

    /// One block; `None` if the stream ends exactly before it.
    fn block_or_end(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_raw(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(ArchiveError::Truncated { at: self.at }),
                count => filled += count,
            }
        }
        Ok(Some(block))
    }

    fn block(&mut self) -> Result<[u8; BLOCK], ArchiveError> {
        self.block_or_end()?.ok_or(ArchiveError::Truncated { at: self.at })
    }

    fn read_raw(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.inner.read(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(ArchiveError::Truncated { at: self.at });
                }
                Err(source) => return Err(ArchiveError::Read { at: self.at, source }),
            }
        }
    }

    /// The data of a header that describes another one, and its padding.
    fn small_data(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        check_limit(size, PAX_BYTES_MAX, "bytes in one extended header")?;
        let mut bytes = Vec::with_capacity(size as usize);
        while (bytes.len() as u64) < size {
            let block = self.block()?;
            let want = BLOCK.min(size as usize - bytes.len());
            bytes.extend_from_slice(&block[..want]);
        }
        Ok(bytes)
    }

    fn member(
        &mut self,
        header: &Block<'_>,
        announced: &Announced,
        found: Headers,
    ) -> Result<Member, ArchiveError> {
        let Headers { header_at, at, mut pax, long_name, long_link } = found;
        let bad = |what| ArchiveError::Header { at, what };
        // Programs disagree which of them counts: what one of them checks, another one unpacks.
        let differ = |pax: &Option<Vec<u8>>, gnu: &Option<Vec<u8>>| {
            pax.as_ref().zip(gnu.as_ref()).is_some_and(|(pax, gnu)| pax != gnu)
        };
        if differ(&pax.path, &long_name) || differ(&pax.link, &long_link) {
            return Err(bad("its PAX and its GNU header give it different names"));
        }
        let mut sparse = pax.sparse.take();
        let sparse_name = sparse.as_mut().and_then(|sparse| sparse.name.take());
        let name = sparse_name.or(pax.path).or(long_name).unwrap_or_else(|| header.name());
        let mut kind = match announced {
            Announced::Member(kind) => *kind,
            _ => MemberKind::File,
        };
        if kind == MemberKind::File && name.ends_with(b"/") {
            kind = MemberKind::Dir;
        }
        let link = pax.link.or(long_link).unwrap_or_else(|| header.link());
        if link.len() > LINK_BYTES_MAX {
            return Err(bad("its link is too long"));
        }
        let id = |pax: Option<u64>, header: Option<i64>| {
            let value = pax.map_or(header, |value| i64::try_from(value).ok());
            value.and_then(|value| u32::try_from(value).ok())
        };
        let (mtime, mtime_nanos) = match pax.mtime {
            Some(mtime) => mtime,
            None => (header.mtime().ok_or_else(|| bad("its time is no number"))?, 0),
        };
        let mut member = Member {
            name,
            kind,
            mode: header.mode().ok_or_else(|| bad("its mode is no number"))?.cast_unsigned() as u32
                & 0o7777,
            uid: id(pax.uid, header.uid()).ok_or_else(|| bad("its owner is no user id"))?,
            gid: id(pax.gid, header.gid()).ok_or_else(|| bad("its group is no group id"))?,
            mtime,
            mtime_nanos,
            size: 0,
            link,
            device: (0, 0),
            xattrs: pax.xattrs,
            header_at,
            data_at: None,
        };
        if matches!(kind, MemberKind::CharDevice | MemberKind::BlockDevice) {
            member.device = header.device().ok_or_else(|| bad("its device is no number"))?;
        }
        member.xattrs.sort();
        check_xattrs(&member.xattrs).map_err(bad)?;
        self.count_names(&member)?;
        let stored = pax.size.or(header.size()).ok_or_else(|| bad("its size is no number"))?;
        let is_sparse = sparse.is_some() || matches!(announced, Announced::GnuSparse);
        match announced {
            _ if kind == MemberKind::File => {
                self.begin_data(&mut member, header, stored, announced, sparse)?;
            }
            _ if is_sparse => return Err(ArchiveError::Sparse { name: shown(&member.name) }),
            // A directory that says it is a file has data all the same, which is nobody's.
            Announced::Member(MemberKind::File) => self.set_stored(stored),
            _ => {}
        }
        Ok(member)
    }

    /// Finds out where the data of a file lies and how large the file is.
    fn begin_data(
        &mut self,
        member: &mut Member,
        header: &Block<'_>,
        stored: u64,
        announced: &Announced,
        sparse: Option<PaxSparse>,
    ) -> Result<(), ArchiveError> {
        let name = member.name.clone();
        let damaged = || ArchiveError::Sparse { name: shown(&name) };
        self.set_stored(stored);
        let (map, size) = match sparse {
            _ if matches!(announced, Announced::GnuSparse) => {
                let (mut map, mut more, size) = header.gnu_sparse().ok_or_else(damaged)?;
                while more {
                    let block = self.block()?;
                    let next = Block::gnu_sparse_more(&block).ok_or_else(damaged)?;
                    map.extend(next.0);
                    more = next.1;
                    check_limit(map.len() as u64, SPARSE_SEGMENTS_MAX as u64, "sparse segments")?;
                }
                (map, size)
            }
            Some(sparse) if (sparse.major, sparse.minor) == (1, 0) => {
                let map = self.leading_map().map_err(|error| error.unwrap_or_else(damaged))?;
                (map, sparse.real_size.ok_or_else(damaged)?)
            }
            Some(sparse) if sparse.major == 0 => {
                (sparse.map, sparse.real_size.ok_or_else(damaged)?)
            }
            Some(_) => return Err(damaged()),
            None => {
                member.size = stored;
                member.data_at = NonZeroU64::new(self.at);
                self.pieces = VecDeque::from([Piece::Data(stored)]);
                return self.count_bytes(stored);
            }
        };
        self.pieces = pieces(&map, size, self.stored).ok_or_else(damaged)?;
        member.size = size;
        member.data_at = NonZeroU64::new(self.at);
        self.count_bytes(size)
    }

    fn set_stored(&mut self, stored: u64) {
        self.stored = stored;
        self.padding = stored.wrapping_neg() % BLOCK as u64;
    }

    fn count_bytes(&mut self, size: u64) -> Result<(), ArchiveError> {
        self.bytes = self.bytes.saturating_add(size);
        check_limit(self.bytes, self.limits.bytes, "bytes")?;
        // Of all that was announced before, the data was in the archive, or it is holes.
        let allowed = (self.at + self.stored).saturating_mul(BOMB_RATIO_MAX).max(BOMB_FREE_BYTES);
        check_limit(self.bytes, allowed, "bytes, nearly all of them holes")
    }

    fn count_names(&mut self, member: &Member) -> Result<(), ArchiveError> {
        let xattrs = member.xattrs.iter().map(|(name, value)| name.len() + value.len());
        let bytes = member.name.len() + member.link.len() + xattrs.sum::<usize>();
        self.names += bytes as u64;
        check_limit(self.names, LAYER_NAMES_MAX, "bytes of names and attributes")
    }

    /// The map of a PAX 1.0 sparse file: decimal lines, padded to a block, before the data.
    ///
    /// An error of `None` says that it is damaged.
    fn leading_map(&mut self) -> Result<SparseMap, Option<ArchiveError>> {
        let mut numbers = Vec::new();
        let mut wanted = None;
        let mut line = Vec::new();
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            if self.stored < BLOCK as u64 {
                return Err(None);
            }
            let block = self.block().map_err(Some)?;
            self.stored -= BLOCK as u64;
            for byte in block {
                if wanted.is_some_and(|wanted| numbers.len() == wanted) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err(None);
                    }
                    continue;
                }
                let number = decimal(&line).ok_or(None)?;
                line.clear();
                match wanted {
                    Some(_) => numbers.push(number),
                    None if number > SPARSE_SEGMENTS_MAX as u64 => return Err(None),
                    None => wanted = Some(number as usize * 2),
                }
            }
        }
        Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    fn skip_data(&mut self) -> Result<(), ArchiveError> {
        self.pieces.clear();
        let mut left = self.stored + self.padding;
        (self.stored, self.padding) = (0, 0);
        let mut buffer = [0; 1 << 13];
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            match self.read_raw(&mut buffer[..want])? {
                0 => return Err(ArchiveError::Truncated { at: self.at }),
                count => left -= count as u64,
            }
        }
        Ok(())
    }

    /// Data of the current member; 0 at its end.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            let Some(piece) = self.pieces.front_mut() else { return Ok(0) };
            let (Piece::Zeros(left) | Piece::Data(left)) = *piece;
            let want = left.min(buffer.len() as u64) as usize;
            if left == 0 {
                self.pieces.pop_front();
                continue;
            }
            if want == 0 {
                return Ok(0);
            }
            if let Piece::Zeros(zeros) = piece {
                buffer[..want].fill(0);
                *zeros -= want as u64;
                return Ok(want);
            }
            let count = self.read_raw(&mut buffer[..want])?;
            if count == 0 {
                return Err(ArchiveError::Truncated { at: self.at });
            }
            self.stored -= count as u64;
            if let Some(Piece::Data(data)) = self.pieces.front_mut() {
                *data -= count as u64;
            }
            return Ok(count);
        }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_data(buffer).map_err(io::Error::other)
    }
}

fn check_limit(value: u64, limit: u64, what: &'static str) -> Result<(), ArchiveError> {
    if value > limit { Err(ArchiveError::Limit { limit, what }) } else { Ok(()) }
}

fn check_xattrs(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<(), &'static str> {
    let is_over = |(name, value): &(Vec<u8>, Vec<u8>)| {
        name.len() > XATTR_NAME_MAX || value.len() > XATTR_VALUE_MAX
    };
    if xattrs.len() > XATTRS_MAX || xattrs.iter().any(is_over) {
        return Err("its extended attributes are over the limit");
    }
    if xattrs.iter().any(|(name, _)| name.is_empty() || name.contains(&0)) {
        return Err("one of its extended attributes has no name");
    }
    Ok(())
}

/// The headers before a member's own.
struct Headers {
    header_at: u64,
    at: u64,
    pax: Pax,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Holes and data of a file of `size` bytes; `None` if the map cannot be right.
fn pieces(map: &[(u64, u64)], size: u64, stored: u64) -> Option<VecDeque<Piece>> {
    let mut pieces = VecDeque::with_capacity(map.len() * 2 + 1);
    let (mut at, mut data) = (0u64, 0u64);
    for (offset, length) in map {
        pieces.push_back(Piece::Zeros(offset.checked_sub(at)?));
        pieces.push_back(Piece::Data(*length));
        at = offset.checked_add(*length)?;
        data = data.checked_add(*length)?;
    }
    pieces.push_back(Piece::Zeros(size.checked_sub(at)?));
    (data == stored).then_some(pieces)
}
