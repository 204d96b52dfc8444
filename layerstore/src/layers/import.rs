//! Layers that come as tars.

use std::{io::Read, sync::Arc};

use super::{Layer, Layers};
use crate::{DiffId, Digest, StoreError};

/// What a layer's bytes were promised to be; what is `None` is not checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// Digest and size of the bytes as they come.
    pub blob: Option<(Digest, u64)>,
    /// sha256 of the uncompressed tar.
    pub diff_id: Option<DiffId>,
}

impl Layers {
    /// Takes a layer as it comes: gzip, zstd or plain.
    ///
    /// One pass: the bytes are stored exactly, the table of contents is made, both digests are
    /// verified. Nothing stays if anything is wrong.
    pub fn import_tar(
        &self,
        reader: &mut (dyn Read + Send),
        expected: Expected,
    ) -> Result<Arc<Layer>, StoreError> {
        let _ = (reader, expected);
        unimplemented!()
    }

    /// As [`import_tar`](Self::import_tar), for a blob that is in the store already and verified.
    pub fn import_blob(
        &self,
        blob: &Digest,
        diff_id: Option<DiffId>,
    ) -> Result<Arc<Layer>, StoreError> {
        let _ = (blob, diff_id);
        unimplemented!()
    }
}
