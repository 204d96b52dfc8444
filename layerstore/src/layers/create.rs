//! Making layers of ours: from entries whose contents are in packs, and from an overlay's upper.

use std::{path::Path, sync::Arc};

use super::{Layer, Layers, Origin};
use crate::{
    StoreError,
    toc::{Entry, Kind, Toc},
    view::View,
};

/// How an overlay's upper directory becomes a layer.
#[derive(Debug, Clone, Default)]
pub struct UpperOptions {
    /// Paths that are left out: mount points that the runner made in the upper directory.
    pub ignore: Vec<crate::LayerPath>,
}

impl Layers {
    /// The layer with these entries, whose contents are in the packs; the same entries give the
    /// same layer.
    pub fn create(&self, entries: Vec<Entry>) -> Result<Arc<Layer>, StoreError> {
        let toc = Toc::from_entries(entries)?;
        let id = toc.layer_id();
        if let Some(layer) = self.by_id(&id)? {
            return Ok(layer);
        }
        for entry in toc.iter().filter(|entry| entry.kind == Kind::File && entry.size > 0) {
            let known = match &entry.content {
                Some(content) => self.contents.length(content)? == Some(entry.size),
                None => false,
            };
            if !known {
                let content = entry.content.unwrap_or(crate::ContentHash::from_bytes([0; 32]));
                return Err(StoreError::ContentMissing { content, path: entry.path.clone() });
            }
        }
        let staged = self.staging.new_dir()?;
        self.publish(&staged, id, Origin::Packs, None, toc)
    }

    /// The layer that a step made: `upper` is the upper directory of an overlay over `lower`.
    ///
    /// The directory is brought to what the layer's tar says and becomes the layer's tree.
    pub fn create_from_upper(
        &self,
        upper: &Path,
        lower: &View,
        options: &UpperOptions,
    ) -> Result<Arc<Layer>, StoreError> {
        let _ = (upper, lower, options);
        unimplemented!()
    }
}
