//! A layer's table of contents (TOC): one record per entry, sorted by path.
//!
//! Diffs, waste, search, `COPY --from` planning, dedup and fsck read this and nothing else.
//!
//! *Invariants* of a [`Toc`]: sorted by path bytes (so a directory comes before what is in it); one
//! entry per path, except that a directory may be followed by an [`Kind::Opaque`] mark of the same
//! path; fields that a kind has no use for are zero; an empty file has no content hash; extended
//! attributes are sorted. The file format is drawn in [`format`] and `docs/formats/toc.md`.

mod compare;
mod format;
mod rare;
#[cfg(test)]
mod tests;

use std::{cmp::Ordering, num::NonZeroU64, ops::Range};

pub use compare::{Attribute, Change, ChangeKind, compare};
pub(crate) use compare::{attributes, compare_sorted};
pub use rare::Rare;

use crate::{
    digest::{ContentHash, ContentId, LayerId},
    limits::{IMPLIED_DIRECTORIES_MAX, LAYER_ENTRIES_MAX, XATTRS_MAX},
    path::LayerPath,
};

/// The version of the TOC's file format.
pub const TOC_VERSION: u8 = 1;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A directory.
    Dir = 0,
    /// A regular file.
    File = 1,
    /// A symbolic link; [`Entry::link`] is its target as written.
    Symlink = 2,
    /// Another name of a file in the same layer; [`Entry::link`] is that file's path.
    Hardlink = 3,
    /// A character device.
    CharDevice = 4,
    /// A block device.
    BlockDevice = 5,
    /// A named pipe.
    Fifo = 6,
    /// The path is removed from the layers below. The path is the hidden name itself.
    Whiteout = 7,
    /// Everything that layers below have in this directory is removed. The path is the directory.
    Opaque = 8,
}

impl Kind {
    /// Is this a mark about the layers below and not a thing of its own?
    pub fn is_mark(self) -> bool {
        matches!(self, Kind::Whiteout | Kind::Opaque)
    }
}

/// Extended attributes: names and values.
pub type Xattrs = Rare<(Vec<u8>, Vec<u8>)>;

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub path: LayerPath,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits (`0o7777`).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in whole seconds since 1970.
    pub mtime: i64,
    /// The fraction of the modification time; 0 in layers at rest.
    pub mtime_nanos: u32,
    /// Bytes of a regular file, else 0.
    pub size: u64,
    /// The content of a regular file that is not empty.
    pub content: Option<ContentHash>,
    /// The target of a symbolic link, or the path of a hard link's first name.
    pub link: Rare<u8>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Xattrs,
    /// Where the stored data starts in the uncompressed tar that this layer came as (for a sparse
    /// file, the pieces without their holes). A header comes before it, so it is never zero.
    pub tar_offset: Option<NonZeroU64>,
}

impl Entry {
    /// An entry of `kind` at `path` with everything else zero.
    pub fn new(path: LayerPath, kind: Kind) -> Entry {
        Entry {
            path,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nanos: 0,
            size: 0,
            content: None,
            link: Rare::new(),
            device: (0, 0),
            xattrs: Rare::new(),
            tar_offset: None,
        }
    }

    /// The mark that removes `path` from the layers below.
    pub fn whiteout(path: LayerPath) -> Entry {
        Entry::new(path, Kind::Whiteout)
    }

    /// A directory owned by root.
    pub fn directory(path: LayerPath, mode: u32, mtime: i64) -> Entry {
        Entry { mode, mtime, ..Entry::new(path, Kind::Dir) }
    }

    fn order(&self) -> (&[u8], bool) {
        (self.path.as_bytes(), self.kind == Kind::Opaque)
    }

    fn normalise(&mut self) {
        if self.kind.is_mark() {
            *self = Entry::new(std::mem::take(&mut self.path), self.kind);
            return;
        }
        self.mode &= 0o7777;
        if self.kind != Kind::File {
            self.size = 0;
            self.tar_offset = None;
        }
        if self.size == 0 {
            self.content = None;
            self.tar_offset = None;
        }
        if !matches!(self.kind, Kind::Symlink | Kind::Hardlink) {
            self.link.clear();
        }
        if !matches!(self.kind, Kind::CharDevice | Kind::BlockDevice) {
            self.device = (0, 0);
        }
        self.xattrs.sort();
    }
}

