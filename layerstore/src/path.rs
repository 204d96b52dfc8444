//! [`LayerPath`]: the only way in which a name from an archive enters the program.
//!
//! *Invariant:* relative, components joined by single `/`, none of them empty, `.` or `..`, no NUL,
//! bounded length. The root is the empty path. Names are bytes: nothing is assumed about encoding,
//! case or Unicode form.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path};

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
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LayerPath(Vec<u8>);

impl LayerPath {
    /// The root directory.
    pub const fn root() -> LayerPath {
        LayerPath(Vec::new())
    }

    /// Cleans `bytes`: leading and doubled slashes, `.` components and a trailing slash vanish;
    /// `..`, NUL and too great a length are refused.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<LayerPath, PathError> {
        let bytes = bytes.as_ref();
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
        Ok(LayerPath(clean))
    }

    /// The path of `name` (one component) in this directory.
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<LayerPath, PathError> {
        let name = name.as_ref();
        let mut joined = Vec::with_capacity(self.0.len() + 1 + name.len());
        joined.extend_from_slice(&self.0);
        joined.push(b'/');
        joined.extend_from_slice(name);
        LayerPath::parse(joined)
    }

    /// The directory that holds this path; the root has none.
    pub fn parent(&self) -> Option<LayerPath> {
        self.parent_bytes().map(|bytes| LayerPath(bytes.to_vec()))
    }

    /// The bytes of the parent's path; the root has none.
    pub fn parent_bytes(&self) -> Option<&[u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(&self.0[..end])
    }

    /// The last component; the root has none.
    pub fn file_name(&self) -> Option<&[u8]> {
        if self.0.is_empty() {
            return None;
        }
        let start = self.0.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
        Some(&self.0[start..])
    }

    /// The components from the top.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/').filter(|name| !name.is_empty())
    }

    /// Every directory above this path, from the top, without the root and the path itself.
    pub fn ancestors(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| &self.0[..at])
    }

    /// Is this the root directory?
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
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
        match self.0.strip_prefix(directory.0.as_slice())? {
            b"" => Some(LayerPath::root()),
            [b'/', rest @ ..] => Some(LayerPath(rest.to_vec())),
            _ => None,
        }
    }

    /// This path with all of `below` appended.
    pub fn append(&self, below: &LayerPath) -> Result<LayerPath, PathError> {
        self.join(&below.0)
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for use *below a directory descriptor or directory of ours only*.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// `bytes` as a path if they are clean already: one scan, for what this program wrote itself.
    pub(crate) fn parse_clean(bytes: &[u8]) -> Option<LayerPath> {
        LayerPath::parse_clean_after(bytes, 0)
    }

    /// As [`parse_clean`](Self::parse_clean), where the first `known` bytes begin a clean path.
    pub(crate) fn parse_clean_after(bytes: &[u8], known: usize) -> Option<LayerPath> {
        if bytes.is_empty() {
            return Some(LayerPath::root());
        }
        let slash = bytes[..known].iter().rposition(|byte| *byte == b'/');
        let start = slash.map_or(0, |slash| slash + 1);
        let fine = |name: &[u8]| match name {
            b"" | b"." | b".." => false,
            _ => name.len() <= NAME_BYTES_MAX && !name.contains(&0),
        };
        let clean = bytes.len() <= PATH_BYTES_MAX && bytes[start..].split(|b| *b == b'/').all(fine);
        clean.then(|| LayerPath(bytes.to_vec()))
    }

    /// Any bytes, only to compare with: the bound of a range.
    pub(crate) fn from_raw(bytes: Vec<u8>) -> LayerPath {
        LayerPath(bytes)
    }

    /// Bytes that are known to be clean because they were cut from a clean path.
    pub(crate) fn from_clean(bytes: &[u8]) -> LayerPath {
        debug_assert_eq!(
            LayerPath::parse(bytes).ok().as_ref().map(LayerPath::as_bytes),
            Some(bytes)
        );
        LayerPath(bytes.to_vec())
    }
}

fn too_long(bytes: &[u8]) -> PathError {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
    PathError::TooLong { start, bytes: bytes.len() }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
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
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for LayerPath {
    fn borrow(&self) -> &[u8] {
        &self.0
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
                let quick = LayerPath::parse_clean_after(&bytes, shared);
                prop_assert_eq!(quick, LayerPath::parse_clean(&bytes));
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
