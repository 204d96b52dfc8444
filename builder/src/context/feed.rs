//! Files on their way from those who read them to one who wants their bytes in another order.
//!
//! ```text
//! readers ─ give ─▶ window of some megabytes ─ take ─▶ the one who wants them
//! ```
//! Readers take up files in the order of their numbers. *Invariants:* who gives waits while the window is
//! full, unless a later file is waited for, which perhaps nobody has taken up: so nobody waits for ever,
//! whatever the other order is. If the two are too different the feed ends, and so it does when either
//! side is gone: what was wanted is not had then, and nothing else is wrong.

use lapstrake_layerstore::contents::Piece;
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::layers::ContentPieces;
use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A window this full makes readers wait: enough for both sides to work at once.
const WINDOW_BYTES: usize = 4 << 20;
/// A window that holds more than this, for want of one file, is given up.
const WINDOW_BYTES_MAX: usize = 32 << 20;

/// Files by number, each given once and taken once: small ones whole, large ones in pieces.
#[derive(Debug, Default)]
pub struct Feed {
    window: Mutex<Window>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Window {
    files: HashMap<usize, (ContentHash, Vec<u8>)>,
    /// What was given of files that come in pieces, and was not taken.
    pieces: HashMap<usize, Pieces>,
    bytes: usize,
    /// The file that is not here and is waited for.
    wanted: Option<usize>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Pieces {
    given: VecDeque<Arc<Piece>>,
    hash: Option<ContentHash>,
}

impl Feed {
    /// Give a file, waiting until there is room for it.
    pub fn give(&self, number: usize, hash: ContentHash, bytes: &[u8]) {
        self.put(number, bytes.len(), |window| {
            window.files.insert(number, (hash, bytes.to_vec()));
        });
    }

    /// Give the next piece of a file, waiting until there is room for it.
    pub fn give_piece(&self, number: usize, piece: &Arc<Piece>) {
        self.put(number, piece.len(), |window| {
            window.pieces.entry(number).or_default().given.push_back(Arc::clone(piece));
        });
    }

    /// All pieces of a file were given; this is the hash of all of it.
    pub fn give_end(&self, number: usize, hash: ContentHash) {
        self.put(number, 0, |window| {
            window.pieces.entry(number).or_default().hash = Some(hash);
        });
    }

    fn put(&self, number: usize, bytes: usize, insert: impl FnOnce(&mut Window)) {
        let mut window = self.window();
        while window.has_no_room_for(number) {
            window = self.wait(window);
        }
        if window.has_ended {
            return;
        }
        window.bytes += bytes;
        insert(&mut window);
        if window.bytes > WINDOW_BYTES_MAX {
            window.end();
        }
        if window.wanted == Some(number) || window.has_ended {
            self.changed.notify_all();
        }
    }

    /// Take a file, waiting until it is given; none after the end.
    pub fn take(&self, number: usize) -> Option<(ContentHash, Vec<u8>)> {
        self.get(number, |window| {
            let file = window.files.remove(&number)?;
            Some((file.1.len(), file))
        })
    }

    /// Take a file that is given in pieces.
    pub fn pieces(&self, number: usize) -> TakePieces<'_> {
        TakePieces { feed: self, number, piece: Arc::default(), at: 0 }
    }

    /// Wait until `take` takes something, and says how many bytes it was.
    fn get<T>(&self, number: usize, take: impl Fn(&mut Window) -> Option<(usize, T)>) -> Option<T> {
        let mut window = self.window();
        loop {
            if window.has_ended {
                return None;
            }
            if let Some((bytes, taken)) = take(&mut window) {
                let was_full = window.bytes > WINDOW_BYTES;
                window.bytes -= bytes;
                window.wanted = None;
                if was_full {
                    self.changed.notify_all();
                }
                return Some(taken);
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
        (self.files, self.pieces) = (HashMap::new(), HashMap::new());
    }
}

/// A file on its way in pieces; it ends early where the feed does.
#[derive(Debug)]
pub struct TakePieces<'f> {
    feed: &'f Feed,
    number: usize,
    piece: Arc<Piece>,
    at: usize,
}

impl Read for TakePieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let count = buffer.len().min(piece.len());
        buffer[..count].copy_from_slice(&piece[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for TakePieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.piece.len() {
            let next = self.feed.get(self.number, |window| {
                let pieces = window.pieces.get_mut(&self.number)?;
                match pieces.given.pop_front() {
                    Some(piece) => Some((piece.len(), Some(piece))),
                    None => pieces.hash.map(|_| (0, None)),
                }
            });
            let Some(piece) = next.flatten() else { return Ok(&[]) };
            (self.piece, self.at) = (piece, 0);
        }
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl ContentPieces for TakePieces<'_> {
    fn hash(&mut self) -> Option<ContentHash> {
        self.feed.get(self.number, |window| {
            let pieces = window.pieces.get_mut(&self.number)?;
            pieces.hash.filter(|_| pieces.given.is_empty()).map(|hash| (0, hash))
        })
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
    fn a_large_file_comes_in_pieces() {
        let (feed, hash) = (Feed::default(), ContentHash::of(b"large"));
        let given: Vec<u8> = (0..20u32 << 20).map(|at| (at >> 10) as u8).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                feed.give(0, hash, b"small");
                let pieces = given.chunks(1 << 20).map(|piece| Arc::new(piece.to_vec().into()));
                pieces.for_each(|piece| feed.give_piece(1, &piece));
                feed.give_end(1, hash);
                feed.give(2, hash, b"after");
            });
            assert_eq!(feed.take(0).unwrap().1, b"small");
            let (mut pieces, mut taken) = (feed.pieces(1), Vec::new());
            pieces.read_to_end(&mut taken).unwrap();
            assert!(taken == given);
            assert_eq!(pieces.hash(), Some(hash));
            assert_eq!(feed.take(2).unwrap().1, b"after");
        });
    }

    #[test]
    fn pieces_that_stop_have_no_hash() {
        let feed = Feed::default();
        feed.give_piece(0, &Arc::new(vec![1; 10].into()));
        let (mut pieces, mut taken) = (feed.pieces(0), [0; 10]);
        pieces.read_exact(&mut taken).unwrap();
        feed.end();
        assert_eq!((pieces.read(&mut taken).unwrap(), pieces.hash()), (0, None));
        feed.give_piece(0, &Arc::new(vec![1; 10].into()));
        feed.give_end(0, ContentHash::of(b""));
        assert_eq!(pieces.hash(), None);
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
