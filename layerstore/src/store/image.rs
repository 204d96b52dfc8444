//! Images: a config blob and the layers that it names.
//!
//! An image's id is the digest of its config, which is known without compressing anything. Its
//! manifest is made when someone asks for it, or is the one that it came with: those bytes are kept
//! and handed out again as long as they name the layers in the form that is asked for.

use std::{io, path::Path, sync::Arc};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Annotated, Annotations, IndexRecord, Store, lock, now_unix};
use crate::{
    DiffId, Digest, ShortId, StoreError,
    archive::Epoch,
    compress::Compression,
    layers::Layer,
    limits::{CONFIG_BYTES_MAX, MANIFEST_BYTES_MAX},
    oci::{Descriptor, ImageConfig, Manifest, Platform, media_type},
};

/// What a tag points to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The config: the image's id.
    pub config: Digest,
    /// The layers, bottom first.
    pub layers: Vec<ShortId>,
    /// The manifest that it came with, or was last exported with; its bytes are a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Descriptor>,
    /// What it runs on.
    pub platform: Platform,
    /// When it entered this store, in seconds since 1970.
    pub created_unix: i64,
    /// The images of all platforms, this one's among them, when it stands for several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Box<IndexRecord>>,
}

/// How a manifest is to be made.
#[derive(Debug, Clone)]
pub struct ManifestOptions {
    /// How layers of ours are compressed, and with `force` all.
    pub compression: Compression,
    /// Docker's media types instead of the OCI's.
    pub docker_types: bool,
    /// What is said about manifests and indexes.
    pub annotations: Annotations,
}

impl ManifestOptions {
    /// OCI media types, no annotations.
    pub fn new(compression: Compression) -> Self {
        Self { compression, docker_types: false, annotations: Annotations::default() }
    }
}

impl From<Compression> for ManifestOptions {
    fn from(compression: Compression) -> Self {
        Self::new(compression)
    }
}

impl ImageRecord {
    pub(super) fn new(config: Digest, layers: Vec<ShortId>, parsed: &ImageConfig) -> Self {
        Self {
            config,
            layers,
            manifest: None,
            platform: parsed.platform().normalised(),
            created_unix: now_unix(),
            index: None,
        }
    }

    /// The same image with the manifest that it came with.
    #[must_use]
    pub fn with_manifest(mut self, manifest: Descriptor) -> Self {
        self.manifest = Some(manifest);
        self
    }
}

impl Store {
    /// Keeps an image: stores the bytes of its config, which must name exactly these layers.
    ///
    /// The image has no name yet, and lasts only as long as the caller's [`Lease`](super::Lease).
    pub fn put_image(
        &self,
        config_json: &[u8],
        layers: &[Arc<Layer>],
    ) -> Result<ImageRecord, StoreError> {
        let what = || format!("image config {}", Digest::of(config_json));
        let parsed = ImageConfig::parse(config_json)
            .map_err(|source| StoreError::Document { what: what(), source })?;
        let named = &parsed.rootfs.diff_ids;
        if named.len() != layers.len() {
            let (config, given) = (Digest::of(config_json), layers.len());
            return Err(StoreError::LayerCount { config, named: named.len(), given });
        }
        for (expected, layer) in named.iter().zip(layers) {
            self.check_diff_id(layer, expected)?;
        }
        let config = self.put_touched(config_json)?;
        let layers = layers.iter().map(|layer| layer.short().clone()).collect();
        Ok(ImageRecord::new(config, layers, &parsed))
    }

    /// The layer must have this diffID, at some epoch.
    fn check_diff_id(&self, layer: &Arc<Layer>, expected: &DiffId) -> Result<(), StoreError> {
        if epoch_of(layer, expected)?.is_some() {
            return Ok(());
        }
        let actual = self.layers().diff_id(layer)?;
        if actual == *expected {
            return Ok(());
        }
        Err(StoreError::DiffIdMismatch { expected: *expected, actual })
    }

    /// Stores bytes, and makes their blob young if it was there already, so that no prune that
    /// began after the caller's lease takes it.
    pub(crate) fn put_touched(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let _lock = lock::shared(self.root())?;
        let digest = Digest::of(bytes);
        if self.blobs().has(&digest) {
            touch(&self.blobs().path(&digest))?;
        } else {
            self.blobs().put_bytes(bytes)?;
        }
        Ok(digest)
    }

