//! PAX extended headers: `<length> <key>=<value>\n`, again and again.

/// What one extended header says about the member that follows it; later records win.
#[derive(Debug, Default, Clone)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<PaxSparse>,
}

/// What GNU tar writes about a sparse file into PAX records.
#[derive(Debug, Default, Clone)]
pub(super) struct PaxSparse {
    pub(super) major: u64,
    pub(super) minor: u64,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Versions 0.0 and 0.1 have the map here, 1.0 at the start of the data.
    pub(super) map: Vec<(u64, u64)>,
    offset: Option<u64>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

impl Pax {
    /// Adds the records of `bytes`; `None` if they are malformed.
    pub(super) fn parse(bytes: &[u8]) -> Option<Pax> {
        let mut pax = Pax::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let space = rest.iter().take(20).position(|byte| *byte == b' ')?;
            let length = usize::try_from(decimal(&rest[..space])?).ok()?;
            let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            pax.record(&record[..equals], &record[equals + 1..])?;
            rest = &rest[length..];
        }
        Some(pax)
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        // An empty value takes back what an earlier record said.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let number = || if value.is_empty() { Some(None) } else { decimal(value).map(Some) };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => self.mtime = Some(timestamp(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(key) = key.strip_prefix(SPARSE) {
                    self.sparse.get_or_insert_default().record(key, value)?;
                }
            }
        }
        // Names with NUL bytes are read differently by different programs.
        let has_nul = |name: &Option<Vec<u8>>| name.as_ref().is_some_and(|n| n.contains(&0));
        (!has_nul(&self.path) && !has_nul(&self.link)).then_some(())
    }
}

impl PaxSparse {
    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"major" => self.major = decimal(value)?,
            b"minor" => self.minor = decimal(value)?,
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" | b"size" => self.real_size = Some(decimal(value)?),
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => self.map.push((self.offset.take()?, decimal(value)?)),
            b"map" => {
                let numbers: Option<Vec<u64>> =
                    value.split(|byte| *byte == b',').map(decimal).collect();
                let numbers = numbers.filter(|numbers| numbers.len() % 2 == 0)?;
                self.map = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            }
            _ => {}
        }
        Some(())
    }
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// `[-]seconds[.fraction]` as seconds (rounded down) and nanoseconds.
fn timestamp(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let whole = i64::try_from(decimal(whole)?).ok()?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = digits.fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => (whole, nanos),
        (true, 0) => (-whole, 0),
        (true, _) => (-whole - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_down() {
        for (text, time) in [
            ("0", Some((0, 0))),
            ("1350244992.023960108", Some((1_350_244_992, 23_960_108))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-1", Some((-1, 0))),
            ("1.", Some((1, 0))),
            ("1.1234567891", Some((1, 123_456_789))),
            ("", None),
            (".5", None),
            ("1e3", None),
        ] {
            assert_eq!(timestamp(text.as_bytes()), time, "{text}");
        }
    }

    #[test]
    fn records_are_exact_or_refused() {
        let pax = Pax::parse(b"9 path=a\n11 path=ab\n29 SCHILY.xattr.user.a=b=\nc\n\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"ab"[..]));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"b=\nc\n".to_vec())]);
        for wrong in
            [&b"9 path=a"[..], b"8 path=a\n", b"99 path=a\n", b"6 path\n", b"x", b"11 path=a\0b\n"]
        {
            assert!(Pax::parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
