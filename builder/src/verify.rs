//! Whether a build can be repeated: its steps beside those of the same build made again.
//!
//! ```text
//! report of one build ─┐
//!                      ├▶ the first step, in file order, whose layers differ ▶ the files that differ
//! report of the other ─┘
//! ```
//! A stage needs only stages before it, so the first step that differs is where the difference comes
//! from; what differs behind it may only be a consequence. Times are compared as they go out: with an
//! epoch, none later than that; without one, those that only say when a step ran are not compared.

use crate::exec::CLOCK_SLACK_SECONDS;
use crate::explain::{Report, StepReport};
use lapstrake_layerstore::StoreError;
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::digest::LayerId;
use lapstrake_layerstore::layers::{Layer, Layers};
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::{Attribute, Change, ChangeKind, compare};
use std::collections::VecDeque;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

/// Bytes of context on each side of the first byte that differs.
const EXCERPT_BYTES: usize = 40;

/// The first step that made something else the second time.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The stage's name, or its index.
    pub stage: String,
    /// The line of the Dockerfile, from 1.
    pub line: usize,
    /// The instruction on one line.
    pub instruction: String,
    /// What differs between the two layers, sorted by path; `old` is the first build.
    pub changes: Vec<Change>,
    /// Where the first file differs whose bytes do.
    pub bytes: Option<BytesDifference>,
    /// How many steps after this one differ as well.
    pub later: usize,
}

/// Where two versions of a file part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BytesDifference {
    /// The file.
    pub path: LayerPath,
    /// The first byte that differs, from 0.
    pub offset: u64,
    /// What is around it in the first build, at most a line.
    pub old: Vec<u8>,
    /// The same of the second.
    pub new: Vec<u8>,
}

/// Compares two builds of the same Dockerfile, whose layers must still be in the store.
pub fn first_difference(
    first: &Report,
    second: &Report,
    layers: &Layers,
    epoch: Option<i64>,
) -> Result<Option<Difference>, StoreError> {
    let times = Times { epoch, began: second.started_unix };
    let mut found: Option<Difference> = None;
    for (old_stage, stage) in first.stages.iter().zip(&second.stages) {
        for (old, new) in old_stage.steps.iter().zip(&stage.steps) {
            let (Some(old), Some(made)) = (layer(old, layers)?, layer(new, layers)?) else {
                continue;
            };
            let changes = changes(&old, &made, &times)?;
            if changes.is_empty() {
                continue;
            }
            if let Some(found) = &mut found {
                found.later += 1;
                continue;
            }
            let (stage, instruction) = (stage.name.clone(), new.instruction.clone());
            let bytes = first_bytes(&changes, &old, &made, layers)?;
            let line = new.line;
            found = Some(Difference { stage, line, instruction, changes, bytes, later: 0 });
        }
    }
    Ok(found)
}

/// Which times are seen.
struct Times {
    epoch: Option<i64>,
    /// When the second build began, in seconds since 1970.
    began: i64,
}

impl Times {
    /// Whether they are the same for whoever gets the image.
    fn same(&self, old: i64, new: i64) -> bool {
        match self.epoch {
            Some(epoch) => Epoch::Clamp(epoch).apply(old) == Epoch::Clamp(epoch).apply(new),
            None => new >= self.began - CLOCK_SLACK_SECONDS,
        }
    }
}

/// What differs between two layers, but for times that nobody sees.
fn changes(old: &Arc<Layer>, new: &Arc<Layer>, times: &Times) -> Result<Vec<Change>, StoreError> {
    if old.id() == new.id() {
        return Ok(Vec::new());
    }
    let changes = compare(old.toc()?, new.toc()?);
    Ok(changes.into_iter().filter_map(|change| without_times(change, times)).collect())
}

/// Where the bytes of the first file that has other ones differ.
fn first_bytes(
    changes: &[Change],
    old: &Arc<Layer>,
    new: &Arc<Layer>,
    layers: &Layers,
) -> Result<Option<BytesDifference>, StoreError> {
    let has_others = |change: &&Change| matches!(&change.kind, ChangeKind::Changed { attributes } if attributes.contains(&Attribute::Content));
    let Some(change) = changes.iter().find(has_others) else { return Ok(None) };
    let (Some(old_entry), Some(new_entry)) = (&change.old, &change.new) else { return Ok(None) };
    let one = layers.open_content(old, old_entry)?;
    let other = layers.open_content(new, new_entry)?;
    // A file that cannot be read again costs an excerpt, not the answer.
    let parted = part(one, other).ok().flatten();
    Ok(parted.map(|(offset, old, new)| {
        let path = change.path.clone();
        BytesDifference { path, offset, old, new }
    }))
}