    /// As [`put_touched`](Self::put_touched), for a file aside whose digest the caller verified.
    pub(crate) fn adopt_touched(&self, file: &Path, digest: &Digest) -> Result<(), StoreError> {
        let _lock = lock::shared(self.root())?;
        if self.blobs().has(digest) {
            return touch(&self.blobs().path(digest));
        }
        self.blobs().adopt(file, digest)
    }

    /// The parsed config of an image.
    pub fn image_config(&self, image: &ImageRecord) -> Result<ImageConfig, StoreError> {
        let bytes = self.config_bytes(image)?;
        let what = || format!("image config {}", image.config);
        ImageConfig::parse(&bytes).map_err(|source| StoreError::Document { what: what(), source })
    }

    /// The exact bytes of an image's config.
    pub fn config_bytes(&self, image: &ImageRecord) -> Result<Vec<u8>, StoreError> {
        self.blobs().get(&image.config, CONFIG_BYTES_MAX)
    }

    /// The layers of an image, bottom first.
    pub fn image_layers(&self, image: &ImageRecord) -> Result<Vec<Arc<Layer>>, StoreError> {
        let layer = |short: &ShortId| {
            let missing = || StoreError::LayerMissing { layer: short.clone() };
            self.layers().get(short)?.ok_or_else(missing)
        };
        image.layers.iter().map(layer).collect()
    }

    /// The layers of an image in the form that is asked for, bottom first: compressed where they
    /// were not yet, each with the epoch that the config's diffID was made with.
    pub fn layer_descriptors(
        &self,
        image: &ImageRecord,
        compression: &Compression,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let layers = self.layers_with_diff_ids(image)?;
        layers
            .par_iter()
            .map(|(layer, diff_id)| self.layer_descriptor(layer, diff_id, compression))
            .collect()
    }

    fn layer_descriptor(
        &self,
        layer: &Arc<Layer>,
        diff_id: &DiffId,
        compression: &Compression,
    ) -> Result<Descriptor, StoreError> {
        let epoch = epoch_of(layer, diff_id)?.and_then(|made| made.0);
        self.layers().compressed(layer, compression, epoch)
    }

    fn layers_with_diff_ids(
        &self,
        image: &ImageRecord,
    ) -> Result<Vec<(Arc<Layer>, DiffId)>, StoreError> {
        let diff_ids = self.image_config(image)?.rootfs.diff_ids;
        Ok(self.image_layers(image)?.into_iter().zip(diff_ids).collect())
    }

    /// The manifest of an image for one platform and its descriptor; the bytes are a blob afterwards.
    pub fn manifest(
        &self,
        image: &ImageRecord,
        options: &ManifestOptions,
    ) -> Result<(Vec<u8>, Descriptor), StoreError> {
        if let Some(known) = self.known_manifest(image, options)? {
            return Ok(known);
        }
        let layers = self.layer_descriptors(image, &options.compression)?;
        let size = self.blobs().size(&image.config);
        let size = size.ok_or(StoreError::BlobMissing { digest: image.config })?;
        let config = Descriptor::new(media_type::OCI_CONFIG, image.config, size);
        let mut manifest = Manifest::image(config, layers);
        manifest.annotations = options.annotations.of(Annotated::Manifest, Some(&image.platform));
        if options.docker_types {
            to_docker(&mut manifest);
        }
        let bytes = manifest.to_json();
        let digest = self.put_touched(&bytes)?;
        let descriptor = Descriptor::new(manifest.media_type, digest, bytes.len() as u64)
            .with_platform(image.platform.clone());
        Ok((bytes, descriptor))
    }

    /// The recorded manifest, if it says what a new one would say, or names the layers as they came.
    fn known_manifest(
        &self,
        image: &ImageRecord,
        options: &ManifestOptions,
    ) -> Result<Option<(Vec<u8>, Descriptor)>, StoreError> {
        let Some(descriptor) = &image.manifest else { return Ok(None) };
        if !options.annotations.is_empty() || !self.blobs().has(&descriptor.digest) {
            return Ok(None);
        }
        let bytes = self.blobs().get(&descriptor.digest, MANIFEST_BYTES_MAX)?;
        let Ok(manifest) = Manifest::parse(&bytes) else { return Ok(None) };
        let is_docker = manifest.media_type == media_type::DOCKER_MANIFEST;
        let is_wanted = manifest.config.digest == image.config
            && (is_docker || !options.docker_types)
            && self.names_layers(&manifest, image, &options.compression)?;
        if !is_wanted {
            return Ok(None);
        }
        let mut descriptor = descriptor.clone();
        descriptor.annotations.clear();
        descriptor.platform = Some(image.platform.clone());
        Ok(Some((bytes, descriptor)))
    }

