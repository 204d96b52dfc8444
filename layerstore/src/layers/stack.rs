//! Layers as they are mounted over each other.
//!
//! A foreign layer may mean something that only the layers below it tell (see `view/settle.rs`). Its
//! tree over those is a layer of its own: the same blob with another table of contents, named by
//! that table, in no image. It is garbage like any other once nobody uses it.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{BlobForm, Layer, Layers, Origin};
use crate::{
    StoreError,
    toc::Entry,
    view::{self, View},
};

impl Layers {
    /// The layers whose trees, mounted over each other, show what a [`View`] of `layers`, bottom
    /// first, shows.
    ///
    /// Mostly they are those very layers. Take a lease first, as for everything that is made.
    pub fn stack(&self, layers: &[Arc<Layer>]) -> Result<Vec<Arc<Layer>>, StoreError> {
        let mut stacked = Vec::with_capacity(layers.len());
        for (at, layer) in layers.iter().enumerate() {
            // A layer of ours was made to lie where it does.
            let below = match layer.origin() {
                Origin::Blob => View::new(layers[..at].to_vec())?,
                Origin::Packs | Origin::Tree => View::default(),
            };
            if layer.origin() != Origin::Blob || view::lies_well(layer.toc()?, &below) {
                stacked.push(Arc::clone(layer));
            } else {
                stacked.push(self.over(layer, &below)?);
            }
        }
        Ok(stacked)
    }

    /// The foreign layer as it lies over `below`.
    fn over(&self, layer: &Arc<Layer>, below: &View) -> Result<Arc<Layer>, StoreError> {
        let settled = view::settled(layer.toc()?, below)?;
        let id = settled.toc.layer_id();
        if let Some(known) = self.reuse(self.by_id(&id)?)? {
            return Ok(known);
        }
        for (index, source) in below.layers().iter().enumerate() {
            let wanted = settled.copied.iter().filter(|(from, _)| *from == index);
            let wanted: Vec<Entry> =
                wanted.filter_map(|(_, entry)| original(source, entry)).collect();
            self.ensure_contents(source, &wanted)?;
        }
        let staged = self.staging.new_dir()?;
        let blob: Option<BlobForm> = layer.blob().copied();
        self.publish(&staged, id, Origin::Blob, blob, settled.toc)
    }
}

/// The entry of `source` that has the content of `copy`.
fn original(source: &Layer, copy: &Entry) -> Option<Entry> {
    let content = copy.content.filter(|_| copy.size > 0)?;
    let toc = source.toc().ok()?;
    let same = |entry: &&Entry| entry.content == Some(content);
    toc.lookup(&copy.path).filter(same).or_else(|| toc.iter().find(same)).cloned()
}
