//! What is live: reached from a tag, a lease, a cache record, or young.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{
    ContentHash, Digest, ShortId, StoreError,
    layers::{Layer, Origin},
    oci::Descriptor,
    store::{
        ImageRecord, Store,
        cache::{self, RecordFile},
        lease::{self, Held},
    },
    toc::{Entry, Kind},
};

/// Everything that is a root.
#[derive(Debug)]
pub(super) struct Live {
    /// How many leases live.
    pub leases: usize,
    /// Everything that was there when the marking began and is not young. Layers and blobs appear
    /// without the lock, so what is not listed here must not be touched.
    pub old_layers: Vec<ShortId>,
    /// As above.
    pub old_blobs: Vec<Digest>,
    /// Layers of tags and leases, and young ones.
    pinned: HashSet<ShortId>,
    /// Blobs of tags and leases.
    blobs: HashSet<Digest>,
    /// The records of the cache that are whole.
    pub records: Vec<RecordFile>,
    /// The records that are not.
    pub damaged: Vec<PathBuf>,
}

impl Live {
    /// Reads all roots; needs the exclusive lock.
    pub(super) fn mark(store: &Store) -> Result<Live, StoreError> {
        let leases = lease::live(store.root())?;
        let since = leases.iter().map(|lease| lease.began).min();
        let (mut pinned, mut blobs) = (HashSet::new(), HashSet::new());
        for path in store.tag_paths()? {
            let Some((_, image)) = store.tag_at(&path)? else { continue };
            for image in image.every() {
                pinned.extend(image.layers.iter().cloned());
                blobs.insert(image.config);
            }
            blobs.extend(image.manifests().map(|manifest| manifest.digest));
        }
        for held in leases.iter().flat_map(|lease| &lease.held) {
            match held {
                Held::Layer(layer) => drop(pinned.insert(layer.clone())),
                Held::Blob(blob) => drop(blobs.insert(*blob)),
            }
        }
        let directory = |layer: &ShortId| store.root().join("layers").join(layer.as_str());
        let (young, old_layers): (Vec<_>, Vec<_>) = store
            .layers()
            .list()?
            .into_iter()
            .partition(|layer| is_young(&directory(layer), since));
        pinned.extend(young);
        let old_blobs = store.blobs().list()?.into_iter().map(|(digest, _)| digest);
        let old_blobs = old_blobs.filter(|digest| !is_young(&store.blobs().path(digest), since));
        let old_blobs = old_blobs.collect();
        let (records, damaged): (Vec<_>, Vec<_>) =
            cache::records(store)?.into_iter().partition(|file| file.record.is_some());
        let damaged = damaged.into_iter().map(|file| file.path).collect();
        let leases = leases.len();
        Ok(Live { leases, old_layers, old_blobs, pinned, blobs, records, damaged })
    }

    /// Whether the layer stays whatever happens to the cache.
    pub(super) fn is_pinned(&self, layer: &ShortId) -> bool {
        self.pinned.contains(layer)
    }

    /// These records are no roots any more.
    pub(super) fn forget_records(&mut self, dropped: &[PathBuf]) {
        let dropped: HashSet<&PathBuf> = dropped.iter().collect();
        self.records.retain(|record| !dropped.contains(&record.path));
    }

    /// Looks only at what these images are made of.
    pub(super) fn restrict(
        &mut self,
        store: &Store,
        images: &[ImageRecord],
    ) -> Result<(), StoreError> {
        let every = || images.iter().flat_map(ImageRecord::every);
        let layers: HashSet<&ShortId> = every().flat_map(|image| &image.layers).collect();
        let mut blobs: HashSet<Digest> = HashSet::new();
        blobs.extend(every().map(|image| image.config));
        let manifests = images.iter().flat_map(ImageRecord::manifests);
        blobs.extend(manifests.map(|manifest| manifest.digest));
        for layer in &layers {
            if let Some(layer) = store.layers().get(layer)? {
                blobs.extend(blobs_of(&layer)?);
            }
        }
        self.old_layers.retain(|layer| layers.contains(layer));
        self.old_blobs.retain(|blob| blobs.contains(blob));
        Ok(())
    }

    /// Every live layer.
    pub(super) fn layers(&self) -> HashSet<ShortId> {
        let cached = self.records.iter().filter_map(layer_of);
        self.pinned.iter().cloned().chain(cached).collect()
    }

    /// Every blob that a root or one of these layers needs.
    pub(super) fn blobs(
        &self,
        store: &Store,
        layers: &HashSet<ShortId>,
    ) -> Result<HashSet<Digest>, StoreError> {
        let mut live = self.blobs.clone();
        for layer in layers {
            if let Some(layer) = store.layers().get(layer)? {
                live.extend(blobs_of(&layer)?);
            }
        }
        Ok(live)
    }
}

/// The layer that a record keeps.
pub(super) fn layer_of(file: &RecordFile) -> Option<ShortId> {
    Some(file.record.as_ref()?.layer?.short())
}

pub(super) fn is_young(path: &Path, since: Option<i128>) -> bool {
    let Some(since) = since else { return false };
    fs::symlink_metadata(path).is_ok_and(|meta| lease::modified(&meta) >= since)
}

/// The blobs of a layer: the one it came as, and its compressed forms.
pub(in crate::store) fn blobs_of(layer: &Layer) -> Result<Vec<Digest>, StoreError> {
    let mut blobs: Vec<Digest> = layer.blob().map(|blob| blob.digest).into_iter().collect();
    for (_, descriptor) in compressed_forms(layer)? {
        blobs.extend(descriptor.map(|descriptor| descriptor.digest));
    }
    Ok(blobs)
}

/// The files in a layer's directory that describe its compressed forms; none inside is damaged.
pub(in crate::store) fn compressed_forms(
    layer: &Layer,
) -> Result<Vec<(PathBuf, Option<Descriptor>)>, StoreError> {
    let mut forms = Vec::new();
    for path in super::list(layer.directory())? {
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        if !is_json || path.ends_with("meta.json") {
            continue;
        }
        let Some(bytes) = crate::atomic::read_hint(&path)? else { continue };
        forms.push((path, serde_json::from_slice(&bytes).ok()));
    }
    Ok(forms)
}

/// The contents that a layer draws from packs.
pub(in crate::store) fn contents_of(layer: &Layer) -> Result<HashSet<ContentHash>, StoreError> {
    // What has a place in an archive is there; a file copied up from a layer below is in packs.
    let is_packed = |entry: &&Entry| match layer.origin() {
        Origin::Packs => true,
        Origin::Blob => entry.tar_offset.is_none(),
        Origin::Tree => false,
    };
    let files = layer.toc()?.iter().filter(|entry| entry.kind == Kind::File && entry.size > 0);
    Ok(files.filter(is_packed).filter_map(|entry| entry.content).collect())
}