    fn names_layers(
        &self,
        manifest: &Manifest,
        image: &ImageRecord,
        compression: &Compression,
    ) -> Result<bool, StoreError> {
        let layers = self.layers_with_diff_ids(image)?;
        if layers.len() != manifest.layers.len() {
            return Ok(false);
        }
        let is_named = |((layer, diff_id), named): (&(Arc<Layer>, DiffId), &Descriptor)| {
            let came = layer.blob().is_some_and(|blob| blob.digest == named.digest);
            if came && !compression.force {
                return Ok(true);
            }
            let made = self.layer_descriptor(layer, diff_id, compression)?;
            Ok(made.digest == named.digest)
        };
        let named: Result<Vec<bool>, StoreError> =
            layers.par_iter().zip(&manifest.layers).map(is_named).collect();
        Ok(named?.into_iter().all(|is_named| is_named))
    }

    /// Everything that the image needs must be here.
    pub(super) fn check_complete(&self, image: &ImageRecord) -> Result<(), StoreError> {
        image.every().iter().try_for_each(|image| self.check_one(image))
    }

    fn check_one(&self, image: &ImageRecord) -> Result<(), StoreError> {
        if !self.blobs().has(&image.config) {
            return Err(StoreError::BlobMissing { digest: image.config });
        }
        let there = |short: &ShortId| self.root().join("layers").join(short.as_str()).is_dir();
        match image.layers.iter().find(|short| !there(short)) {
            Some(layer) => Err(StoreError::LayerMissing { layer: layer.clone() }),
            None => Ok(()),
        }
    }
}

/// The epoch that a tar of the layer was made with; none for the times as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MadeAt(pub(crate) Option<Epoch>);

/// How the layer comes to have this diffID, if it is recorded that it has.
pub(crate) fn epoch_of(layer: &Layer, diff_id: &DiffId) -> Result<Option<MadeAt>, StoreError> {
    if layer.diff_id().as_ref() == Some(diff_id) {
        return Ok(Some(MadeAt(None)));
    }
    let directory = layer.directory();
    let error = |error: io::Error| StoreError::io("read", directory)(error);
    for entry in std::fs::read_dir(directory).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        let label = name.to_str().and_then(|name| name.strip_prefix("diff."));
        let Some(epoch) = label.and_then(parse_epoch) else { continue };
        if layer.recorded_diff_id(Some(epoch)).as_ref() == Some(diff_id) {
            return Ok(Some(MadeAt(Some(epoch))));
        }
    }
    Ok(None)
}

fn parse_epoch(label: &str) -> Option<Epoch> {
    let clamp = label.strip_prefix("clamp").and_then(|seconds| seconds.parse().ok());
    let set = label.strip_prefix("set").and_then(|seconds| seconds.parse().ok());
    clamp.map(Epoch::Clamp).or(set.map(Epoch::Set))
}

/// Makes what is at `path` young; false if it is gone. Under the shared lock, so that no prune has
/// decided to take it.
pub(crate) fn make_young(root: &Path, path: &Path) -> Result<bool, StoreError> {
    let _lock = lock::shared(root)?;
    match touch(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}

/// Gives a file the present time of the file system.
pub(super) fn touch(path: &Path) -> Result<(), StoreError> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    utimensat(CWD, path, &times, AtFlags::empty()).map_err(StoreError::io("touch", path))
}

/// Docker's names for the same things (S-92: converted by media type only).
fn to_docker(manifest: &mut Manifest) {
    manifest.media_type = media_type::DOCKER_MANIFEST.into();
    manifest.config.media_type = media_type::DOCKER_CONFIG.into();
    for layer in &mut manifest.layers {
        layer.media_type = match layer.media_type.as_str() {
            media_type::OCI_LAYER_GZIP => media_type::DOCKER_LAYER_GZIP.into(),
            media_type::OCI_LAYER_ZSTD => media_type::DOCKER_LAYER_ZSTD.into(),
            media_type::OCI_LAYER => media_type::DOCKER_LAYER.into(),
            other => other.to_owned(),
        };
    }
}
