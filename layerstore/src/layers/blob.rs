//! The bytes of single files of a layer, whatever its authoritative form.

use std::{io::Read, sync::Arc};

use super::{Layer, Layers};
use crate::{StoreError, toc::Entry};

impl Layers {
    /// The bytes of the file `entry` of `layer`.
    pub fn open_content(
        &self,
        layer: &Arc<Layer>,
        entry: &Entry,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        let _ = (layer, entry);
        unimplemented!()
    }

    /// Makes the contents of these files of `layer` present in the packs, in one pass.
    pub fn ensure_contents(&self, layer: &Arc<Layer>, entries: &[Entry]) -> Result<(), StoreError> {
        let _ = (layer, entries);
        unimplemented!()
    }
}
