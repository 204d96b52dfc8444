//! Writing the canonical tar (design §5): the same entries are the same bytes, for ever.
//!
//! The form is `docs/formats/layer-bytes.md`; golden digests in the tests pin it. It is ustar, with
//! a PAX header before a member only where ustar cannot say it. Names are bytes.

use std::io::{self, BufRead, Read, Write};

use crate::toc::{Entry, Kind};

const BLOCK: usize = 512;
/// The largest number of a 7-digit octal field (owner, group, device).
const OCTAL_7: u64 = 0o777_7777;
/// The largest number of an 11-digit octal field (size, time).
const OCTAL_11: u64 = 0o777_7777_7777;

/// What SOURCE_DATE_EPOCH does to the times in a layer's tar (design §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epoch {
    /// Times after it become it: what a step or another image made.
    Clamp(i64),
    /// All times become it: what comes from the context.
    Set(i64),
}

impl Epoch {
    /// The time that is written for `mtime`.
    pub fn apply(self, mtime: i64) -> i64 {
        match self {
            Epoch::Clamp(seconds) => mtime.min(seconds),
            Epoch::Set(seconds) => seconds,
        }
    }

    /// The word for it in file names.
    pub(crate) fn label(self) -> String {
        match self {
            Epoch::Clamp(seconds) => format!("clamp{seconds}"),
            Epoch::Set(seconds) => format!("set{seconds}"),
        }
    }
}

/// Writes entries, which must come in a TOC's order, as a canonical tar.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    epoch: Option<Epoch>,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// A writer to `out`.
    pub fn new(out: W, epoch: Option<Epoch>) -> TarWriter<W> {
        TarWriter { out, epoch, buffer: Vec::new() }
    }

    /// Writes a member; `data` is the file's content and must have exactly `entry.size` bytes.
    pub fn append(&mut self, entry: &Entry, data: &mut dyn Read) -> io::Result<()> {
        self.header(entry)?;
        if entry.kind != Kind::File || entry.size == 0 {
            return Ok(());
        }
        self.buffer.resize(COPY_BYTES.min(entry.size as usize), 0);
        let mut left = entry.size;
        while left > 0 {
            let want = left.min(self.buffer.len() as u64) as usize;
            let count = match data.read(&mut self.buffer[..want]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.out.write_all(&self.buffer[..count])?;
            left -= count as u64;
        }
        self.pad(entry.size)
    }

    /// Writes a member whose content comes in pieces, which are written as they come.
    pub fn append_pieces(&mut self, entry: &Entry, data: &mut dyn BufRead) -> io::Result<()> {
        self.header(entry)?;
        if entry.kind != Kind::File {
            return Ok(());
        }
        let mut left = entry.size;
        while left > 0 {
            let piece = match data.fill_buf() {
                Ok([]) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(piece) => piece,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let count = left.min(piece.len() as u64) as usize;
            self.out.write_all(&piece[..count])?;
            data.consume(count);
            left -= count as u64;
        }
        self.pad(entry.size)
    }

    /// Writes a member whose content is at hand.
    pub fn append_bytes(&mut self, entry: &Entry, data: &[u8]) -> io::Result<()> {
        self.header(entry)?;
        if entry.kind != Kind::File {
            return Ok(());
        }
        if data.len() as u64 != entry.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.out.write_all(data)?;
        self.pad(entry.size)
    }

    /// Writes the end of the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.out.write_all(&[0; BLOCK][..(size.wrapping_neg() % BLOCK as u64) as usize])
    }

    fn header(&mut self, entry: &Entry) -> io::Result<()> {
        let mut fields = Fields::of(entry);
        if let Some(epoch) = self.epoch.filter(|_| !entry.kind.is_mark()) {
            fields.mtime = epoch.apply(fields.mtime);
        }
        let records = fields.pax_records(entry);
        if !records.is_empty() {
            self.out.write_all(&pax_header(&fields.name, records.len()))?;
            self.out.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.out.write_all(&fields.block())
    }
}

/// Bytes moved at once.
const COPY_BYTES: usize = 1 << 18;

/// What goes into a header block.
struct Fields<'a> {
    name: Vec<u8>,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    kind: u8,
    link: &'a [u8],
    device: (u32, u32),
}

