//! What was pushed and is not tagged yet stays: a lease of the store, for as long as somebody pushes.
//!
//! A blob comes before the manifest that names it, and a prune may run in between. A lease keeps
//! everything that is newer than itself, so it must not live as long as the server does: it is
//! taken at the first write and let go when nothing was written for a while.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::digest::{Digest, ShortId};
use lapstrake_layerstore::store::{Lease, Store};

use crate::limits;

/// Holds what was pushed.
#[derive(Debug)]
pub(super) struct Keeper {
    store: Arc<Store>,
    current: Mutex<Option<(Arc<Lease>, Instant)>>,
}

impl Keeper {
    /// Nothing is held yet.
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, current: Mutex::new(None) }
    }

    /// Somebody is pushing: from now on, what is new stays.
    pub(super) fn begin(&self) -> Result<Arc<Lease>, StoreError> {
        let mut current = self.current();
        let lease = match current.take() {
            Some((lease, _)) => lease,
            None => Arc::new(self.store.lease()?),
        };
        *current = Some((Arc::clone(&lease), Instant::now()));
        Ok(lease)
    }

    /// Keeps a blob.
    pub(super) fn hold_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.begin()?.hold_blob(digest)
    }

    /// Keeps a layer.
    pub(super) fn hold_layer(&self, layer: &ShortId) -> Result<(), StoreError> {
        self.begin()?.hold(layer)
    }

    /// Lets everything go if nobody pushed for a while.
    pub(super) fn let_go_if_idle(&self) {
        let mut current = self.current();
        if current.as_ref().is_some_and(|(_, used)| used.elapsed() > limits::SERVER_LEASE_IDLE) {
            *current = None;
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<(Arc<Lease>, Instant)>> {
        self.current.lock().expect("because nothing panics while holding it")
    }
}