impl Entry {
    /// Has every field that the kind has no use for its one value (as [`Toc::from_entries`] sets it)?
    fn is_normal(&self) -> bool {
        let has_data = self.content.is_some() || self.tar_offset.is_some();
        let is_bare = || {
            let numbers = (self.mode, self.uid, self.gid, self.mtime, self.mtime_nanos);
            numbers == (0, 0, 0, 0, 0) && self.xattrs.is_empty()
        };
        self.mode <= 0o7777
            && (self.size > 0 || !has_data)
            && (self.size == 0 || self.kind == Kind::File)
            && (self.link.is_empty() || matches!(self.kind, Kind::Symlink | Kind::Hardlink))
            && (self.device == (0, 0) || matches!(self.kind, Kind::CharDevice | Kind::BlockDevice))
            && self.xattrs.is_sorted()
            && (!self.kind.is_mark() || is_bare())
    }

    /// Does a hard link name a path, and is the root a directory?
    /// Its `path` stands beside it, as a reader gives entries theirs later.
    fn check_place(&self, path: &[u8]) -> Result<(), TocError> {
        if path.is_empty() && !matches!(self.kind, Kind::Dir | Kind::Opaque) {
            return Err(TocError::Root);
        }
        let is_path = |link: &[u8]| !link.is_empty() && LayerPath::is_clean(link);
        if self.kind == Kind::Hardlink && !is_path(&self.link) {
            return Err(TocError::Link { path: LayerPath::from_clean(path) });
        }
        Ok(())
    }
}

/// Why entries are not a table of contents, or bytes not one at rest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TocError {
    /// More entries than [`LAYER_ENTRIES_MAX`].
    #[error("a layer of {count} entries is over the limit of {LAYER_ENTRIES_MAX}")]
    TooManyEntries {
        /// How many there are.
        count: usize,
    },
    /// More extended attributes than [`XATTRS_MAX`] on one entry.
    #[error("`{path}` has {count} extended attributes, over the limit of {XATTRS_MAX}")]
    TooManyXattrs {
        /// Whose they are.
        path: LayerPath,
        /// How many there are.
        count: usize,
    },
    /// More directories that are needed and not listed than [`IMPLIED_DIRECTORIES_MAX`].
    #[error(
        "a layer that needs more than {IMPLIED_DIRECTORIES_MAX} directories that it does not list"
    )]
    TooManyImplied,
    /// A hard link to something that is no clean path.
    #[error("`{path}` is a hard link to what is no path")]
    Link {
        /// The link.
        path: LayerPath,
    },
    /// A whiteout of the root directory.
    #[error("the root directory cannot be removed or be anything but a directory")]
    Root,
    /// Written by another version of the format.
    #[error("table of contents has format version {found}, this program reads {TOC_VERSION}")]
    Version {
        /// The version that it says.
        found: u8,
    },
    /// The bytes are not what was written.
    #[error("table of contents is damaged: {what}")]
    Damaged {
        /// What is wrong with them.
        what: &'static str,
    },
}

/// Sums over a table of contents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Regular files (further hard links not counted).
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Everything else that is not a mark.
    pub others: u64,
    /// Whiteouts and opaque marks.
    pub whiteouts: u64,
    /// Bytes of regular files.
    pub bytes: u64,
}

/// The table of contents of one layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Toc {
    entries: Vec<Entry>,
}

