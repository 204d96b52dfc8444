//! The manifest of one image, OCI or docker schema 2 (the two differ only in media types).

use serde::{Deserialize, Serialize};

use super::{
    Descriptor, DocumentError, Head, StringMap, media_type, null_default, parse_with_head,
};
use crate::limits;

/// A manifest, in the field order of the Go struct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always 2.
    #[serde(rename = "schemaVersion")]
    pub schema_version: u32,
    /// OCI manifests may leave it out; then it is empty here.
    #[serde(rename = "mediaType", default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The type of an artifact that is not an image.
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
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

impl Manifest {
    /// An OCI image manifest.
    pub fn image(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.into(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: StringMap::new(),
        }
    }

    /// Parses the manifest of an image; bounded, and checked for what lap relies on.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        parse_with_head("image manifest", bytes, media_type::is_manifest, |manifest: &Self| Head {
            schema_version: manifest.schema_version,
            media_type: &manifest.media_type,
            blobs: (manifest.layers.len(), limits::IMAGE_LAYERS_MAX),
        })
    }

    /// The bytes that lap writes: indented by two spaces, as BuildKit does.
    pub fn to_json(&self) -> Vec<u8> {
        super::json::indented(self)
    }

    /// Whether this is an image that can be run, not an artifact or an attestation.
    pub fn is_image(&self) -> bool {
        media_type::is_image_config(&self.config.media_type)
            && self.layers.iter().all(|layer| media_type::is_layer(&layer.media_type))
    }
}
