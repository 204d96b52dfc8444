//! Manifests coming in: what is pushed becomes an image of the store, usable at once.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::LOCATION;
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::digest::Digest;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::oci::{Descriptor, ImageConfig, Index, Manifest, media_type};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::ImageRecord;

use super::read::{CONTENT_DIGEST, media_type_of};
use super::reply::Reply;
use super::route::Target;
use super::{State, names};
use crate::limits;
use crate::manifest::chain;
use crate::pull::store_fault;

/// Why a manifest is not taken.
enum Refusal {
    /// Not a manifest that we can hold.
    Invalid(String),
    /// It names something that was not uploaded before it.
    Missing(Digest),
    /// Its digest is not the one it was pushed under.
    Digest(Digest),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// `PUT /v2/<name>/manifests/<target>`.
pub(super) fn manifest(
    state: &State,
    name: &str,
    target: &Target,
    bytes: &[u8],
) -> Result<Reply, StoreError> {
    let digest = Digest::of(bytes);
    match take(state, name, target, bytes, digest) {
        Ok(()) => Ok(Reply::empty(StatusCode::CREATED)
            .header(LOCATION, format!("/v2/{name}/manifests/{digest}"))
            .header(CONTENT_DIGEST, digest.to_string())),
        Err(Refusal::Invalid(why)) => {
            Ok(Reply::error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", &why))
        }
        Err(Refusal::Missing(blob)) => {
            let message = format!("{blob} is not here");
            Ok(Reply::error(StatusCode::NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", &message))
        }
        Err(Refusal::Digest(actual)) => {
            let message = format!("the manifest has the digest {actual}");
            Ok(Reply::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &message))
        }
        Err(Refusal::Store(error)) => Err(error),
    }
}

fn take(
    state: &State,
    name: &str,
    target: &Target,
    bytes: &[u8],
    digest: Digest,
) -> Result<(), Refusal> {
    if let Target::Digest(pinned) = target
        && *pinned != digest
    {
        return Err(Refusal::Digest(digest));
    }
    let kind = media_type_of(bytes)
        .ok_or_else(|| Refusal::Invalid("it is neither an image manifest nor an index".into()))?;
    let tag = match target {
        Target::Tag(tag) => Some(reference(name, tag)?),
        Target::Digest(_) => None,
    };
    let image = if media_type::is_index(&kind) {
        index(state, &kind, bytes, digest, tag.is_some())?
    } else {
        image(state, &kind, bytes, digest, tag.is_some())?
    };
    state.store.blobs().put_bytes(bytes)?;
    state.keeper.hold_blob(&digest)?;
    if let (Some(reference), Some(image)) = (tag, image) {
        state.store.tag(&reference, &image)?;
    }
    Ok(())
}

fn reference(name: &str, tag: &str) -> Result<Reference, Refusal> {
    let wrong = || Refusal::Invalid(format!("{name}:{tag} is not a name and tag"));
    names::pushed(name, tag).ok_or_else(wrong)
}

/// What a manifest names was pushed before it.
fn are_here<'a>(
    state: &State,
    named: impl IntoIterator<Item = &'a Descriptor>,
) -> Result<(), Refusal> {
    let mut digests = named.into_iter().map(|descriptor| descriptor.digest);
    match digests.find(|digest| !state.store.blobs().has(digest)) {
        Some(absent) => Err(Refusal::Missing(absent)),
        None => Ok(()),
    }
}

/// An image: its layers enter the store as layers. What is no image (an attestation beside one) is
/// kept as a blob if nobody wants to call it by a tag.
fn image(
    state: &State,
    kind: &str,
    bytes: &[u8],
    digest: Digest,
    tagged: bool,
) -> Result<Option<ImageRecord>, Refusal> {
    let manifest = Manifest::parse(bytes).map_err(|error| Refusal::Invalid(chain(&error)))?;
    are_here(state, manifest.layers.iter().chain([&manifest.config]))?;
    if !manifest.is_image() {
        let why = "only images can be tagged here, other artifacts are kept by digest";
        return if tagged { Err(Refusal::Invalid(why.into())) } else { Ok(None) };
    }
    let config = state.store.blobs().get(&manifest.config.digest, limits::CONFIG_BYTES)?;
    let layers = match layers(state, &manifest, &config) {
        // BuildKit's attestations have the config of an image and layers that are no tars.
        Err(Refusal::Invalid(_)) if !tagged => return Ok(None),
        other => other?,
    };
    let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
    state.store.blobs().put_bytes(bytes)?;
    Ok(Some(state.store.put_image(&config, &layers)?.with_manifest(descriptor)))
}

fn layers(state: &State, manifest: &Manifest, config: &[u8]) -> Result<Vec<Arc<Layer>>, Refusal> {
    let config = ImageConfig::parse(config).map_err(|error| Refusal::Invalid(chain(&error)))?;
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(Refusal::Invalid("manifest and config have not as many layers".into()));
    }
    let store = state.store.layers();
    let pairs = manifest.layers.iter().zip(&config.rootfs.diff_ids);
    pairs
        .map(|(descriptor, diff_id)| {
            let layer = match store.ready(store.by_diff_id(diff_id)?)? {
                Some(known) => known,
                None => store.import_blob(&descriptor.digest, Some(*diff_id)).map_err(refuse)?,
            };
            state.keeper.hold_layer(layer.short())?;
            Ok(layer)
        })
        .collect()
}

/// Tells the pusher's faults from the store's.
fn refuse(error: StoreError) -> Refusal {
    match error {
        StoreError::Mismatch { .. }
        | StoreError::DiffIdMismatch { .. }
        | StoreError::Archive(_)
        | StoreError::Stream { .. } => Refusal::Invalid(chain(&store_fault(error))),
        other => Refusal::Store(other),
    }
}

/// An index: its tag means the images of all platforms in it. Attestations beside them are kept as
/// blobs, by digest.
fn index(
    state: &State,
    kind: &str,
    bytes: &[u8],
    digest: Digest,
    tagged: bool,
) -> Result<Option<ImageRecord>, Refusal> {
    let index = Index::parse(bytes).map_err(|error| Refusal::Invalid(chain(&error)))?;
    are_here(state, &index.manifests)?;
    if !tagged {
        return Ok(None);
    }
    let entries: Vec<_> = index.manifests.iter().filter(|entry| !entry.is_attestation()).collect();
    if entries.len() > limits::PLATFORMS {
        let why = format!("an index of more than {} images cannot be tagged", limits::PLATFORMS);
        return Err(Refusal::Invalid(why));
    }
    let mut images = Vec::new();
    for entry in entries {
        let bytes = state.store.blobs().get(&entry.digest, limits::MANIFEST_BYTES)?;
        let kind = media_type_of(&bytes).unwrap_or_default();
        if !media_type::is_manifest(&kind) {
            return Err(Refusal::Invalid("an index in an index cannot be tagged here".into()));
        }
        images.extend(image(state, &kind, &bytes, entry.digest, true)?);
    }
    if images.is_empty() {
        return Err(Refusal::Invalid("there is no image in the index".into()));
    }
    let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
    Ok(Some(ImageRecord::joined(images).with_index(descriptor)))
}
