//! What all stages of one build share: contexts, caches, counters.

use super::board::lock;
use super::digests::Digests;
use super::journal::Journal;
use super::together::{Claim, Made, Making, Together};
use super::{BuildDeps, FetchedContext, Fetcher, Planned};
use crate::context::ContextTree;
use crate::context::hash::Hasher;
use crate::context::memo::Memo;
use crate::error::BuildError;
use crate::event::{Event, StepId};
use crate::graph::{Graph, StageNode};
use crate::ignore::Ignore;
use crate::key::StepKey;
use crate::options::{BuildOptions, ContextSource, NamedContext};
use crate::share::{self, MadeStep};
use lapstrake_layerstore::digest::LayerId;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::store::{CacheRecord, Lease};
use lapstrake_layerstore::toc::{Entry, Toc, compare};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The ignore file of a directory that has no better one.
const IGNORE_FILE: &str = ".dockerignore";
/// An ignore file larger than this is refused; real ones have a few kilobytes.
const IGNORE_FILE_BYTES_MAX: u64 = 4 << 20;
/// A file's time comes from a clock of the kernel that lags behind by some milliseconds.
pub(crate) const CLOCK_SLACK_SECONDS: i64 = 1;

/// A directory context with what is known of its files.
pub(crate) struct OpenContext {
    pub(crate) tree: ContextTree,
    pub(crate) memo: Mutex<Memo>,
    memo_name: String,
}

/// A context that lies in the store, with its ignore file.
#[derive(Debug)]
pub(crate) struct StoredContext {
    pub(crate) files: FetchedContext,
    pub(crate) ignore: Option<Ignore>,
}

/// A context, wherever its files are.
#[derive(Clone)]
pub(crate) enum Context {
    Directory(Arc<OpenContext>),
    Stored(Arc<StoredContext>),
    Empty,
}

/// One running build.
pub(crate) struct Session<'a> {
    pub(crate) options: &'a BuildOptions,
    pub(crate) deps: &'a BuildDeps<'a>,
    pub(crate) lease: &'a Lease,
    pub(crate) digests: Digests,
    pub(crate) journal: Journal,
    pub(crate) fetcher: Fetcher<'a>,
    pub(crate) together: &'a Together,
    no_cache_stages: Vec<bool>,
    in_chain: Vec<bool>,
    steps: AtomicUsize,
    cached: AtomicUsize,
    made: Mutex<Vec<MadeStep>>,
    /// No cache had any result when the build began.
    knew_nothing: bool,
    dry: bool,
}

/// Whether `--no-cache-filter` means this stage, by its name or its number.
fn names(filter: &str, stage: &StageNode) -> bool {
    stage.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(filter))
        || filter == stage.index.to_string()
}

