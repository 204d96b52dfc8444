//! What a step reads, wherever it is: contexts, stages, images.

use super::session::{Context, OpenContext, Session};
use super::stage::StepContext;
use super::trees::{EmptyTree, ViewTree};
use crate::context::Ignoring;
use crate::context::feed::Feed;
use crate::context::hash::Hasher;
use crate::copy::{Selected, Selector, select};
use crate::error::BuildError;
use crate::plan::Origin;
use crate::tree::{Node, Tree, clean_from_root};
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::Kind;
use std::io::Read;
use std::sync::Arc;

/// A place that files are read from.
pub(crate) enum Source<'a> {
    /// A directory on this machine.
    Context(Arc<OpenContext>),
    /// Layers.
    Layers(ViewTree<'a>),
    /// A context in the store, some of whose files are hidden.
    Ignoring(Ignoring<ViewTree<'a>>),
    /// Nothing.
    Empty,
}

impl<'a> Source<'a> {
    /// Look an origin up, waiting for the stage if it is one.
    pub(crate) fn open(at: &StepContext<'a>, origin: &Origin) -> Result<Self, BuildError> {
        let session = at.session;
        let view = |view| Source::Layers(ViewTree::new(view, session.deps.store.layers()));
        match origin {
            Origin::Context => Self::context(session, None),
            Origin::Named(name) => Self::context(session, Some(name)),
            Origin::Stage(stage) => Ok(view(at.wait(*stage)?.view()?)),
            Origin::Image(image) => Ok(view(at.planned.bases.view(image)?)),
            Origin::Scratch => Ok(Source::Empty),
        }
    }

    /// The main context, or one that has a name.
    pub(crate) fn context(session: &Session<'a>, name: Option<&str>) -> Result<Self, BuildError> {
        match session.context(name)? {
            Context::Empty => Ok(Source::Empty),
            Context::Directory(open) => Ok(Source::Context(open)),
            Context::Stored(stored) => {
                let tree = stored.files.tree(session.deps.store)?;
                Ok(match stored.ignore.clone() {
                    Some(ignore) => Source::Ignoring(Ignoring { tree, ignore }),
                    None => Source::Layers(tree),
                })
            }
        }
    }

    /// The files.
    pub(crate) fn tree(&self) -> &dyn Tree {
        match self {
            Self::Context(open) => &open.tree,
            Self::Layers(tree) => tree,
            Self::Ignoring(tree) => tree,
            Self::Empty => &EmptyTree,
        }
    }

    /// The layers, when it is made of such.
    pub(crate) fn layers(&self) -> &[Arc<Layer>] {
        match self {
            Self::Layers(tree) => tree.view().layers(),
            Self::Context(_) | Self::Ignoring(_) | Self::Empty => &[],
        }
    }

    /// What the paths name, with content hashes.
    pub(crate) fn select(
        &self,
        session: &Session<'_>,
        paths: &[&[u8]],
        how: &Selector,
    ) -> Result<Vec<Selected>, BuildError> {
        let mut all = self.find(paths, how)?;
        self.fill(session, paths, &mut all, None)?;
        Ok(all)
    }

    /// Give what the paths name its content hashes; `feed` gets the bytes of what is read.
    pub(crate) fn fill(
        &self,
        session: &Session<'_>,
        paths: &[&[u8]],
        all: &mut [Selected],
        feed: Option<&Feed>,
    ) -> Result<(), BuildError> {
        let Self::Context(open) = self else { return Ok(()) };
        let hasher = Hasher { feed, ..session.hasher(open) };
        session.together.turns.in_turn(&turn(open, paths), || hasher.fill(&open.tree, all))
    }

    /// What the paths name; files of a context have no content hashes yet.
    pub(crate) fn find(
        &self,
        paths: &[&[u8]],
        how: &Selector,
    ) -> Result<Vec<Selected>, BuildError> {
        let mut all = Vec::new();
        for path in paths {
            all.extend(select::select(self.tree(), path, how).map_err(|e| self.explain(e))?);
        }
        Ok(all)
    }

    /// A source that is not found may be there and ignored: say so.
    fn explain(&self, error: BuildError) -> BuildError {
        let BuildError::SourceNotFound { path } = error else { return error };
        match self {
            Self::Context(open)
                if open.tree.ignore().is_some()
                    && open
                        .tree
                        .path()
                        .join(path.trim_start_matches('/'))
                        .symlink_metadata()
                        .is_ok() =>
            {
                BuildError::SourceIgnored { path }
            }
            Self::Ignoring(ignoring)
                if clean_from_root(path.as_bytes())
                    .and_then(|path| ignoring.tree.get(&path))
                    .is_ok_and(|node| node.is_some()) =>
            {
                BuildError::SourceIgnored { path }
            }
            _ => BuildError::SourceNotFound { path },
        }
    }

    /// Make the bytes of selected files present in the content store.
    pub(crate) fn ensure_contents(
        &self,
        session: &Session<'_>,
        selected: &mut [Selected],
    ) -> Result<(), BuildError> {
        match self {
            Self::Context(open) => session.hasher(open).ensure_stored(&open.tree, selected),
            Self::Layers(tree) | Self::Ignoring(Ignoring { tree, .. }) => {
                tree.ensure_contents(&file_paths(selected))
            }
            Self::Empty => Ok(()),
        }
    }

    /// Read one selected file.
    pub(crate) fn read(&self, path: &LayerPath) -> Result<Box<dyn Read + Send>, BuildError> {
        match self {
            Self::Context(open) => Ok(Box::new(open.tree.open_file(path)?)),
            Self::Layers(tree) | Self::Ignoring(Ignoring { tree, .. }) => tree.open(path),
            Self::Empty => Err(BuildError::SourceNotFound { path: format!("/{path}") }),
        }
    }
}

/// Paths of the regular files among selected ones.
fn file_paths(selected: &[Selected]) -> Vec<LayerPath> {
    let mut paths = Vec::new();
    for each in selected {
        if each.node.kind == Kind::File {
            paths.push(each.source.clone());
        }
        let files = each.items.iter().filter(|i| i.node.kind == Kind::File);
        paths.extend(files.map(|i| i.source.clone()));
    }
    paths
}

/// A file whose content stands in the Dockerfile, as if it had been selected.
pub(crate) fn inline_file(name: &str, content: &[u8], mtime: i64) -> Selected {
    let mut node = Node::empty_file(0o644, mtime);
    node.size = content.len() as u64;
    node.content = Some(ContentHash::of(content));
    Selected {
        name: name.as_bytes().to_vec(),
        source: LayerPath::root(),
        node,
        items: Vec::new(),
        parents: false,
    }
}

/// What tells one set of files of a context from another.
fn turn(open: &OpenContext, paths: &[&[u8]]) -> String {
    let of = open.tree.path().as_os_str().as_encoded_bytes();
    let texts = [of].into_iter().chain(paths.iter().copied());
    texts.map(|text| text.escape_ascii().to_string()).collect::<Vec<_>>().join("\0")
}
