//! Byte strings that cross the pipe between parent and child.
//!
//! Paths, arguments and file contents are bytes, not text, and JSON has no bytes. They are written
//! as JSON strings in which the character U+00NN stands for the byte NN, so that plain ASCII stays
//! readable and short, and every byte string survives the trip.

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A byte string: a path, an argument or a file's content.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Bytes(Vec<u8>);

impl Bytes {
    /// The bytes as a path.
    pub(crate) fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The bytes.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The bytes with a final NUL, unless there is one inside.
    pub(crate) fn to_c(&self) -> Option<CString> {
        CString::new(self.0.as_slice()).ok()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<&Path> for Bytes {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<&PathBuf> for Bytes {
    fn from(path: &PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

impl From<OsString> for Bytes {
    fn from(text: OsString) -> Self {
        Self(text.into_vec())
    }
}

impl From<&OsString> for Bytes {
    fn from(text: &OsString) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.is_ascii() => serializer.serialize_str(text),
            _ => {
                let text: String = self.0.iter().map(|byte| char::from(*byte)).collect();
                serializer.serialize_str(&text)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(BytesVisitor)
    }
}

struct BytesVisitor;

impl de::Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string of characters up to U+00FF")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        if text.is_ascii() {
            return Ok(Bytes(text.as_bytes().to_vec()));
        }
        let bytes: Option<Vec<u8>> =
            text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        bytes.map(Bytes).ok_or_else(|| E::custom("a character above U+00FF"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives() {
        let all: Vec<u8> = (0..=255).collect();
        let text = serde_json::to_string(&Bytes(all.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap().0, all);
    }

    #[test]
    fn ascii_stays_readable() {
        assert_eq!(serde_json::to_string(&Bytes::from("/a b")).unwrap(), "\"/a b\"");
    }

    #[test]
    fn wide_characters_are_refused() {
        assert!(serde_json::from_str::<Bytes>("\"\u{100}\"").is_err());
    }
}
