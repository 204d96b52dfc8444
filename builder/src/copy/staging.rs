//! The layer that a COPY or ADD is about to make: additions over what the image holds so far.
//!
//! *Invariant:* every path that is added has only directories above it, in the additions or below them.

use super::additions::Additions;
use crate::error::BuildError;
use crate::tree::{Node, Tree};
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::{Entry, Kind};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Additions over a base tree; itself a tree that shows both.
pub struct Staging<'a> {
    base: &'a dyn Tree,
    added: Additions,
    /// Directories that replaced something else: nothing of the base shines through them.
    opaque: BTreeSet<LayerPath>,
    /// The time that a directory gets when something is put into it.
    now: i64,
    /// The directory that was asked about last, and whether the base may be seen in it: files come by
    /// directory.
    seen: Mutex<Option<(LayerPath, bool)>>,
    /// The directory that something was put into last: it has the time already.
    touched: Option<LayerPath>,
}

impl std::fmt::Debug for Staging<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging").field("added", &self.added.len()).finish_non_exhaustive()
    }
}

impl<'a> Staging<'a> {
    /// Nothing added yet.
    pub fn over(base: &'a dyn Tree, now: i64) -> Self {
        let (added, opaque) = (Additions::default(), BTreeSet::new());
        Self { base, added, opaque, now, seen: Mutex::new(None), touched: None }
    }

    /// Put `node` at `path`, replacing what is there together with everything below it unless both are
    /// directories.
    pub fn put(&mut self, path: LayerPath, node: Node) -> Result<(), BuildError> {
        let old = self.kind(&path)?;
        self.put_over(old, path, node)
    }

    /// As [`put`](Self::put), by one who looked what is there.
    pub(crate) fn put_over(
        &mut self,
        old: Option<Kind>,
        path: LayerPath,
        node: Node,
    ) -> Result<(), BuildError> {
        let merges = old == Some(Kind::Dir) && node.is_dir();
        if old.is_some() && !merges {
            self.forget_below(&path);
            if node.is_dir() {
                self.opaque.insert(path.clone());
            }
        }
        if !merges && let Some(parent) = path.parent() {
            self.touch(parent)?;
        }
        // It has the time of its node from now on.
        self.touched.take_if(|touched| *touched == path);
        self.seen().take_if(|(dir, _)| dir.starts_with(&path));
        self.added.insert(path, node);
        Ok(())
    }

    /// What is at `path`.
    pub fn kind(&self, path: &LayerPath) -> Result<Option<Kind>, BuildError> {
        if let Some(node) = self.added.get(path) {
            return Ok(Some(node.kind));
        }
        Ok(self.below(path)?.map(|node| node.kind))
    }

    /// What the base shows at `path`, unless something above it was replaced.
    fn below(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        if path.is_root() || self.base_visible(path) { self.base.get(path) } else { Ok(None) }
    }

    /// Give the directory at `path` the time of something that is put into it.
    fn touch(&mut self, path: LayerPath) -> Result<(), BuildError> {
        if self.touched.as_ref() != Some(&path) {
            self.set_time(&path, self.now)?;
            self.touched = Some(path);
        }
        Ok(())
    }

    /// Set the modification time of the directory at `path`. The root is in no layer, so its time does not
    /// matter.
    pub fn set_time(&mut self, path: &LayerPath, mtime: i64) -> Result<(), BuildError> {
        if path.is_root() {
            return Ok(());
        }
        self.touched = None;
        if let Some(node) = self.added.get_mut(path) {
            node.mtime = mtime;
        } else if let Some(mut node) = self.get(path)?.filter(|node| node.mtime != mtime) {
            node.mtime = mtime;
            self.added.insert(path.clone(), node);
        }
        Ok(())
    }

    /// Drop what was added below `path`.
    fn forget_below(&mut self, path: &LayerPath) {
        *self.seen() = None;
        self.touched = None;
        let below: Vec<LayerPath> = self
            .added
            .from(path)
            .skip_while(|(p, _)| *p == path)
            .take_while(|(p, _)| p.as_bytes().starts_with(path.as_bytes()))
            .filter(|(p, _)| p.starts_with(path))
            .map(|(p, _)| p.clone())
            .collect();
        for gone in below {
            self.added.remove(&gone);
            self.opaque.remove(&gone);
        }
        self.opaque.remove(path);
    }

    /// Whether the base may be seen at `path`: nothing above it was replaced.
    fn base_visible(&self, path: &LayerPath) -> bool {
        let Some(directory) = path.parent_bytes() else { return true };
        let mut seen = self.seen();
        if let Some((known, visible)) = &*seen
            && known.as_bytes() == directory
        {
            return *visible;
        }
        let directory = path.parent().unwrap_or_default();
        let visible = self.base_visible_in(&directory);
        *seen = Some((directory, visible));
        visible
    }

