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
    while let Some(name) = pending.pop_front() {
        if name == b".." {
            at = at.parent().unwrap_or_default();
            let depth = at.components().count();
            missing_from = missing_from.filter(|from| depth > *from);
            continue;
        }
        let next = at.join(&name)?;
        let entry = if missing_from.is_some() { None } else { view.get(&next).map(|f| f.entry) };
        match entry {
            Some(link) if link.kind == Kind::Symlink && (follow_last || !pending.is_empty()) => {
                links += 1;
                if links > SYMLINKS_MAX {
                    let path = String::from_utf8_lossy(path).into_owned();
                    return Err(ResolveError::Loop { path });
                }
                if link.link.starts_with(b"/") {
                    at = LayerPath::root();
                }
                for name in names(&link.link).collect::<Vec<_>>().into_iter().rev() {
                    pending.push_front(name);
                }
            }
            Some(entry) if entry.kind != Kind::Dir && !pending.is_empty() => {
                return Err(ResolveError::NotADirectory { at: next });
            }
            Some(_) => at = next,
            None => {
                missing_from = missing_from.or_else(|| Some(at.components().count()));
                at = next;
            }
        }
    }
    Ok(Resolved { path: at, missing_from })
}

fn names(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b".")).map(<[u8]>::to_vec)
}
