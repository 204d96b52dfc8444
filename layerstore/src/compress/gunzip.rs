//! Reading gzip: member by member where it is ours, as a stream where it is anybody else's.
//!
//! libdeflate is twice as fast as zlib-rs, and wants a member whole; how long a member is, a gzip file
//! does not say. Ours are short, and the next one begins with bytes that are known. So where a member
//! seems to end, what is before it is decompressed, and it does end there if its length and CRC stand
//! at that place and at none before. Whatever does not fit (one long member, other headers, bytes that
//! look like a header) is read as a stream from there on.

use std::io::{self, BufRead, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use libdeflater::Decompressor;
use memchr::memmem;

use super::{CHUNK_BYTES, gzip::HEADER};

/// What a member of ours holds at most. Who reads with room for it gets members where they are wanted,
/// not copied.
pub(crate) const PLAIN_BYTES_MAX: usize = CHUNK_BYTES;
/// A member of ours is not longer: noise is stored, with five bytes for 64 KiB.
const MEMBER_BYTES_MAX: usize = PLAIN_BYTES_MAX + (16 << 10);
/// Bytes read ahead; what is left of them is moved to the front seldom enough.
const WINDOW_BYTES: usize = 2 << 20;
const WINDOW_BYTES_MIN: usize = 64 << 10;
/// Places that are tried as the end of a member.
const ENDS_TRIED: usize = 4;
/// Where a header says how hard the encoder tried.
const LEVEL_AT: usize = 8;
/// CRC and length.
const TRAILER_BYTES: usize = 8;

/// Decompresses gzip of any kind.
pub(super) enum Gunzip<R> {
    Members(Box<Members<R>>),
    Stream(Box<MultiGzDecoder<io::Chain<Cursor<Vec<u8>>, R>>>),
    /// Between the two.
    Moved,
}

/// Members of ours, whole.
pub(super) struct Members<R> {
    reader: R,
    window: Vec<u8>,
    /// What of the window was read, and what of that was decompressed.
    filled: usize,
    done: usize,
    ended: bool,
    decompressor: Decompressor,
    /// The member that was decompressed last, and what of it was given.
    plain: Vec<u8>,
    length: usize,
    given: usize,
}

impl<R: BufRead> Gunzip<R> {
    pub(super) fn new(reader: R) -> Gunzip<R> {
        Gunzip::Members(Box::new(Members {
            reader,
            window: Vec::new(),
            filled: 0,
            done: 0,
            ended: false,
            decompressor: Decompressor::new(),
            plain: Vec::new(),
            length: 0,
            given: 0,
        }))
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let members = match self {
                Gunzip::Stream(stream) => return stream.read(buffer),
                Gunzip::Moved => return Ok(0),
                Gunzip::Members(members) => members,
            };
            let ready = &members.plain[members.given..members.length];
            if !ready.is_empty() || buffer.is_empty() {
                let count = ready.len().min(buffer.len());
                buffer[..count].copy_from_slice(&ready[..count]);
                members.given += count;
                return Ok(count);
            }
            members.fill()?;
            if members.done == members.filled {
                return Ok(0);
            }
            let is_known = if buffer.len() < PLAIN_BYTES_MAX {
                members.next_aside()
            } else {
                // Straight to where it is wanted. An empty member is not the end.
                match members.next(buffer) {
                    Some(0) => continue,
                    Some(length) => return Ok(length),
                    None => false,
                }
            };
            if !is_known && let Gunzip::Members(members) = std::mem::replace(self, Gunzip::Moved) {
                let Members { reader, mut window, filled, done, .. } = *members;
                window.truncate(filled);
                window.drain(..done);
                let whole = Cursor::new(window).chain(reader);
                *self = Gunzip::Stream(Box::new(MultiGzDecoder::new(whole)));
            }
        }
    }
}

