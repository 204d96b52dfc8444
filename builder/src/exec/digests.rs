//! diffIDs in the background: they are wanted when the image's config is written, not before.

use super::board::lock;
use crate::error::BuildError;
use lapstrake_layerstore::digest::{DiffId, ShortId};
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::store::Store;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Works diffIDs out in threads of their own, each layer once.
#[derive(Debug)]
pub(crate) struct Digests {
    store: Arc<Store>,
    under_way: Mutex<BTreeMap<ShortId, JoinHandle<()>>>,
}

impl Digests {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, under_way: Mutex::default() }
    }

    /// Start on a layer unless its diffID is recorded or being worked out. The result is recorded by the
    /// store; an error shows up again when [`Digests::all`] asks.
    pub(crate) fn begin(&self, layer: &Arc<Layer>) {
        if layer.diff_id().is_some() {
            return;
        }
        let mut under_way = lock(&self.under_way);
        under_way.entry(layer.short().clone()).or_insert_with(|| {
            let (store, layer) = (Arc::clone(&self.store), Arc::clone(layer));
            std::thread::spawn(move || {
                let _recorded = store.layers().diff_id(&layer);
            })
        });
    }

    /// The diffIDs of an image's layers, waiting for those that are under way.
    pub(crate) fn all(&self, layers: &[Arc<Layer>]) -> Result<Vec<DiffId>, BuildError> {
        layers
            .iter()
            .map(|layer| {
                let worker = lock(&self.under_way).remove(layer.short());
                if let Some(worker) = worker {
                    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                }
                Ok(self.store.layers().diff_id(layer)?)
            })
            .collect()
    }
}
