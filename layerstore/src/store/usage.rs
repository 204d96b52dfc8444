//! Who owns which bytes of the store.
//!
//! Sizes are what the disk gives (`st_blocks`), and a file with several names counts once, where it
//! is met first; so the parts add up to what `du -s` says of the root. The contents in packs count
//! with their lengths; indexes and rounding are overhead. Where a file system shares the blocks of a
//! pack and of a tree (reflinks), both count, as `du` counts them; how much that is stands apart
//! ([`Usage::reflinked`]).
//!
//! Every layer, blob and content has one [`Owner`]: it is what removing images could free that
//! matters to people.

mod reflinks;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use serde::{Serialize, Serializer};

use super::{ImageRecord, Store, cache, gc, mounts};
use crate::{
    ContentHash, Digest, ShortId, StoreError, layers::Origin, reach::Reach, reference::Reference,
};
use reflinks::Reflinks;
pub use reflinks::SharedExtents;

/// The unit of `st_blocks`.
const BLOCK_BYTES: u64 = 512;

/// The bytes of a store, by owner.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Usage {
    /// Everything below the root, as `du` counts it.
    pub total: u64,
    /// How much of that is counted more than once: blocks that several files share. Without it, the total
    /// is what the disk has. 0 where nobody could be asked.
    pub reflinked: u64,
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
    /// The same bytes by owner.
    pub owners: OwnerUsage,
}

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owner {
    /// Nothing needs it: a prune frees it.
    #[default]
    Unused,
    /// Only the build cache needs it.
    Cached,
    /// One image needs it, of all that have names.
    Image(Digest),
    /// Several images need it.
    Shared,
}

impl Owner {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Owner::Unused => "unused",
            Owner::Cached => "cached",
            Owner::Image(_) => "image",
            Owner::Shared => "shared",
        }
    }
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Owner {
    /// The owner of what both need.
    fn and(self, other: Owner) -> Owner {
        match (self, other) {
            (Owner::Unused, owner) | (owner, Owner::Unused) => owner,
            (Owner::Cached, _) => other,
            (_, Owner::Cached) => self,
            (Owner::Image(one), Owner::Image(two)) if one == two => self,
            _ => Owner::Shared,
        }
    }
}

/// All bytes of a store, each once.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OwnerUsage {
    /// What one image alone needs, of all images.
    pub exclusive: u64,
    /// What several images need.
    pub shared: u64,
    /// What only the build cache needs, and its records.
    pub cached: u64,
    /// Cache mounts.
    pub mounts: u64,
    /// What nothing needs, and a prune frees.
    pub unused: u64,
    /// Work in progress.
    pub work: u64,
    /// Tags, leases, indexes, directories, overhead.
    pub rest: u64,
}

/// The bytes of one image.
#[derive(Debug, Clone, Serialize)]
pub struct ImageUsage {
    /// Its name.
    pub reference: Reference,
    /// Its id.
    pub config: Digest,
    /// Bytes that no other image needs.
    pub exclusive: u64,
    /// Bytes that other images need, too.
    pub shared: u64,
}

/// The bytes of one layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerUsage {
    /// Its directory's name.
    pub layer: ShortId,
    /// Its authoritative form.
    pub origin: Origin,
    /// Whose it is.
    pub owner: Owner,
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

impl Store {
    /// Attributes every byte of the store; blocks that files share are not told apart.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.usage_with(None)
    }

    /// Attributes every byte of the store; `extents` says where the blocks lie that files share.
    pub fn usage_with(&self, extents: Option<SharedExtents<'_>>) -> Result<Usage, StoreError> {
        let mut count = Count::new(self, Reflinks::new(self.root(), extents))?;
        count.layers()?;
        count.packs()?;
        count.configs()?;
        count.rest()?;
        Ok(count.usage)
    }
}

/// A count under way.
struct Count<'a> {
    store: &'a Store,
    tags: Vec<(Reference, ImageRecord)>,
    /// Whose each layer is.
    owners: HashMap<ShortId, Owner>,
    /// Whose each content is, of those that some layer needs.
    contents: HashMap<ContentHash, Owner>,
    /// The bytes of one image alone, and those that it shares, by its config.
    images: HashMap<Digest, (u64, u64)>,
    seen: Seen<'a>,
    usage: Usage,
}

