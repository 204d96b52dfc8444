//! The canonical tar of a layer, its diffID, and its compressed forms.

use std::{io::Write, sync::Arc};

use super::{Layer, Layers};
use crate::{DiffId, StoreError, archive::Epoch, compress::Compression, oci::Descriptor};

impl Layers {
    /// The layer's diffID, computed from its canonical tar and recorded if it was not known.
    pub fn diff_id(&self, layer: &Arc<Layer>) -> Result<DiffId, StoreError> {
        self.diff_id_at(layer, None)
    }

    /// The diffID of the layer with its times changed as `epoch` says.
    pub fn diff_id_at(
        &self,
        layer: &Arc<Layer>,
        epoch: Option<Epoch>,
    ) -> Result<DiffId, StoreError> {
        let _ = (layer, epoch);
        unimplemented!()
    }

    /// Writes the layer's tar: the canonical one, or the bytes that it came as.
    pub fn write_tar(
        &self,
        layer: &Arc<Layer>,
        out: &mut dyn Write,
        epoch: Option<Epoch>,
    ) -> Result<(), StoreError> {
        let _ = (layer, out, epoch);
        unimplemented!()
    }

    /// The descriptor of the layer's compressed form, which is in the blobs afterwards.
    ///
    /// Done once for each compression; the diffID is recorded on the way. A layer that came as a
    /// blob keeps that blob unless `compression.force` is set and its codec is another one.
    pub fn compressed(
        &self,
        layer: &Arc<Layer>,
        compression: &Compression,
        epoch: Option<Epoch>,
    ) -> Result<Descriptor, StoreError> {
        let _ = (layer, compression, epoch);
        unimplemented!()
    }
}