impl<R: BufRead> Members<R> {
    /// Reads until the next member must be in the window.
    fn fill(&mut self) -> io::Result<()> {
        if self.ended || self.filled - self.done > MEMBER_BYTES_MAX {
            return Ok(());
        }
        self.window.copy_within(self.done..self.filled, 0);
        (self.filled, self.done) = (self.filled - self.done, 0);
        while self.filled < WINDOW_BYTES {
            if self.filled == self.window.len() {
                // What is short needs no long window.
                let length = (2 * self.filled).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES);
                self.window.resize(length, 0);
            }
            match self.reader.read(&mut self.window[self.filled..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Decompresses a member to give it piece by piece; false if it is not known where it ends.
    fn next_aside(&mut self) -> bool {
        let mut plain = std::mem::take(&mut self.plain);
        plain.resize(PLAIN_BYTES_MAX, 0);
        let length = self.next(&mut plain);
        (self.plain, self.length, self.given) = (plain, length.unwrap_or(0), 0);
        length.is_some()
    }

    /// Decompresses a member into `plain`, and says how long it is; none if it is not known where it ends.
    fn next(&mut self, plain: &mut [u8]) -> Option<usize> {
        let rest = &self.window[self.done..self.filled];
        if !is_header(rest) {
            return None;
        }
        let near = &rest[..rest.len().min(MEMBER_BYTES_MAX + HEADER.len())];
        let last = (self.ended && near.len() == rest.len()).then_some(rest.len());
        let next = memmem::find_iter(&near[1..], &HEADER[..LEVEL_AT]).map(|at| at + 1);
        let next = next.filter(|at| is_header(&near[*at..]));
        for end in next.chain(last).take(ENDS_TRIED) {
            // Where the CRC stands that this checks, it does not say: so it is worked out once more. The
            // deflate data alone would let bytes between its end and the trailer pass.
            let bytes = &rest[..end];
            let Ok(length) = self.decompressor.gzip_decompress(bytes, plain) else { continue };
            if !ends_at(bytes, &plain[..length]) {
                return None;
            }
            self.done += end;
            return Some(length);
        }
        None
    }
}

/// Does a member of ours begin here? One byte says of the level what nobody reads.
fn is_header(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER.len()
        && bytes[..LEVEL_AT] == HEADER[..LEVEL_AT]
        && bytes[LEVEL_AT + 1] == HEADER[LEVEL_AT + 1]
}

/// Is all of `bytes` the member that `plain` was compressed to?
///
/// It begins there and was decompressed: so it ends where its trailer stands, and that is here if the
/// trailer stands nowhere before.
fn ends_at(bytes: &[u8], plain: &[u8]) -> bool {
    let (crc, length) = (libdeflater::crc32(plain), plain.len() as u32);
    let mut trailer = [0; TRAILER_BYTES];
    trailer[..4].copy_from_slice(&crc.to_le_bytes());
    trailer[4..].copy_from_slice(&length.to_le_bytes());
    memmem::find(bytes, &trailer) == bytes.len().checked_sub(TRAILER_BYTES)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// What is read does not depend on the room for it.
    fn read(bytes: &[u8]) -> (io::Result<Vec<u8>>, bool) {
        let mut buffer = vec![0; PLAIN_BYTES_MAX];
        let [aside, straight] = [1000, PLAIN_BYTES_MAX].map(|room| {
            let (mut gunzip, buffer) = (Gunzip::new(bytes), &mut buffer[..room]);
            let mut plain = Vec::new();
            let result = loop {
                match gunzip.read(buffer) {
                    Ok(0) => break Ok(()),
                    Ok(count) => plain.extend_from_slice(&buffer[..count]),
                    Err(error) => break Err(error),
                }
            };
            (result, plain, matches!(gunzip, Gunzip::Members(_)))
        });
        assert!(aside.1 == straight.1 && aside.2 == straight.2);
        assert_eq!(aside.0.is_ok(), straight.0.is_ok());
        (straight.0.map(|()| straight.1), straight.2)
    }

    fn reference(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut plain = Vec::new();
        MultiGzDecoder::new(bytes).read_to_end(&mut plain).ok().map(|_| plain)
    }

    /// One member as libdeflate makes it.
    fn member(plain: &[u8]) -> Vec<u8> {
        let mut encoder = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
        let mut bytes = vec![0; encoder.gzip_compress_bound(plain.len())];
        let length = encoder.gzip_compress(plain, &mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    /// One member with `plain` in a stored block.
    fn stored(plain: &[u8]) -> Vec<u8> {
        let length = u16::try_from(plain.len()).unwrap();
        let mut bytes = HEADER.to_vec();
        bytes.push(1);
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(plain);
        bytes.extend(libdeflater::crc32(plain).to_le_bytes());
        bytes.extend((plain.len() as u32).to_le_bytes());
        bytes
    }

    #[test]
    fn ours_is_read_member_by_member() {
        let chunk: Vec<u8> = (0..=250).flat_map(|byte| [byte; 7]).cycle().take(512 << 10).collect();
        let zeros = vec![0; 512 << 10];
        let parts = [&chunk[..], &zeros, &zeros, b"", b"short", &chunk[..70_000]];
        for times in [1, 9] {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| member(part)).collect();
            let (plain, whole) = read(&bytes.repeat(times));
            assert!(plain.unwrap() == parts.concat().repeat(times) && whole);
        }
    }

    #[test]
    fn what_looks_like_the_next_member_is_data() {
        // A gzip file, stored in a member; and one whose data repeats its trailer.
        let inner = [member(b"inner"), member(b"other")].concat();
        let again = stored(&[&stored(b"same")[..], b"?"].concat());
        for bytes in [stored(&inner), again, stored(&HEADER), stored(&[&HEADER[..]; 9].concat())] {
            let bytes = [bytes, member(b"and more")].concat();
            assert_eq!(read(&bytes).0.ok(), reference(&bytes));
        }
    }

    #[test]
    fn a_member_is_not_skipped() {
        // The second has another header and ends as the first: as if the first were longer.
        let mut named = member(b"twice");
        named[3] = 8;
        named.splice(10..10, *b"name\0");
        let bytes = [member(b"twice"), named, member(b"end")].concat();
        assert_eq!(read(&bytes).0.unwrap(), b"twicetwiceend");
    }

    #[test]
    fn one_long_member_is_a_stream_from_there_on() {
        let long: Vec<u8> = (0..3 << 20).map(|at: u32| (at.wrapping_mul(at) >> 9) as u8).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&long).unwrap();
        let bytes = [member(b"first"), encoder.finish().unwrap(), member(b"last")].concat();
        let (plain, whole) = read(&bytes);
        assert!(plain.unwrap() == [b"first", &long[..], b"last"].concat() && !whole);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_what_the_reference_says() {
        let bytes = [member(b"one, two, three, two, one"), stored(b"four"), member(b"")].concat();
        for end in 1..bytes.len() {
            assert_eq!(read(&bytes[..end]).0.ok(), reference(&bytes[..end]), "cut at {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&wrong).0.ok(), reference(&wrong), "bit {bit}");
        }
        assert!(read(&[&bytes[..], b"rest"].concat()).0.is_err());
    }
}
