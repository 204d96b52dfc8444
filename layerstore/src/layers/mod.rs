//! Layers: made, found, and turned into what they can become.
//!
//! ```text
//! layers/<short>/meta.json            identity, origin, where it came from (meta.rs)
//!                toc                  always there; the layer exists when its directory does
//!                tree/                overlayfs form; exists only when complete
//!                diff[.<epoch>]       diffID, once known
//!                <codec>-<level>-v<N>[.<epoch>].json   the compressed form, whose bytes are a blob
//!                <codec>-<level>-v<N>[.<epoch>].pieces what its pieces were made of (pieces.rs)
//! index/diff/<hex of diffID>          short id
//! ```
//!
//! *Invariants:* a layer's directory appears complete, by rename, and its `meta.json` and `toc`
//! never change (but for the durability mark). Derived forms appear by rename, too, are made once even
//! if asked for by several processes (the layer's directory is flock'd meanwhile), and may go again.

mod ahead;
mod blob;
mod compressed;
mod create;
mod early;
mod import;
mod makers;
mod meta;
mod own;
mod pass;
pub(crate) mod pieces;
mod sound;
mod stack;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod unpack;

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FlockOperation, flock};

pub use ahead::{Ahead, Content, Pieces as ContentPieces, TakeContent};
pub use create::UpperOptions;
pub(crate) use import::{Examined, Verified, examine};
pub use import::{Expected, Purpose};
pub(crate) use meta::Meta;
pub use meta::{BlobForm, LAYER_VERSION, Origin};

use crate::{
    DiffId, LayerId, ShortId, StoreError,
    archive::Epoch,
    atomic::{Staging, read_bounded, read_hint, read_record},
    blobs::Blobs,
    contents::Contents,
    limits::TOC_BYTES_MAX,
    toc::Toc,
};

pub use crate::tree::OverlayXattr;

/// One layer of the store.
#[derive(Debug)]
pub struct Layer {
    short: ShortId,
    directory: PathBuf,
    meta: Meta,
    toc: OnceLock<Arc<Toc>>,
}

impl Layer {
    /// The name of its directory.
    pub fn short(&self) -> &ShortId {
        &self.short
    }

    /// What it is.
    pub fn id(&self) -> &LayerId {
        &self.meta.id
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its authoritative form.
    pub fn origin(&self) -> Origin {
        self.meta.origin
    }

    /// For a layer that came as a tar: the bytes as they came.
    pub fn blob(&self) -> Option<&BlobForm> {
        self.meta.blob.as_ref()
    }

    /// When it was made, in seconds since 1970.
    pub fn created(&self) -> i64 {
        self.meta.created_unix
    }

    /// Was it synced to the disk, or made since the machine started?
    pub fn is_durable(&self) -> bool {
        self.meta.durable || self.meta.boot_id == boot_id()
    }

    /// Does its `meta.json` say that it is on the disk?
    pub fn is_marked_durable(&self) -> bool {
        self.meta.durable
    }

    /// Its table of contents, read when first asked for.
    pub fn toc(&self) -> Result<&Toc, StoreError> {
        self.loaded_toc().map(AsRef::as_ref)
    }

    /// Its table of contents, to keep.
    pub fn toc_arc(&self) -> Result<Arc<Toc>, StoreError> {
        self.loaded_toc().map(Arc::clone)
    }

    fn loaded_toc(&self) -> Result<&Arc<Toc>, StoreError> {
        if let Some(toc) = self.toc.get() {
            return Ok(toc);
        }
        let path = self.directory.join("toc");
        let bytes = read_bounded(&path, TOC_BYTES_MAX)?
            .ok_or_else(|| StoreError::LayerMissing { layer: self.short.clone() })?;
        let toc = Toc::decode(&bytes)
            .map_err(|source| StoreError::Toc { layer: self.short.clone(), source })?;
        Ok(self.toc.get_or_init(|| Arc::new(toc)))
    }

    /// Its diffID, if it was computed before.
    pub fn diff_id(&self) -> Option<DiffId> {
        self.recorded_diff_id(None)
    }

    pub(crate) fn recorded_diff_id(&self, epoch: Option<Epoch>) -> Option<DiffId> {
        let bytes = read_record(&self.directory.join(diff_name(epoch))).ok()??;
        std::str::from_utf8(&bytes).ok()?.trim_end().parse().ok()
    }

    /// Where its tree is, or would be.
    pub fn tree_path(&self) -> PathBuf {
        self.directory.join("tree")
    }

    /// Is there a tree?
    pub fn has_tree(&self) -> bool {
        self.tree_path().is_dir()
    }

    /// Waits for the right to derive a form of this layer; other processes and threads wait.
    pub(crate) fn lock(&self) -> Result<File, StoreError> {
        let directory =
            File::open(&self.directory).map_err(StoreError::io("open", &self.directory))?;
        flock(directory.as_fd(), FlockOperation::LockExclusive)
            .map_err(StoreError::io("lock", &self.directory))?;
        Ok(directory)
    }
}

fn diff_name(epoch: Option<Epoch>) -> String {
    epoch.map_or_else(|| "diff".to_owned(), |epoch| format!("diff.{}", epoch.label()))
}

/// This boot of the machine, or nothing where the system does not say.
fn boot_id() -> String {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    let read = || fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BOOT_ID.get_or_init(|| read().trim_end().to_owned()).clone()
}

fn now_unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().cast_signed()
}

