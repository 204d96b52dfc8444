//! What a step changed: an overlay's upper directory against the view that was below it.
//!
//! The comparison is the reference's (S-81 to S-83): an entry that was only copied up, its owner,
//! mode, kept attributes, time and content as below, is no change; a directory's time alone is none
//! either; deletions become explicit whiteouts, an opaque directory one for each thing that it
//! hides; what changed among the names of one file is linked together; every change brings its
//! parent directories along. Times are compared to the nanosecond, as files below have whole
//! seconds: a file rewritten within the same second is a change.
//!
//! Three passes: [`walk`] lists the directory, the comparison here reads and hashes files on all
//! processors, and [`settle`] brings the directory to exactly what the layer's tar will say.

mod owners;
mod settle;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    path::Path,
};

use rayon::prelude::*;

pub(crate) use owners::Owners;
pub(crate) use settle::settle;
use walk::{Node, NodeKind, Upper};

use crate::{
    ContentHash, LayerPath, StoreError,
    toc::{Attribute, Entry, Kind, Xattrs, attributes},
    view::{Found, View},
};

/// The only extended attribute that layers of ours carry (S-81).
pub(crate) const KEPT_XATTR: &[u8] = b"security.capability";

/// A step's changes as a layer's entries, and what has to be done to the upper directory.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The layer's entries.
    pub(crate) entries: Vec<Entry>,
    /// Names in the upper directory that the layer does not have, deepest first.
    pub(crate) dropped: Vec<(LayerPath, bool)>,
    /// Whiteouts that the directory does not have yet, as they follow from opaque directories.
    pub(crate) new_whiteouts: Vec<LayerPath>,
}

/// Compares the directory `upper` with `lower`; `stubs` are mount points that the runner made.
pub(crate) fn compare(
    upper: &Path,
    lower: &View,
    stubs: &[LayerPath],
) -> Result<Changes, StoreError> {
    let upper = Upper::open(upper)?;
    let nodes = walk::walk(&upper)?;
    let owners = Owners::of_this_process();
    let compared: Vec<Compared> = nodes
        .par_iter()
        .map(|node| compare_node(&upper, node, lower, stubs, &owners))
        .collect::<Result<_, _>>()?;
    let new_whiteouts = hidden_by_opaque(&nodes, lower);
    Ok(gather(&nodes, compared, new_whiteouts))
}

/// What became of one name of the upper directory.
#[derive(Debug)]
enum Compared {
    /// Changed or new.
    Changed(Entry),
    /// A directory that was there before, as it was: kept only if something in it changed.
    SameDirectory(Entry),
    /// As below, or of no meaning.
    Dropped,
}

fn compare_node(
    upper: &Upper,
    node: &Node,
    lower: &View,
    stubs: &[LayerPath],
    owners: &Owners,
) -> Result<Compared, StoreError> {
    // Also in an opaque directory: what was made again as it was before is no change.
    let below = lower.get(&node.path);
    let kind = match node.kind {
        // The root's own metadata is in no layer (S-81).
        _ if node.path.is_root() => return Ok(Compared::Dropped),
        NodeKind::Socket => return Ok(Compared::Dropped),
        NodeKind::Whiteout => {
            let known = lower.kind(&node.path).is_some();
            let whiteout = || Compared::Changed(Entry::whiteout(node.path.clone()));
            return Ok(if known { whiteout() } else { Compared::Dropped });
        }
        NodeKind::Entry(kind) => kind,
    };
    if node.path.file_name().unwrap_or_default().starts_with(b".wh.") {
        return Err(StoreError::WhiteoutName { path: node.path.clone() });
    }
    if stubs.contains(&node.path) && below.is_none() && node.is_stub() {
        return Ok(Compared::Dropped);
    }
    let mut entry = Entry { mode: node.mode, ..Entry::new(node.path.clone(), kind) };
    (entry.uid, entry.gid) = (node.uid, node.gid);
    if let Some(below) = &below {
        owners.keep(&mut entry, &below.entry);
    }
    (entry.mtime, entry.mtime_nanos) = (node.mtime, node.mtime_nanos);
    entry.device = node.device;
    match kind {
        Kind::File => {
            let file = upper.open_file(&node.path)?;
            entry.xattrs = kept_xattrs(&file, &node.path)?;
            entry.size = node.size;
            if could_be_same(&entry, below.as_ref()) || entry.size > 0 {
                (entry.content, entry.size) = hash(file, &node.path)?;
            }
        }
        Kind::Symlink => entry.link = upper.read_link(&node.path)?.into(),
        _ => {}
    }
    let same = below.as_ref().is_some_and(|found| is_same(&entry, found));
    entry.mtime_nanos = 0;
    Ok(match (same, kind) {
        (true, Kind::Dir) => Compared::SameDirectory(entry),
        (true, _) => Compared::Dropped,
        (false, _) => Compared::Changed(entry),
    })
}

