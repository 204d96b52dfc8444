//! The same work on several things at once, on scoped threads; the first failure stops the rest.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Set once something failed: long work looks at it and gives up.
#[derive(Debug, Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    /// Whether the outcome no longer matters.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Calls `work` for each item on up to `jobs` threads; results come in the items' order. After a
/// failure no new item is begun, and the first failure is returned.
pub(crate) fn map<I: Sync, T: Send, E: Send>(
    jobs: usize,
    items: &[I],
    work: impl Fn(&I, &Stop) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let stop = Stop::default();
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let results: Vec<Mutex<Option<T>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let lane = || {
        while !stop.is_set() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            match work(item, &stop) {
                Ok(value) => *lock(&results[at]) = Some(value),
                Err(error) => {
                    lock(&failure).get_or_insert(error);
                    stop.0.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    let lanes = jobs.clamp(1, items.len().max(1));
    std::thread::scope(|scope| {
        for _ in 1..lanes {
            scope.spawn(lane);
        }
        lane();
    });
    if let Some(error) = failure.into_inner().expect("because a panic has already spread") {
        return Err(error);
    }
    let value = |slot: Mutex<Option<T>>| slot.into_inner().ok().flatten();
    Ok(results
        .into_iter()
        .map(|slot| value(slot).expect("because without a failure every item was done"))
        .collect())
}

/// Locks; a panic in another lane ends the scope anyway.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("because nothing panics while holding it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_stops_at_a_failure() {
        let items: Vec<u32> = (0..100).collect();
        let doubled = map(4, &items, |item, _| Ok::<_, ()>(item * 2)).unwrap();
        assert_eq!(doubled, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        let begun = AtomicUsize::new(0);
        let outcome = map(1, &items, |item, _| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *item == 3 { Err("three") } else { Ok(()) }
        });
        assert_eq!((outcome, begun.into_inner()), (Err("three"), 4));
        assert_eq!(map(8, &[] as &[u32], |_, _| Ok::<_, ()>(())), Ok(vec![]));
    }
}
