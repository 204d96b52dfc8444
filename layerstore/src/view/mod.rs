//! [`View`]: several layers seen as the one root file system that they make, from their TOCs alone.
//!
//! A view is a value: [`View::push`] gives another. It is made of a [flat list](flat) of what is
//! visible, sorted by path, that is computed when first asked for; so `get` is one binary search.
//! No symbolic link is followed except by [`View::resolve`].

mod flat;
mod names;
mod resolve;
mod settle;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use flat::Flat;
pub(crate) use flat::implied;
pub use names::Names;
pub use resolve::ResolveError;
use settle::is_self_contained;
pub(crate) use settle::{lies_well, settled};

use crate::{
    error::StoreError,
    layers::Layer,
    path::LayerPath,
    toc::{Change, Entry, Kind, Toc, compare_sorted},
};

/// A visible entry and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Index of the layer, bottom first; `None` for a directory that no layer lists but that must
    /// be there because something is in it.
    pub layer: Option<usize>,
    /// The entry. A hard link shows the file that it names, under its own path.
    pub entry: Entry,
    /// For a hard link: the path that it names.
    pub link_target: Option<LayerPath>,
}

impl Found {
    /// The entry as its layer has it: a hard link's file under the name that it has there.
    pub fn into_stored(self) -> Entry {
        match self.link_target {
            Some(path) => Entry { path, ..self.entry },
            None => self.entry,
        }
    }
}

/// Whether [`View::walk`] goes into the directory that it just showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// Into it.
    Into,
    /// Past it.
    Over,
    /// The walk ends.
    Stop,
}

/// Layers, bottom first, seen as one root file system.
#[derive(Debug, Clone, Default)]
pub struct View {
    layers: Vec<Arc<Layer>>,
    tocs: Vec<Arc<Toc>>,
    flat: Arc<OnceLock<Flat>>,
    /// What the layers below the top one make, where that was computed before.
    below: Option<Arc<OnceLock<Flat>>>,
}

impl View {
    /// The root file system that `layers`, bottom first, make.
    pub fn new(layers: Vec<Arc<Layer>>) -> Result<View, StoreError> {
        let tocs = layers.iter().map(|layer| layer.toc_arc()).collect::<Result<_, _>>()?;
        Ok(View { layers, ..View::of_tocs(tocs) })
    }

    /// The same over bare tables of contents; [`layers`](View::layers) is empty then.
    pub fn of_tocs(mut tocs: Vec<Arc<Toc>>) -> View {
        for at in 1..tocs.len() {
            if let Some(toc) = over(&tocs[at], || View::of_settled(tocs[..at].to_vec())) {
                tocs[at] = toc;
            }
        }
        View::of_settled(tocs)
    }

    fn of_settled(tocs: Vec<Arc<Toc>>) -> View {
        View { tocs, ..View::default() }
    }

    /// This view with one more layer on top.
    pub fn push(&self, layer: Arc<Layer>) -> Result<View, StoreError> {
        let mut view = self.push_toc(layer.toc_arc()?);
        view.layers.push(layer);
        Ok(view)
    }

    /// This view with one more table of contents on top.
    #[must_use]
    pub fn push_toc(&self, toc: Arc<Toc>) -> View {
        let mut tocs = self.tocs.clone();
        tocs.push(over(&toc, || self.clone()).unwrap_or(toc));
        let flat = Arc::new(OnceLock::new());
        View { layers: self.layers.clone(), tocs, flat, below: Some(Arc::clone(&self.flat)) }
    }

    /// The layers, bottom first.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The tables of contents, bottom first; of a foreign layer, as it lies over those below it.
    pub fn tocs(&self) -> &[Arc<Toc>] {
        &self.tocs
    }

    /// What is visible at `path`, no symbolic link followed.
    ///
    /// The root directory is always there.
    pub fn get(&self, path: &LayerPath) -> Option<Found> {
        let flat = self.flat();
        let at = flat.position(&self.tocs, path.as_bytes());
        match at {
            Ok(at) => Some(self.found(flat, at)),
            Err(_) if path.is_root() => Some(implied_root()),
            Err(_) => None,
        }
    }

    /// Kind of what is visible at `path`, cheaper than [`get`](View::get).
    pub fn kind(&self, path: &LayerPath) -> Option<Kind> {
        let flat = self.flat();
        match flat.position(&self.tocs, path.as_bytes()) {
            Ok(at) => match flat.entry(&self.tocs, at).kind {
                Kind::Hardlink => Some(self.found(flat, at).entry.kind),
                kind => Some(kind),
            },
            Err(_) => path.is_root().then_some(Kind::Dir),
        }
    }

    /// What is directly in `directory`, sorted by name.
    pub fn children(&self, directory: &LayerPath) -> Vec<(Vec<u8>, Found)> {
        let flat = self.flat();
        let positions = flat.children(&self.tocs, directory.as_bytes());
        let child = |at| {
            let found = self.found(flat, at);
            let name = found.entry.path.file_name().unwrap_or_default().to_vec();
            (name, found)
        };
        positions.into_iter().map(child).collect()
    }

