//! Garbage: what nothing reaches is moved aside under the lock, and deleted without it.
//!
//! Roots are tags, live leases, and cache records. A record that the options drop is no root. What
//! was made or touched since the oldest live lease began is not garbage, whatever reaches it; packs
//! are left alone while any lease lives, since a build may just be finding its contents in them.
//!
//! The order is such that a kill between any two steps leaves only more garbage: records, index
//! entries, layers, blobs, then (with a second look) packs.

mod mark;
mod weigh;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{Store, WorkArea, cache, lease, lock, mounts, usage};
use crate::{Digest, ShortId, StoreError, atomic, contents::PackId};
use mark::Live;
pub(super) use mark::{blobs_of, compressed_forms, contents_of};

/// What to remove besides what nothing reaches.
#[derive(Debug, Clone, Default)]
pub struct PruneOptions {
    /// The whole build cache and all cache mounts that nobody uses.
    pub all: bool,
    /// Only what was not used since this time (seconds since 1970); alone, it means cache records
    /// and cache mounts.
    pub until: Option<i64>,
    /// The least recently used cache records and mounts, until the store is no larger than this.
    pub keep_storage: Option<u64>,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Layers.
    pub layers: Vec<ShortId>,
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Packs.
    pub packs: Vec<PackId>,
    /// Cache records.
    pub cache_records: usize,
    /// Cache mounts, by their ids.
    pub mounts: Vec<String>,
    /// Work in progress of processes that are gone.
    pub work_areas: usize,
    /// Disk space that is free now.
    pub bytes: u64,
    /// Leases that were live, and kept things.
    pub live_leases: usize,
}

impl Store {
    /// Removes what nothing reaches, and what the options ask for. Never anything that a tag, a
    /// live lease or a used cache mount needs.
    pub fn prune(&self, options: &PruneOptions) -> Result<PruneReport, StoreError> {
        let work = self.work();
        let before = usage::disk_bytes(&work)?;
        let mut report =
            PruneReport { work_areas: atomic::sweep(&work)?, ..PruneReport::default() };
        report.bytes = before.saturating_sub(usage::disk_bytes(&work)?);
        let aside = self.work_dir()?;
        let mut removal = Removal { store: self, aside: &aside, report: &mut report };
        removal.unreachable(options)?;
        removal.packs()?;
        report.bytes += usage::disk_bytes(aside.path())?;
        atomic::remove_tree(aside.path()).map_err(StoreError::io("remove", aside.path()))?;
        Ok(report)
    }
}

/// One prune, with the directory that everything is moved to.
struct Removal<'a> {
    store: &'a Store,
    aside: &'a WorkArea,
    report: &'a mut PruneReport,
}

impl Removal<'_> {
    /// Everything but packs, under one exclusive lock.
    fn unreachable(&mut self, options: &PruneOptions) -> Result<(), StoreError> {
        let store = self.store;
        let _lock = lock::exclusive(store.root())?;
        let mut live = Live::mark(store)?;
        self.report.live_leases = live.leases;
        let dropped = weigh::choose(store, &live, options)?;
        for path in &dropped.records {
            self.move_aside(path)?;
            self.report.cache_records += 1;
        }
        live.forget_records(&dropped.records);
        self.mounts(&dropped.mounts)?;
        self.notes(options)?;
        let live_layers = live.layers();
        let gone = live.old_layers.iter().filter(|layer| !live_layers.contains(*layer)).cloned();
        let gone: BTreeSet<ShortId> = gone.collect();
        let blobs = live.blobs(store, &live_layers)?;
        self.index_entries(&gone)?;
        for layer in gone {
            self.move_aside(&store.root().join("layers").join(layer.as_str()))?;
            self.report.layers.push(layer);
        }
        for digest in live.old_blobs.iter().filter(|digest| !blobs.contains(*digest)) {
            self.move_aside(&store.blobs().path(digest))?;
            self.report.blobs.push(*digest);
        }
        Ok(())
    }

    fn mounts(&mut self, dropped: &[(String, PathBuf)]) -> Result<(), StoreError> {
        for (id, path) in dropped {
            if mounts::take_away(path, &self.aside.new_name())? {
                self.report.mounts.push(id.clone());
            }
        }
        Ok(())
    }

    /// Reports of builds and memos go with the whole cache, or by their age.
    fn notes(&mut self, options: &PruneOptions) -> Result<(), StoreError> {
        for part in ["builds", "slots", "memos"] {
            for path in list(&self.store.cache_dir(part))? {
                let asked = options.all || options.until.is_some();
                let old = asked && is_unused_since(&path, options.until);
                if old || !cache::is_whole(&path) {
                    self.move_aside(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Entries for layers that go now, or went before.
    fn index_entries(&mut self, gone: &BTreeSet<ShortId>) -> Result<(), StoreError> {
        for path in list(&self.store.root().join("index/diff"))? {
            let Some(bytes) = atomic::read_record(&path)? else { continue };
            let short = String::from_utf8(bytes).ok();
            let short = short.and_then(|text| text.trim_end().parse::<ShortId>().ok());
            let leads = short.is_some_and(|short| {
                !gone.contains(&short) && self.store.layers().contains(&short)
            });
            if !leads {
                self.move_aside(&path)?;
            }
        }
        Ok(())
    }

    /// Packs without a content that some layer needs. Tables of contents are read without the lock;
    /// if anything was made meanwhile, the packs stay for the next time.
    fn packs(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let packs = store.contents().list_packs()?;
        if packs.is_empty() || self.report.live_leases > 0 {
            return Ok(());
        }
        let layers = store.layers().list()?;
        let dead = mark::dead_packs(store, &layers, &packs)?;
        if dead.is_empty() {
            return Ok(());
        }
        let _lock = lock::exclusive(store.root())?;
        if !lease::live(store.root())?.is_empty() || store.layers().list()? != layers {
            return Ok(());
        }
        for (id, path) in dead {
            self.report.bytes += usage::disk_bytes(&path)?;
            store.contents().remove_pack(id)?;
            self.report.packs.push(id);
        }
        Ok(())
    }

    fn move_aside(&self, path: &Path) -> Result<(), StoreError> {
        match fs::rename(path, self.aside.new_name()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("move aside", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The entries of a directory, sorted; none if it is not there.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(StoreError::io("read", directory)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(StoreError::io("read", directory))?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Whether the file's time is before `until`; without `until`, always.
fn is_unused_since(path: &Path, until: Option<i64>) -> bool {
    let Some(until) = until else { return true };
    let used = fs::metadata(path).and_then(|meta| meta.modified());
    used.is_ok_and(|used| used < time(until))
}

fn time(unix: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(unix.max(0).cast_unsigned())
}
