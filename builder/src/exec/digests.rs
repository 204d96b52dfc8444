//! diffIDs and compressed forms in the background: they are wanted when the image's config is written, not before.

use super::ahead::Foreseen;
use super::board::{LayerName, StageResult, lock};
use crate::error::BuildError;
use crate::event::{Event, Observer};
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::compress::Compression;
use lapstrake_layerstore::digest::{DiffId, ShortId};
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::store::Store;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Works them out in threads of their own, each layer once.
#[derive(Debug)]
pub(crate) struct Digests {
    store: Arc<Store>,
    compression: Option<Compression>,
    under_way: Mutex<BTreeMap<ShortId, JoinHandle<Worked>>>,
    /// Those that began before their layers were there.
    foreseen: Mutex<BTreeMap<ShortId, Foreseen>>,
}

/// When a layer was worked on, and for how long.
#[derive(Debug, Clone, Copy)]
struct Worked {
    begun: Instant,
    elapsed: Duration,
    foreseen: bool,
}

impl Digests {
    pub(crate) fn new(store: Arc<Store>, compression: Option<Compression>) -> Self {
        let (under_way, foreseen) = (Mutex::default(), Mutex::default());
        Self { store, compression, under_way, foreseen }
    }

    /// What was begun on a layer before it was there.
    pub(crate) fn foresee(&self, layer: &Arc<Layer>, foreseen: Foreseen) {
        lock(&self.foreseen).insert(layer.short().clone(), foreseen);
    }

    /// Start on a layer unless it is being worked on. What comes out is recorded by the store; an error
    /// shows up again when [`Digests::all`] asks.
    pub(crate) fn begin(&self, layer: &Arc<Layer>, epoch: Option<Epoch>) {
        if self.compression.is_none() && self.store.layers().knows_diff_id(layer, epoch) {
            return;
        }
        let foreseen = lock(&self.foreseen).remove(layer.short());
        let mut under_way = lock(&self.under_way);
        under_way.entry(layer.short().clone()).or_insert_with(|| {
            let (store, layer, compression) =
                (Arc::clone(&self.store), Arc::clone(layer), self.compression);
            std::thread::spawn(move || {
                let begun = foreseen.as_ref().map_or_else(Instant::now, Foreseen::begun);
                let ahead = foreseen.and_then(Foreseen::join);
                let is_it = |ahead| store.layers().adopt_ahead(&layer, ahead).unwrap_or(false);
                // If it is not what was foreseen, it is worked out.
                let foreseen = ahead.is_some_and(is_it);
                let _recorded = match compression {
                    Some(compression) => {
                        store.layers().compressed(&layer, &compression, epoch).map(drop)
                    }
                    None => store.layers().diff_id_at(&layer, epoch).map(drop),
                };
                Worked { begun, elapsed: begun.elapsed(), foreseen }
            })
        });
    }

    /// The diffIDs of an image's layers, waiting for those that are under way.
    pub(crate) fn all(
        &self,
        stage: &StageResult,
        observer: &dyn Observer,
    ) -> Result<Vec<DiffId>, BuildError> {
        let pairs = stage.layers.iter().zip(&stage.names);
        pairs
            .map(|(layer, name)| {
                let worker = lock(&self.under_way).remove(layer.short());
                if let Some(worker) = worker {
                    let worked = worker.join().unwrap_or_else(|p| std::panic::resume_unwind(p));
                    let Worked { begun, elapsed, foreseen } = worked;
                    let (layer, compressed) = (*layer.id(), self.compression.is_some());
                    let event = Event::Digested { layer, begun, elapsed, compressed, foreseen };
                    observer.event(event);
                }
                match name {
                    LayerName::Known(diff_id) => Ok(*diff_id),
                    LayerName::At(epoch) => Ok(self.store.layers().diff_id_at(layer, *epoch)?),
                }
            })
            .collect()
    }
}
