//! Who owns which bytes of the store.
//!
//! Sizes are what the disk gives (`st_blocks`), and a file with several names counts once, where it
//! is met first; so the parts add up to what `du -s` says of the root.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::Serialize;

use super::{Store, gc, mounts};
use crate::{
    Digest, ShortId, StoreError,
    layers::{Layer, Origin},
    reference::Reference,
};

/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// The bytes of a store, by owner.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Usage {
    /// Everything below the root.
    pub total: u64,
    /// By name.
    pub images: Vec<ImageUsage>,
    /// By layer; tags and records share them.
    pub layers: Vec<LayerUsage>,
    /// Blobs that belong to no layer: configs, manifests, and what a prune would take.
    pub other_blobs: u64,
    /// Contents of files.
    pub packs: PackUsage,
    /// Records, reports and memos of the build cache.
    pub cache: u64,
    /// By cache mount.
    pub mounts: BTreeMap<String, u64>,
    /// Work in progress, of the living and the dead.
    pub work: u64,
    /// Tags, leases, indexes, directories.
    pub rest: u64,
}

/// The bytes of one image.
#[derive(Debug, Clone, Serialize)]
pub struct ImageUsage {
    /// Its name.
    pub reference: Reference,
    /// Its id.
    pub config: Digest,
    /// Bytes of layers that no other image has.
    pub exclusive: u64,
    /// Bytes of layers that other images have, too.
    pub shared: u64,
}

/// The bytes of one layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerUsage {
    /// Its directory's name.
    pub layer: ShortId,
    /// Its authoritative form.
    pub origin: Origin,
    /// Its directory: table of contents, tree, records.
    pub directory: u64,
    /// The blob it came as, and its compressed forms.
    pub blobs: u64,
    /// Lengths of the contents that it has in packs; several layers may have the same.
    pub contents: u64,
    /// The names of the images that have it.
    pub images: Vec<Reference>,
}

/// The bytes of the packs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PackUsage {
    /// How many there are.
    pub count: usize,
    /// Their size.
    pub bytes: u64,
    /// How much of it no layer needs; freed when nothing in a pack is needed.
    pub unused: u64,
}

impl LayerUsage {
    fn sum(&self) -> u64 {
        self.directory + self.blobs + self.contents
    }
}

impl Store {
    /// Attributes every byte of the store.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let mut seen = Seen::default();
        let tags = self.tags()?;
        let mut users: HashMap<&ShortId, Vec<Reference>> = HashMap::new();
        for (reference, image) in &tags {
            for layer in image.every().iter().flat_map(|image| &image.layers) {
                let images = users.entry(layer).or_default();
                if images.last() != Some(reference) {
                    images.push(reference.clone());
                }
            }
        }
        let mut usage = Usage::default();
        let mut needed = HashSet::new();
        for short in self.layers().list()? {
            let Some(layer) = self.layers().get(&short)? else { continue };
            let images = users.remove(&short).unwrap_or_default();
            usage.layers.push(self.layer_usage(&layer, images, &mut seen)?);
            needed.extend(gc::contents_of(&layer)?);
        }
        usage.images = image_usage(&tags, &usage.layers);
        usage.packs = self.pack_usage(&needed, &mut seen)?;
        self.rest(&mut usage, &mut seen)?;
        Ok(usage)
    }

    fn layer_usage(
        &self,
        layer: &Layer,
        images: Vec<Reference>,
        seen: &mut Seen,
    ) -> Result<LayerUsage, StoreError> {
        let mut blobs = 0;
        for digest in gc::blobs_of(layer)? {
            blobs += seen.bytes(&self.blobs().path(&digest))?;
        }
        let mut contents = 0;
        for content in gc::contents_of(layer)? {
            contents += self.contents().length(&content)?.unwrap_or_default();
        }
        let directory = seen.bytes(layer.directory())?;
        let (layer, origin) = (layer.short().clone(), layer.origin());
        Ok(LayerUsage { layer, origin, directory, blobs, contents, images })
    }

    fn pack_usage(
        &self,
        needed: &HashSet<crate::ContentHash>,
        seen: &mut Seen,
    ) -> Result<PackUsage, StoreError> {
        let mut usage = PackUsage::default();
        for (id, path) in self.contents().list_packs()? {
            usage.count += 1;
            usage.bytes += seen.bytes(&path)?;
            // What is damaged or gone has nothing that is needed.
            let Ok(records) = self.contents().pack_records(id) else { continue };
            let unused = records.iter().filter(|record| !needed.contains(&record.hash));
            usage.unused += unused.map(|record| record.length).sum::<u64>();
        }
        Ok(usage)
    }

    fn rest(&self, usage: &mut Usage, seen: &mut Seen) -> Result<(), StoreError> {
        let root = self.root();
        for mount in mounts::directories(self)? {
            *usage.mounts.entry(mount.id).or_default() += seen.bytes(&mount.path)?;
        }
        usage.other_blobs = seen.bytes(&root.join("blobs"))?;
        usage.cache = seen.bytes(&root.join("cache"))?;
        usage.work = seen.bytes(&root.join("work"))?;
        usage.rest = seen.bytes(root)?;
        let layers = usage.layers.iter().map(|layer| layer.directory + layer.blobs).sum::<u64>();
        let mounts = usage.mounts.values().sum::<u64>();
        usage.total = layers
            + mounts
            + usage.packs.bytes
            + usage.other_blobs
            + usage.cache
            + usage.work
            + usage.rest;
        Ok(())
    }
}

