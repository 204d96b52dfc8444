//! fsck: whether everything in the store is what it says it is, and the removal of what is not.
//!
//! Blobs are hashed, packs are hashed, tables of contents are decoded and compared with the
//! layer's id and with its tree, and every name is followed. A problem is *damage* if something
//! that is named cannot be used, or a *leftover* if it only takes space (a killed process may leave
//! those, and a prune removes them). Repairing removes exactly what cannot be used, and what cannot
//! be used without it; nothing else is touched.
//!
//! Others may work meanwhile. A lease is held and packs are made young, so that nobody prunes what
//! is being looked at; and what something names that came after the parts below it were looked at is
//! looked at again before it is called damaged.

mod layer;
mod names;
mod parts;
mod repair;
mod tree;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

pub(crate) use tree::is as tree_is;

use super::{OpenOptions, Store, layout};
use crate::{ContentHash, Digest, ShortId, StoreError, contents::PackId, store::ImageRecord};

/// How to check.
#[derive(Debug, Clone, Copy, Default)]
pub struct FsckOptions {
    /// Remove what cannot be used.
    pub repair: bool,
    /// Hash the files of trees, and make the tar of every layer again to compare its diffID.
    pub deep: bool,
}

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FsckReport {
    /// Blobs that were hashed.
    pub blobs: usize,
    /// Layers.
    pub layers: usize,
    /// Trees of layers.
    pub trees: usize,
    /// Packs.
    pub packs: usize,
    /// Contents in packs that were hashed.
    pub contents: usize,
    /// Tags.
    pub tags: usize,
    /// Cache records.
    pub cache_records: usize,
    /// What is wrong, damage first.
    pub problems: Vec<Problem>,
}

impl FsckReport {
    /// Whether nothing is damaged, or everything that was is repaired.
    pub fn is_clean(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Damage || problem.repaired)
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something that is named cannot be used.
    Damage,
    /// It only takes space.
    Leftover,
    /// A newer program wrote it: nothing is known of it, and nothing is done to it.
    Unknown,
}

/// Something that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// What it is about.
    pub object: Object,
    /// What is wrong with it.
    pub what: String,
    /// How bad it is.
    pub severity: Severity,
    /// Whether it was removed.
    pub repaired: bool,
    #[serde(skip)]
    fix: Fix,
}

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A blob.
    Blob(Digest),
    /// A pack.
    Pack(PackId),
    /// A layer.
    Layer(ShortId),
    /// The tree of a layer that has another form, too.
    Tree(ShortId),
    /// The record of a layer's compressed form.
    Compressed(ShortId, String),
    /// A tag, by its name or else by its file.
    Tag(String),
    /// A file of the build cache.
    Cache(String),
    /// A lease.
    Lease(String),
    /// An entry of the index of diffIDs.
    Index(String),
    /// A directory of work in progress.
    Work(String),
    /// Something that does not belong there.
    Stray(PathBuf),
}

impl fmt::Display for Object {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Blob(digest) => write!(formatter, "blob {digest}"),
            Object::Pack(id) => write!(formatter, "pack {id}"),
            Object::Layer(layer) => write!(formatter, "layer {layer}"),
            Object::Tree(layer) => write!(formatter, "tree of layer {layer}"),
            Object::Compressed(layer, form) => write!(formatter, "{form} of layer {layer}"),
            Object::Tag(name) => write!(formatter, "tag {name}"),
            Object::Cache(name) => write!(formatter, "cache file {name}"),
            Object::Lease(name) => write!(formatter, "lease {name}"),
            Object::Index(name) => write!(formatter, "index entry {name}"),
            Object::Work(name) => write!(formatter, "work area {name}"),
            Object::Stray(path) => write!(formatter, "`{}`", path.display()),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What makes a problem go away.
#[derive(Debug, Clone)]
enum Fix {
    /// Remove the file or directory.
    Remove(PathBuf),
    /// Keep the sound contents of a pack in a new one.
    Rewrite(PackId, HashSet<ContentHash>),
    /// Nothing.
    Leave,
    /// Write the tag again, without the manifest that is gone.
    Retag(Box<crate::Reference>, Box<ImageRecord>),
}

impl Problem {
    fn damage(object: Object, what: impl Into<String>, fix: Fix) -> Problem {
        Problem { object, what: what.into(), severity: Severity::Damage, repaired: false, fix }
    }

    fn unknown(object: Object, what: impl Into<String>) -> Problem {
        let (what, severity) = (what.into(), Severity::Unknown);
        Problem { object, what, severity, repaired: false, fix: Fix::Leave }
    }

    fn leftover(object: Object, what: impl Into<String>, path: PathBuf) -> Problem {
        let fix = Fix::Remove(path);
        Problem { object, what: what.into(), severity: Severity::Leftover, repaired: false, fix }
    }
}

/// What is known to be sound, as the check goes from the bottom up.
#[derive(Debug, Default)]
struct Sound {
    /// Blobs with their sizes.
    blobs: HashMap<Digest, u64>,
    /// Contents with their lengths.
    contents: HashMap<ContentHash, u64>,
    layers: HashSet<ShortId>,
    /// What was looked at and is not sound.
    bad_blobs: HashSet<Digest>,
    bad_contents: HashSet<ContentHash>,
    bad_layers: HashSet<ShortId>,
}

impl Store {
    /// As [`Store::open`], of a store that is to be repaired: where `store.json` cannot be read it is
    /// written anew, for whoever opens the store now, and so are directories that are none any more; these
    /// problems are returned. What belongs to other ids than theirs the check will find.
    pub fn open_repaired(
        root: &Path,
        options: &OpenOptions,
    ) -> Result<(Store, Vec<Problem>), StoreError> {
        let taken = layout::take_away_damaged(root)?;
        let problems = taken.into_iter().map(|(part, what)| {
            let object = Object::Stray(part.into());
            Problem { repaired: true, ..Problem::damage(object, what, Fix::Leave) }
        });
        Ok((Store::open(root, options)?, problems.collect()))
    }

    /// Checks the store, and repairs it if the options say so.
    pub fn fsck(&self, options: FsckOptions) -> Result<FsckReport, StoreError> {
        let lease = self.lease()?;
        self.contents().promise_packs()?;
        let mut check =
            Check { store: self, options, sound: Sound::default(), report: FsckReport::default() };
        check.blobs()?;
        check.packs()?;
        check.layers()?;
        check.tags()?;
        check.cache()?;
        check.index()?;
        check.leases()?;
        check.work()?;
        let mut report = check.report;
        report.problems.sort_by(|a, b| {
            (a.severity, &a.object, &a.what).cmp(&(b.severity, &b.object, &b.what))
        });
        drop(lease);
        if options.repair {
            repair::repair(self, &mut report)?;
        }
        Ok(report)
    }
}

/// A check under way.
struct Check<'a> {
    store: &'a Store,
    options: FsckOptions,
    sound: Sound,
    report: FsckReport,
}

impl Check<'_> {
    fn found(&mut self, problem: Problem) {
        self.report.problems.push(problem);
    }
}

/// An error and its causes in one line.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