impl<'a> Fields<'a> {
    fn of(entry: &'a Entry) -> Fields<'a> {
        let mut fields = Fields {
            name: entry.path.as_bytes().to_vec(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size: 0,
            mtime: entry.mtime,
            kind: b'0',
            link: &entry.link,
            device: entry.device,
        };
        match entry.kind {
            Kind::Dir => {
                fields.kind = b'5';
                // The root is "./", as an empty name is none.
                let slash: &[u8] = if entry.path.is_root() { b"./" } else { b"/" };
                fields.name.extend_from_slice(slash);
            }
            Kind::File => fields.size = entry.size,
            Kind::Hardlink => fields.kind = b'1',
            Kind::Symlink => fields.kind = b'2',
            Kind::CharDevice => fields.kind = b'3',
            Kind::BlockDevice => fields.kind = b'4',
            Kind::Fifo => fields.kind = b'6',
            Kind::Whiteout => fields.name = whiteout_name(entry),
            Kind::Opaque => {
                let slash: &[u8] = if entry.path.is_root() { b"" } else { b"/" };
                fields.name.extend_from_slice(slash);
                fields.name.extend_from_slice(b".wh..wh..opq");
            }
        }
        fields
    }

    /// What ustar cannot say, in PAX records; empty for almost every entry.
    fn pax_records(&self, entry: &Entry) -> Vec<u8> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |key: &[u8], value: Vec<u8>| records.push((key.to_vec(), value));
        for (name, value) in &entry.xattrs {
            add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value.clone());
        }
        let long_name = split_name(&self.name).is_none();
        let long_link = self.link.len() > 100;
        for (key, id) in [(&b"gid"[..], self.gid), (b"uid", self.uid)] {
            if u64::from(id) > OCTAL_7 {
                add(key, id.to_string().into_bytes());
            }
        }
        if long_name {
            add(b"path", self.name.clone());
        }
        if long_link {
            add(b"linkpath", self.link.to_vec());
        }
        if !u64::try_from(self.mtime).is_ok_and(|mtime| mtime <= OCTAL_11) {
            add(b"mtime", self.mtime.to_string().into_bytes());
        }
        if self.size > OCTAL_11 {
            add(b"size", self.size.to_string().into_bytes());
        }
        let not_text = |used: bool, bytes: &[u8]| used && std::str::from_utf8(bytes).is_err();
        if not_text(long_name, &self.name) || not_text(long_link, self.link) {
            add(b"hdrcharset", b"BINARY".to_vec());
        }
        // Readers must know the character set before they read names.
        records.sort_by(|a, b| (a.0 != b"hdrcharset", a).cmp(&(b.0 != b"hdrcharset", b)));
        records.iter().flat_map(|(key, value)| pax_record(key, value)).collect()
    }

    fn block(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        match split_name(&self.name) {
            Some((prefix, name)) => {
                block[..name.len()].copy_from_slice(name);
                block[345..345 + prefix.len()].copy_from_slice(prefix);
            }
            // The whole name is in the PAX record; this is for the eyes of old programs.
            None => block[..100].copy_from_slice(&self.name[..100]),
        }
        let or_zero = |value: u64, max: u64| if value > max { 0 } else { value };
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], or_zero(u64::from(self.uid), OCTAL_7));
        octal(&mut block[116..124], or_zero(u64::from(self.gid), OCTAL_7));
        octal(&mut block[124..136], or_zero(self.size, OCTAL_11));
        octal(&mut block[136..148], or_zero(u64::try_from(self.mtime).unwrap_or(0), OCTAL_11));
        block[156] = self.kind;
        let link = &self.link[..self.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        octal(&mut block[329..337], u64::from(self.device.0));
        octal(&mut block[337..345], u64::from(self.device.1));
        finish_block(block)
    }
}

fn whiteout_name(entry: &Entry) -> Vec<u8> {
    let parent = entry.path.parent_bytes().unwrap_or_default();
    let slash: &[u8] = if parent.is_empty() { b"" } else { b"/" };
    [parent, slash, b".wh.", entry.path.file_name().unwrap_or_default()].concat()
}

/// The parts of `name` for the fields of ustar; `None` if it does not fit.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((b"", name));
    }
    // The slash between the fields is not stored; the last byte may be a directory's own slash.
    let first = name.len().checked_sub(101)?;
    let last = name.len().checked_sub(2)?.min(155);
    let slash = (first..=last).find(|at| name[*at] == b'/' && *at > 0)?;
    Some((&name[..slash], &name[slash + 1..]))
}

/// `value` as octal digits that fill the field but for a NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

fn finish_block(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + body.to_string().len();
    // One more digit may be needed because of the digits.
    length = body + length.to_string().len();
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// The header of the member that holds PAX records; its own name is for old programs only.
fn pax_header(name: &[u8], length: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let base = name.strip_suffix(b"/").unwrap_or(name);
    let base = base.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let shown = [b"PaxHeaders.0/", &base[..base.len().min(80)]].concat();
    block[..shown.len()].copy_from_slice(&shown);
    octal(&mut block[100..108], 0o644);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], length as u64);
    octal(&mut block[136..148], 0);
    block[156] = b'x';
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    finish_block(block)
}
