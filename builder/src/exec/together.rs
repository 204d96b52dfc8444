//! Builds that are under way at once, as those of several platforms are: what they share.
//!
//! ```text
//! permits    how many steps may be executed, of all builds together
//! claims     key ▶ who is making it, and what came of it: whoever comes second takes that
//! contexts   directories and their ignore files, opened once
//! fetched    URLs, repositories and base images, asked for once
//! turns      files that a step names are hashed once; whoever comes second finds them remembered
//! lease      keeps what any of them uses until all of them are done
//! ```
//! *Invariant:* nobody waits in a circle: who has a claim may wait for a permit, who has a permit waits
//! for neither, and who has a turn only reads files.

use super::board::lock;
use super::remotes::Fetched;
use super::session::Context;
use crate::error::BuildError;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::store::{CacheKey, ImageRecord, Lease, Store};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What builds that are under way at once have in common.
pub(crate) struct Together {
    pub(crate) permits: Permits,
    pub(crate) claims: Claims,
    pub(crate) contexts: Mutex<BTreeMap<Option<String>, Context>>,
    pub(crate) fetched: Arc<Fetched>,
    pub(crate) bases: Once<ImageRecord>,
    pub(crate) turns: Once<()>,
    pub(crate) lease: Arc<Lease>,
    /// Held by whoever uses the terminal.
    pub(crate) terminal: Mutex<()>,
}

impl Together {
    /// Nothing is known yet; `jobs` steps may be executed at once.
    pub(crate) fn new(store: &Store, jobs: usize) -> Result<Self, BuildError> {
        Ok(Self {
            permits: Permits::new(jobs),
            claims: Claims::default(),
            contexts: Mutex::default(),
            fetched: Arc::default(),
            bases: Once::default(),
            turns: Once::default(),
            lease: Arc::new(store.lease()?),
            terminal: Mutex::default(),
        })
    }
}

/// How many steps may still start.
#[derive(Debug)]
pub(crate) struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

/// Leave to execute one step; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Permits);

impl Permits {
    fn new(jobs: usize) -> Self {
        Self { free: Mutex::new(jobs.max(1)), freed: Condvar::new() }
    }

    /// Wait for leave to execute a step.
    pub(crate) fn permit(&self) -> Permit<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

/// A step's layer, and when it was made.
pub(crate) type Made = (Arc<Layer>, i64);

/// The steps that are being made, and those that were.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// Nothing, while it is being made.
    steps: Mutex<HashMap<CacheKey, Option<Made>>>,
    changed: Condvar,
}

/// What came of asking for a step.
#[derive(Debug)]
pub(crate) enum Claim<'a> {
    /// Whoever asked has to make it; the others wait.
    Mine(Making<'a>),
    /// Another one made it.
    Made(Made),
}

/// A step that is being made. One that failed is up to the next who waits.
#[derive(Debug)]
pub(crate) struct Making<'a> {
    claims: &'a Claims,
    key: CacheKey,
}

impl Claims {
    /// Waits while another one is making it.
    pub(crate) fn claim(&self, key: &CacheKey) -> Claim<'_> {
        let mut steps = lock(&self.steps);
        loop {
            match steps.get(key) {
                Some(Some(made)) => return Claim::Made(made.clone()),
                Some(None) => {
                    steps = self.changed.wait(steps).unwrap_or_else(PoisonError::into_inner);
                }
                None => {
                    steps.insert(*key, None);
                    return Claim::Mine(Making { claims: self, key: *key });
                }
            }
        }
    }
}

impl Making<'_> {
    /// It is done.
    pub(crate) fn made(self, made: &Made) {
        lock(&self.claims.steps).insert(self.key, Some(made.clone()));
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut steps = lock(&self.claims.steps);
        if matches!(steps.get(&self.key), Some(None)) {
            steps.remove(&self.key);
        }
        self.claims.changed.notify_all();
    }
}

/// Results that several may want at once, each worked out by the first that asks.
pub(crate) struct Once<T> {
    slots: Mutex<HashMap<String, Slot<T>>>,
}

type Slot<T> = Arc<Mutex<Option<T>>>;

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<T: Clone> Once<T> {
    /// What an error stopped is tried again by the next that asks.
    pub(crate) fn get_or_try(
        &self,
        name: &str,
        f: impl FnOnce() -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let slot = self.slot(name);
        let mut slot = lock(&slot);
        match &*slot {
            Some(known) => Ok(known.clone()),
            None => Ok(slot.insert(f()?).clone()),
        }
    }

    fn slot(&self, name: &str) -> Slot<T> {
        Arc::clone(lock(&self.slots).entry(name.to_owned()).or_default())
    }
}

impl Once<()> {
    /// Does it while nobody else does anything of this name.
    pub(crate) fn in_turn<R>(&self, name: &str, f: impl FnOnce() -> R) -> R {
        let slot = self.slot(name);
        let _turn: MutexGuard<'_, Option<()>> = lock(&slot);
        f()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(name: &str) -> CacheKey {
        CacheKey(*blake3::hash(name.as_bytes()).as_bytes())
    }

    #[test]
    fn what_failed_is_up_to_the_next() {
        let claims = Claims::default();
        let Claim::Mine(first) = claims.claim(&key("a")) else { panic!("nobody makes it") };
        assert!(matches!(claims.claim(&key("b")), Claim::Mine(_)), "another step");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| matches!(claims.claim(&key("a")), Claim::Mine(_)));
            drop(first);
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn no_more_than_so_many_at_once() {
        let (permits, at_once) = (Permits::new(2), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _permit = permits.permit();
                    assert!(at_once.fetch_add(1, Ordering::SeqCst) < 2);
                    std::thread::yield_now();
                    at_once.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    }

    #[test]
    fn worked_out_once_unless_it_fails() {
        let (once, asked) = (Once::default(), AtomicUsize::new(0));
        let ask = |fails: bool| {
            once.get_or_try("x", || {
                asked.fetch_add(1, Ordering::SeqCst);
                if fails { Err(BuildError::Cancelled) } else { Ok(7) }
            })
        };
        assert!(ask(true).is_err());
        assert_eq!((ask(false).unwrap(), ask(true).unwrap()), (7, 7));
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