/// The layers of a store.
#[derive(Debug)]
pub struct Layers {
    directory: PathBuf,
    index: PathBuf,
    staging: Arc<Staging>,
    contents: Arc<Contents>,
    blobs: Blobs,
    overlay: OverlayXattr,
}

impl Layers {
    /// The layers below `root`, whose other parts are given.
    pub fn open(
        root: &Path,
        overlay: OverlayXattr,
        staging: Arc<Staging>,
        contents: Arc<Contents>,
        blobs: Blobs,
    ) -> Result<Layers, StoreError> {
        let (directory, index) = (root.join("layers"), root.join("index/diff"));
        for made in [&directory, &index] {
            fs::create_dir_all(made).map_err(StoreError::io("create", made))?;
        }
        Ok(Layers { directory, index, staging, contents, blobs, overlay })
    }

    /// The layer in the directory `short`.
    pub fn get(&self, short: &ShortId) -> Result<Option<Arc<Layer>>, StoreError> {
        let directory = self.directory.join(short.as_str());
        let path = directory.join("meta.json");
        let Some(bytes) = read_record(&path)? else { return Ok(None) };
        let damaged = |what: String| StoreError::Damaged { path: path.clone(), what };
        let meta: Meta = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if meta.version != LAYER_VERSION {
            return Err(damaged(format!("it has format version {}", meta.version)));
        }
        if meta.id.short() != *short {
            return Err(damaged(format!("it belongs to layer {}", meta.id)));
        }
        let short = short.clone();
        Ok(Some(Arc::new(Layer { short, directory, meta, toc: OnceLock::new() })))
    }

    /// The layer `id`.
    pub fn by_id(&self, id: &LayerId) -> Result<Option<Arc<Layer>>, StoreError> {
        match self.get(&id.short())? {
            Some(layer) if layer.id() != id => {
                Err(StoreError::ShortIdTaken { found: *layer.id(), wanted: *id })
            }
            found => Ok(found),
        }
    }

