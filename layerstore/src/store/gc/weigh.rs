//! Which cache records and cache mounts go: by age, all, or the least recently used ones until the
//! store is small enough.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{
    PruneOptions, is_unused_since,
    mark::{self, Live},
    time,
};
use crate::{
    ShortId, StoreError,
    contents::PackId,
    store::{Store, mounts, usage},
};

/// What goes.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Files of cache records.
    pub records: Vec<PathBuf>,
    /// Directories of cache mounts, with their ids.
    pub mounts: Vec<(String, PathBuf)>,
}

/// Decides; removes nothing.
pub(super) fn choose(
    store: &Store,
    live: &Live,
    options: &PruneOptions,
) -> Result<Dropped, StoreError> {
    let mut dropped = Dropped { records: live.damaged.clone(), mounts: Vec::new() };
    if options.all || options.until.is_some() {
        let old = |used: SystemTime| options.until.is_none_or(|until| used < time(until));
        let records = live.records.iter().filter(|file| old(file.used));
        dropped.records.extend(records.map(|file| file.path.clone()));
        for mount in mounts::directories(store)? {
            if is_unused_since(&lock_of(&mount.path), options.until) {
                dropped.mounts.push((mount.id, mount.path));
            }
        }
    }
    if let Some(cap) = options.keep_storage {
        Scale::new(store, live, &dropped)?.lighten(cap, &mut dropped);
    }
    Ok(dropped)
}

/// The file whose time says when a mount was last used.
fn lock_of(mount: &Path) -> PathBuf {
    mount.with_extension("lock")
}

/// Something that may go, least recently used first.
enum Candidate {
    Record { path: PathBuf, layer: Option<ShortId>, size: u64 },
    Mount { id: String, path: PathBuf, size: u64 },
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
    fn new(store: &Store, live: &Live, dropped: &Dropped) -> Result<Scale, StoreError> {
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
        scale.weigh_mounts(store, dropped)?;
        scale.weigh_layers(store, live)?;
        scale.candidates.sort_by_key(|(used, _)| *used);
        Ok(scale)
    }

    fn weigh_mounts(&mut self, store: &Store, dropped: &Dropped) -> Result<(), StoreError> {
        for mount in mounts::directories(store)? {
            if dropped.mounts.iter().any(|(_, path)| *path == mount.path) {
                continue;
            }
            let used = fs::metadata(lock_of(&mount.path)).and_then(|meta| meta.modified());
            let size = usage::disk_bytes(&mount.path)?;
            self.total += size;
            let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            self.candidates.push((used, Candidate::Mount { id: mount.id, path: mount.path, size }));
        }
        Ok(())
    }

    fn weigh_layers(&mut self, store: &Store, live: &Live) -> Result<(), StoreError> {
        let mut packs = HashMap::new();
        for (id, path) in store.contents().list_packs()? {
            let size = usage::disk_bytes(&path)?;
            for record in store.contents().pack_records(id)? {
                packs.entry(record.hash).or_insert((id, size));
            }
        }
        let kept: HashSet<ShortId> = self.keepers.keys().cloned().collect();
        let pinned = live.layers().into_iter().filter(|layer| live.is_pinned(layer));
        for short in kept.into_iter().chain(pinned) {
            let Some(layer) = store.layers().get(&short)? else { continue };
            let mut weight = usage::disk_bytes(layer.directory())?;
            for blob in mark::blobs_of(&layer)? {
                weight += store.blobs().size(&blob).unwrap_or_default();
            }
            self.total += weight;
            self.weights.insert(short.clone(), weight);
            let needed: HashSet<PackId> = mark::contents_of(&layer)?
                .iter()
                .filter_map(|content| {
                    let (id, size) = *packs.get(content)?;
                    self.packs.entry(id).or_insert((0, size));
                    Some(id)
                })
                .collect();
            for id in &needed {
                self.packs.entry(*id).and_modify(|(count, _)| *count += 1);
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
