//! [`LayerPath`]: the only way in which a name from an archive enters the program.
//!
//! *Invariant:* relative, components joined by single `/`, none of them empty, `.` or `..`, no NUL,
//! bounded length. The root is the empty path. Names are bytes: nothing is assumed about encoding,
//! case or Unicode form.

use std::{
    cmp::Ordering,
    ffi::OsStr,
    fmt,
    hash::{Hash, Hasher},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
};

use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX};

/// Why bytes are not a path inside a layer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A `..` component, which could lead out of the layer.
    #[error("path `{path}` has a `..` in it")]
    Parent {
        /// The path, lossily shown.
        path: String,
    },
    /// A NUL byte, which no file system can hold.
    #[error("path `{path}` has a NUL byte in it")]
    Nul {
        /// The path, lossily shown.
        path: String,
    },
    /// Longer than [`PATH_BYTES_MAX`], or a component longer than [`NAME_BYTES_MAX`].
    #[error("path of {bytes} bytes is too long: `{start}…`")]
    TooLong {
        /// The first bytes of the path, lossily shown.
        start: String,
        /// Its length.
        bytes: usize,
    },
}

/// A path inside a layer or image: relative to the root, clean, in bytes.
///
/// A piece of shared bytes: a clone, a parent or what is below a directory costs no allocation, and
/// the paths of a table of contents lie together.
#[derive(Clone, Default)]
pub struct LayerPath {
    /// None where the path is empty and never had bytes.
    shared: Option<Arc<[u8]>>,
    start: u32,
    length: u32,
}

impl LayerPath {
    /// The root directory.
    pub const fn root() -> LayerPath {
        LayerPath { shared: None, start: 0, length: 0 }
    }

    fn of(bytes: impl Into<Arc<[u8]>>) -> LayerPath {
        let shared: Arc<[u8]> = bytes.into();
        let length = u32::try_from(shared.len()).expect("because no path has 4 GiB");
        LayerPath { shared: Some(shared), start: 0, length }
    }

    /// The same bytes from `start` to `end`.
    fn cut(&self, start: usize, end: usize) -> LayerPath {
        debug_assert!(start <= end && end <= self.as_bytes().len(), "a piece lies within");
        let (first, length) = (self.start + start as u32, (end - start) as u32);
        LayerPath { shared: self.shared.clone(), start: first, length }
    }

