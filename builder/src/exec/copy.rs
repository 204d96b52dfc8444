//! COPY, ADD and WORKDIR: layers that are made from descriptions of files alone.

use super::Planned;
use super::board::{Board, LayerName, StageResult};
use super::session::Session;
use super::sources::{Source, inline_file};
use super::stage::{Prepared, StepContext};
use super::trees::{EmptyTree, ViewTree};
use super::unpack;
use crate::copy::place::ensure_directory;
use crate::copy::{Placement, Selected, Selector, Staging, place};
use crate::error::BuildError;
use crate::identity::Accounts;
use crate::ignore::Matcher;
use crate::key::ChainId;
use crate::key::{KeyEncoder, StepKey, digest_selected};
use crate::plan::{CopyStep, Origin};
use crate::tree::Tree;
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::toc::Kind;
use std::sync::Arc;

/// A COPY or ADD with its files selected and hashed.
struct PreparedCopy<'a> {
    step: &'a CopyStep,
    source: Source<'a>,
    selected: Vec<Selected>,
    key: StepKey,
}

/// Select and hash the files of a COPY or ADD, and key it.
pub(crate) fn prepare<'s>(
    at: &StepContext<'s>,
    step: &'s CopyStep,
) -> Result<Box<dyn Prepared + 's>, BuildError> {
    let source = if step.sources.is_empty() {
        Source::Empty
    } else {
        Source::open(at.session, at.planned, at.board, &step.origin)?
    };
    let how = selector(step)?;
    let paths: Vec<&[u8]> = step.sources.iter().map(String::as_bytes).collect();
    let mut selected = source.select(at.session, &paths, &how)?;
    separate_links(&mut selected);
    let now = at.session.now();
    selected.extend(step.inline.iter().map(|(name, content)| inline_file(name, content, now)));
    let key = key(at, step, &selected);
    Ok(Box::new(PreparedCopy { step, source, selected, key }))
}

/// Hard links are kept within one source, not between two.
fn separate_links(selected: &mut [Selected]) {
    for (number, each) in selected.iter_mut().enumerate() {
        let tag = (number as u64).rotate_left(32);
        each.node.link_group = None;
        for item in &mut each.items {
            if let Some((device, _)) = &mut item.node.link_group {
                *device ^= tag;
            }
        }
    }
}

fn key(at: &StepContext<'_>, step: &CopyStep, selected: &[Selected]) -> StepKey {
    let kind = if step.is_add { "ADD" } else { "COPY" };
    let mut key = KeyEncoder::new(kind, &at.session.options.platform);
    if !step.link {
        key.parent(&at.below.chain);
    }
    key.text("destination", &String::from_utf8_lossy(&step.dest));
    key.optional("chown", step.owner.as_deref());
    key.optional("chmod", step.mode.as_ref().map(|(text, _)| text.as_str()));
    key.optional("unpack", step.unpack.map(|u| if u { "true" } else { "false" }));
    key.text("link", if step.link { "true" } else { "false" });
    // Files in the context belong to nobody; those of layers keep their owners.
    key.text("sources", &step.sources.join(" "));
    key.bytes("files", digest_selected(selected).as_bytes());
    key.finish()
}

/// How many files a COPY or ADD selects, and their bytes: what [`prepare`] finds, without hashing them.
pub(crate) fn measure(at: &StepContext<'_>, step: &CopyStep) -> Result<(u64, u64), BuildError> {
    let source = Source::open(at.session, at.planned, at.board, &step.origin)?;
    let paths: Vec<&[u8]> = step.paths().map(String::as_bytes).collect();
    Ok(count(&source.find(&paths, &selector(step)?)?))
}

/// How many regular files there are, and their bytes.
fn count(selected: &[Selected]) -> (u64, u64) {
    let items = selected.iter().flat_map(|each| each.items.iter().map(|item| &item.node));
    let nodes = selected.iter().map(|each| &each.node).chain(items);
    nodes
        .filter(|node| node.kind == Kind::File)
        .fold((0, 0), |(files, bytes), node| (files + 1, bytes + node.size))
}

fn selector(step: &CopyStep) -> Result<Selector, BuildError> {
    let excludes = match step.excludes.as_slice() {
        [] => None,
        patterns => Some(
            Matcher::new(patterns)
                .map_err(|e| BuildError::plan(format!("--exclude is not valid: {e}")))?,
        ),
    };
    Ok(Selector { excludes, parents: step.parents, literal: false })
}

