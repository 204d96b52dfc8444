//! An index (docker: manifest list): several manifests under one name.

use serde::{Deserialize, Serialize};

use super::{
    Descriptor, DocumentError, Head, Platform, StringMap, media_type, null_default, parse_with_head,
};
use crate::limits;

/// An index, in the field order of the Go struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// OCI indexes may leave it out; then it is empty here.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The type of an artifact that is not an image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "StringMap::is_empty"
    )]
    pub annotations: StringMap,
}

impl Index {
    /// An OCI index over these manifests.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.into(),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: StringMap::new(),
        }
    }

    /// Parses an index; bounded, and checked for what lap relies on.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        parse_with_head("image index", bytes, media_type::is_index, |index: &Self| Head {
            schema_version: index.schema_version,
            media_type: &index.media_type,
            blobs: (index.manifests.len(), limits::INDEX_MANIFESTS_MAX),
        })
    }

    /// The bytes that lap writes: indented by two spaces, as BuildKit does.
    pub fn to_json(&self) -> Vec<u8> {
        super::json::indented(self)
    }

    /// The manifest that suits the platform best; attestations are never chosen, and the only image
    /// of an index that names no platform is taken as it is.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let images: Vec<&Descriptor> =
            self.manifests.iter().filter(|found| !found.is_attestation()).collect();
        let platforms: Vec<Platform> =
            images.iter().map(|found| found.platform.clone().unwrap_or_default()).collect();
        if let Some(best) = platform.choose(&platforms) {
            return Some(images[best]);
        }
        match images.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        }
    }
}
