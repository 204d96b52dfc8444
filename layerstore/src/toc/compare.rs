//! What differs between two tables of contents, or between two views.

use std::{borrow::Cow, cmp::Ordering};

use super::{Entry, Kind, Toc};
use crate::path::LayerPath;

/// A property in which two entries of one path can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// Directory, file, link, …
    Kind,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Bytes of a file.
    Size,
    /// Content of a file.
    Content,
    /// Target of a link.
    Link,
    /// Device numbers.
    Device,
    /// Extended attributes.
    Xattrs,
    /// Modification time.
    Mtime,
}

/// What happened to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// Only the new side has it.
    Added,
    /// Only the old side has it.
    Removed,
    /// Both have it, and it differs in these.
    Changed {
        /// At least one, sorted.
        attributes: Vec<Attribute>,
    },
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: LayerPath,
    /// What.
    pub kind: ChangeKind,
    /// The old entry, if there was one.
    pub old: Option<Entry>,
    /// The new entry, if there is one.
    pub new: Option<Entry>,
}

/// The differences from `old` to `new`, by path.
pub fn compare(old: &Toc, new: &Toc) -> Vec<Change> {
    compare_sorted(old.iter().map(Cow::Borrowed), new.iter().map(Cow::Borrowed))
}

/// As [`compare`], over any two sequences that are sorted as a TOC is.
pub(crate) fn compare_sorted<'a>(
    old: impl Iterator<Item = Cow<'a, Entry>>,
    new: impl Iterator<Item = Cow<'a, Entry>>,
) -> Vec<Change> {
    let (mut old, mut new) = (old.peekable(), new.peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.order().cmp(&b.order()),
        };
        let gone = if order.is_le() { old.next() } else { None };
        let come = if order.is_ge() { new.next() } else { None };
        changes.extend(change(gone, come));
    }
}

fn change(old: Option<Cow<'_, Entry>>, new: Option<Cow<'_, Entry>>) -> Option<Change> {
    let kind = match (&old, &new) {
        (Some(old), Some(new)) => {
            let attributes = attributes(old, new);
            if attributes.is_empty() {
                return None;
            }
            ChangeKind::Changed { attributes }
        }
        (Some(_), None) => ChangeKind::Removed,
        _ => ChangeKind::Added,
    };
    let path = old.as_ref().or(new.as_ref())?.path.clone();
    let (old, new) = (old.map(Cow::into_owned), new.map(Cow::into_owned));
    Some(Change { path, kind, old, new })
}

/// In what two entries of one path differ (seconds of the time only).
pub(crate) fn attributes(old: &Entry, new: &Entry) -> Vec<Attribute> {
    if old.kind != new.kind {
        return vec![Attribute::Kind];
    }
    // A symbolic link's mode means nothing to Linux and differs between archivers.
    let same_mode = old.mode == new.mode || old.kind == Kind::Symlink;
    [
        (same_mode, Attribute::Mode),
        ((old.uid, old.gid) == (new.uid, new.gid), Attribute::Owner),
        (old.size == new.size, Attribute::Size),
        (old.content == new.content, Attribute::Content),
        (old.link == new.link, Attribute::Link),
        (old.device == new.device, Attribute::Device),
        (old.xattrs == new.xattrs, Attribute::Xattrs),
        (old.mtime == new.mtime, Attribute::Mtime),
    ]
    .into_iter()
    .filter_map(|(same, attribute)| (!same).then_some(attribute))
    .collect()
}
