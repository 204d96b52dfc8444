//! What the store weighs, quickly: nothing is walked twice that does not change.
//!
//! The cap on a store's size is looked at after every build, so a look must be cheap: one stat for
//! each layer, blob, pack and record. Trees are the exception with their 50,000 files each; but a
//! tree never changes once it is there, so what it weighs is remembered by the identity of its
//! directory (inode and time of change).

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::SystemTime,
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Store, gc, mounts, usage};
use crate::{ShortId, StoreError, contents::PackId};

/// The memo's name.
const MEMO: &str = "weights of trees";

/// What is remembered of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Tree {
    inode: u64,
    changed_seconds: i64,
    changed_nanos: i64,
    bytes: u64,
}

/// The store's parts on a scale, as they were at one moment.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// Directories of layers, without blobs and packs.
    pub layers: HashMap<ShortId, u64>,
    /// Packs.
    pub packs: HashMap<PackId, u64>,
    /// Cache mounts, with when they were last used.
    pub mounts: Vec<Mount>,
    /// Everything that counts towards the cap: not what is in progress.
    pub total: u64,
}

/// A cache mount on the scale.
#[derive(Debug)]
pub(super) struct Mount {
    pub id: String,
    pub path: PathBuf,
    pub used: SystemTime,
    pub bytes: u64,
}

impl Weights {
    /// Weighs the store; what appears or vanishes meanwhile may count or not.
    pub(super) fn of(store: &Store) -> Result<Weights, StoreError> {
        let mut weights = Weights { layers: layers(store)?, ..Weights::default() };
        for (id, path) in store.contents().list_packs()? {
            weights.packs.insert(id, usage::disk_bytes(&path)?);
        }
        for mount in mounts::directories(store)? {
            let used = fs::metadata(mounts::lock_of(&mount.path)).and_then(|meta| meta.modified());
            let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            let bytes = usage::disk_bytes(&mount.path)?;
            weights.mounts.push(Mount { id: mount.id, path: mount.path, used, bytes });
        }
        let mut rest = 0;
        for part in ["blobs", "cache", "index", "tags"] {
            rest += usage::disk_bytes(&store.root().join(part))?;
        }
        weights.total = rest
            + weights.layers.values().sum::<u64>()
            + weights.packs.values().sum::<u64>()
            + weights.mounts.iter().map(|mount| mount.bytes).sum::<u64>();
        Ok(weights)
    }
}

/// What each layer's directory weighs; trees that are not known yet are walked, at once.
fn layers(store: &Store) -> Result<HashMap<ShortId, u64>, StoreError> {
    let memo = store.memo_get(MEMO).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let known: BTreeMap<String, Tree> = memo.unwrap_or_default();
    let weigh = |short: &ShortId| {
        let directory = store.root().join("layers").join(short.as_str());
        let tree = weigh_tree(&directory.join("tree"), known.get(short.as_str()))?;
        let mut bytes = tree.map_or(0, |tree| tree.bytes);
        for path in gc::list(&directory)? {
            if !path.ends_with("tree") {
                bytes += usage::disk_bytes(&path)?;
            }
        }
        Ok((short.clone(), tree, bytes))
    };
    let list = store.layers().list()?;
    let weighed: Vec<_> = list.par_iter().map(weigh).collect::<Result<_, StoreError>>()?;
    let trees = weighed.iter().filter_map(|(short, tree, _)| Some((short.to_string(), (*tree)?)));
    let trees: BTreeMap<String, Tree> = trees.collect();
    if trees != known {
        let bytes = serde_json::to_vec(&trees).expect("because the keys are plain strings");
        // Not remembered, it is walked again: slower, and nothing else.
        store.memo_put(MEMO, &bytes).unwrap_or_default();
    }
    Ok(weighed.into_iter().map(|(short, _, bytes)| (short, bytes)).collect())
}

fn weigh_tree(path: &std::path::Path, known: Option<&Tree>) -> Result<Option<Tree>, StoreError> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(None) };
    let (inode, changed_seconds, changed_nanos) = (meta.ino(), meta.ctime(), meta.ctime_nsec());
    let same = |tree: &&Tree| {
        (tree.inode, tree.changed_seconds, tree.changed_nanos)
            == (inode, changed_seconds, changed_nanos)
    };
    if let Some(tree) = known.filter(same) {
        return Ok(Some(*tree));
    }
    let bytes = usage::disk_bytes(path)?;
    Ok(Some(Tree { inode, changed_seconds, changed_nanos, bytes }))
}