impl<'a> Count<'a> {
    fn new(store: &'a Store, reflinks: Reflinks<'a>) -> Result<Self, StoreError> {
        let tags = store.tags()?;
        let mut owners: HashMap<ShortId, Owner> = HashMap::new();
        let mut images = HashMap::new();
        for file in cache::records(store)? {
            let layer = file.record.and_then(|record| record.layer);
            if let Some(layer) = layer {
                owners.insert(layer.short(), Owner::Cached);
            }
        }
        for (_, image) in &tags {
            images.insert(image.config, (0, 0));
            for layer in image.every().iter().flat_map(|image| &image.layers) {
                let owner = owners.entry(layer.clone()).or_default();
                *owner = owner.and(Owner::Image(image.config));
            }
        }
        let seen = Seen { files: HashSet::new(), reflinks };
        let (contents, usage) = (HashMap::new(), Usage::default());
        Ok(Self { store, tags, owners, contents, images, seen, usage })
    }

    /// Adds bytes to those of their owner; `users` are the images that need what is shared.
    fn add(&mut self, owner: Owner, bytes: u64, users: &[Digest]) {
        let owners = &mut self.usage.owners;
        match owner {
            Owner::Unused => owners.unused += bytes,
            Owner::Cached => owners.cached += bytes,
            Owner::Image(config) => {
                owners.exclusive += bytes;
                self.images.entry(config).or_default().0 += bytes;
            }
            Owner::Shared => {
                owners.shared += bytes;
                for config in users {
                    self.images.entry(*config).or_default().1 += bytes;
                }
            }
        }
    }

    /// The images that need each layer, and their names.
    fn users(&self) -> HashMap<ShortId, (Vec<Digest>, Vec<Reference>)> {
        let mut users: HashMap<ShortId, (Vec<Digest>, Vec<Reference>)> = HashMap::new();
        for (reference, image) in &self.tags {
            for layer in image.every().iter().flat_map(|image| &image.layers) {
                let (configs, names) = users.entry(layer.clone()).or_default();
                if !configs.contains(&image.config) {
                    configs.push(image.config);
                }
                if names.last() != Some(reference) {
                    names.push(reference.clone());
                }
            }
        }
        users
    }

    /// Layers with their blobs; the contents that they need are only noted.
    fn layers(&mut self) -> Result<(), StoreError> {
        let mut users = self.users();
        let mut shared_contents: HashMap<ContentHash, u64> = HashMap::new();
        let store = self.store;
        for short in store.layers().list()? {
            let Some(layer) = store.layers().get(&short)? else { continue };
            let owner = self.owners.get(&short).copied().unwrap_or_default();
            let (configs, images) = users.remove(&short).unwrap_or_default();
            let mut blobs = 0;
            for digest in gc::blobs_of(&layer)? {
                blobs += self.seen.bytes(&store.blobs().path(&digest))?;
            }
            let mut contents = 0;
            for content in gc::contents_of(&layer)? {
                let length = store.contents().length(&content)?.unwrap_or_default();
                contents += length;
                let of_content = self.contents.entry(content).or_default();
                *of_content = of_content.and(owner);
                if configs.len() > 1 || matches!(of_content, Owner::Shared) {
                    shared_contents.insert(content, length);
                }
            }
            let directory = self.seen.bytes(layer.directory())?;
            self.add(owner, directory + blobs, &configs);
            let (layer, origin) = (short, layer.origin());
            let layer = LayerUsage { layer, origin, owner, directory, blobs, contents, images };
            self.usage.layers.push(layer);
        }
        self.share(&shared_contents)
    }

    /// What images share of contents counts for each of them.
    fn share(&mut self, contents: &HashMap<ContentHash, u64>) -> Result<(), StoreError> {
        let is_shared = |content: &ContentHash| self.contents.get(content) == Some(&Owner::Shared);
        let shared: HashMap<&ContentHash, u64> = contents
            .iter()
            .filter(|(content, _)| is_shared(content))
            .map(|(c, n)| (c, *n))
            .collect();
        if shared.is_empty() {
            return Ok(());
        }
        let images: HashMap<Digest, &ImageRecord> =
            self.tags.iter().map(|(_, image)| (image.config, image)).collect();
        for (config, image) in images {
            let mut needed = HashSet::new();
            for short in image.every().iter().flat_map(|image| &image.layers) {
                if let Some(layer) = self.store.layers().get(short)? {
                    needed.extend(gc::contents_of(&layer)?);
                }
            }
            let bytes = needed.iter().filter_map(|content| shared.get(content)).sum::<u64>();
            self.images.entry(config).or_default().1 += bytes;
        }
        Ok(())
    }

    /// Packs, content by content.
    fn packs(&mut self) -> Result<(), StoreError> {
        for (id, path) in self.store.contents().list_packs()? {
            let on_disk = self.seen.bytes(&path)?;
            self.usage.packs.count += 1;
            self.usage.packs.bytes += on_disk;
            // What is damaged or gone has nothing that is needed.
            let Ok(records) = self.store.contents().pack_records(id) else { continue };
            for record in records {
                // One that lies in two packs is needed in one.
                let owner = self.contents.remove(&record.hash).unwrap_or_default();
                if owner == Owner::Unused {
                    self.usage.packs.unused += record.length;
                }
                self.add(owner, record.length, &[]);
            }
        }
        Ok(())
    }

