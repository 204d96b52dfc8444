//! Following symbolic links inside a view, as a process whose root it is would.

use std::collections::VecDeque;

use super::{Resolved, View};
use crate::{
    limits::SYMLINKS_MAX,
    path::{LayerPath, PathError},
    toc::Kind,
};

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// More symbolic links than the kernel follows: a loop.
    #[error("`{path}` goes through too many symbolic links")]
    Loop {
        /// The path that was asked for, lossily shown.
        path: String,
    },
    /// Something that is no directory stands where one is needed.
    #[error("`{at}` is not a directory")]
    NotADirectory {
        /// What stands there.
        at: LayerPath,
    },
    /// The path, or a link's target, is not one.
    #[error("cannot use the path")]
    Path(#[from] PathError),
}

pub(super) fn resolve(
    view: &View,
    path: &[u8],
    follow_last: bool,
) -> Result<Resolved, ResolveError> {
    let mut pending: VecDeque<Vec<u8>> = names(path).collect();
    let mut at = LayerPath::root();
    // The depth of what exists; below it, names are literal.
    let mut missing_from: Option<usize> = None;
    let mut links = 0;
    while !pending.is_empty() {
        if pending.front().is_some_and(|name| name == b"..") {
            pending.pop_front();
            at = at.parent().unwrap_or_default();
            missing_from = missing_from.filter(|from| at.components().count() > *from);
            continue;
        }
        let run = Run::below(&at, &pending);
        let there = if missing_from.is_some() { 0 } else { view.deepest(&run.path, &run.ends) };
        if there > 0 {
            let next = run.path(there);
            let is_last = there == pending.len();
            let entry = view.get(&next).map(|found| found.entry);
            match entry {
                Some(link) if link.kind == Kind::Symlink && (follow_last || !is_last) => {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        let path = String::from_utf8_lossy(path).into_owned();
                        return Err(ResolveError::Loop { path });
                    }
                    let is_absolute = link.link.starts_with(b"/");
                    at = if is_absolute { LayerPath::root() } else { run.path(there - 1) };
                    let rest = pending.split_off(there);
                    pending = names(&link.link).chain(rest).collect();
                    continue;
                }
                Some(entry) if entry.kind != Kind::Dir && !is_last => {
                    return Err(ResolveError::NotADirectory { at: next });
                }
                _ => at = next,
            }
        }
        if there < run.ends.len() {
            missing_from = missing_from.or_else(|| Some(at.components().count()));
            at = LayerPath::parse(&run.path)?;
        }
        pending.drain(..run.ends.len());
    }
    Ok(Resolved { path: at, missing_from })
}

/// Names up to the next `..`, below a directory: looked up as a whole, so that a path costs what its
/// length is and not what all of its parents' lengths are.
struct Run {
    path: Vec<u8>,
    /// Where each name ends in `path`.
    ends: Vec<usize>,
    /// Where the directory ends.
    start: usize,
}

impl Run {
    fn below(directory: &LayerPath, pending: &VecDeque<Vec<u8>>) -> Run {
        let mut path = directory.as_bytes().to_vec();
        let (start, mut ends) = (path.len(), Vec::new());
        for name in pending.iter().take_while(|name| *name != b"..") {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            ends.push(path.len());
        }
        Run { path, ends, start }
    }

    /// The directory with so many of the names, which are there and so are clean.
    fn path(&self, names: usize) -> LayerPath {
        let end = names.checked_sub(1).map_or(self.start, |last| self.ends[last]);
        LayerPath::from_clean(&self.path[..end])
    }
}

fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}
