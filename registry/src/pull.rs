//! Pulling: what the store lacks comes over the network, once, and is verified on the way in.
//!
//! ```text
//! name ▶ index? ▶ manifest ▶ config ▶ per layer: diffID known? ── yes: nothing to do
//!                                               └ no: stream ▶ Layers::import_tar (both digests)
//! ```
//!
//! The config comes before any layer, because it names the diffIDs: a layer that was built here,
//! or came compressed otherwise, is not fetched again. Layers stream straight into the store; a
//! layer that turns out wrong leaves nothing there, and an image is recorded only when complete.
//! (Layers that came whole before another failed stay until the next prune: trying again is cheap.)

use std::collections::BTreeMap;
use std::sync::Arc;

use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::digest::{DiffId, Digest};
use lapstrake_layerstore::layers::{Expected, Layer, Purpose};
use lapstrake_layerstore::oci::{Descriptor, ImageConfig, Platform, media_type};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::source::Seen;
use lapstrake_layerstore::store::{ImageRecord, Lease, Store};

use crate::client::{Client, Session};
use crate::download::BlobReader;
use crate::error::{Fault, Operation, RegistryError};
use crate::limits;
use crate::manifest::{self, Every, Fetched, chain};
use crate::parallel::{self, Stop};
use crate::progress::{Event, Outcome, Part, Progress, Silent};
use crate::token::Scopes;

impl Client {
    /// Fetches an image into the store; what is there already is not fetched. The image is not
    /// tagged: what it is called is the caller's business. `lease` keeps it from the collector.
    pub fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        lease: &Lease,
        progress: &dyn Progress,
    ) -> Result<ImageRecord, RegistryError> {
        self.pull_for(reference, platform, (store, lease), Purpose::Keep, progress)
    }

    /// As [`pull`](Self::pull), with what the layers come for.
    pub fn pull_for(
        &self,
        reference: &Reference,
        platform: &Platform,
        (store, lease): (&Store, &Lease),
        purpose: Purpose,
        progress: &dyn Progress,
    ) -> Result<ImageRecord, RegistryError> {
        let scopes = Scopes::pull(reference.repository());
        let session = self.session(reference, Operation::Pull, scopes, progress)?;
        let fetched = manifest::fetch(&session, reference, platform)?;
        let pull = Pull { session: &session, store, lease, purpose };
        pull.image(&fetched)
    }

    /// Fetches the images of all platforms into the store, as one; an image that stands in no index
    /// is fetched as it is.
    pub fn pull_all(
        &self,
        reference: &Reference,
        store: &Store,
        lease: &Lease,
        progress: &dyn Progress,
    ) -> Result<ImageRecord, RegistryError> {
        let scopes = Scopes::pull(reference.repository());
        let session = self.session(reference, Operation::Pull, scopes, progress)?;
        let pull = Pull { session: &session, store, lease, purpose: Purpose::Keep };
        let (index, every) = match manifest::fetch_all(&session, reference)? {
            Every::One(fetched) => return pull.image(&fetched),
            Every::Index(index, every) => (index, every),
        };
        let images = every.iter().map(|fetched| pull.image(fetched));
        let images = images.collect::<Result<Vec<_>, _>>()?;
        let kept = store.blobs().put_bytes(&index.bytes);
        kept.and_then(|(digest, _)| lease.hold_blob(&digest)).map_err(|error| {
            session
                .error(Some(&format!("manifest {}", index.descriptor.digest)), store_fault(error))
        })?;
        Ok(ImageRecord::joined(images).with_index(index.descriptor))
    }

    /// Finds out which manifest a reference means for a platform now; nothing is stored.
    pub fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Digest, RegistryError> {
        let scopes = Scopes::pull(reference.repository());
        let session = self.session(reference, Operation::Resolve, scopes, &Silent)?;
        Ok(manifest::fetch(&session, reference, platform)?.descriptor.digest)
    }

    /// Finds out what an image is now: its manifest's digest and its config. Nothing is stored.
    pub fn look(&self, reference: &Reference, platform: &Platform) -> Result<Seen, RegistryError> {
        let scopes = Scopes::pull(reference.repository());
        let session = self.session(reference, Operation::Resolve, scopes, &Silent)?;
        let fetched = manifest::fetch(&session, reference, platform)?;
        let object = format!("manifest {}", fetched.descriptor.digest);
        check_is_image(&fetched).map_err(|fault| session.error(Some(&object), fault))?;
        let descriptor = &fetched.manifest.config;
        let config_bytes = fetch_config(&session, descriptor)?;
        let (manifest, config) = (fetched.descriptor.digest, descriptor.digest);
        Ok(Seen { manifest, config, config_bytes })
    }
}