/// Could the file still be the one below, as far as can be said without reading it?
fn could_be_same(entry: &Entry, below: Option<&Found>) -> bool {
    below.is_some_and(|found| found.entry.kind == entry.kind && found.entry.size == entry.size)
}

fn is_same(entry: &Entry, below: &Found) -> bool {
    let mut old = below.entry.clone();
    // Of what foreign layers carry, only this much is compared (S-83).
    old.xattrs.retain(|(name, _)| name == KEPT_XATTR);
    let differences = attributes(&old, entry);
    if entry.kind == Kind::Dir {
        return below.layer.is_some()
            && differences.iter().all(|difference| *difference == Attribute::Mtime);
    }
    differences.is_empty() && old.mtime_nanos == entry.mtime_nanos
}

fn kept_xattrs(file: &File, path: &LayerPath) -> Result<Xattrs, StoreError> {
    let value = walk::xattr(file, KEPT_XATTR)
        .map_err(StoreError::io("read the attributes of", path.as_path()))?;
    Ok(value.map(|value| (KEPT_XATTR.to_vec(), value)).into_iter().collect())
}

fn hash(mut file: File, path: &LayerPath) -> Result<(Option<ContentHash>, u64), StoreError> {
    let mut hasher = blake3::Hasher::new();
    let size =
        std::io::copy(&mut file, &mut hasher).map_err(StoreError::io("read", path.as_path()))?;
    let hash = ContentHash::from_bytes(*hasher.finalize().as_bytes());
    Ok(((size > 0).then_some(hash), size))
}

/// What opaque directories hide without naming it.
fn hidden_by_opaque(nodes: &[Node], lower: &View) -> Vec<LayerPath> {
    let mut hidden = Vec::new();
    let mut names: HashSet<&[u8]> = HashSet::new();
    if nodes.iter().any(|node| node.pure_inside) {
        names.extend(nodes.iter().map(|node| node.path.as_bytes()));
    }
    for directory in nodes.iter().filter(|node| node.pure_inside) {
        if lower.kind(&directory.path) != Some(Kind::Dir) {
            continue;
        }
        for (_, found) in lower.children(&directory.path) {
            if !names.contains(found.entry.path.as_bytes()) {
                hidden.push(found.entry.path);
            }
        }
    }
    hidden
}

/// Links the names of one file, adds parents, and says what is to go.
fn gather(nodes: &[Node], compared: Vec<Compared>, new_whiteouts: Vec<LayerPath>) -> Changes {
    let mut kept: BTreeMap<LayerPath, Entry> = BTreeMap::new();
    let mut directories: HashMap<LayerPath, Entry> = HashMap::new();
    let mut first_names: HashMap<(u64, u64), LayerPath> = HashMap::new();
    for (node, compared) in nodes.iter().zip(compared) {
        match compared {
            Compared::Dropped => {}
            Compared::SameDirectory(entry) => drop(directories.insert(entry.path.clone(), entry)),
            Compared::Changed(mut entry) => {
                if node.links > 1 && !entry.kind.is_mark() && entry.kind != Kind::Dir {
                    let first = first_names.entry(node.inode).or_insert_with(|| node.path.clone());
                    if *first != node.path {
                        entry.kind = Kind::Hardlink;
                        entry.link = first.as_bytes().into();
                    }
                }
                kept.insert(entry.path.clone(), entry);
            }
        }
    }
    let whiteouts = new_whiteouts.iter().cloned().map(Entry::whiteout);
    kept.extend(whiteouts.map(|entry| (entry.path.clone(), entry)));
    let paths: Vec<LayerPath> = kept.keys().cloned().collect();
    for path in paths {
        for above in path.ancestors() {
            if let Some(entry) = directories.remove(above) {
                kept.insert(entry.path.clone(), entry);
            }
        }
    }
    let is_dropped = |node: &&Node| !node.path.is_root() && !kept.contains_key(&node.path);
    let dropped = nodes.iter().rev().filter(is_dropped);
    let dropped = dropped.map(|node| (node.path.clone(), node.is_dir())).collect();
    Changes { entries: kept.into_values().collect(), dropped, new_whiteouts }
}
