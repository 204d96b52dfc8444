//! What was asked for already: within the builds that are under way together, once.

use super::super::together::Once;
use crate::remote::GitRef;
use lapstrake_layerstore::Digest;
use lapstrake_layerstore::layers::Layer;
use std::sync::Arc;

/// Files behind URLs, what refs lead to, and the files of commits.
#[derive(Default)]
pub(crate) struct Fetched {
    pub(super) files: Once<HttpFile>,
    pub(super) refs: Once<GitRef>,
    pub(super) checkouts: Once<GitFiles>,
}

/// A file behind a URL, as far as a key has to know it.
#[derive(Debug, Clone)]
pub(crate) struct HttpFile {
    pub(crate) digest: Digest,
    /// The layer with the file; with a checksum it may not have been fetched yet.
    pub(super) layer: Option<Arc<Layer>>,
}

/// A commit's files.
#[derive(Debug, Clone)]
pub(crate) struct GitFiles {
    pub(crate) layer: Arc<Layer>,
    /// When the commit was made.
    pub(crate) time: i64,
}
