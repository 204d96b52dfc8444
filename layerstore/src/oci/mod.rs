//! The wire types of the OCI image specification and of docker schema 2.
//!
//! Invariants:
//! - Bytes that came from outside are kept as they came; nothing here is ever used to write a pulled
//!   manifest or config again. What lap itself makes is written by [`json`], byte for byte as Go's
//!   `encoding/json` writes it, so that the same values have the same digest everywhere.
//! - Every map is sorted, every struct has the field order of the Go structs.
//! - Keys that these types do not know are kept in `extra` and written again.

pub mod config;
pub mod descriptor;
pub mod index;
pub mod json;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod time;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::Descriptor;
pub use index::Index;
pub use manifest::Manifest;
pub use platform::{Platform, PlatformError};

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::limits;

/// Why a JSON document from outside is not the thing it should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The document is longer than its limit.
    #[error("{what} has {size} bytes, more than the limit of {limit}")]
    TooLong {
        /// The kind of document.
        what: &'static str,
        /// How long it is.
        size: u64,
        /// How long it may be.
        limit: u64,
    },
    /// It is not JSON, or not of this shape.
    #[error("{what} is not valid")]
    Malformed {
        /// The kind of document.
        what: &'static str,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// It parses but contradicts the specification.
    #[error("{what} is not valid: {why}")]
    Invalid {
        /// The kind of document.
        what: &'static str,
        /// The rule that it breaks.
        why: String,
    },
    /// A manifest that is one, of something else: a signature, a list of contents, a chart.
    #[error("it is not an image: its config is {config}")]
    NoImage {
        /// The media type of its config.
        config: String,
    },
}

/// Annotations and labels: sorted, as Go writes maps.
pub type StringMap = BTreeMap<String, String>;

/// Parses a bounded document.
fn parse<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
    limit: u64,
) -> Result<T, DocumentError> {
    let size = bytes.len() as u64;
    if size > limit {
        return Err(DocumentError::TooLong { what, size, limit });
    }
    serde_json::from_slice(bytes).map_err(|source| DocumentError::Malformed { what, source })
}

/// What a manifest and an index have in common.
struct Head<'a> {
    schema_version: u32,
    media_type: &'a str,
    /// How many blobs it names, and how many it may.
    blobs: (usize, usize),
}

/// Parses a bounded manifest or index, and checks what lap relies on.
fn parse_with_head<'a, T: Deserialize<'a>>(
    what: &'static str,
    bytes: &'a [u8],
    is_type: impl Fn(&str) -> bool,
    head: impl Fn(&T) -> Head<'_>,
) -> Result<T, DocumentError> {
    let document: T = parse(what, bytes, limits::MANIFEST_BYTES_MAX)?;
    let Head { schema_version, media_type, blobs: (count, limit) } = head(&document);
    let why = if schema_version != 2 {
        format!("schemaVersion is {schema_version}, not 2")
    } else if !media_type.is_empty() && !is_type(media_type) {
        format!("its media type is {media_type}")
    } else if count > limit {
        format!("it names {count} blobs, more than the limit of {limit}")
    } else {
        return Ok(document);
    };
    Err(DocumentError::Invalid { what, why })
}

/// Reads `null` as the default value, as Go does for every field.
fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if passes a reference"
)]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests;
