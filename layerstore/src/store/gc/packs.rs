//! Packs: those that nothing needs go, those of which much is not needed are written anew.
//!
//! What is needed is read from the layers' tables of contents without the lock. Under the lock a
//! pack goes only if it is not young, and if no layer that came meanwhile needs what would be lost.
//! A new pack has its name before the old one loses its own; a kill in between leaves a content
//! twice, and the next prune sees to that: of two packs that have a content, the one with less waste
//! keeps it.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use rayon::prelude::*;

use super::{PruneOptions, Removal, mark};
use crate::{
    ContentHash, ShortId, StoreError,
    contents::{PackCopy, PackId, PackRecord},
    store::{Store, lease, lock},
};

/// A pack is written anew when at least this part of it is waste: a quarter, so that no byte is
/// copied more often than four times on average for one that is freed.
const WASTE_PART: u64 = 4;
/// And at least so much of it, or the work is not worth the space.
const WASTE_BYTES_MIN: u64 = 64 << 10;

/// What shall become of a pack.
#[derive(Debug)]
struct Plan {
    id: PackId,
    path: PathBuf,
    /// The contents that are lost; whoever needs one of them keeps the pack.
    waste: HashSet<ContentHash>,
    /// What stays of it, in a pack of its own; none if it goes as a whole.
    copy: Option<PackCopy>,
}

impl Removal<'_> {
    /// Packs that are not needed or hardly; with `all`, every one that has any waste. Returns the
    /// bytes of what was written anew.
    pub(super) fn packs(&mut self, options: &PruneOptions) -> Result<u64, StoreError> {
        let store = self.store;
        let layers = store.layers().list()?;
        let plans = plan(store, &layers, options.all)?;
        if plans.is_empty() {
            return Ok(0);
        }
        let _lock = lock::exclusive(store.root())?;
        let since = lease::live(store.root())?.iter().map(|lease| lease.began).min();
        let before: HashSet<&ShortId> = layers.iter().collect();
        let came = store.layers().list()?.into_iter().filter(|layer| !before.contains(layer));
        let needed = needed(store, &came.collect::<Vec<_>>())?;
        let goes = |plan: &Plan| {
            plan.path.exists()
                && !mark::is_young(&plan.path, since)
                && plan.waste.is_disjoint(&needed)
        };
        let (going, staying): (Vec<Plan>, Vec<Plan>) = plans.into_iter().partition(goes);
        for copy in staying.into_iter().filter_map(|plan| plan.copy) {
            // Nobody is told: the staging directory is swept as a whole.
            std::fs::remove_file(&copy.path).unwrap_or_default();
        }
        self.replace(going)
    }

    fn replace(&mut self, plans: Vec<Plan>) -> Result<u64, StoreError> {
        let contents = self.store.contents();
        let mut fresh = HashSet::new();
        let mut old = Vec::new();
        for plan in plans {
            old.push((plan.id, plan.path, plan.copy.is_some()));
            if let Some(copy) = plan.copy {
                fresh.insert(copy.id);
                contents.publish_copy(&copy)?;
            }
        }
        for (id, path, is_copied) in old {
            // The same contents have the same name, which is then that of the new pack.
            if fresh.contains(&id) {
                continue;
            }
            self.move_aside(&path)?;
            contents.remove_pack(id)?;
            if is_copied {
                self.report.packs_rewritten += 1;
            } else {
                self.report.packs.push(id);
            }
        }
        Ok(fresh.iter().map(|id| contents.pack_size(*id)).sum())
    }
}

/// The contents that these layers need from packs.
fn needed(store: &Store, layers: &[ShortId]) -> Result<HashSet<ContentHash>, StoreError> {
    let needed = |short: &ShortId| match store.layers().get(short)? {
        Some(layer) => mark::contents_of(&layer),
        None => Ok(HashSet::new()),
    };
    let needed: Vec<HashSet<ContentHash>> =
        layers.par_iter().map(needed).collect::<Result<_, StoreError>>()?;
    Ok(needed.into_iter().flatten().collect())
}

/// Reads all packs' indexes, and writes what is to stay of the wasteful ones aside.
fn plan(store: &Store, layers: &[ShortId], all: bool) -> Result<Vec<Plan>, StoreError> {
    let packs = store.contents().list_packs()?;
    if packs.is_empty() {
        return Ok(Vec::new());
    }
    let mut unclaimed = needed(store, layers)?;
    // By waste, so that of two packs with the same content the better one keeps it.
    let mut by_waste: BTreeMap<(u64, PackId), (PathBuf, Vec<PackRecord>)> = BTreeMap::new();
    for (id, path) in packs {
        let records = match store.contents().pack_records(id) {
            Ok(records) => records,
            Err(error) if error.is_not_found() => continue,
            // Only fsck says what becomes of it.
            Err(StoreError::Damaged { .. }) => continue,
            Err(error) => return Err(error),
        };
        let waste = records.iter().filter(|record| !unclaimed.contains(&record.hash));
        by_waste.insert((waste.map(|record| record.length).sum(), id), (path, records));
    }
    let mut plans = Vec::new();
    for ((_, id), (path, records)) in by_waste {
        let claimed: HashSet<ContentHash> = records
            .iter()
            .filter(|record| unclaimed.remove(&record.hash))
            .map(|record| record.hash)
            .collect();
        let whole: u64 = records.iter().map(|record| record.length).sum();
        let wasted = records.iter().filter(|record| !claimed.contains(&record.hash));
        let wasted_bytes: u64 = wasted.clone().map(|record| record.length).sum();
        let pays = wasted_bytes >= WASTE_BYTES_MIN && wasted_bytes >= whole / WASTE_PART;
        let waste = wasted.map(|record| record.hash).collect();
        if claimed.is_empty() {
            plans.push(Plan { id, path, waste, copy: None });
        } else if pays || (all && wasted_bytes > 0) {
            let copy = store.contents().copy_of(id, &|content| claimed.contains(content))?;
            plans.push(Plan { id, path, waste, copy });
        }
    }
    Ok(plans)
}
