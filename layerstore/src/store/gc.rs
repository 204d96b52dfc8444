//! Garbage: what nothing reaches is moved aside under the lock, and deleted without it.
//!
//! Roots are tags, live leases, and cache records. A record that the options drop is no root. What
//! was made or touched since the oldest live lease began is not garbage, whatever reaches it: a
//! build that finds a content in a pack makes the pack young.
//!
//! The order is such that a kill between any two steps leaves only more garbage: records, index
//! entries, layers, blobs, then (with a second look) packs.
//!
//! Nobody waits for a deletion that did not ask for one: [`Store::keep_within`] and
//! [`Store::discard`] move aside, and [`Store::sweep`] deletes, in the background of a later
//! command.

mod filter;
mod mark;
mod packs;
mod weigh;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{ImageRecord, Store, WorkArea, cache, lock, mounts, usage, weights::Weights};
use crate::{Digest, ShortId, StoreError, atomic, contents::PackId};
use filter::Nameless;
pub use filter::{CacheFilter, CacheKind, ImageFilter, LabelFilter};
use mark::Live;
pub(super) use mark::{blobs_of, compressed_forms, contents_of};
use weigh::Measured;

/// What is remembered besides results of steps: reports of builds, the newest build of each
/// Dockerfile, and memos (hashes of files, lists of files of steps).
const NOTES: [&str; 3] = ["builds", "slots", "memos"];
/// Of each kind of note so many stay, the newest: a list of files is some megabytes where a context
/// has 50,000.
const NOTES_KEPT: usize = 500;
/// And none that was not written for so long: what is still used costs one hashing anew.
const NOTES_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// An eviction goes on until this part of the cap is free again, so that not every build evicts.
const HEADROOM: u64 = 10;

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
    /// Only these parts of the cache; alone, it means all of them.
    pub cache: CacheFilter,
    /// Only images without a name, and nothing else that nothing reaches; with `all`, what the cache has
    /// of their layers as well.
    pub images: Option<ImageFilter>,
}