    /// Configs and manifests of images.
    fn configs(&mut self) -> Result<(), StoreError> {
        for (_, image) in self.tags.clone() {
            let configs = image.every().iter().map(|image| image.config);
            let manifests = image.manifests().map(|manifest| manifest.digest);
            for digest in configs.chain(manifests) {
                let bytes = self.seen.bytes(&self.store.blobs().path(&digest))?;
                self.usage.other_blobs += bytes;
                self.add(Owner::Image(image.config), bytes, &[]);
            }
        }
        for (digest, _) in self.store.blobs().list()? {
            let bytes = self.seen.bytes(&self.store.blobs().path(&digest))?;
            self.usage.other_blobs += bytes;
            self.add(Owner::Unused, bytes, &[]);
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<(), StoreError> {
        let root = self.store.root();
        let usage = &mut self.usage;
        for mount in mounts::directories(self.store)? {
            *usage.mounts.entry(mount.id).or_default() += self.seen.bytes(&mount.path)?;
        }
        usage.cache = self.seen.bytes(&root.join("cache"))?;
        usage.work = self.seen.bytes(&root.join("work"))?;
        usage.rest = self.seen.bytes(root)?;
        usage.reflinked = self.seen.reflinks.twice();
        let layers = usage.layers.iter().map(|layer| layer.directory + layer.blobs).sum::<u64>();
        let mounts = usage.mounts.values().sum::<u64>();
        usage.total = layers
            + mounts
            + usage.packs.bytes
            + usage.other_blobs
            + usage.cache
            + usage.work
            + usage.rest;
        let owners = &mut usage.owners;
        owners.mounts = mounts;
        owners.work = usage.work;
        owners.cached += usage.cache;
        let owned = owners.exclusive + owners.shared + owners.cached + owners.unused;
        owners.rest = usage.total.saturating_sub(owned + mounts + usage.work);
        let images = &self.images;
        usage.images = self.tags.iter().map(|tag| image_usage(tag, images)).collect();
        Ok(())
    }
}

fn image_usage(
    (reference, image): &(Reference, ImageRecord),
    images: &HashMap<Digest, (u64, u64)>,
) -> ImageUsage {
    let (exclusive, shared) = images.get(&image.config).copied().unwrap_or_default();
    ImageUsage { reference: reference.clone(), config: image.config, exclusive, shared }
}

/// Disk space of a file or of everything in a directory; of a file with several names, which versions
/// of a layer share, each name's part.
pub(crate) fn disk_bytes(path: &Path) -> Result<u64, StoreError> {
    sum(path, &mut |_, meta| {
        let names = if meta.is_dir() { 1 } else { meta.nlink().max(1) };
        meta.blocks() * BLOCK_BYTES / names
    })
}

/// The files that were counted already.
#[derive(Debug)]
struct Seen<'a> {
    files: HashSet<(u64, u64)>,
    reflinks: Reflinks<'a>,
}

impl Seen<'_> {
    /// Disk space of what is at `path` and was not counted before.
    fn bytes(&mut self, path: &Path) -> Result<u64, StoreError> {
        sum(path, &mut |path, meta| {
            if !self.files.insert((meta.dev(), meta.ino())) {
                return 0;
            }
            self.reflinks.count(path, meta);
            meta.blocks() * BLOCK_BYTES
        })
    }
}

/// Adds up what is at `path`. What vanishes meanwhile, or may not be looked into, counts as nothing.
fn sum(path: &Path, count: &mut dyn FnMut(&Path, &Metadata) -> u64) -> Result<u64, StoreError> {
    let mut total = 0;
    let mut pending = vec![Reach::new(path.to_owned())];
    while let Some(place) = pending.pop() {
        let meta = match fs::symlink_metadata(place.path()) {
            Ok(meta) => meta,
            Err(error) if is_passing(&error) => continue,
            Err(error) => return Err(StoreError::io("stat", place.path())(error)),
        };
        total += count(place.path(), &meta);
        if !meta.is_dir() {
            continue;
        }
        let entries = place.short().and_then(|place| Ok((fs::read_dir(place.path())?, place)));
        match entries {
            Ok((entries, place)) => {
                pending.extend(entries.flatten().map(|entry| place.join(&entry.file_name())));
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(StoreError::io("read below", path)(error)),
        }
    }
    Ok(total)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}
