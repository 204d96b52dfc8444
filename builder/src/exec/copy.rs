//! COPY, ADD and WORKDIR: layers that are made from descriptions of files alone.

use super::ahead::Foreseen;
use super::board::{LayerName, StageResult};
use super::remotes::{CONTENT, HttpFile};
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
use crate::key::{KeyEncoder, REMOTE_COMMIT, REMOTE_CONTENT, StepKey, digest_selected};
use crate::plan::{CopyStep, Origin};
use crate::remote::{GitRef, GitSource, HttpSource, Remote};
use crate::text::Text;
use crate::tree::{Tree, clean_onto};
use lapstrake_layerstore::archive::Epoch;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::toc::{Entry, Kind};
use lapstrake_layerstore::view::View;
use std::sync::Arc;

/// A COPY or ADD with its files selected and hashed.
struct PreparedCopy<'a> {
    step: &'a CopyStep,
    parts: Vec<Part<'a>>,
    excludes: Option<Matcher>,
    /// Its layer's diffID, where that could be begun.
    foreseen: Option<Foreseen>,
    key: StepKey,
}

/// Sources that are read from one place, in the order written.
enum Part<'a> {
    /// Files that are here, and their names and hashes.
    Files { source: Source<'a>, selected: Vec<Selected> },
    /// A file behind a URL.
    Http(&'a HttpSource, HttpFile),
    /// A repository, of which nothing but the commit is needed before it is known to be a miss.
    Git(&'a GitSource, GitRef),
}

/// Select and hash the files of a COPY or ADD, and key it.
pub(crate) fn prepare<'s>(
    at: &StepContext<'s>,
    step: &'s CopyStep,
) -> Result<Box<dyn Prepared + 's>, BuildError> {
    let how = selector(step)?;
    let mut parts = Vec::new();
    let mut local: Vec<&[u8]> = Vec::new();
    for (place, source) in step.sources.iter().enumerate() {
        let Some(remote) = step.remotes.get(&place) else {
            local.push(source.as_bytes());
            continue;
        };
        parts.extend(files(at, step, &std::mem::take(&mut local), &how)?.map(|found| found.0));
        let fetcher = &at.session.fetcher;
        parts.push(match remote {
            Remote::Http(http) => Part::Http(http, fetcher.http_file(http)?),
            Remote::Git(git) => Part::Git(git, fetcher.commit(git)?),
        });
    }
    let mut foreseen = None;
    if let Some((part, ahead)) = files(at, step, &local, &how)? {
        parts.push(part);
        foreseen = ahead;
    }
    let now = at.session.now();
    let inline = step.inline.iter().map(|(name, content)| inline_file(name, content, now));
    match parts.last_mut() {
        Some(Part::Files { selected, .. }) => selected.extend(inline),
        _ => parts.push(Part::Files { source: Source::Empty, selected: inline.collect() }),
    }
    let key = key(at, step, &parts);
    Ok(Box::new(PreparedCopy { step, parts, excludes: how.excludes, foreseen, key }))
}

/// What these paths name where the step's files are, and what can be foreseen of their layer.
fn files<'s>(
    at: &StepContext<'s>,
    step: &CopyStep,
    paths: &[&[u8]],
    how: &Selector,
) -> Result<Option<(Part<'s>, Option<Foreseen>)>, BuildError> {
    if paths.is_empty() {
        return Ok(None);
    }
    let source = Source::open(at, &step.origin)?;
    let mut selected = source.find(paths, how)?;
    let foreseen = match &source {
        Source::Context(_) if is_plain(step) => {
            Foreseen::begin(at, step.link, &selected, || placement(at, step))
        }
        _ => None,
    };
    source.fill(at.session, paths, &mut selected, foreseen.as_ref().map(Foreseen::feed))?;
    separate_links(&mut selected);
    Ok(Some((Part::Files { source, selected }, foreseen)))
}

/// Whether the layer is made of files in the context as they are, and of nothing else.
fn is_plain(step: &CopyStep) -> bool {
    !step.is_add && step.unpack.is_none() && step.remotes.is_empty() && step.inline.is_empty()
}

/// How the step's files are put into the image.
fn placement(at: &StepContext<'_>, step: &CopyStep) -> Result<Placement, BuildError> {
    let owner = match &step.owner {
        None => None,
        Some(text) if step.link => Some(Accounts::default().owner(text)?),
        Some(text) => {
            let below = ViewTree::new(at.below.view()?, at.session.deps.store.layers());
            Some(Accounts::read(&below, &below)?.owner(text)?)
        }
    };
    let mode = step.mode.as_ref().map(|(_, mode)| mode.clone());
    Ok(Placement { dest: step.dest.clone(), owner, mode, now: at.session.now() })
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

fn key(at: &StepContext<'_>, step: &CopyStep, parts: &[Part<'_>]) -> StepKey {
    let kind = if step.is_add { "ADD" } else { "COPY" };
    let mut key = KeyEncoder::new(kind, at.platform());
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
    for part in parts {
        match part {
            Part::Files { selected, .. } => {
                key.bytes("files", digest_selected(selected).as_bytes());
            }
            Part::Http(http, file) => {
                key.text("file name", &http.name);
                key.text(&format!("{REMOTE_CONTENT}{}", http.url), &file.digest.to_string());
            }
            Part::Git(git, at) => {
                key.text("directory", &git.subdir);
                key.text(&format!("{REMOTE_COMMIT}{}", git.url), &at.commit);
                let flag = |on: bool| if on { "true" } else { "false" };
                key.text("keep git dir", flag(git.keep_git_dir == Some(true)));
                key.text("submodules", flag(git.submodules));
                key.list("exclude", step.excludes.iter().map(Text::as_str));
            }
        }
    }
    key.finish()
}