    /// Cleans `bytes`: leading and doubled slashes, `.` components and a trailing slash vanish;
    /// `..`, NUL and too great a length are refused.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<LayerPath, PathError> {
        let bytes = bytes.as_ref();
        if let Some(clean) = LayerPath::parse_clean(bytes) {
            return Ok(clean);
        }
        let shown = || String::from_utf8_lossy(bytes).into_owned();
        if bytes.contains(&0) {
            return Err(PathError::Nul { path: shown() });
        }
        let mut clean = Vec::with_capacity(bytes.len());
        for name in bytes.split(|b| *b == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(PathError::Parent { path: shown() }),
                _ if name.len() > NAME_BYTES_MAX => return Err(too_long(bytes)),
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(name);
        }
        if clean.len() > PATH_BYTES_MAX {
            return Err(too_long(bytes));
        }
        Ok(LayerPath::of(clean))
    }

    /// Whether [`LayerPath::parse`] would take `bytes`, for those who go on with the bytes.
    pub fn check(bytes: &[u8]) -> Result<(), PathError> {
        // So short a path has no component that is too long.
        let is_good = bytes.len() <= NAME_BYTES_MAX
            && memchr::memchr(0, bytes).is_none()
            && !bytes.windows(2).any(|pair| pair == b"..");
        if is_good { Ok(()) } else { LayerPath::parse(bytes).map(drop) }
    }

    /// The path of `name` (one component) in this directory.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<LayerPath, PathError> {
        let name = name.as_ref();
        let mut joined = Vec::with_capacity(self.as_bytes().len() + 1 + name.len());
        if !self.is_root() {
            joined.extend_from_slice(self.as_bytes());
            joined.push(b'/');
        }
        joined.extend_from_slice(name);
        LayerPath::parse(joined)
    }

    /// The directory that holds this path; the root has none.
    pub fn parent(&self) -> Option<LayerPath> {
        self.parent_bytes().map(|bytes| self.cut(0, bytes.len()))
    }

    /// The bytes of the parent's path; the root has none.
    pub fn parent_bytes(&self) -> Option<&[u8]> {
        if self.is_root() {
            return None;
        }
        let end = self.as_bytes().iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(&self.as_bytes()[..end])
    }

    /// The last component; the root has none.
    pub fn file_name(&self) -> Option<&[u8]> {
        if self.is_root() {
            return None;
        }
        let start = self.as_bytes().iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
        Some(&self.as_bytes()[start..])
    }

    /// The components from the top.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.as_bytes().split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// Every directory above this path, from the top, without the root and the path itself.
    pub fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        self.as_bytes()
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(at, _)| &self.as_bytes()[..at])
    }

    /// Is this the root directory?
    pub fn is_root(&self) -> bool {
        self.length == 0
    }

    /// Is this path `directory` or below it?
    pub fn starts_with(&self, directory: &LayerPath) -> bool {
        self.strip_prefix(directory).is_some()
    }

    /// What is left of this path below `directory` (empty for `directory` itself).
    pub fn strip_prefix(&self, directory: &LayerPath) -> Option<LayerPath> {
        if directory.is_root() {
            return Some(self.clone());
        }
        let bytes = self.as_bytes();
        match bytes.strip_prefix(directory.as_bytes())? {
            b"" => Some(LayerPath::root()),
            [b'/', rest @ ..] => Some(self.cut(bytes.len() - rest.len(), bytes.len())),
            _ => None,
        }
    }

    /// This path with all of `below` appended.
    pub fn append(&self, below: &LayerPath) -> Result<LayerPath, PathError> {
        if self.is_root() || below.is_root() {
            return Ok(if self.is_root() { below } else { self }.clone());
        }
        // Both are clean, so that only their length together is in question.
        let (above, below) = (self.as_bytes(), below.as_bytes());
        let mut joined = Vec::with_capacity(above.len() + 1 + below.len());
        joined.extend_from_slice(above);
        joined.push(b'/');
        joined.extend_from_slice(below);
        if joined.len() > PATH_BYTES_MAX {
            return Err(too_long(&joined));
        }
        Ok(LayerPath::of(joined))
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.shared {
            Some(bytes) => &bytes[self.start as usize..][..self.length as usize],
            None => &[],
        }
    }

    /// The path for use *below a directory descriptor or directory of ours only*.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.as_bytes()))
    }

    /// `bytes` as a path if they are clean already: one scan, for what this program wrote itself.
    pub(crate) fn parse_clean(bytes: &[u8]) -> Option<LayerPath> {
        LayerPath::is_clean(bytes).then(|| LayerPath::from_clean(bytes))
    }

    /// Are these bytes clean already?
    pub(crate) fn is_clean(bytes: &[u8]) -> bool {
        LayerPath::is_clean_after(bytes, 0)
    }

    /// Are these bytes clean, where the first `known` begin a clean path?
    pub(crate) fn is_clean_after(bytes: &[u8], known: usize) -> bool {
        let slash = bytes[..known].iter().rposition(|byte| *byte == b'/');
        let name = slash.map_or(0, |slash| slash + 1);
        LayerPath::name_of_clean(bytes, name, known).is_some()
    }

    /// Where the last name of these bytes begins, if they are clean; the first `known` begin a clean path
    /// whose last name begins at `name`.
    #[inline]
    pub(crate) fn name_of_clean(bytes: &[u8], mut name: usize, known: usize) -> Option<usize> {
        if bytes.is_empty() {
            return Some(0);
        }
        let is_name = |name: &[u8]| match name {
            [] | [b'.'] | [b'.', b'.'] => false,
            _ => name.len() <= NAME_BYTES_MAX,
        };
        for (at, byte) in bytes.iter().enumerate().skip(known) {
            if *byte == b'/' {
                if !is_name(&bytes[name..at]) {
                    return None;
                }
                name = at + 1;
            } else if *byte == 0 {
                return None;
            }
        }
        (bytes.len() <= PATH_BYTES_MAX && is_name(&bytes[name..])).then_some(name)
    }

    /// Any bytes, only to compare with: the bound of a range.
    pub(crate) fn from_raw(bytes: Vec<u8>) -> LayerPath {
        LayerPath::of(bytes)
    }

    /// Bytes that are known to be clean because they were cut from a clean path.
    pub(crate) fn from_clean(bytes: &[u8]) -> LayerPath {
        debug_assert!(LayerPath::is_clean(bytes), "{bytes:?}");
        if bytes.is_empty() { LayerPath::root() } else { LayerPath::of(bytes) }
    }

    /// The path that lies in these bytes at `start`, where something clean was put.
    pub(crate) fn of_shared(shared: &Arc<[u8]>, start: usize, length: usize) -> LayerPath {
        debug_assert!(LayerPath::is_clean(&shared[start..start + length]), "what was put is clean");
        LayerPath { shared: Some(Arc::clone(shared)), start: start as u32, length: length as u32 }
    }
}