/// The config's bytes from the registry, verified.
fn fetch_config(session: &Session<'_>, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
    let (digest, size) = (descriptor.digest, descriptor.size);
    let object = format!("config {digest}");
    let wrong = |fault| session.error(Some(&object), fault);
    if size > limits::CONFIG_BYTES {
        return Err(wrong(Fault::TooLarge { limit: limits::CONFIG_BYTES }));
    }
    let stop = Stop::default();
    let mut reader = BlobReader::new(session, &stop, Part::Config, digest, size);
    let mut bytes = Vec::new();
    if let Err(error) = std::io::Read::read_to_end(&mut reader, &mut bytes) {
        let other = || wrong(Fault::Connection(error));
        return Err(reader.take_failure().unwrap_or_else(other));
    }
    let actual = Digest::of(&bytes);
    if actual != digest {
        let (expected, actual) = (digest.to_string(), actual.to_string());
        return Err(wrong(Fault::Digest { expected, actual }));
    }
    Ok(bytes)
}

/// One pull under way.
struct Pull<'a> {
    session: &'a Session<'a>,
    store: &'a Store,
    lease: &'a Lease,
    purpose: Purpose,
}

/// A layer to have: its blob on the registry and what it is uncompressed.
#[derive(Debug)]
struct Wanted {
    descriptor: Descriptor,
    diff_id: DiffId,
}

impl Pull<'_> {
    fn image(&self, fetched: &Fetched) -> Result<ImageRecord, RegistryError> {
        let object = format!("manifest {}", fetched.descriptor.digest);
        let wrong = |fault| self.session.error(Some(&object), fault);
        check_is_image(fetched).map_err(wrong)?;
        let config = self.config(&fetched.manifest.config)?;
        let wanted = pair(&fetched.manifest.layers, &config).map_err(wrong)?;
        let layers = self.layers(&wanted)?;
        self.record(fetched, &config, &layers).map_err(|error| wrong(store_fault(error)))
    }

    /// The image and the manifest that it came with.
    fn record(
        &self,
        fetched: &Fetched,
        config: &[u8],
        layers: &[Arc<Layer>],
    ) -> Result<ImageRecord, StoreError> {
        let (digest, _) = self.store.blobs().put_bytes(&fetched.bytes)?;
        self.lease.hold_blob(&digest)?;
        let image = self.store.put_image(config, layers)?;
        Ok(image.with_manifest(fetched.descriptor.clone()))
    }

    /// The config's bytes, from the store or the registry.
    fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let (digest, size) = (descriptor.digest, descriptor.size);
        self.session.tell(Event::Started { digest, part: Part::Config, size });
        // A blob of the store that cannot be read is fetched again; fsck tells about it.
        if let Ok(bytes) = self.store.blobs().get(&digest, limits::CONFIG_BYTES) {
            self.session.tell(Event::Done { digest, outcome: Outcome::Present });
            return Ok(bytes);
        }
        let bytes = fetch_config(self.session, descriptor)?;
        self.session.tell(Event::Done { digest, outcome: Outcome::Downloaded });
        Ok(bytes)
    }

    /// All layers, in order; those that appear twice are fetched once.
    fn layers(&self, wanted: &[Wanted]) -> Result<Vec<Arc<Layer>>, RegistryError> {
        let distinct: BTreeMap<DiffId, &Wanted> =
            wanted.iter().map(|layer| (layer.diff_id, layer)).collect();
        let distinct: Vec<&Wanted> = distinct.into_values().collect();
        let jobs = self.session.client().jobs();
        let found = parallel::map(jobs, &distinct, |layer, stop| {
            self.layer(layer, stop).map(|found| (layer.diff_id, found))
        })?;
        let found: BTreeMap<DiffId, Arc<Layer>> = found.into_iter().collect();
        Ok(wanted.iter().map(|layer| Arc::clone(&found[&layer.diff_id])).collect())
    }

    /// One layer: known, or streamed in.
    fn layer(&self, wanted: &Wanted, stop: &Stop) -> Result<Arc<Layer>, RegistryError> {
        let (digest, size) = (wanted.descriptor.digest, wanted.descriptor.size);
        let object = format!("layer {digest}");
        let wrong = |fault| self.session.error(Some(&object), fault);
        let part = Part::Layer;
        self.session.tell(Event::Started { digest, part, size });
        if let Some(known) = self.known(wanted).map_err(|error| wrong(store_fault(error)))? {
            self.session.tell(Event::Done { digest, outcome: Outcome::Present });
            return Ok(known);
        }
        let expected = Expected { blob: Some((digest, size)), diff_id: Some(wanted.diff_id) };
        let mut reader = BlobReader::new(self.session, stop, part, digest, size);
        let imported = self.store.layers().import_tar_for(&mut reader, expected, self.purpose);
        let layer = imported
            .map_err(|error| reader.take_failure().unwrap_or_else(|| wrong(store_fault(error))))?;
        self.hold(&layer).map_err(|error| wrong(store_fault(error)))?;
        self.session.tell(Event::Done { digest, outcome: Outcome::Downloaded });
        Ok(layer)
    }

    /// The layer, if the store has it; it is held before it is looked at a last time, so that the
    /// collector cannot come in between.
    fn known(&self, wanted: &Wanted) -> Result<Option<Arc<Layer>>, StoreError> {
        let layers = self.store.layers();
        let found = layers.ready(layers.by_diff_id(&wanted.diff_id)?)?;
        let Some(layer) = found else { return Ok(None) };
        self.hold(&layer)?;
        layers.by_diff_id(&wanted.diff_id)
    }

    fn hold(&self, layer: &Arc<Layer>) -> Result<(), StoreError> {
        self.lease.hold(layer.short())
    }
}

