//! A descriptor: where a blob is named, with its type and size.

use serde::{Deserialize, Serialize};

use super::{Platform, StringMap, null_default};
use crate::digest::Digest;

/// The name, type and size of a blob, in the field order of the Go struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// What the blob is.
    #[serde(rename = "mediaType", default)]
    pub media_type: String,
    /// The sha256 of its bytes.
    pub digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// Other places to get it from; kept, never followed.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free annotations.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "StringMap::is_empty"
    )]
    pub annotations: StringMap,
    /// The bytes themselves in base64; kept, never used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The type of the artifact, in an index.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A plain descriptor.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: StringMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// The same descriptor with one more annotation.
    #[must_use]
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// The same descriptor for a platform.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Whether this is the attestation manifest that BuildKit puts beside an image: not an image.
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
            || self
                .platform
                .as_ref()
                .is_some_and(|p| p.os == "unknown" && p.architecture == "unknown")
    }
}
