//! Which cache records and cache mounts go: by age, all, or the least recently used ones until the
//! store is small enough.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::PathBuf,
    time::SystemTime,
};

use super::{
    NOTES, PruneOptions, is_unused_since, list,
    mark::{self, Live},
    time,
};
use crate::{
    ContentHash, ShortId, StoreError,
    contents::PackId,
    store::{Store, mounts, usage, weights::Weights},
};

/// What goes.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Files of cache records.
    pub records: Vec<PathBuf>,
    /// Directories of cache mounts, with their ids.
    pub mounts: Vec<(String, PathBuf)>,
    /// Reports and memos.
    pub notes: Vec<PathBuf>,
}

/// What is measured before the lock is taken, for [`choose`] with a cap.
#[derive(Debug)]
pub(super) struct Measured {
    weights: Weights,
    /// Which packs each layer draws from; a layer that came meanwhile is not here and weighs nothing.
    packs_of: HashMap<ShortId, HashSet<PackId>>,
}

impl Measured {
    /// Reads the indexes of packs and the tables of contents of layers.
    pub(super) fn of(store: &Store, weights: Weights) -> Result<Measured, StoreError> {
        let mut places: HashMap<ContentHash, PackId> = HashMap::new();
        for id in weights.packs.keys() {
            match store.contents().pack_records(*id) {
                Ok(records) => places.extend(records.iter().map(|record| (record.hash, *id))),
                Err(error) if error.is_not_found() => {}
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut packs_of = HashMap::new();
        for short in weights.layers.keys() {
            let Some(layer) = store.layers().get(short)? else { continue };
            let contents = mark::contents_of(&layer)?;
            let packs = contents.iter().filter_map(|content| places.get(content).copied());
            packs_of.insert(short.clone(), packs.collect());
        }
        Ok(Measured { weights, packs_of })
    }
}

/// Decides; removes nothing. Without something measured, `keep_storage` is not looked at.
pub(super) fn choose(
    store: &Store,
    live: &Live,
    options: &PruneOptions,
    measured: Option<Measured>,
) -> Result<Dropped, StoreError> {
    let mut dropped = Dropped { records: live.damaged.clone(), ..Dropped::default() };
    if options.drops_cache() {
        let old = |used: SystemTime| options.until.is_none_or(|until| used < time(until));
        let records = live.records.iter();
        let records = records.filter(|file| old(file.used) && options.cache.record(file, live));
        dropped.records.extend(records.map(|file| file.path.clone()));
        for mount in mounts::directories(store)? {
            let old = is_unused_since(&mounts::lock_of(&mount.path), options.until);
            if old && options.cache.mount(&mount.id) {
                dropped.mounts.push((mount.id, mount.path));
            }
        }
    }
    if let (Some(cap), Some(measured)) = (options.keep_storage, measured) {
        Scale::new(store, live, &dropped, measured)?.lighten(cap, &mut dropped);
    }
    Ok(dropped)
}

/// Something that may go, least recently used first.
enum Candidate {
    Record { path: PathBuf, layer: Option<ShortId>, size: u64 },
    Mount { id: String, path: PathBuf, size: u64 },
    Note { path: PathBuf, size: u64 },
}

/// What the store weighs, and how much of it each candidate frees.
struct Scale {
    total: u64,
    candidates: Vec<(SystemTime, Candidate)>,
    /// How many records keep a layer; pinned ones are not here.
    keepers: HashMap<ShortId, usize>,
    weights: HashMap<ShortId, u64>,
    packs_of: HashMap<ShortId, HashSet<PackId>>,
    /// How many live layers need a pack, and its size.
    packs: HashMap<PackId, (usize, u64)>,
}

impl Scale {
    fn new(
        store: &Store,
        live: &Live,
        dropped: &Dropped,
        measured: Measured,
    ) -> Result<Scale, StoreError> {
        let gone: HashSet<&PathBuf> = dropped.records.iter().collect();
        let mut scale = Scale {
            total: 0,
            candidates: Vec::new(),
            keepers: HashMap::new(),
            weights: HashMap::new(),
            packs_of: HashMap::new(),
            packs: HashMap::new(),
        };
        for file in live.records.iter().filter(|file| !gone.contains(&file.path)) {
            let layer = mark::layer_of(file).filter(|layer| !live.is_pinned(layer));
            if let Some(layer) = &layer {
                *scale.keepers.entry(layer.clone()).or_default() += 1;
            }
            scale.total += file.size;
            let record = Candidate::Record { path: file.path.clone(), layer, size: file.size };
            scale.candidates.push((file.used, record));
        }
        scale.weigh_notes(store)?;
        scale.weigh_layers(store, live, measured, dropped)?;
        scale.candidates.sort_by_key(|(used, _)| *used);
        Ok(scale)
    }

    fn weigh_notes(&mut self, store: &Store) -> Result<(), StoreError> {
        for part in NOTES {
            for path in list(&store.cache_dir(part))? {
                let Ok(meta) = fs::metadata(&path) else { continue };
                let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let size = usage::disk_bytes(&path)?;
                self.total += size;
                self.candidates.push((used, Candidate::Note { path, size }));
            }
        }
        Ok(())
    }

    fn weigh_layers(
        &mut self,
        store: &Store,
        live: &Live,
        mut measured: Measured,
        dropped: &Dropped,
    ) -> Result<(), StoreError> {
        for mount in std::mem::take(&mut measured.weights.mounts) {
            if !dropped.mounts.iter().any(|(_, path)| *path == mount.path) {
                let (id, path, size) = (mount.id, mount.path, mount.bytes);
                self.total += size;
                self.candidates.push((mount.used, Candidate::Mount { id, path, size }));
            }
        }
        let kept: HashSet<ShortId> = self.keepers.keys().cloned().collect();
        let pinned = live.layers().into_iter().filter(|layer| live.is_pinned(layer));
        for short in kept.into_iter().chain(pinned) {
            let Some(layer) = store.layers().get(&short)? else { continue };
            let mut weight = measured.weights.layers.get(&short).copied().unwrap_or_default();
            for blob in mark::blobs_of(&layer)? {
                weight += store.blobs().size(&blob).unwrap_or_default();
            }
            self.total += weight;
            self.weights.insert(short.clone(), weight);
            let needed = measured.packs_of.remove(&short).unwrap_or_default();
            for id in &needed {
                let size = measured.weights.packs.get(id).copied().unwrap_or_default();
                self.packs.entry(*id).or_insert((0, size)).0 += 1;
            }
            self.packs_of.insert(short, needed);
        }
        self.total += self.packs.values().map(|(_, size)| size).sum::<u64>();
        Ok(())
    }

    /// Drops the least recently used candidates until the rest weighs no more than `cap`.
    fn lighten(mut self, cap: u64, dropped: &mut Dropped) {
        for (_, candidate) in std::mem::take(&mut self.candidates) {
            if self.total <= cap {
                return;
            }
            match candidate {
                Candidate::Record { path, layer, size } => {
                    self.total = self.total.saturating_sub(size);
                    if let Some(layer) = layer {
                        self.release(&layer);
                    }
                    dropped.records.push(path);
                }
                Candidate::Mount { id, path, size } => {
                    self.total = self.total.saturating_sub(size);
                    dropped.mounts.push((id, path));
                }
                Candidate::Note { path, size } => {
                    self.total = self.total.saturating_sub(size);
                    dropped.notes.push(path);
                }
            }
        }
    }

    /// One record less keeps the layer.
    fn release(&mut self, layer: &ShortId) {
        let Some(keepers) = self.keepers.get_mut(layer) else { return };
        *keepers -= 1;
        if *keepers > 0 {
            return;
        }
        let mut freed = self.weights.get(layer).copied().unwrap_or_default();
        for id in self.packs_of.remove(layer).unwrap_or_default() {
            if let Some((count, size)) = self.packs.get_mut(&id) {
                *count -= 1;
                freed += if *count == 0 { *size } else { 0 };
            }
        }
        self.total = self.total.saturating_sub(freed);
    }
}
