//! One 512-byte header block: its fields, read leniently where every tar does, never guessed.
//!
//! ```text
//! name 0..100  mode 100..108  uid 108..116  gid 116..124  size 124..136  mtime 136..148
//! checksum 148..156  type 156  link 157..257  magic+version 257..265  user, group 265..329
//! major 329..337  minor 337..345  prefix 345..500 (ustar)
//! GNU: sparse map 386..482  more follows 482  real size 483..495
//! ```

use super::read::MemberKind;

pub(crate) const BLOCK: usize = 512;

/// Offset and length of each piece of data between the holes.
pub(super) type SparseMap = Vec<(u64, u64)>;

/// A header block whose checksum was right.
pub(super) struct Block<'a>(pub(super) &'a [u8; BLOCK]);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Names in one field, nothing behind the link name.
    V7,
    /// POSIX, with a prefix for long names.
    Ustar,
    /// Joerg Schilling's, whose prefix is shorter.
    Star,
    /// GNU, which uses the prefix for other things.
    Gnu,
}

/// What a header announces.
pub(super) enum Announced {
    Member(MemberKind),
    GnuSparse,
    Pax,
    PaxGlobal,
    LongName,
    LongLink,
    /// A volume label: no file.
    Label,
}

impl Block<'_> {
    pub(super) fn is_zero(block: &[u8; BLOCK]) -> bool {
        block.iter().all(|byte| *byte == 0)
    }

    /// Is the checksum the sum of the bytes, counted unsigned or (old programs) signed?
    pub(super) fn checksum_fits(&self) -> bool {
        let Some(stated) = number(&self.0[148..156]) else { return false };
        let sums = self.0.iter().enumerate().fold((0i128, 0i128), |(plain, signed), (at, byte)| {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            (plain + i128::from(byte), signed + i128::from(byte.cast_signed()))
        });
        i128::from(stated) == sums.0 || i128::from(stated) == sums.1
    }

    fn format(&self) -> Format {
        match (&self.0[257..263], &self.0[263..265], &self.0[508..512]) {
            (b"ustar\0", _, b"tar\0") => Format::Star,
            (b"ustar\0", ..) => Format::Ustar,
            (b"ustar ", b" \0", _) => Format::Gnu,
            _ => Format::V7,
        }
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match self.format() {
            Format::Ustar => text(&self.0[345..500]),
            Format::Star => text(&self.0[345..476]),
            Format::V7 | Format::Gnu => b"",
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> Option<i64> {
        number(&self.0[100..108])
    }

    pub(super) fn uid(&self) -> Option<i64> {
        number(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Option<i64> {
        number(&self.0[116..124])
    }

    pub(super) fn size(&self) -> Option<u64> {
        unsigned(&self.0[124..136])
    }

    pub(super) fn mtime(&self) -> Option<i64> {
        number(&self.0[136..148])
    }

    pub(super) fn device(&self) -> Option<(u32, u32)> {
        if self.format() == Format::V7 {
            return Some((0, 0));
        }
        let field = |range: std::ops::Range<usize>| u32::try_from(number(&self.0[range])?).ok();
        Some((field(329..337)?, field(337..345)?))
    }

    pub(super) fn announced(&self) -> Option<Announced> {
        let member = |kind| Some(Announced::Member(kind));
        match self.0[156] {
            b'0' | 0 | b'7' => member(MemberKind::File),
            b'1' => member(MemberKind::Hardlink),
            b'2' => member(MemberKind::Symlink),
            b'3' => member(MemberKind::CharDevice),
            b'4' => member(MemberKind::BlockDevice),
            b'5' => member(MemberKind::Dir),
            b'6' => member(MemberKind::Fifo),
            b'S' => Some(Announced::GnuSparse),
            b'x' | b'X' => Some(Announced::Pax),
            b'g' => Some(Announced::PaxGlobal),
            b'L' => Some(Announced::LongName),
            b'K' => Some(Announced::LongLink),
            b'V' => Some(Announced::Label),
            _ => None,
        }
    }

    /// The four map entries of a GNU sparse header, whether more follow, and the real size.
    pub(super) fn gnu_sparse(&self) -> Option<(SparseMap, bool, u64)> {
        let segments = sparse_segments(&self.0[386..482])?;
        Some((segments, self.0[482] != 0, unsigned(&self.0[483..495])?))
    }

    /// The map entries of a block that continues a GNU sparse header, and whether more follow.
    pub(super) fn gnu_sparse_more(block: &[u8; BLOCK]) -> Option<(SparseMap, bool)> {
        Some((sparse_segments(&block[..504])?, block[504] != 0))
    }
}

fn sparse_segments(bytes: &[u8]) -> Option<SparseMap> {
    let used = |pair: &&[u8]| pair[0] != 0;
    let segment = |pair: &[u8]| Some((unsigned(&pair[..12])?, unsigned(&pair[12..])?));
    bytes.chunks_exact(24).take_while(used).map(segment).collect()
}

/// A text field ends at its first NUL or with the field.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn unsigned(field: &[u8]) -> Option<u64> {
    u64::try_from(number(field)?).ok()
}

/// An octal number among spaces and NULs, or (GNU) base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Two's complement; the marker bit is not part of the number, the next is its sign.
        let start =
            if first & 0x40 != 0 { i128::from(first) - 0x100 } else { i128::from(first & 0x7f) };
        let value = field[1..].iter().try_fold(start, |value, byte| {
            value.checked_mul(256)?.checked_add(i128::from(*byte))
        })?;
        return i64::try_from(value).ok();
    }
    let digits = field.iter().skip_while(|byte| matches!(byte, b' ' | 0));
    let digits = digits.take_while(|byte| !matches!(byte, b' ' | 0));
    digits.into_iter().try_fold(0i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_kinds() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }
}
