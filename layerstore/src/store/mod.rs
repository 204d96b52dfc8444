//! The store: one directory that any number of processes use at once.
//!
//! ```text
//! ROOT/store.json          format version, owner mapping, overlay namespace   (layout.rs)
//!      lock                flock'd for moments: shared to name things, exclusive to delete (lock.rs)
//!      blobs/ layers/ index/ packs/                                           (their own modules)
//!      tags/<hash>         reference → image record                           (tag.rs, image.rs)
//!      cache/              key → layer, reports of builds, memos     (cache.rs, builds.rs)
//!      mounts/<hash>/      RUN --mount=type=cache                             (mounts.rs)
//!      leases/<name>       what is in use, flock'd by its owner               (lease.rs)
//!      work/               what is in progress, flock'd by its owner          (atomic.rs)
//! ```
//!
//! *Invariants:* everything enters by write and rename; nobody holds the lock while waiting for
//! anything else, nor upgrades it; whatever a live lease names, or was made or touched since the
//! oldest live lease began, is never deleted ([`gc`]). So: take a [`Lease`] first, then work, then
//! tag, then drop the lease.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let mut rootfs = &[0_u8; 1024][..];
//! use lapstrake_layerstore::{
//!     OpenOptions, Reference, Store, compress::Compression, layers::OverlayXattr, transfer,
//! };
//! let overlay_xattr = OverlayXattr::Trusted;
//! let options = OpenOptions { create: true, overlay_xattr, owner_map: None };
//! let store = Store::open(directory.path(), &options)?;
//! let lease = store.lease()?;
//! let image = transfer::import_rootfs(&store, &lease, &mut rootfs, &Default::default())?;
//! let name: Reference = "base:1".parse()?;
//! store.tag(&name, &image)?;
//! drop(lease);
//! let options = transfer::SaveOptions::new(Compression::default());
//! let mut archive = Vec::new();
//! transfer::save_oci(&store, &vec![(Some(name), image)], &mut archive, &options)?;
//! # Ok(()) }
//! ```

mod builds;
mod cache;
pub mod check;
mod checked;
pub mod gc;
mod image;
mod index;
mod layout;
mod lease;
mod lock;
mod mounts;
mod tag;
pub mod usage;
mod weights;

use std::{
    fs::File,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

pub use crate::atomic::Staging as WorkArea;
pub use builds::{BUILDS_KEPT, BuildId, BuildIdError};
pub use cache::{CACHE_VERSION, CacheKey, CacheRecord};
pub(crate) use check::tree_is;
pub use image::{ImageRecord, ManifestOptions};
pub(crate) use image::{epoch_of, make_young};
pub use index::{Annotated, Annotation, Annotations, IndexRecord, Published};
pub use layout::{IdRange, OpenOptions, OwnerMap, STORE_VERSION};
pub use lease::Lease;
pub(crate) use lock::exclusive as exclusive_lock;
pub use mounts::{CacheMount, Sharing};
pub use tag::ResolvedImage;

use crate::{
    StoreError,
    atomic::Staging,
    blobs::Blobs,
    contents::Contents,
    layers::{Layer, Layers},
};

/// A store on disk, open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    staging: Arc<Staging>,
    blobs: Blobs,
    contents: Arc<Contents>,
    layers: Layers,
    owner_map: Option<OwnerMap>,
}

impl Store {
    /// Opens the store at `root`, and makes it if `options.create` says so.
    ///
    /// Fails if the store is of another format version or belongs to another owner mapping.
    pub fn open(root: &Path, options: &OpenOptions) -> Result<Store, StoreError> {
        let staging = layout::prepare(root, options)?;
        let blobs = Blobs::open(root, Arc::clone(&staging))?;
        let contents = Arc::new(Contents::open_store(root, Arc::clone(&staging))?);
        let layers = Layers::open(
            root,
            options.overlay_xattr,
            Arc::clone(&staging),
            Arc::clone(&contents),
            blobs.clone(),
        )?;
        let owner_map = options.owner_map.clone();
        Ok(Store { root: root.to_owned(), staging, blobs, contents, layers, owner_map })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its layers.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Its contents of files.
    pub fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }

    /// Its blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// A new directory for work in progress, on the store's own file system; removed on drop, and
    /// by a later [`prune`](Store::prune) if its process dies.
    pub fn work_dir(&self) -> Result<WorkArea, StoreError> {
        Staging::create(&self.work())
    }

    /// Brings everything to the disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        let directory = File::open(&self.root).map_err(StoreError::io("open", &self.root))?;
        let early = self.staging().early().result();
        early.map_err(StoreError::io("sync a file in", &self.root))?;
        rustix::fs::syncfs(directory.as_fd()).map_err(StoreError::io("sync", &self.root))
    }

    /// Brings everything to the disk if one of these layers is not known to be there, and marks
    /// them as durable; to be called before the tag moves.
    pub fn make_durable(&self, layers: &[Arc<Layer>]) -> Result<(), StoreError> {
        let fresh: Vec<_> = layers.iter().filter(|layer| !layer.is_marked_durable()).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.sync()?;
        fresh.into_iter().try_for_each(|layer| self.layers.mark_durable(layer))
    }

    /// Whether files can belong to these ids, in trees.
    fn can_own(&self, uid: u32, gid: u32) -> bool {
        let within = |ranges: &[IdRange], id: u32| {
            ranges.iter().any(|range| id >= range.inside && id - range.inside < range.length)
        };
        self.owner_map.as_ref().is_some_and(|map| within(&map.uids, uid) && within(&map.gids, gid))
    }

    /// For a process that ends: what threads that nobody waits for are still writing is removed, and they
    /// have no place for more. The store cannot be written to any more.
    pub fn close(&self) {
        self.staging().close();
    }

    fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub(crate) fn staging(&self) -> &Staging {
        &self.staging
    }
}

/// Seconds since 1970, for records that say when they were made.
fn now_unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().cast_signed()
}

/// The name of a file for an arbitrary text: 64 hexadecimal characters.
fn hashed_name(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests;