    fn seen(&self) -> MutexGuard<'_, Option<(LayerPath, bool)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn base_visible_in(&self, directory: &LayerPath) -> bool {
        let mut at = Some(directory.clone());
        while let Some(dir) = at {
            if self.opaque.contains(&dir) || self.added.get(&dir).is_some_and(|n| !n.is_dir()) {
                return false;
            }
            at = dir.parent();
        }
        true
    }

    /// The entries of the layer: what was added and the directories above it, hard links joined, and
    /// whiteouts for what a replaced directory hides.
    pub fn into_entries(self) -> Result<Vec<Entry>, BuildError> {
        self.into_placed().map(|placed| placed.entries)
    }

    /// As [`into_entries`](Self::into_entries), and whether the contents mattered.
    pub(crate) fn into_placed(mut self) -> Result<Placed, BuildError> {
        let depends_on_contents = self.drop_unchanged()?;
        self.add_parents()?;
        let mut whiteouts = Vec::new();
        for dir in &self.opaque {
            for (name, _) in self.base.children(dir)? {
                let path = join(dir, &name)?;
                if !self.added.contains(&path) {
                    whiteouts.push(path);
                }
            }
        }
        let mut first_of_group: HashMap<(u64, u64), LayerPath> = HashMap::new();
        let mut entries = Vec::with_capacity(self.added.len() + whiteouts.len());
        for (path, node) in std::mem::take(&mut self.added) {
            let linked_to = match node.link_group {
                Some(group) if node.kind == Kind::File => {
                    let first = first_of_group.entry(group).or_insert_with(|| path.clone()).clone();
                    (first != path).then_some(first)
                }
                _ => None,
            };
            entries.push(entry(path, node, linked_to));
        }
        entries.extend(whiteouts.into_iter().map(|path| {
            let mut node = Node::empty_file(0, 0);
            node.kind = Kind::Whiteout;
            entry(path, node, None)
        }));
        Ok(Placed { entries, depends_on_contents })
    }

    /// A file that is what the base already shows at its path is no change. Says whether nothing but their
    /// contents told any two files apart, or could have.
    fn drop_unchanged(&mut self) -> Result<bool, BuildError> {
        let (mut same, mut depends_on_contents) = (Vec::new(), false);
        for (path, node) in self.added.iter() {
            if self.opaque.contains(path) || !self.base_visible(path) {
                continue;
            }
            let Some(old) = self.base.get(path)?.filter(|old| is_same_outside(old, node)) else {
                continue;
            };
            depends_on_contents |= size(node) > 0;
            if content(&old) == content(node) {
                same.push(path.clone());
            }
        }
        for path in same {
            self.added.remove(&path);
        }
        *self.seen() = None;
        Ok(depends_on_contents)
    }

    /// A layer names the directories above everything it changes, as they are.
    fn add_parents(&mut self) -> Result<(), BuildError> {
        let mut missing = BTreeSet::new();
        let mut last = None;
        for (path, _) in self.added.iter() {
            let mut at = path.parent();
            if at == last {
                continue;
            }
            last.clone_from(&at);
            while let Some(dir) = at {
                if dir.is_root() || self.added.contains(&dir) || !missing.insert(dir.clone()) {
                    break;
                }
                at = dir.parent();
            }
        }
        for dir in missing {
            if let Some(node) = self.base.get(&dir)? {
                self.added.insert(dir, node);
            }
        }
        Ok(())
    }
}

impl Tree for Staging<'_> {
    fn get(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        if let Some(node) = self.added.get(path) {
            return Ok(Some(node.clone()));
        }
        self.below(path)
    }

    fn children(&self, path: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError> {
        let mut all: BTreeMap<Vec<u8>, Node> = BTreeMap::new();
        if !self.opaque.contains(path) && self.base_visible(path) {
            all.extend(self.base.children(path)?);
        }
        for (at, node) in self.added.from(path) {
            if at == path {
                continue;
            }
            if !at.as_bytes().starts_with(path.as_bytes()) {
                break;
            }
            if at.parent().as_ref() == Some(path)
                && let Some(name) = at.file_name()
            {
                all.insert(name.to_vec(), node.clone());
            }
        }
        Ok(all.into_iter().collect())
    }
}

/// The entries of a layer.
pub(crate) struct Placed {
    pub(crate) entries: Vec<Entry>,
    /// Whether files with other contents could have given fewer or more of them.
    pub(crate) depends_on_contents: bool,
}

/// Whether a layer would say the same of both, but for their contents.
fn is_same_outside(old: &Node, new: &Node) -> bool {
    old.kind == new.kind
        && (old.mode, old.uid, old.gid, old.mtime) == (new.mode, new.uid, new.gid, new.mtime)
        && size(old) == size(new)
        && (&old.link, old.device, &old.xattrs) == (&new.link, new.device, &new.xattrs)
}

fn size(node: &Node) -> u64 {
    if node.kind == Kind::File { node.size } else { 0 }
}

fn content(node: &Node) -> Option<ContentHash> {
    node.content.filter(|_| size(node) > 0)
}

/// Join, with the error that names the whole path.
pub(crate) fn join(dir: &LayerPath, name: &[u8]) -> Result<LayerPath, BuildError> {
    dir.join(name).map_err(|source| BuildError::BadPath {
        path: format!("{dir}/{}", String::from_utf8_lossy(name)),
        source,
    })
}

/// The layer's entry for a node; a hard link when the node is another name of `linked_to`.
fn entry(path: LayerPath, node: Node, linked_to: Option<LayerPath>) -> Entry {
    let (kind, link, content, size) = match linked_to {
        Some(first) => (Kind::Hardlink, first.as_bytes().into(), None, 0),
        None => (node.kind, node.link, node.content, node.size),
    };
    Entry {
        path,
        kind,
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        mtime_nanos: 0,
        size: if kind == Kind::File { size } else { 0 },
        content: if kind == Kind::File { content } else { None },
        link,
        device: node.device,
        xattrs: node.xattrs,
        tar_offset: None,
    }
}