impl PruneOptions {
    /// Whether records and mounts are to go that something could still use.
    fn drops_cache(&self) -> bool {
        self.all || self.until.is_some() || !self.cache.is_empty()
    }
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
    /// Packs of which much was not needed: they were written anew without that.
    pub packs_rewritten: usize,
    /// Cache records.
    pub cache_records: usize,
    /// Cache mounts, by their ids.
    pub mounts: Vec<String>,
    /// Work in progress of processes that are gone.
    pub work_areas: usize,
    /// Disk space that is free now; 0 where things were only moved aside.
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
        let measured = match options.keep_storage {
            Some(_) => Some(Measured::of(self, Weights::of(self)?)?),
            None => None,
        };
        let aside = self.work_dir()?;
        let copied = self.move_garbage(options, measured, &aside, &mut report)?;
        report.bytes += usage::disk_bytes(aside.path())?.saturating_sub(copied);
        atomic::remove_tree(aside.path()).map_err(StoreError::io("remove", aside.path()))?;
        Ok(report)
    }

    /// Where the store is larger than `cap`, moves garbage and then the least recently used of the
    /// cache aside until it is a tenth smaller; deletes nothing ([`Store::sweep`] does). Returns at
    /// once where the store is small enough.
    ///
    /// The cap does not count what is in progress, nor can it free what tags, leases and mounts in
    /// use need.
    pub fn keep_within(&self, cap: u64) -> Result<PruneReport, StoreError> {
        let mut report = PruneReport::default();
        let weights = Weights::of(self)?;
        if weights.total <= cap {
            return Ok(report);
        }
        let keep_storage = Some(cap - cap / HEADROOM);
        let options = PruneOptions { keep_storage, ..PruneOptions::default() };
        let measured = Some(Measured::of(self, weights)?);
        let aside = self.work_dir()?;
        self.move_garbage(&options, measured, &aside, &mut report)?;
        aside.leave();
        Ok(report)
    }

    /// Moves aside what these images, which have no name any more, were made of, unless something
    /// else needs it; deletes nothing ([`Store::sweep`] does).
    pub fn discard(&self, images: &[ImageRecord]) -> Result<(), StoreError> {
        let mut report = PruneReport::default();
        let aside = self.work_dir()?;
        let mut removal = Removal { store: self, aside: &aside, report: &mut report };
        {
            let _lock = lock::exclusive(self.root())?;
            let mut live = Live::mark(self)?;
            live.restrict(self, images)?;
            removal.unreached(&live)?;
        }
        aside.leave();
        Ok(())
    }

    /// Deletes what was moved aside, and what dead processes left, while `go_on` says so; says how
    /// many areas are gone. Anybody may do this at any time.
    pub fn sweep(&self, go_on: &dyn Fn() -> bool) -> Result<usize, StoreError> {
        atomic::sweep_while(&self.work(), go_on)
    }

    /// Returns the bytes of packs that were written anew.
    fn move_garbage(
        &self,
        options: &PruneOptions,
        measured: Option<Measured>,
        aside: &WorkArea,
        report: &mut PruneReport,
    ) -> Result<u64, StoreError> {
        let mut removal = Removal { store: self, aside, report };
        removal.unreachable(options, measured)?;
        removal.packs(options)
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
    fn unreachable(
        &mut self,
        options: &PruneOptions,
        measured: Option<Measured>,
    ) -> Result<(), StoreError> {
        let store = self.store;
        let _lock = lock::exclusive(store.root())?;
        let mut live = Live::mark(store)?;
        self.report.live_leases = live.leases;
        if let Some(filter) = &options.images {
            return self.nameless(&mut live, filter, options);
        }
        let dropped = weigh::choose(store, &live, options, measured)?;
        for path in &dropped.records {
            self.move_aside(path)?;
            self.report.cache_records += 1;
        }
        live.forget_records(&dropped.records);
        self.mounts(&dropped.mounts)?;
        for path in &dropped.notes {
            self.move_aside(path)?;
        }
        self.notes(options)?;
        self.unreached(&live)
    }

    /// Images without a name, which the filter agrees with. Needs the exclusive lock.
    fn nameless(
        &mut self,
        live: &mut Live,
        filter: &ImageFilter,
        options: &PruneOptions,
    ) -> Result<(), StoreError> {
        let found = Nameless::find(self.store, live, filter, options.until)?;
        let records = if options.all { found.records(live) } else { Vec::new() };
        for path in &records {
            self.move_aside(path)?;
            self.report.cache_records += 1;
        }
        live.forget_records(&records);
        live.old_layers.retain(|layer| found.layers.contains(layer));
        live.old_blobs.retain(|blob| found.blobs.contains(blob));
        self.unreached(live)
    }

    /// The old layers and blobs that no root reaches. Needs the exclusive lock.
    fn unreached(&mut self, live: &Live) -> Result<(), StoreError> {
        let store = self.store;
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

    /// Reports of builds and memos go with the whole cache, or by their age, or because there are
    /// too many of them; so does a slot whose build is forgotten.
    fn notes(&mut self, options: &PruneOptions) -> Result<(), StoreError> {
        let too_old = SystemTime::now().checked_sub(NOTES_AGE);
        for part in NOTES {
            let mut kept = Vec::new();
            for path in list(&self.store.cache_dir(part))? {
                let asked = options.drops_cache() && options.cache.notes();
                let asked = asked && is_unused_since(&path, options.until);
                let written = fs::metadata(&path).and_then(|meta| meta.modified()).ok();
                let stays = !asked && written > too_old && cache::is_whole(&path);
                if stays && (part != "slots" || self.store.leads_to_build(&path)) {
                    kept.push((written, path));
                } else {
                    self.move_aside(&path)?;
                }
            }
            kept.sort();
            let many = kept.len().saturating_sub(NOTES_KEPT);
            for (_, path) in &kept[..many] {
                self.move_aside(path)?;
            }
        }
        Ok(())
    }

    /// Entries for layers that go now, or went before.
    fn index_entries(&mut self, gone: &BTreeSet<ShortId>) -> Result<(), StoreError> {
        for path in list(&self.store.root().join("index/diff"))? {
            let Some(bytes) = atomic::read_hint(&path)? else { continue };
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
