//! `meta.json`: what a layer's directory says about itself, beside its TOC.

use serde::{Deserialize, Serialize};

use crate::{Digest, LayerId};

/// The version of the layer directory's format.
pub const LAYER_VERSION: u32 = 1;

/// What the authoritative form of a layer is (design §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The TOC, its contents in packs: made by COPY, ADD and the like.
    Packs,
    /// The tree: made by RUN.
    Tree,
    /// The bytes as they came: pulled, loaded, imported.
    Blob,
}

/// The fields of `meta.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub version: u32,
    pub id: LayerId,
    pub origin: Origin,
    /// For [`Origin::Blob`]: the bytes as they came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobForm>,
    pub created_unix: i64,
    /// The boot in which the layer was made; what was made in another one and is not marked
    /// durable is verified before use.
    pub boot_id: String,
    pub durable: bool,
}

/// The blob that a layer came as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobForm {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
    /// How it is compressed.
    pub codec: crate::compress::Codec,
}