impl PartialEq for LayerPath {
    fn eq(&self, other: &LayerPath) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for LayerPath {}

impl PartialOrd for LayerPath {
    fn partial_cmp(&self, other: &LayerPath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LayerPath {
    fn cmp(&self, other: &LayerPath) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for LayerPath {
    // As the bytes alone: a map of paths is asked with bytes.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

fn too_long(bytes: &[u8]) -> PathError {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
    PathError::TooLong { start, bytes: bytes.len() }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl std::str::FromStr for LayerPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        LayerPath::parse(text)
    }
}

impl AsRef<[u8]> for LayerPath {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl std::borrow::Borrow<[u8]> for LayerPath {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        for (text, clean) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("./a//b/./c/", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("...", "..."),
            ("a\nb", "a\nb"),
        ] {
            assert_eq!(LayerPath::parse(text).unwrap().as_bytes(), clean.as_bytes(), "{text}");
        }
        for wrong in ["..", "a/../b", "/..", "a/..", "a\0b"] {
            assert!(LayerPath::parse(wrong).is_err(), "{wrong}");
        }
        assert!(LayerPath::parse("n".repeat(256)).is_err());
        assert!(LayerPath::parse("n/".repeat(2049)).is_err());
    }

    #[test]
    fn parts_of_a_path() {
        let path = LayerPath::parse("a/b/c").unwrap();
        assert_eq!(path.file_name(), Some(&b"c"[..]));
        assert_eq!(path.parent().unwrap().as_bytes(), b"a/b");
        assert_eq!(LayerPath::parse("a").unwrap().parent(), Some(LayerPath::root()));
        assert_eq!(LayerPath::root().parent(), None);
        assert_eq!(path.ancestors().collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
        let below = path.strip_prefix(&LayerPath::parse("a").unwrap()).unwrap();
        assert_eq!(below.as_bytes(), b"b/c");
        assert!(!LayerPath::parse("ab").unwrap().starts_with(&LayerPath::parse("a").unwrap()));
    }

    proptest! {
        #[test]
        fn what_is_known_to_be_clean_needs_no_second_look(
            first in "[a-c]{1,3}(/[a-c.]{1,3}){0,2}",
            rest in "[a-c./\0]{0,5}",
            shared in any::<proptest::sample::Index>(),
        ) {
            if LayerPath::parse_clean(first.as_bytes()).is_some() {
                let shared = shared.index(first.len() + 1);
                let bytes = [&first.as_bytes()[..shared], rest.as_bytes()].concat();
                let quick = LayerPath::is_clean_after(&bytes, shared);
                prop_assert_eq!(quick, LayerPath::is_clean(&bytes));
            }
        }

        #[test]
        fn a_parsed_path_never_escapes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(path) = LayerPath::parse(&bytes) {
                prop_assert!(path.components().all(|c| !c.is_empty() && c != b"." && c != b".."));
                prop_assert!(!path.as_bytes().starts_with(b"/"));
                prop_assert_eq!(LayerPath::parse(path.as_bytes()).unwrap(), path);
            }
        }
    }
}