/// A filter that names no stage has no effect, which is hardly what was meant.
pub(crate) fn warn_of_unknown_filters(options: &BuildOptions, deps: &BuildDeps<'_>, graph: &Graph) {
    for filter in &options.no_cache_filter {
        if !graph.stages.iter().any(|stage| names(filter, stage)) {
            let known = graph.stages.iter().filter_map(|stage| stage.name.as_deref());
            let meant = crate::suggest::nearest(filter, known);
            let meant = meant.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            let message =
                format!("no stage is called `{filter}`, which shall not use the cache{meant}");
            deps.observer.event(Event::Warning { message });
        }
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        options: &'a BuildOptions,
        deps: &'a BuildDeps<'a>,
        together: &'a Together,
        planned: &Planned,
    ) -> Self {
        let filtered = |stage: &StageNode| {
            options.no_cache || options.no_cache_filter.iter().any(|filter| names(filter, stage))
        };
        let stages = &planned.graph.stages;
        let mut in_chain = vec![false; stages.len()];
        let mut at = Some(planned.graph.target);
        while let Some(index) = at {
            in_chain[index] = true;
            at = stages[index].parent();
        }
        Self {
            options,
            deps,
            lease: &together.lease,
            journal: Journal::open(deps.store, options, planned),
            digests: Digests::new(Arc::clone(deps.store), options.compression),
            fetcher: Fetcher::sharing(options, deps, (&together.lease, &together.fetched)),
            together,
            no_cache_stages: stages.iter().map(filtered).collect(),
            in_chain,
            steps: AtomicUsize::new(0),
            cached: AtomicUsize::new(0),
            made: Mutex::default(),
            knew_nothing: options.cache_from.is_empty() && deps.store.cache_is_empty(),
            dry: false,
        }
    }

    /// The same, for a look ahead: hashing a file does not keep its bytes.
    pub(crate) fn dry(self) -> Self {
        Self { dry: true, ..self }
    }

    /// Whether the stage's layers will be part of the image.
    pub(crate) fn is_in_image(&self, stage: usize) -> bool {
        self.in_chain[stage]
    }

    /// The time that new things get.
    pub(crate) fn now(&self) -> i64 {
        self.options.epoch.unwrap_or(self.options.now)
    }

    /// The context of this name, or the main one.
    pub(crate) fn context(&self, name: Option<&str>) -> Result<Context, BuildError> {
        let key = name.map(str::to_owned);
        if let Some(open) = lock(&self.together.contexts).get(&key) {
            return Ok(open.clone());
        }
        let open = match name {
            None => match &self.options.context {
                ContextSource::Directory(path) => self.open_directory(path, name)?,
                ContextSource::Fetched(files) => self.open_stored(files.clone(), name)?,
                ContextSource::Empty => Context::Empty,
            },
            Some(named) => match self.options.context_of(named) {
                Some(NamedContext::Directory(path)) => self.open_directory(path, name)?,
                Some(NamedContext::Remote(remote)) => {
                    self.open_stored(self.fetcher.named_context(remote)?, name)?
                }
                Some(NamedContext::Image(_) | NamedContext::Layout(_)) | None => {
                    let message = format!("the named context `{named}` has no files");
                    return Err(BuildError::plan(message));
                }
            },
        };
        Ok(lock(&self.together.contexts).entry(key).or_insert(open).clone())
    }

    fn open_directory(&self, path: &Path, name: Option<&str>) -> Result<Context, BuildError> {
        let ignore = match (&self.options.ignore_file, name) {
            (Some((file, bytes)), None) => Some(parse_ignore(file, bytes)?),
            _ => read_ignore(path)?,
        };
        let tree = ContextTree::open(path, ignore)?;
        let memo_name = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex().to_string();
        let bytes = self.deps.store.memo_get(&memo_name).unwrap_or_default();
        let open = OpenContext { tree, memo: Mutex::new(Memo::decode(bytes)), memo_name };
        Ok(Context::Directory(Arc::new(open)))
    }

    fn open_stored(
        &self,
        files: FetchedContext,
        name: Option<&str>,
    ) -> Result<Context, BuildError> {
        let ignore = match (&self.options.ignore_file, name) {
            (Some((file, bytes)), None) => Some(parse_ignore(file, bytes)?),
            _ => files
                .read(self.deps.store, IGNORE_FILE.as_bytes(), IGNORE_FILE_BYTES_MAX)?
                .map(|bytes| parse_ignore(&format!("{}: {IGNORE_FILE}", files.name), &bytes))
                .transpose()?,
        };
        Ok(Context::Stored(Arc::new(StoredContext { files, ignore })))
    }

    /// Hashes files of `context`.
    pub(crate) fn hasher<'s>(&'s self, context: &'s OpenContext) -> Hasher<'s> {
        Hasher {
            contents: (!self.dry).then(|| self.deps.store.contents()),
            memo: &context.memo,
            build_start_ns: i128::from(self.options.now) * 1_000_000_000,
            feed: None,
        }
    }

    /// Whether nothing that the stage makes can have been made before.
    pub(crate) fn is_certain_to_miss(&self, stage: usize) -> bool {
        self.ignores_cache(stage) || self.knew_nothing
    }

    /// Whether the digests of the stage's layers are wanted in the end.
    pub(crate) fn wants_digests(&self, stage: usize) -> bool {
        !self.dry && self.is_in_image(stage)
    }

    /// Keep what was learned about context files. That it could not be kept costs the next build some
    /// reading and nothing else, so it is no error.
    pub(crate) fn save_memos(&self) {
        for open in lock(&self.together.contexts).values() {
            let Context::Directory(open) = open else { continue };
            if let Some(bytes) = lock(&open.memo).encode_if_changed() {
                let _kept = self.deps.store.memo_put(&open.memo_name, &bytes);
            }
        }
    }

    /// Whether the stage is to be built anew.
    pub(crate) fn ignores_cache(&self, stage: usize) -> bool {
        self.no_cache_stages[stage]
    }

    /// The recorded result of a key, unless the stage is to be built anew.
    pub(crate) fn lookup(
        &self,
        stage: usize,
        key: &StepKey,
    ) -> Result<Option<(Arc<Layer>, i64)>, BuildError> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        if self.ignores_cache(stage) {
            return Ok(None);
        }
        let found = match self.recorded(key)? {
            Some(found) => Some(found),
            None => self.shared_result(key)?,
        };
        if found.is_some() {
            self.cached.fetch_add(1, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// The right to make a step that was not found, or what another stage or another build made of it
    /// while this one looked.
    pub(crate) fn claim(&self, key: &StepKey) -> Result<Making<'a>, Made> {
        match self.together.claims.claim(&key.key) {
            Claim::Mine(making) => Ok(making),
            Claim::Made(made) => {
                self.cached.fetch_add(1, Ordering::Relaxed);
                Err(made)
            }
        }
    }

    /// What a shared cache has for a key; it is in the store's own from then on.
    fn shared_result(&self, key: &StepKey) -> Result<Option<(Arc<Layer>, i64)>, BuildError> {
        let (caches, deps) = (&self.options.cache_from, self.deps);
        let found = share::find(caches, &key.key, deps.store, deps.observer);
        let Some((layer, step)) = found else { return Ok(None) };
        self.lease.hold(layer.short())?;
        let record = CacheRecord {
            layer: Some(*layer.id()),
            created_unix: step.created_unix,
            step: step.step,
            inputs: key.inputs.clone(),
        };
        deps.store.cache_put(&key.key, &record)?;
        Ok(Some((layer, step.created_unix)))
    }

    /// What a shared cache says that it has for a key; nothing is fetched, and faults are left for the
    /// build to tell.
    pub(crate) fn peek_shared(&self, key: &StepKey) -> Option<(String, LayerId)> {
        self.options.cache_from.iter().find_map(|cache| {
            let step = cache.get(&key.key).ok()??;
            Some((cache.name(), step.layer))
        })
    }

    /// A step is done, or was found.
    pub(crate) fn note_made(
        &self,
        id: StepId,
        key: &StepKey,
        step: &str,
        made: &(Arc<Layer>, i64),
    ) {
        let (layer, created_unix) = (Arc::clone(&made.0), made.1);
        let (key, step, in_image) = (key.key, step.to_owned(), self.is_in_image(id.stage));
        lock(&self.made).push(MadeStep { key, layer, created_unix, step, in_image });
    }

    /// The steps that were noted.
    pub(crate) fn take_made(&self) -> Vec<MadeStep> {
        std::mem::take(&mut *lock(&self.made))
    }

    /// Whether nothing is looked up for this stage.
    pub(crate) fn is_uncached(&self, stage: usize) -> bool {
        self.no_cache_stages[stage]
    }

    /// The recorded result of a key, and nothing is noted about its having been asked for.
    pub(crate) fn peek(&self, key: &StepKey) -> Result<Option<Arc<Layer>>, BuildError> {
        let record = self.deps.store.cache_peek(&key.key);
        let Some(id) = record.and_then(|record| record.layer) else { return Ok(None) };
        let Some(layer) = self.deps.store.layers().by_id(&id)? else { return Ok(None) };
        self.lease.hold(layer.short())?;
        Ok(Some(layer))
    }

    fn recorded(&self, key: &StepKey) -> Result<Option<(Arc<Layer>, i64)>, BuildError> {
        let Some(record) = self.deps.store.cache_get(&key.key, self.lease) else { return Ok(None) };
        let Some(id) = record.layer else { return Ok(None) };
        Ok(self.deps.store.layers().by_id(&id)?.map(|layer| (layer, record.created_unix)))
    }

    /// Record what a step made. If the same key once made the same files, the layer of that time stays:
    /// the image's digest does not change because of newer file times. Times that a step sets itself are
    /// not newer, but other ones.
    pub(crate) fn record(
        &self,
        key: &StepKey,
        title: &str,
        layer: Arc<Layer>,
    ) -> Result<(Arc<Layer>, i64), BuildError> {
        self.lease.hold(layer.short())?;
        let (store, created_unix) = (self.deps.store, self.now());
        let record = CacheRecord {
            layer: Some(*layer.id()),
            created_unix,
            step: title.to_owned(),
            inputs: key.inputs.clone(),
        };
        let mut known = self.recorded(key)?;
        if known.is_none() && !self.options.rehearsal {
            if store.cache_add(&key.key, &record)? {
                return Ok((layer, created_unix));
            }
            // Another build made it at the same time, and came first.
            known = self.recorded(key)?;
        }
        if let Some((old, created)) = known
            && (old.id() == layer.id()
                || same_files(old.toc()?, created, layer.toc()?, created_unix))
        {
            return Ok((old, created));
        }
        if !self.options.rehearsal {
            store.cache_put(&key.key, &record)?;
        }
        Ok((layer, created_unix))
    }

    /// How many steps were looked at, and how many of them came from the cache.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.steps.load(Ordering::Relaxed), self.cached.load(Ordering::Relaxed))
    }
}