fn image_usage(tags: &[(Reference, super::ImageRecord)], layers: &[LayerUsage]) -> Vec<ImageUsage> {
    let by_id: HashMap<&ShortId, &LayerUsage> =
        layers.iter().map(|layer| (&layer.layer, layer)).collect();
    // Two names of one image do not share it with anybody.
    let mut owners: HashMap<&ShortId, HashSet<Digest>> = HashMap::new();
    for (_, image) in tags {
        for layer in image.every().iter().flat_map(|image| &image.layers) {
            owners.entry(layer).or_default().insert(image.config);
        }
    }
    let measure = |(reference, image): &(Reference, super::ImageRecord)| {
        let (mut exclusive, mut shared) = (0, 0);
        let distinct: HashSet<&ShortId> =
            image.every().iter().flat_map(|image| &image.layers).collect();
        for layer in distinct {
            let bytes = by_id.get(layer).map_or(0, |layer| layer.sum());
            match owners.get(layer).map_or(0, HashSet::len) {
                0 | 1 => exclusive += bytes,
                _ => shared += bytes,
            }
        }
        ImageUsage { reference: reference.clone(), config: image.config, exclusive, shared }
    };
    tags.iter().map(measure).collect()
}

/// Disk space of a file or of everything in a directory.
pub(super) fn disk_bytes(path: &Path) -> Result<u64, StoreError> {
    Seen::default().bytes(path)
}

/// The files that were counted already.
#[derive(Debug, Default)]
struct Seen(HashSet<(u64, u64)>);

impl Seen {
    /// Disk space of what is at `path` and was not counted before. What vanishes meanwhile, or may
    /// not be looked into, counts as nothing.
    fn bytes(&mut self, path: &Path) -> Result<u64, StoreError> {
        let mut total = 0;
        let mut pending = vec![path.to_owned()];
        while let Some(path) = pending.pop() {
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(StoreError::io("stat", path)(error)),
            };
            total += self.count(&meta);
            if !meta.is_dir() {
                continue;
            }
            match fs::read_dir(&path) {
                Ok(entries) => pending.extend(entries.flatten().map(|entry| entry.path())),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(StoreError::io("read", path)(error)),
            }
        }
        Ok(total)
    }

    fn count(&mut self, meta: &Metadata) -> u64 {
        let new = self.0.insert((meta.dev(), meta.ino()));
        if new { meta.blocks() * BLOCK_BYTES } else { 0 }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}