/// An offset, and what is around it in each of two streams.
type Parted = (u64, Vec<u8>, Vec<u8>);

/// The first byte in which two streams differ.
fn part(one: impl Read, other: impl Read) -> io::Result<Option<Parted>> {
    let (mut one, mut other) = (BufReader::new(one).bytes(), BufReader::new(other).bytes());
    let (mut offset, mut before) = (0, VecDeque::new());
    loop {
        let (a, b) = (one.next().transpose()?, other.next().transpose()?);
        if a == b {
            let Some(byte) = a else { return Ok(None) };
            offset += 1;
            if byte == b'\n' {
                before.clear();
            } else {
                before.push_back(byte);
                if before.len() > EXCERPT_BYTES {
                    before.pop_front();
                }
            }
            continue;
        }
        return Ok(Some((offset, excerpt(&before, a, one)?, excerpt(&before, b, other)?)));
    }
}

/// What stands before, then the rest of the line, as far as there is room.
fn excerpt(
    before: &VecDeque<u8>,
    first: Option<u8>,
    rest: impl Iterator<Item = io::Result<u8>>,
) -> io::Result<Vec<u8>> {
    let mut all: Vec<u8> = before.iter().copied().collect();
    for byte in first.map(Ok).into_iter().chain(rest).take(EXCERPT_BYTES) {
        match byte? {
            b'\n' => break,
            byte => all.push(byte),
        }
    }
    Ok(all)
}

/// The layer that a step made.
fn layer(step: &StepReport, layers: &Layers) -> Result<Option<Arc<Layer>>, StoreError> {
    let id = step.result.as_ref().and_then(|result| result.layer.parse::<LayerId>().ok());
    match id {
        Some(id) => layers.by_id(&id),
        None => Ok(None),
    }
}

/// The change without a difference of times that nobody sees.
fn without_times(mut change: Change, times: &Times) -> Option<Change> {
    let ChangeKind::Changed { attributes } = &mut change.kind else { return Some(change) };
    let (old, new) = (change.old.as_ref()?, change.new.as_ref()?);
    if times.same(old.mtime, new.mtime) {
        attributes.retain(|attribute| *attribute != Attribute::Mtime);
    }
    (!attributes.is_empty()).then_some(change)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_layerstore::toc::{Entry, Kind, Toc};

    fn entry(path: &str, mode: u32, mtime: i64) -> Entry {
        let path = LayerPath::parse(path).unwrap();
        Entry { mode, mtime, ..Entry::new(path, Kind::Fifo) }
    }

    fn changes(new: Entry, epoch: Option<i64>) -> usize {
        let toc = |entry| Toc::from_entries(vec![entry]).unwrap();
        let all = compare(&toc(entry("a", 0o644, 100)), &toc(new));
        let times = Times { epoch, began: 150 };
        all.into_iter().filter_map(|change| without_times(change, &times)).count()
    }

    #[test]
    fn the_first_byte_that_differs_is_found() {
        let parted = |a: &str, b: &str| part(a.as_bytes(), b.as_bytes()).unwrap();
        assert_eq!(parted("same\n", "same\n"), None);
        assert_eq!(
            parted("a\nb: 1\nc", "a\nb: 2\nc"),
            Some((5, b"b: 1".to_vec(), b"b: 2".to_vec()))
        );
        assert_eq!(parted("ab", "abc"), Some((2, b"ab".to_vec(), b"abc".to_vec())));
        let long = "x".repeat(1_000);
        let (offset, old, new) = parted(&format!("{long}1{long}"), &format!("{long}2")).unwrap();
        assert_eq!((offset, old.len(), new.len()), (1_000, 2 * EXCERPT_BYTES, EXCERPT_BYTES + 1));
    }

    #[test]
    fn times_count_as_they_go_out() {
        assert_eq!(changes(entry("a", 0o644, 200), None), 0);
        assert_eq!(changes(entry("a", 0o644, 120), None), 1);
        assert_eq!(changes(entry("a", 0o644, 200), Some(100)), 0);
        assert_eq!(changes(entry("a", 0o644, 200), Some(150)), 1);
        assert_eq!(changes(entry("a", 0o600, 200), None), 1);
        assert_eq!(changes(entry("b", 0o644, 100), None), 2);
    }
}