impl Prepared for PreparedCopy<'_> {
    fn key(&self) -> &StepKey {
        &self.key
    }

    fn read(&self) -> Vec<&[Selected]> {
        vec![&self.selected]
    }

    fn files(&self) -> Option<(u64, u64)> {
        let from_files = self.selected.len() - self.step.inline.len();
        (!self.step.sources.is_empty()).then(|| count(&self.selected[..from_files]))
    }

    fn execute(mut self: Box<Self>, at: &StepContext<'_>) -> Result<Arc<Layer>, BuildError> {
        let store = at.session.deps.store;
        let below = ViewTree::new(at.below.view()?, store.layers());
        let base: &dyn Tree = if self.step.link { &EmptyTree } else { &below };
        let owner = match &self.step.owner {
            None => None,
            Some(text) if self.step.link => Some(Accounts::default().owner(text)?),
            Some(text) => Some(Accounts::read(&below, &below)?.owner(text)?),
        };
        // First, since the next line looks for what is not stored among the context's files.
        self.store_inline(at)?;
        self.source.ensure_contents(at.session, &mut self.selected)?;
        let how = Placement {
            dest: self.step.dest.clone(),
            owner,
            mode: self.step.mode.as_ref().map(|(_, mode)| mode.clone()),
            now: at.session.now(),
        };
        let mut staging = Staging::over(base, at.session.now());
        for selected in &self.selected {
            if self.may_unpack(selected)
                && unpack::unpack(at.session, &self.source, &below, selected, (&mut staging, &how))?
            {
                continue;
            }
            place(&mut staging, selected, &how)?;
        }
        Ok(store.layers().create(staging.into_entries()?)?)
    }
}

impl PreparedCopy<'_> {
    /// Whether ADD looks for an archive in this file.
    fn may_unpack(&self, selected: &Selected) -> bool {
        let from_files = matches!(self.step.origin, Origin::Context);
        self.step.unpack.unwrap_or(self.step.is_add && from_files)
            && selected.node.kind == Kind::File
            && !selected.source.is_root()
    }

    fn store_inline(&self, at: &StepContext<'_>) -> Result<(), BuildError> {
        if self.step.inline.is_empty() {
            return Ok(());
        }
        let mut writer = at.session.deps.store.contents().writer();
        for (_, content) in &self.step.inline {
            writer.put_bytes(content)?;
        }
        Ok(writer.finish()?)
    }
}

/// A WORKDIR.
struct PreparedWorkdir<'a> {
    path: &'a str,
    user: &'a str,
    key: StepKey,
}

/// Key a WORKDIR.
pub(crate) fn prepare_workdir<'s>(
    at: &StepContext<'s>,
    path: &'s str,
    user: &'s str,
) -> Box<dyn Prepared + 's> {
    let mut key = KeyEncoder::new("WORKDIR", &at.session.options.platform);
    key.parent(&at.below.chain);
    key.text("path", path);
    key.text("user", user);
    Box::new(PreparedWorkdir { path, user, key: key.finish() })
}

impl Prepared for PreparedWorkdir<'_> {
    fn key(&self) -> &StepKey {
        &self.key
    }

    fn execute(self: Box<Self>, at: &StepContext<'_>) -> Result<Arc<Layer>, BuildError> {
        let store = at.session.deps.store;
        let below = ViewTree::new(at.below.view()?, store.layers());
        let owner = match self.user {
            "" => (0, 0),
            user => Accounts::read(&below, &below)?.workdir_owner(user),
        };
        let how =
            Placement { dest: Vec::new(), owner: Some(owner), mode: None, now: at.session.now() };
        let mut staging = Staging::over(&below, at.session.now());
        // Every directory that the path passes through is made, those that `..` leaves again too.
        let ends = self.path.match_indices('/').map(|(at, _)| at).chain([self.path.len()]);
        for end in ends {
            ensure_directory(&mut staging, &self.path.as_bytes()[..end], &how)?;
        }
        Ok(store.layers().create(staging.into_entries()?)?)
    }
}

/// A stage that is a named context: one layer with all of its files.
pub(crate) fn context_as_base(
    session: &Session<'_>,
    planned: &Planned,
    board: &Board,
    name: &str,
) -> Result<StageResult, BuildError> {
    let source = Source::open(session, planned, board, &Origin::Named(name.to_owned()))?;
    let mut selected = source.select(session, &[b"/"], &Selector::default())?;
    source.ensure_contents(session, &mut selected)?;
    let mut staging = Staging::over(&EmptyTree, session.now());
    let how = Placement { dest: b"/".to_vec(), owner: None, mode: None, now: session.now() };
    for each in &selected {
        place(&mut staging, each, &how)?;
    }
    let layer = session.deps.store.layers().create(staging.into_entries()?)?;
    session.lease.hold(layer.short())?;
    let chain = ChainId::empty().with_layer(layer.id());
    let names = vec![LayerName::At(session.options.epoch.map(Epoch::Set))];
    Ok(StageResult { layers: vec![layer], names, times: Vec::new(), chain })
}
