//! Keeps the store small and tidy while a command works: what was moved aside before is deleted, and
//! where the user set a cap, the least recently used of the cache goes when the store is above it.
//!
//! All of it happens on a thread of its own. When the command is done, it looks once more; what it
//! cannot delete at once is left, moved aside, to a later command.

use crate::config::Config;
use crate::error::CommandError;
use crate::session::Session;
use crate::settings::Settings;
use crate::ui::terminal::note;
use crate::values;
use lapstrake_layerstore::store::Store;
use lapstrake_layerstore::store::gc::PruneReport;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a running build's store is weighed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// And how often where there was nothing to evict: everything has a name or is in use.
const LOOK_SELDOM: Duration = Duration::from_secs(60);
/// How long a command that is done may still delete: nobody notices, and most evictions need less.
const DELETE_AT_END: Duration = Duration::from_millis(300);

/// The largest size that the user wants the store to have: by flag, else `LAP_KEEP_STORAGE`, else
/// the configuration.
pub(crate) fn cap(settings: &Settings, flag: Option<u64>) -> Result<Option<u64>, CommandError> {
    if flag.is_some() {
        return Ok(flag);
    }
    let size = |text: &str, place: &str| {
        values::size_bytes(text).map_err(|why| CommandError::usage(format!("{place}: {why}")))
    };
    if let Some(text) = &settings.keep_storage {
        return size(text, "LAP_KEEP_STORAGE").map(Some);
    }
    let config = Config::read(settings)?;
    config.keep_storage.map(|text| size(&text, "keep-storage in config.json")).transpose()
}

/// At work until it is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Arc<Store>,
    cap: Option<u64>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Keeper {
    /// Begins; `flag` is the command's own cap.
    pub(crate) fn start(session: &Session, flag: Option<u64>) -> Result<Self, CommandError> {
        let cap = cap(&session.settings, flag)?;
        let (store, stop) = (Arc::clone(&session.store), Arc::new(Stop::default()));
        let work = {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            move || keep(&store, cap, &stop)
        };
        // Without a thread there is still the look at the end.
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(work).ok();
        Ok(Self { store, cap, stop, thread })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A keeper that panicked kept nothing; the command is done all the same.
            drop(thread.join());
        }
        if let Some(cap) = self.cap {
            look(&self.store, cap);
            let end = Instant::now() + DELETE_AT_END;
            // What stays is deleted by a later command.
            drop(self.store.sweep(&|| Instant::now() < end));
        }
    }
}

impl Stop {
    fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    fn is_set(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; true when it is time to end.
    fn wait(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn keep(store: &Store, cap: Option<u64>, stop: &Stop) {
    let go_on = || !stop.is_set();
    // That something could not be deleted is seen by `lap prune`, who was asked to.
    drop(store.sweep(&go_on));
    let Some(cap) = cap else { return };
    let mut pause = LOOK_EVERY;
    while !stop.wait(pause) {
        let evicted = look(store, cap);
        drop(store.sweep(&go_on));
        pause = if evicted { LOOK_EVERY } else { LOOK_SELDOM };
    }
}

/// Evicts where the store is above the cap; whether there was no need to, or something went.
fn look(store: &Store, cap: u64) -> bool {
    match store.keep_within(cap) {
        Ok(report) => {
            let moved = report.layers.len() + report.blobs.len() + report.packs.len();
            let small = report.cache_records + report.mounts.len() + report.packs_rewritten;
            moved + small > 0 || report == PruneReport::default()
        }
        Err(error) => {
            note(&format!("warning: the store could not be kept below its cap: {error}"));
            false
        }
    }
}
