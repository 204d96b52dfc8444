//! Work in pieces that do not depend on each other, done by several threads at once.
//!
//! ```text
//! this thread ─▶ 0 │ 1 │ 2 │ 3 │ 4 │ 5 ◀─ the others
//! ```
//!
//! This thread takes the first piece that none has taken, the others the last: what one thread did in
//! one round of work is then still near to it in the next.

use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread::{available_parallelism, yield_now};
use std::time::{Duration, Instant};

/// More threads are not worth the time that it takes to wake them.
const MOST_HELPERS: usize = 7;

/// So long this thread looks whether the others are done before it sleeps: a thread that sleeps may take
/// as long to come back, and pieces are small.
const PATIENCE: Duration = Duration::from_micros(100);

/// The others. The pool that all of the program shares will not do: a thread of it that finds work wakes
/// others to look for more, and where there are as many threads as processors those take one away from who
/// has work.
static HELPERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let processors = available_parallelism().map_or(1, usize::from);
    let helpers = (processors - 1).min(MOST_HELPERS);
    if helpers == 0 {
        return None;
    }
    let pool = ThreadPoolBuilder::new().num_threads(helpers).thread_name(|_| "pieces".to_owned());
    // Who gets no threads goes on alone.
    pool.build().ok()
});

/// How many threads work.
pub(crate) fn threads() -> usize {
    HELPERS.as_ref().map_or(0, ThreadPool::current_num_threads) + 1
}

/// What `work` makes of each of so many pieces, in order.
pub(crate) fn all<T: Send + Sync>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let done: Vec<OnceLock<T>> = (0..count).map(|_| OnceLock::new()).collect();
    let (taken, from_end) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let is_left = || taken.fetch_add(1, Ordering::Relaxed) < count;
    let first_to_last = || {
        for index in (0..count).take_while(|_| is_left()) {
            done[index].get_or_init(|| work(index));
        }
    };
    let last_to_first = || {
        while is_left() {
            let index = count - 1 - from_end.fetch_add(1, Ordering::Relaxed);
            done[index].get_or_init(|| work(index));
        }
    };
    let helpers = threads().min(count).saturating_sub(1);
    let ended = AtomicUsize::new(0);
    match HELPERS.as_ref().filter(|_| helpers > 0) {
        Some(pool) => pool.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| {
                    last_to_first();
                    ended.fetch_add(1, Ordering::Release);
                });
            }
            first_to_last();
            let begin = Instant::now();
            while ended.load(Ordering::Acquire) < helpers && begin.elapsed() < PATIENCE {
                yield_now();
            }
        }),
        None => first_to_last(),
    }
    let taken = "because each piece was taken, and the threads have ended";
    done.into_iter().map(|piece| piece.into_inner().expect(taken)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_once_and_in_order() {
        for count in [0, 1, 2, 3, 100] {
            let calls = AtomicUsize::new(0);
            let made = all(count, |index| {
                calls.fetch_add(1, Ordering::Relaxed);
                index.to_string()
            });
            assert_eq!(made, (0..count).map(|index| index.to_string()).collect::<Vec<_>>());
            assert_eq!(calls.into_inner(), count);
        }
    }

    #[test]
    fn work_within_work_ends() {
        let made = all(4, |outer| all(4, |inner| outer * inner));
        assert_eq!(made[3], [0, 3, 6, 9]);
    }
}