/// Whether two layers differ only in times that say when each was made.
fn same_files(old: &Toc, old_made: i64, new: &Toc, new_made: i64) -> bool {
    let made_then = |entry: &Option<Entry>, then: i64| {
        entry.as_ref().is_some_and(|entry| entry.mtime >= then - CLOCK_SLACK_SECONDS)
    };
    old.content_id() == new.content_id()
        && compare(old, new)
            .iter()
            .all(|change| made_then(&change.old, old_made) && made_then(&change.new, new_made))
}

/// The ignore file of the main context, if there are both.
pub(crate) fn main_ignore(options: &BuildOptions) -> Result<Option<Ignore>, BuildError> {
    match (&options.ignore_file, &options.context) {
        (Some((file, bytes)), _) => parse_ignore(file, bytes).map(Some),
        (None, ContextSource::Directory(path)) => read_ignore(path),
        // What was fetched is read with the context itself; checks have no need of it.
        (None, ContextSource::Empty | ContextSource::Fetched(_)) => Ok(None),
    }
}

fn read_ignore(context: &Path) -> Result<Option<Ignore>, BuildError> {
    use std::io::Read as _;
    let path = context.join(IGNORE_FILE);
    // An ignore file that cannot be read means no rules, as in the reference.
    let Ok(file) = std::fs::File::open(&path) else { return Ok(None) };
    let mut bytes = Vec::new();
    match file.take(IGNORE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes) {
        Ok(read) if read as u64 > IGNORE_FILE_BYTES_MAX => Err(BuildError::IgnoreFile {
            name: path.display().to_string(),
            message: format!("it is larger than {IGNORE_FILE_BYTES_MAX} bytes"),
        }),
        Ok(_) => Ok(Some(parse_ignore(&path.display().to_string(), &bytes)?)),
        Err(_) => Ok(None),
    }
}

fn parse_ignore(name: &str, bytes: &[u8]) -> Result<Ignore, BuildError> {
    Ignore::parse(bytes)
        .map_err(|e| BuildError::IgnoreFile { name: name.to_owned(), message: e.to_string() })
}