/// Refuses artifacts that are no images, and sizes beyond any image.
fn check_is_image(fetched: &Fetched) -> Result<(), Fault> {
    let manifest = &fetched.manifest;
    if !media_type::is_image_config(&manifest.config.media_type) {
        let kind = crate::error::clean(&manifest.config.media_type);
        return Err(Fault::Malformed(format!("it is no image: its config is of type {kind}")));
    }
    if let Some(odd) = manifest.layers.iter().find(|layer| !media_type::is_layer(&layer.media_type))
    {
        let kind = crate::error::clean(&odd.media_type);
        return Err(Fault::Malformed(format!("a layer is of type {kind}, which is not known")));
    }
    if manifest.layers.len() > limits::LAYERS {
        return Err(Fault::Malformed(format!("it has more than {} layers", limits::LAYERS)));
    }
    if manifest.layers.iter().any(|layer| layer.size > limits::BLOB_BYTES) {
        return Err(Fault::TooLarge { limit: limits::BLOB_BYTES });
    }
    Ok(())
}

/// Brings the manifest's blobs and the config's diffIDs together.
fn pair(layers: &[Descriptor], config: &[u8]) -> Result<Vec<Wanted>, Fault> {
    let config = ImageConfig::parse(config).map_err(|error| {
        Fault::Malformed(format!("the image config cannot be read: {}", chain(&error)))
    })?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err(Fault::Malformed(format!(
            "the manifest has {} layers and the config {}",
            layers.len(),
            diff_ids.len()
        )));
    }
    let pairs = layers.iter().zip(diff_ids);
    Ok(pairs.map(|(layer, diff_id)| Wanted { descriptor: layer.clone(), diff_id }).collect())
}

/// What a failure to take a layer says about whose fault it is.
pub(crate) fn store_fault(error: StoreError) -> Fault {
    match error {
        StoreError::Mismatch { expected, expected_size, actual, actual_size } => {
            if expected == actual || actual_size > expected_size {
                return Fault::Size { expected: expected_size, actual: actual_size };
            }
            Fault::Digest { expected: expected.to_string(), actual: actual.to_string() }
        }
        StoreError::DiffIdMismatch { expected, actual } => {
            Fault::Digest { expected: expected.to_string(), actual: actual.to_string() }
        }
        // The reader's own failures are reported by themselves, so a stream that cannot be read
        // here is one that cannot be decompressed.
        error @ (StoreError::Archive(_) | StoreError::Stream { .. }) => {
            Fault::Content(Box::new(error))
        }
        other => Fault::Store(Box::new(other)),
    }
}
