//! Layers of an image as a [`Tree`].

use crate::error::BuildError;
use crate::identity::FileReader;
use crate::tree::{Node, Tree};
use lapstrake_layerstore::layers::Layers;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::{Entry, Kind};
use lapstrake_layerstore::view::{Found, View};
use std::io::Read;

/// A stack of layers as a tree of files.
#[derive(Debug, Clone)]
pub(crate) struct ViewTree<'a> {
    view: View,
    layers: &'a Layers,
}

impl<'a> ViewTree<'a> {
    pub(crate) fn new(view: View, layers: &'a Layers) -> Self {
        Self { view, layers }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Make the bytes of the regular files at `paths` present in the content store.
    pub(crate) fn ensure_contents(&self, paths: &[LayerPath]) -> Result<(), BuildError> {
        let mut by_layer: Vec<Vec<Entry>> = vec![Vec::new(); self.view.layers().len()];
        for path in paths {
            let Some(found) = self.view.get(path) else { continue };
            let Some(layer) = found.layer else { continue };
            if found.entry.kind == Kind::File && found.entry.size > 0 {
                let mut entry = found.entry;
                // The layer knows the file by its first name.
                if let Some(first) = found.link_target {
                    entry.path = first;
                }
                by_layer[layer].push(entry);
            }
        }
        for (layer, entries) in self.view.layers().iter().zip(by_layer) {
            if !entries.is_empty() {
                self.layers.ensure_contents(layer, &entries)?;
            }
        }
        Ok(())
    }

    /// The regular file at `path`, for reading.
    pub(crate) fn open(&self, path: &LayerPath) -> Result<Box<dyn Read + Send>, BuildError> {
        let missing = || BuildError::SourceNotFound { path: format!("/{path}") };
        let found = self.view.get(path).ok_or_else(missing)?;
        let layer = found.layer.ok_or_else(missing)?;
        let mut entry = found.entry;
        if let Some(first) = found.link_target {
            entry.path = first;
        }
        if entry.size == 0 {
            return Ok(Box::new(std::io::empty()));
        }
        Ok(self.layers.open_content(&self.view.layers()[layer], &entry)?)
    }
}

impl Tree for ViewTree<'_> {
    fn get(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        Ok(self.view.get(path).map(node))
    }

    fn children(&self, path: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError> {
        Ok(self.view.children(path).into_iter().map(|(name, found)| (name, node(found))).collect())
    }
}

impl FileReader for ViewTree<'_> {
    fn read(&self, path: &LayerPath) -> Result<Vec<u8>, BuildError> {
        let mut bytes = Vec::new();
        let limit = crate::identity::DATABASE_BYTES_MAX;
        self.open(path)?.take(limit).read_to_end(&mut bytes).map_err(|source| {
            BuildError::Context {
                verb: "read",
                path: format!("/{path}").into(),
                errno: source.raw_os_error().unwrap_or(0),
                source,
            }
        })?;
        Ok(bytes)
    }
}

/// An empty root: what a linked COPY is placed into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EmptyTree;

impl Tree for EmptyTree {
    fn get(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        Ok(path.is_root().then(|| Node::directory(0o755, 0, 0, 0)))
    }

    fn children(&self, _path: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError> {
        Ok(Vec::new())
    }
}

fn node(found: Found) -> Node {
    let group = found.link_target.as_ref().unwrap_or(&found.entry.path);
    let hash = blake3::hash(group.as_bytes());
    let (head, _) = hash.as_bytes().split_first_chunk::<8>().expect("because a hash has 32 bytes");
    let layer = found.layer.unwrap_or(usize::MAX) as u64;
    let entry = found.entry;
    Node {
        kind: entry.kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: entry.mtime,
        size: entry.size,
        link_group: (entry.kind == Kind::File).then(|| (layer, u64::from_le_bytes(*head))),
        link: entry.link,
        device: entry.device,
        xattrs: entry.xattrs,
        content: entry.content,
        stamp: None,
    }
}
