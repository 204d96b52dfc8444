//! Blocks that several files have (reflinks): `du` counts them for each, the disk has them once.
//!
//! ```text
//! device   ....aaaaaaaabbbb........      a, b: extents that the file system calls shared
//! file 1       aaaaaaaa                  met first: nothing is counted twice
//! file 2         aaaaaabbbb              aaaaaa was met: 6 counted twice; bbbb is new
//! ```
//! Where blocks lie only the caller can ask: this crate has no unsafe code, and no safe call tells it.

use std::{
    collections::BTreeMap,
    fs::{File, Metadata},
    io,
    ops::Range,
    path::Path,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

/// Where the blocks lie that a file shares with others; an error where the file system cannot say.
pub type SharedExtents<'a> = &'a dyn Fn(&File) -> io::Result<Vec<Range<u64>>>;

/// File systems on which nothing is shared, so that nobody has to ask for each file: those of ext, tmpfs.
const SHARES_NOTHING: [rustix::fs::FsWord; 2] = [0xef53, 0x0102_1994];

/// Counts what was counted before.
pub(super) struct Reflinks<'a> {
    /// Nothing, where blocks are not shared.
    ask: Option<SharedExtents<'a>>,
    /// What was met: the ends of ranges by their beginnings; none touch.
    met: BTreeMap<u64, u64>,
    twice: u64,
}

impl std::fmt::Debug for Reflinks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reflinks").field("twice", &self.twice).finish_non_exhaustive()
    }
}

impl<'a> Reflinks<'a> {
    /// For files below `root`.
    pub(super) fn new(root: &Path, ask: Option<SharedExtents<'a>>) -> Self {
        let stat = rustix::fs::statfs(root);
        let shares = stat.is_err() || stat.is_ok_and(|stat| !SHARES_NOTHING.contains(&stat.f_type));
        Self { ask: ask.filter(|_| shares), met: BTreeMap::new(), twice: 0 }
    }

    /// Bytes that were counted more than once.
    pub(super) fn twice(&self) -> u64 {
        self.twice
    }

    /// A file is counted.
    pub(super) fn count(&mut self, path: &Path, meta: &Metadata) {
        let Some(ask) = self.ask.filter(|_| meta.is_file() && meta.len() > 0) else { return };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // What is gone or may not be read counts as it is.
        let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return };
        match ask(&File::from(file)) {
            Ok(shared) => self.twice += shared.into_iter().map(|it| self.meet(it)).sum::<u64>(),
            // It will not say so of any other file either.
            Err(error) if is_unknown(&error) => self.ask = None,
            Err(_) => {}
        }
    }

    /// Notes a range; how much of it was met before.
    fn meet(&mut self, range: Range<u64>) -> u64 {
        let (mut start, mut end, mut met) = (range.start, range.end, 0);
        if start >= end {
            return 0;
        }
        // The ranges that this one touches become one with it.
        let touched: Vec<(u64, u64)> = self
            .met
            .range(..=end)
            .rev()
            .map(|(start, end)| (*start, *end))
            .take_while(|(_, known_end)| *known_end >= range.start)
            .collect();
        for (known_start, known_end) in touched {
            met += known_end.min(range.end).saturating_sub(known_start.max(range.start));
            (start, end) = (start.min(known_start), end.max(known_end));
            self.met.remove(&known_start);
        }
        self.met.insert(start, end);
        met
    }
}

fn is_unknown(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn none() -> Reflinks<'static> {
        Reflinks { ask: None, met: BTreeMap::new(), twice: 0 }
    }

    #[test]
    fn only_what_was_met_counts() {
        let mut reflinks = none();
        let met: Vec<u64> = [4..12, 6..16, 0..4, 20..24, 0..30, 3..3, 29..31]
            .into_iter()
            .map(|range| reflinks.meet(range))
            .collect();
        assert_eq!(met, [0, 6, 0, 0, 20, 0, 1]);
        assert_eq!(reflinks.met, BTreeMap::from([(0, 31)]));
    }

    #[test]
    fn who_cannot_say_is_asked_once() {
        let directory = tempfile::tempdir().unwrap();
        let asked = std::cell::Cell::new(0);
        let ask = |_: &File| {
            asked.set(asked.get() + 1);
            Err(io::Error::from_raw_os_error(95))
        };
        let mut reflinks = Reflinks { ask: Some(&ask), ..none() };
        for name in ["a", "b"] {
            let path = directory.path().join(name);
            std::fs::write(&path, name).unwrap();
            reflinks.count(&path, &path.metadata().unwrap());
        }
        assert_eq!((asked.get(), reflinks.twice()), (1, 0));
    }

    proptest! {
        #[test]
        fn bytes_are_met_as_a_set_of_bytes_says(
            ranges in proptest::collection::vec((0_u64..60, 0_u64..12), 0..30),
        ) {
            let (mut reflinks, mut bytes) = (none(), std::collections::BTreeSet::new());
            for (start, length) in ranges {
                let range = start..start + length;
                let known = range.clone().filter(|byte| !bytes.insert(*byte)).count() as u64;
                prop_assert_eq!(reflinks.meet(range), known);
            }
            let kept: u64 = reflinks.met.iter().map(|(start, end)| end - start).sum();
            prop_assert_eq!(kept, bytes.len() as u64);
        }
    }
}