/// How many files a COPY or ADD selects, and their bytes: what [`prepare`] finds, without hashing them.
pub(crate) fn measure(at: &StepContext<'_>, step: &CopyStep) -> Result<(u64, u64), BuildError> {
    let source = Source::open(at, &step.origin)?;
    let paths: Vec<&[u8]> = step.paths().map(|path| path.as_bytes()).collect();
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
        fn files<'p>(part: &'p Part<'_>) -> Option<&'p [Selected]> {
            match part {
                Part::Files { selected, .. } => Some(selected),
                Part::Http(..) | Part::Git(..) => None,
            }
        }
        self.parts.iter().filter_map(files).collect()
    }

    fn files(&self) -> Option<(u64, u64)> {
        self.step.paths().next()?;
        let (files, bytes) =
            self.read().into_iter().map(count).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        // Those that stand in the Dockerfile are not read from anywhere.
        let inline = &self.step.inline;
        let written: u64 = inline.iter().map(|(_, content)| content.len() as u64).sum();
        Some((files - inline.len() as u64, bytes - written))
    }

    fn execute(mut self: Box<Self>, at: &StepContext<'_>) -> Result<Arc<Layer>, BuildError> {
        let foreseen = self.foreseen.take();
        let placed = match (&foreseen, self.parts.as_mut_slice()) {
            (Some(foreseen), [Part::Files { source, selected }]) => {
                source.ensure_contents(at.session, selected)?;
                foreseen.entries(selected)
            }
            _ => None,
        };
        let entries = placed.map_or_else(|| self.place(at), Ok)?;
        let layer = at.session.deps.store.layers().create(entries)?;
        if let Some(foreseen) = foreseen {
            at.session.digests.foresee(&layer, foreseen);
        }
        Ok(layer)
    }
}

impl PreparedCopy<'_> {
    /// Puts the files where they go in the image.
    fn place(&mut self, at: &StepContext<'_>) -> Result<Vec<Entry>, BuildError> {
        let below = ViewTree::new(at.below.view()?, at.session.deps.store.layers());
        let base: &dyn Tree = if self.step.link { &EmptyTree } else { &below };
        let how = placement(at, self.step)?;
        // First, since what follows looks for what is not stored among the context's files.
        self.store_inline(at)?;
        let mut staging = Staging::over(base, at.session.now());
        for part in std::mem::take(&mut self.parts) {
            let unpacks = self.unpacks(&part);
            let (source, mut selected) = self.fetched(at, part)?;
            source.ensure_contents(at.session, &mut selected)?;
            for each in &selected {
                let file = each.node.kind == Kind::File && !each.source.is_root();
                if unpacks
                    && file
                    && unpack::unpack(at.session, &source, &below, each, (&mut staging, &how))?
                {
                    continue;
                }
                place(&mut staging, each, &how)?;
            }
        }
        staging.into_entries()
    }

    /// Whether archives among these files are unpacked.
    fn unpacks(&self, part: &Part<'_>) -> bool {
        match part {
            Part::Files { .. } => {
                let from_files = matches!(self.step.origin, Origin::Context);
                self.step.unpack.unwrap_or(self.step.is_add && from_files)
            }
            Part::Http(..) => self.step.unpack == Some(true),
            Part::Git(..) => false,
        }
    }

    /// The files of a part, which are all here afterwards.
    fn fetched<'s>(
        &self,
        at: &StepContext<'s>,
        part: Part<'s>,
    ) -> Result<(Source<'s>, Vec<Selected>), BuildError> {
        let (fetcher, store) = (&at.session.fetcher, at.session.deps.store);
        let tree =
            |layer| Ok::<_, BuildError>(ViewTree::new(View::new(vec![layer])?, store.layers()));
        match part {
            Part::Files { source, selected } => Ok((source, selected)),
            Part::Http(http, file) => {
                let source = Source::Layers(tree(fetcher.http_layer(http, &file)?)?);
                let how = Selector { literal: true, ..Selector::default() };
                let mut selected = source.select(at.session, &[CONTENT.as_bytes()], &how)?;
                for file in &mut selected {
                    file.name = http.name.clone().into_bytes();
                }
                Ok((source, selected))
            }
            Part::Git(git, commit) => {
                let files = fetcher.git_files(git, &commit)?;
                let source = Source::Layers(tree(files.layer)?);
                let excludes = self.excludes.clone();
                let how = Selector { literal: true, excludes, ..Selector::default() };
                let mut selected = source.select(at.session, &[b"/"], &how)?;
                for root in &mut selected {
                    root.node.mtime = files.time;
                }
                Ok((source, selected))
            }
        }
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
    let mut key = KeyEncoder::new("WORKDIR", at.platform());
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
        // What a path passes through only to leave it by `..` is made where a step runs, not here.
        let mut clean = Vec::with_capacity(self.path.len());
        clean_onto(&mut clean, self.path.as_bytes());
        ensure_directory(&mut staging, &clean, &how)?;
        Ok(store.layers().create(staging.into_entries()?)?)
    }
}

/// A stage that is a named context: one layer with all of its files.
pub(crate) fn context_as_base(
    session: &Session<'_>,
    name: &str,
) -> Result<StageResult, BuildError> {
    let source = Source::context(session, Some(name))?;
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
