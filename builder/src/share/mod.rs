//! Results of steps that several stores share: `--cache-to` and `--cache-from`.
//!
//! ```text
//! build ▶ steps with keys and layers ▶ export ▶ SharedCache ▶ find ▶ verified ▶ layer of another store
//! ```
//! A cache is asked for a key that the store itself does not know. What it brings is foreign: the bytes must
//! have the digest that the record names, and the files in them must come to the layer's id; then the step
//! counts as found. That a key belongs to a layer, a cache can only assert, so who may write it is trusted
//! as far as who may build.
//!
//! *Invariant:* nothing of this fails a build. A fault is a warning, and the step is executed.

mod directory;
#[cfg(test)]
mod tests;

pub use directory::DirectoryCache;

use crate::event::{Event, Observer};
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::compress::Compression;
use lapstrake_layerstore::digest::LayerId;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::oci::Descriptor;
use lapstrake_layerstore::store::{CacheKey, Store};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

/// A place that results are shared through: a directory, a registry, an object store.
///
/// `get` is called from several threads, before every step that the store does not know; a driver with a
/// long way to its place reads what it knows once and answers from memory.
pub trait SharedCache: Send + Sync + Debug {
    /// What it is called in messages.
    fn name(&self) -> String;

    /// The result of a key.
    fn get(&self, key: &CacheKey) -> Result<Option<SharedStep>, ShareError>;

    /// The bytes of a layer.
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>, ShareError>;

    /// Keeps the bytes of a layer, unless they are there; they come before the step that names them.
    fn put_blob(&self, blob: &Descriptor, data: &mut (dyn Read + Send)) -> Result<(), ShareError>;

    /// Keeps the result of a key.
    fn put(&self, key: &CacheKey, step: &SharedStep) -> Result<(), ShareError>;
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedStep {
    /// The layer.
    pub layer: LayerId,
    /// Its canonical tar, compressed.
    pub blob: Descriptor,
    /// When it was made, in seconds since 1970: the image's history says so.
    pub created_unix: i64,
    /// The step in words.
    pub step: String,
}

/// Why a cache could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// There is none.
    #[error("there is no cache in {name}: {why}")]
    NoCache {
        /// The place.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A file or object could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A record is not what was written.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
    },
    /// A layer is not what the record says, or the store failed.
    #[error("cannot take the layer of `{step}`")]
    Layer {
        /// The step.
        step: String,
        /// Why.
        #[source]
        source: StoreError,
    },
}

impl ShareError {
    /// The error with its causes on one line.
    pub fn in_words(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// A step of a build that is done.
#[derive(Debug, Clone)]
pub struct MadeStep {
    /// Its key.
    pub key: CacheKey,
    /// What it made.
    pub layer: Arc<Layer>,
    /// When, in seconds since 1970.
    pub created_unix: i64,
    /// The step in words.
    pub step: String,
    /// Whether its layer is one of the image's.
    pub in_image: bool,
}

/// Puts results into a cache; the layers are compressed where they were not yet.
pub fn export<'s>(
    steps: impl IntoIterator<Item = &'s MadeStep>,
    store: &Store,
    cache: &dyn SharedCache,
    compression: &Compression,
) -> Result<(), ShareError> {
    for made in steps {
        let wrong = |source| ShareError::Layer { step: made.step.clone(), source };
        // Times as they are: the canonical tar with them is what the layer's id is made of.
        let blob = store.layers().compressed(&made.layer, compression, None).map_err(wrong)?;
        let mut data = store.blobs().open_blob(&blob.digest).map_err(wrong)?;
        cache.put_blob(&blob, &mut data)?;
        let (step, created_unix) = (made.step.clone(), made.created_unix);
        let shared = SharedStep { layer: *made.layer.id(), blob, created_unix, step };
        cache.put(&made.key, &shared)?;
    }
    Ok(())
}

/// What one of the caches has for a key, as a layer of the store; the first that has it counts.
pub(crate) fn find(
    caches: &[Arc<dyn SharedCache>],
    key: &CacheKey,
    store: &Store,
    observer: &dyn Observer,
) -> Option<(Arc<Layer>, SharedStep)> {
    caches.iter().find_map(|cache| match take(&**cache, key, store) {
        Ok(found) => found,
        Err(error) => {
            let message = format!("the cache {}: {}", cache.name(), error.in_words());
            observer.event(Event::Warning { message });
            None
        }
    })
}

fn take(
    cache: &dyn SharedCache,
    key: &CacheKey,
    store: &Store,
) -> Result<Option<(Arc<Layer>, SharedStep)>, ShareError> {
    let Some(step) = cache.get(key)? else { return Ok(None) };
    let wrong = |source| ShareError::Layer { step: step.step.clone(), source };
    let layers = store.layers();
    let here = layers.by_id(&step.layer).and_then(|found| layers.ready(found)).map_err(wrong)?;
    let layer = if let Some(layer) = here {
        layer
    } else {
        let mut data = cache.open(&step.blob)?;
        let blob = (step.blob.digest, step.blob.size);
        layers.import_own(&mut data, blob, &step.layer).map_err(wrong)?
    };
    Ok(Some((layer, step)))
}