    /// Shows everything below `directory`, each directory before what is in it and names in byte
    /// order; `visit` says whether to go into a directory.
    pub fn walk(
        &self,
        directory: &LayerPath,
        visit: &mut dyn FnMut(&LayerPath, &Found) -> Descend,
    ) {
        let flat = self.flat();
        // Positions still to be shown, last first.
        let below = |path: &[u8]| {
            let mut positions = flat.children(&self.tocs, path);
            positions.reverse();
            positions
        };
        let mut pending = below(directory.as_bytes());
        while let Some(at) = pending.pop() {
            let found = self.found(flat, at);
            match visit(&found.entry.path, &found) {
                Descend::Stop => return,
                Descend::Into if found.entry.kind == Kind::Dir => {
                    pending.extend(below(found.entry.path.as_bytes()));
                }
                Descend::Into | Descend::Over => {}
            }
        }
    }

    /// Follows the symbolic links in `path` as a process with this root would.
    ///
    /// Absolute links start at the root again and `..` stops there. Where a name is missing, the
    /// rest is taken literally; [`Resolved::missing_from`] says how much of it exists.
    pub fn resolve_path(&self, path: &[u8], follow_last: bool) -> Result<Resolved, ResolveError> {
        resolve::resolve(self, path, follow_last)
    }

    /// As [`resolve_path`](View::resolve_path), the path alone.
    pub fn resolve(&self, path: &[u8], follow_last: bool) -> Result<LayerPath, ResolveError> {
        self.resolve_path(path, follow_last).map(|resolved| resolved.path)
    }

    /// Everything visible, sorted by path, with the layer that it comes from (hard links as such;
    /// directories that no layer lists are left out).
    pub fn flatten(&self) -> Vec<(LayerPath, usize, Entry)> {
        let flat = self.flat();
        let entry = |at| {
            let entry = flat.entry(&self.tocs, at);
            flat.layer(at).map(|layer| (entry.path.clone(), layer, entry.clone()))
        };
        (0..flat.len()).filter_map(entry).collect()
    }

    /// Everything visible, sorted by path, hard links as the files that they name.
    pub fn iter(&self) -> impl Iterator<Item = Found> {
        let flat = self.flat();
        (0..flat.len()).map(move |at| self.found(flat, at))
    }

    /// The entries alone of what [`iter`](View::iter) shows.
    fn entries(&self) -> impl Iterator<Item = Cow<'_, Entry>> {
        let flat = self.flat();
        (0..flat.len()).map(move |at| match flat.entry(&self.tocs, at) {
            link if link.kind == Kind::Hardlink => Cow::Owned(self.found(flat, at).entry),
            entry => Cow::Borrowed(entry),
        })
    }

    fn flat(&self) -> &Flat {
        self.flat.get_or_init(|| match (self.tocs.split_last(), &self.below) {
            (Some((_, below_tocs)), Some(below)) => {
                let below = below.get_or_init(|| Flat::build(below_tocs));
                below.push(&self.tocs)
            }
            _ => Flat::build(&self.tocs),
        })
    }

    /// How many of the beginnings of `path` that end at `ends` are visible. What is visible lies in
    /// directories that are, too, so those come first.
    fn deepest(&self, path: &[u8], ends: &[usize]) -> usize {
        let flat = self.flat();
        ends.partition_point(|end| flat.position(&self.tocs, &path[..*end]).is_ok())
    }

    fn found(&self, flat: &Flat, at: usize) -> Found {
        let entry = flat.entry(&self.tocs, at);
        if entry.kind != Kind::Hardlink {
            return Found { layer: flat.layer(at), entry: entry.clone(), link_target: None };
        }
        let target = LayerPath::parse(&entry.link).unwrap_or_default();
        let (layer, named) = flat.named(&self.tocs, at);
        // The file that the link names, under the link's own path.
        let entry = Entry { path: entry.path.clone(), ..named.clone() };
        Found { layer, entry, link_target: Some(target) }
    }
}

/// Where a path leads once its symbolic links are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path without symbolic links in its existing part.
    pub path: LayerPath,
    /// The number of leading components of `path` that exist, if not all do.
    pub missing_from: Option<usize>,
}

/// The table of contents as it lies over a view, if that is not as it stands.
///
/// What leads nowhere stays where it is, to be looked at; making a tree of it is an error.
fn over(toc: &Toc, below: impl FnOnce() -> View) -> Option<Arc<Toc>> {
    if is_self_contained(toc) {
        return None;
    }
    settle::moved(toc, &below()).ok().flatten().map(Arc::new)
}

fn implied_root() -> Found {
    Found { layer: None, entry: implied(LayerPath::root()), link_target: None }
}

/// What differs between what two stacks of layers show.
pub fn compare_views(old: &View, new: &View) -> Vec<Change> {
    compare_sorted(old.entries(), new.entries())
}
