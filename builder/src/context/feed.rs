//! Files on their way from those who read them to one who wants their bytes in another order.
//!
//! ```text
//! readers ─ give ─▶ window of some megabytes ─ take ─▶ the one who wants them
//! ```
//! Readers take up files in the order of their numbers. *Invariants:* who gives waits while the window is
//! full, unless a later file is waited for, which perhaps nobody has taken up: so nobody waits for ever,
//! whatever the other order is. If the two are too different the feed ends, and so it does when either
//! side is gone: what was wanted is not had then, and nothing else is wrong.

use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::layers::Content;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A window this full makes readers wait: enough for both sides to work at once.
const WINDOW_BYTES: usize = 4 << 20;
/// A window that holds more than this, for want of one file, is given up.
const WINDOW_BYTES_MAX: usize = 32 << 20;

/// Files by number, each given once and taken once.
#[derive(Debug, Default)]
pub struct Feed {
    window: Mutex<Window>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Window {
    files: HashMap<usize, Content>,
    bytes: usize,
    /// The file that is not here and is waited for.
    wanted: Option<usize>,
    has_ended: bool,
}

impl Feed {
    /// Give a file, waiting until there is room for it.
    pub fn give(&self, number: usize, hash: ContentHash, bytes: &[u8]) {
        let mut window = self.window();
        while window.has_no_room_for(number) {
            window = self.wait(window);
        }
        if window.has_ended {
            return;
        }
        window.bytes += bytes.len();
        window.files.insert(number, (hash, bytes.to_vec()));
        if window.bytes > WINDOW_BYTES_MAX {
            window.end();
        }
        if window.wanted == Some(number) || window.has_ended {
            self.changed.notify_all();
        }
    }

    /// Take a file, waiting until it is given; none after the end.
    pub fn take(&self, number: usize) -> Option<Content> {
        let mut window = self.window();
        loop {
            if window.has_ended {
                return None;
            }
            if let Some(file) = window.files.remove(&number) {
                let was_full = window.bytes > WINDOW_BYTES;
                window.bytes -= file.1.len();
                window.wanted = None;
                if was_full {
                    self.changed.notify_all();
                }
                return Some(file);
            }
            if window.wanted.replace(number).is_none() {
                self.changed.notify_all();
            }
            window = self.wait(window);
        }
    }

    /// Nobody gives or takes any more.
    pub fn end(&self) {
        self.window().end();
        self.changed.notify_all();
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, window: MutexGuard<'a, Window>) -> MutexGuard<'a, Window> {
        self.changed.wait(window).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn has_no_room_for(&self, number: usize) -> bool {
        let is_needed = self.wanted.is_some_and(|wanted| wanted >= number);
        self.bytes > WINDOW_BYTES && !is_needed && !self.has_ended
    }

    fn end(&mut self) {
        self.has_ended = true;
        self.files = HashMap::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static FILE: [u8; 100 << 10] = [7; 100 << 10];

    /// Two readers give `count` files in order, and they are taken in `order`; how many came.
    fn taken(count: usize, order: impl Iterator<Item = usize>) -> usize {
        let (feed, next) = (Feed::default(), AtomicUsize::new(0));
        let hash = |number: usize| ContentHash::of(&number.to_le_bytes());
        let numbers = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < count);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    std::iter::from_fn(numbers).for_each(|at| feed.give(at, hash(at), &FILE));
                });
            }
            let mut came = 0;
            for number in order {
                let Some((hash, bytes)) = feed.take(number) else { break };
                assert_eq!(
                    (hash, bytes.len()),
                    (ContentHash::of(&number.to_le_bytes()), FILE.len())
                );
                came += 1;
            }
            feed.end();
            came
        })
    }

    #[test]
    fn every_file_comes_in_the_order_that_is_wanted() {
        assert_eq!(taken(1000, 0..1000), 1000);
        // Every hundred backwards: ten megabytes, more than the window.
        let backwards = (0..1000).map(|at| at / 100 * 100 + 99 - at % 100);
        assert_eq!(taken(1000, backwards), 1000);
    }

    #[test]
    fn orders_that_are_too_different_end_it() {
        assert_eq!(taken(1000, (0..1000).rev()), 0);
        assert_eq!(taken(300, (0..300).rev()), 300, "29 megabytes are held");
    }

    #[test]
    fn who_gives_does_not_wait_for_one_who_is_gone() {
        assert_eq!(taken(1000, 0..10), 10);
        let feed = Feed::default();
        feed.end();
        feed.give(0, ContentHash::of(b""), &FILE);
        assert!(feed.take(0).is_none());
    }
}
