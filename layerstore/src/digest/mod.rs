//! Identities: what a thing is, as a type of its own each.
//!
//! *Invariant:* a value of these types is well formed; text is parsed once, here. Two kinds of id
//! never mix, although most are 32 bytes: a [`Digest`] names exact bytes (sha256, as the OCI
//! specification asks), a [`DiffId`] the uncompressed tar of a layer; everything that stays inside
//! the store is BLAKE3 ([`LayerId`], [`ContentHash`], [`ContentId`]), which is many times faster.

pub(crate) mod both;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_pair.rs")]
mod pair;
mod sha256;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use sha256::{HashingReader, Sha256, VerifyError, VerifyingReader};

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The algorithm before the colon is not one that this store keeps.
    #[error("digest algorithm of `{text}` is not sha256")]
    Algorithm {
        /// The text as given.
        text: String,
    },
    /// The hexadecimal part has another length or other characters.
    #[error("`{text}` is not {chars} lower-case hexadecimal characters")]
    Hex {
        /// The text as given.
        text: String,
        /// How many characters there should be.
        chars: usize,
    },
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(HEX[usize::from(byte >> 4)] as char);
        text.push(HEX[usize::from(byte & 15)] as char);
    }
    f.write_str(&text)
}

fn parse_hex(text: &str) -> Result<[u8; 32], DigestError> {
    let wrong = || DigestError::Hex { text: text.to_owned(), chars: 64 };
    if text.len() != 64 {
        return Err(wrong());
    }
    let mut out = [0u8; 32];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let high = HEX.iter().position(|h| *h == pair[0]).ok_or_else(wrong)?;
        let low = HEX.iter().position(|h| *h == pair[1]).ok_or_else(wrong)?;
        *byte = (high << 4 | low) as u8;
    }
    Ok(out)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The identity made of these raw bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 64 hexadecimal characters, without any prefix.
            pub fn hex(&self) -> String {
                struct Hex<'a>(&'a [u8]);
                impl fmt::Display for Hex<'_> {
                    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write_hex(self.0, f)
                    }
                }
                Hex(&self.0).to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                let hex = text
                    .strip_prefix($prefix)
                    .ok_or_else(|| DigestError::Algorithm { text: text.to_owned() })?;
                parse_hex(hex).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}

id_type! {
    /// sha256 of exact bytes, as registries name them: `sha256:<hex>`.
    Digest, "sha256:"
}
id_type! {
    /// sha256 of a layer's uncompressed tar.
    DiffId, "sha256:"
}
id_type! {
    /// What a layer is inside this store (BLAKE3).
    LayerId, ""
}
id_type! {
    /// BLAKE3 of the bytes of one regular file.
    ContentHash, ""
}
id_type! {
    /// BLAKE3 of a table of contents without its times.
    ContentId, ""
}

impl Digest {
    /// The sha256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl DiffId {
    /// The same sha256 as a diffID: only right where `digest` is of an uncompressed layer.
    pub const fn from_digest(digest: Digest) -> DiffId {
        DiffId(digest.0)
    }

    /// The sha256 as the digest of the uncompressed bytes.
    pub const fn digest(&self) -> Digest {
        Digest(self.0)
    }
}

impl LayerId {
    /// The identity of a layer that came as a tar whose diffID is `diff_id`.
    pub fn foreign(diff_id: &DiffId) -> LayerId {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"foreign\0");
        hasher.update(diff_id.as_bytes());
        LayerId(*hasher.finalize().as_bytes())
    }

    /// The name of this layer's directory.
    pub fn short(&self) -> ShortId {
        let mut hex = self.hex();
        hex.truncate(ShortId::CHARS);
        ShortId(hex)
    }
}

impl ContentHash {
    /// The BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> ContentHash {
        ContentHash(*blake3::hash(bytes).as_bytes())
    }
}

/// The first eight bytes of a [`LayerId`] in hexadecimal: the name of the layer's directory.
///
/// It is short because mount options are; the directory holds the full id, and opening compares.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortId(String);

impl ShortId {
    const CHARS: usize = 16;

    /// The sixteen characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ShortId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() == Self::CHARS && text.bytes().all(|b| HEX.contains(&b)) {
            return Ok(ShortId(text.to_owned()));
        }
        Err(DigestError::Hex { text: text.to_owned(), chars: Self::CHARS })
    }
}

impl Serialize for ShortId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ShortId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_wrong_ones_are_refused() {
        let digest = Digest::of(b"");
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        for wrong in ["sha256:", "sha512:00", &text.to_uppercase(), &text[..70], &text[7..]] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
        assert_eq!(LayerId::foreign(&DiffId::from_digest(digest)).short().as_str().len(), 16);
        assert!("0123456789abcdeg".parse::<ShortId>().is_err());
    }
}
