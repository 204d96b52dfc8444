//! Deriving a layer's tree.

use std::{path::PathBuf, sync::Arc};

use super::{Layer, Layers};
use crate::StoreError;

impl Layers {
    /// The layer's tree in overlayfs's own form, made if it is not there.
    pub fn tree(&self, layer: &Arc<Layer>) -> Result<PathBuf, StoreError> {
        let _ = layer;
        unimplemented!()
    }
}