    /// The layer whose uncompressed tar has this diffID, if one is known.
    pub fn by_diff_id(&self, diff_id: &DiffId) -> Result<Option<Arc<Layer>>, StoreError> {
        let path = self.index.join(diff_id.digest().hex());
        let Some(bytes) = read_hint(&path)? else { return Ok(None) };
        match std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok()) {
            Some(short) => self.get(&short),
            None => Ok(None),
        }
    }

    /// A layer that was found where one was to be made: young from now on, so that no prune takes it
    /// from a lease that began before. None if one took it just now.
    pub(crate) fn reuse(
        &self,
        found: Option<Arc<Layer>>,
    ) -> Result<Option<Arc<Layer>>, StoreError> {
        let Some(layer) = found else { return Ok(None) };
        let root = self.directory.parent().unwrap_or(&self.directory);
        let found = crate::store::make_young(root, &layer.directory)?.then_some(layer);
        self.ready(found)
    }

    /// Is there a layer in the directory `short`?
    pub fn contains(&self, short: &ShortId) -> bool {
        self.directory.join(short.as_str()).is_dir()
    }

    /// The short ids of all layers, sorted.
    pub fn list(&self) -> Result<Vec<ShortId>, StoreError> {
        let error = |error: io::Error| StoreError::io("read", &self.directory)(error);
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(error)? {
            let name = entry.map_err(error)?.file_name();
            layers.extend(name.to_str().and_then(|name| name.parse::<ShortId>().ok()));
        }
        layers.sort();
        Ok(layers)
    }

    /// The contents that layers draw on.
    pub fn contents(&self) -> &Arc<Contents> {
        &self.contents
    }

    /// The blobs that layers came as or were compressed to.
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Marks the layer as synced to the disk.
    pub fn mark_durable(&self, layer: &Layer) -> Result<(), StoreError> {
        sound::forget_tree_marks(layer)?;
        if layer.meta.durable {
            return Ok(());
        }
        let meta = Meta { durable: true, ..layer.meta.clone() };
        self.staging.write(&layer.directory.join("meta.json"), &encode_meta(&meta))
    }

    /// Writes down the diffID; without an epoch, the layer is found by it from now on.
    ///
    /// A foreign layer that was made to lie over others is in no image, and has none of its own.
    pub(crate) fn record_diff_id(
        &self,
        layer: &Layer,
        epoch: Option<Epoch>,
        diff_id: &DiffId,
    ) -> Result<(), StoreError> {
        if layer.origin() == Origin::Blob && LayerId::foreign(diff_id) != *layer.id() {
            return Ok(());
        }
        let text = format!("{diff_id}\n");
        self.staging.write(&layer.directory.join(diff_name(epoch)), text.as_bytes())?;
        let index = self.index.join(diff_id.digest().hex());
        self.staging.write(&index, format!("{}\n", layer.short).as_bytes())
    }

    /// Publishes a layer whose directory with everything but `meta.json` and `toc` is `staged`.
    ///
    /// If the layer is there already, `staged` is left to be swept and the one that is there counts.
    pub(crate) fn publish(
        &self,
        staged: &Path,
        id: LayerId,
        origin: Origin,
        blob: Option<BlobForm>,
        toc: Toc,
    ) -> Result<Arc<Layer>, StoreError> {
        let meta = Meta {
            version: LAYER_VERSION,
            id,
            origin,
            blob,
            created_unix: now_unix(),
            boot_id: boot_id(),
            durable: false,
        };
        for (name, bytes) in [("toc", toc.encode()), ("meta.json", encode_meta(&meta))] {
            let path = staged.join(name);
            fs::write(&path, bytes).map_err(StoreError::io("write", &path))?;
        }
        let short = id.short();
        let directory = self.directory.join(short.as_str());
        // A second time where what stood there turned out to be damaged.
        let mut renamed = fs::rename(staged, &directory);
        if renamed.as_ref().is_err_and(is_taken) {
            if let Some(layer) = self.reuse(self.by_id(&id)?)? {
                return Ok(layer);
            }
            renamed = fs::rename(staged, &directory);
        }
        match renamed {
            Ok(()) => {
                let layer = Layer { short, directory, meta, toc: OnceLock::new() };
                layer.toc.get_or_init(|| Arc::new(toc));
                Ok(Arc::new(layer))
            }
            Err(error) => Err(StoreError::io("publish", directory)(error)),
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(meta).expect("because the keys are plain strings");
    bytes.push(b'\n');
    bytes
}
