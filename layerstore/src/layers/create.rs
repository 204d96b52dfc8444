//! Making layers of ours: from entries whose contents are in packs, and from an overlay's upper.

use std::{path::Path, sync::Arc};

use super::{Layer, Layers, Origin};
use crate::{
    ContentHash, LayerPath, StoreError,
    pipe::join,
    toc::{Entry, Kind, Toc},
    upper::{self, KEPT_XATTR},
    view::View,
};

/// With fewer entries another thread costs more than it brings.
const ENTRIES_PER_THREAD_MIN: usize = 1000;

/// How an overlay's upper directory becomes a layer.
#[derive(Debug, Clone, Default)]
pub struct UpperOptions {
    /// Mount points that the runner made: left out if they are empty and new.
    pub stubs: Vec<LayerPath>,
}

impl Layers {
    /// The layer with these entries, whose contents are in the packs; the same entries give the
    /// same layer.
    ///
    /// Of extended attributes only `security.capability` is kept (S-81).
    pub fn create(&self, entries: Vec<Entry>) -> Result<Arc<Layer>, StoreError> {
        let toc = Toc::from_entries(normal(entries))?;
        let (id, are_here) = if toc.len() < ENTRIES_PER_THREAD_MIN {
            (toc.layer_id(), self.promise_contents(&toc))
        } else {
            std::thread::scope(|scope| {
                let id = scope.spawn(|| toc.layer_id());
                let are_here = self.promise_contents(&toc);
                (join(id), are_here)
            })
        };
        if let Some(layer) = self.reuse(self.by_id(&id)?)? {
            return Ok(layer);
        }
        are_here?;
        let staged = self.staging.new_dir()?;
        self.publish(&staged, id, Origin::Packs, None, toc)
    }

    /// An error if a content that is listed is not here; none of them goes while a lease lives.
    fn promise_contents(&self, toc: &Toc) -> Result<(), StoreError> {
        for entry in toc.iter().filter(|entry| entry.kind == Kind::File && entry.size > 0) {
            let known = match &entry.content {
                Some(content) => self.contents.promise(content)? == Some(entry.size),
                None => false,
            };
            if !known {
                let content = entry.content.unwrap_or(ContentHash::from_bytes([0; 32]));
                return Err(StoreError::ContentMissing { content, path: entry.path.clone() });
            }
        }
        Ok(())
    }

    /// The layer that a step made: `upper` is the upper directory of an overlay over `lower`.
    ///
    /// The directory is brought to what the layer's tar says and becomes the layer's tree; it must
    /// be on the store's file system and not be mounted any more.
    pub fn create_from_upper(
        &self,
        upper: &Path,
        lower: &View,
        options: &UpperOptions,
    ) -> Result<Arc<Layer>, StoreError> {
        let changes = upper::compare(upper, lower, &options.stubs)?;
        upper::settle(upper, &changes)?;
        let toc = Toc::from_entries(changes.entries)?;
        let id = toc.layer_id();
        if let Some(layer) = self.reuse(self.by_id(&id)?)? {
            return Ok(layer);
        }
        let staged = self.staging.new_dir()?;
        let tree = staged.join("tree");
        std::fs::rename(upper, &tree).map_err(StoreError::io("take over", upper))?;
        self.publish(&staged, id, Origin::Tree, None, toc)
    }
}

/// Without what a layer of ours does not keep.
pub(super) fn normal(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        entry.mtime_nanos = 0;
        entry.tar_offset = None;
        entry.xattrs.retain(|(name, _)| name == KEPT_XATTR);
    }
    entries
}