impl Toc {
    /// Sorts and cleans `entries`; of two entries of one path the later one counts.
    ///
    /// A whiteout beside an entry of the same path says what the entry alone says, except for a
    /// directory: there it becomes an opaque mark.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Toc, TocError> {
        for entry in &mut entries {
            entry.normalise();
            entry.check_place(entry.path.as_bytes())?;
            if entry.xattrs.len() > XATTRS_MAX {
                let (path, count) = (entry.path.clone(), entry.xattrs.len());
                return Err(TocError::TooManyXattrs { path, count });
            }
        }
        let settled = |a: &Entry, b: &Entry| {
            a.order() < b.order() && (a.path != b.path || a.kind == Kind::Dir)
        };
        if !entries.is_sorted_by(settled) {
            // Stable: the later of two equal ones stays later.
            entries.sort_by(|a, b| a.order().cmp(&b.order()));
            entries = merge_equal_paths(entries);
        }
        if entries.len() > LAYER_ENTRIES_MAX {
            return Err(TocError::TooManyEntries { count: entries.len() });
        }
        let toc = Toc { entries };
        if toc.implied() > IMPLIED_DIRECTORIES_MAX {
            Err(TocError::TooManyImplied)
        } else {
            Ok(toc)
        }
    }

    /// How many directories the entries lie in that are not listed.
    fn implied(&self) -> usize {
        let mut count = 0;
        let mut previous: &[u8] = &[];
        for entry in &self.entries {
            let path = entry.path.as_bytes();
            // What is below one directory stands together: those of the entry before were counted.
            let is_known = |directory: &[u8]| {
                previous.len() > directory.len()
                    && previous[directory.len()] == b'/'
                    && previous.starts_with(directory)
            };
            let mut directory = entry.path.parent_bytes().unwrap_or_default();
            while !directory.is_empty() && !is_known(directory) {
                count += usize::from(self.lookup_bytes(directory).is_none());
                let above = directory.iter().rposition(|byte| *byte == b'/');
                directory = &directory[..above.unwrap_or(0)];
            }
            previous = path;
        }
        count
    }

    /// The bytes at rest.
    pub fn encode(&self) -> Vec<u8> {
        format::encode(&self.entries)
    }

    /// Reads what [`encode`](Toc::encode) wrote; anything else is an error.
    pub fn decode(bytes: &[u8]) -> Result<Toc, TocError> {
        format::decode(bytes).map(|entries| Toc { entries })
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is there nothing in the layer?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries in order, to keep.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// The entry at `index`, which must be below [`len`](Toc::len).
    pub fn entry(&self, index: usize) -> &Entry {
        &self.entries[index]
    }

    /// The entry of `path`; an opaque mark is found only where no directory stands before it.
    pub fn lookup(&self, path: &LayerPath) -> Option<&Entry> {
        self.lookup_bytes(path.as_bytes())
    }

    pub(crate) fn lookup_bytes(&self, path: &[u8]) -> Option<&Entry> {
        let at = self.entries.partition_point(|entry| entry.path.as_bytes() < path);
        self.entries.get(at).filter(|entry| entry.path.as_bytes() == path)
    }

    /// The indices of everything strictly below `directory`.
    pub fn below(&self, directory: &LayerPath) -> Range<usize> {
        range_below(self.entries.len(), directory.as_bytes(), |at| self.entries[at].path.as_bytes())
    }

    /// The identity of a layer of ours that has these entries (design §4).
    pub fn layer_id(&self) -> LayerId {
        LayerId::from_bytes(format::hash(&self.entries, format::Select::Layer))
    }

    /// What the layer is, its times left out (design §6).
    pub fn content_id(&self) -> ContentId {
        ContentId::from_bytes(format::hash(&self.entries, format::Select::Content))
    }

    /// Counts of entries and bytes.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for entry in &self.entries {
            match entry.kind {
                Kind::File => stats.files += 1,
                Kind::Dir => stats.dirs += 1,
                Kind::Whiteout | Kind::Opaque => stats.whiteouts += 1,
                _ => stats.others += 1,
            }
            // Sizes are what the archive says, and need not fit together.
            stats.bytes = stats.bytes.saturating_add(entry.size);
        }
        stats
    }
}

impl<'a> IntoIterator for &'a Toc {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.iter()
    }
}

/// The positions of all paths strictly below `directory` in a sorted list of `len` paths.
pub(crate) fn range_below<'a>(
    len: usize,
    directory: &[u8],
    path_at: impl Fn(usize) -> &'a [u8],
) -> Range<usize> {
    if directory.is_empty() {
        return search(len, |at| path_at(at).is_empty())..len;
    }
    // Everything below starts with "directory/"; '0' is the byte after '/'.
    let compare = |path: &[u8], last: u8| match path.get(..directory.len()) {
        Some(head) => head
            .cmp(directory)
            .then_with(|| path.get(directory.len()).map_or(Ordering::Less, |byte| byte.cmp(&last))),
        None => path.cmp(directory),
    };
    let start = search(len, |at| compare(path_at(at), b'/') == Ordering::Less);
    let end = search(len, |at| compare(path_at(at), b'0') == Ordering::Less);
    start..end
}

fn search(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn merge_equal_paths(entries: Vec<Entry>) -> Vec<Entry> {
    let mut merged: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut entries = entries.into_iter().peekable();
    while let Some(mut kept) = entries.next() {
        let mut hides_below = kept.kind.is_mark();
        while let Some(next) = entries.next_if(|next| next.path == kept.path) {
            // A mark beside what this same layer brings means what lies below; beside another mark it
            // says nothing new.
            hides_below |= next.kind.is_mark();
            if !next.kind.is_mark() {
                kept = next;
            }
        }
        let mark = hides_below && kept.kind == Kind::Dir;
        let mark = mark.then(|| Entry::new(kept.path.clone(), Kind::Opaque));
        merged.push(kept);
        merged.extend(mark);
    }
    merged
}
