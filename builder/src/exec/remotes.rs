//! What lies elsewhere, brought into the store.
//!
//! ```text
//! URL ────── ask (entity tag) ─┬─ not modified ──────────────▶ the layer of last time
//!                              └─ bytes ▶ bounded ▶ sha256 ▶ packs ▶ layer of one file
//! repository ─ ref ▶ commit ───┬─ checked out before ────────▶ the layer of last time
//!                              └─ work directory ▶ packs ────▶ layer of its files
//! archive ── bytes ▶ members ▶ packs ────────────────────────▶ layer of its files
//! ```
//!
//! Everything becomes a layer, which no image has but which leases, pruning and fsck know like any other; a
//! record in the cache leads from the URL or commit to it. *Invariants:* a body is counted, timed and
//! digested while it is read, never after; names from outside become paths of layers or nothing; within one
//! build a URL is asked once.

mod fetched;
mod stream;

use super::BuildDeps;
use super::trees::{EmptyTree, ViewTree};
use super::unpack;
use crate::context::ContextTree;
use crate::context::hash::Hasher;
use crate::context::memo::Memo;
use crate::copy::{Placement, Selected, Selector, Staging, place, select};
use crate::error::BuildError;
use crate::limits::MAX_DOCKERFILE_BYTES;
use crate::options::BuildOptions;
use crate::remote::{
    Authorization, Checkout, GitRef, GitSource, HttpAnswer, HttpRequest, HttpSource, Remote,
    RemoteError, Repository, address,
};
use crate::tree::{Node, Resolved, Tree, resolve};
use base64::prelude::{BASE64_STANDARD, Engine as _};
pub(crate) use fetched::{Fetched, GitFiles, HttpFile};
use lapstrake_layerstore::Digest;
use lapstrake_layerstore::digest::HashingReader;
use lapstrake_layerstore::layers::Layer;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::store::{CacheKey, CacheRecord, Lease, Store};
use lapstrake_layerstore::toc::{Entry, Kind};
use lapstrake_layerstore::view::View;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use stream::{Bounded, probe};

/// Changes whenever the same source would become another layer.
const FORMAT: &str = "lapstrake remote 1";
/// The mode of a file behind a URL, as in the reference.
const HTTP_MODE: u32 = 0o600;
/// Modes of a repository's files, as in the reference; git itself knows only whether one is executable.
const GIT_MODES: [u32; 2] = [0o644, 0o755];
/// Mode of git's own files that never change.
const GIT_OBJECT_MODE: u32 = 0o444;
/// Where git keeps what is no file of the commit.
const GIT_DIR: &[u8] = b".git";
/// The name of the one file of a URL's layer; what it is called in an image is another matter.
pub(crate) const CONTENT: &str = "content";

/// Brings remote sources into one store, for one build.
pub struct Fetcher<'a> {
    deps: &'a BuildDeps<'a>,
    options: &'a BuildOptions,
    lease: &'a Lease,
    fetched: Arc<Fetched>,
}

impl std::fmt::Debug for Fetcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

/// A context that was brought into the store.
#[derive(Debug, Clone)]
pub struct FetchedContext {
    /// Its files.
    pub(crate) layer: Arc<Layer>,
    /// Where it came from, for messages.
    pub name: String,
}

/// What something that was given as a context turned out to be.
#[derive(Debug)]
pub enum ContextContent {
    /// Files.
    Files(FetchedContext),
    /// Text, which must be a Dockerfile.
    Dockerfile(Vec<u8>),
}

/// What is remembered of a URL.
#[derive(Debug, Serialize, Deserialize)]
struct HttpRecord {
    url: String,
    digest: Digest,
    etag: Option<String>,
}

/// What is remembered of a commit.
#[derive(Debug, Serialize, Deserialize)]
struct GitRecord {
    url: String,
    commit: String,
    time: i64,
}

/// A record, and the layer that it leads to.
type Known<R> = (R, Arc<Layer>);

/// What a URL becomes.
#[derive(Debug, Clone, Copy)]
enum Form {
    File,
    Files,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::File => "http",
            Self::Files => "http context",
        }
    }
}

impl<'a> Fetcher<'a> {
    /// Nothing is fetched yet; what will be is kept by `lease`.
    pub fn new(options: &'a BuildOptions, deps: &'a BuildDeps<'a>, lease: &'a Lease) -> Self {
        Self { deps, options, lease, fetched: Arc::default() }
    }

    /// The same, which asks for nothing that `fetched` has. What that has is kept by `lease`.
    pub(crate) fn sharing(
        options: &'a BuildOptions,
        deps: &'a BuildDeps<'a>,
        (lease, fetched): (&'a Lease, &Arc<Fetched>),
    ) -> Self {
        Self { deps, options, lease, fetched: Arc::clone(fetched) }
    }

    /// The files of something remote that is used as a context.
    pub fn context(&self, remote: &Remote) -> Result<ContextContent, BuildError> {
        let name = remote.url().to_owned();
        let layer = match remote {
            Remote::Git(git) => {
                let at = self.commit(git)?;
                self.git_files(git, &at)?.layer
            }
            Remote::Http(http) => return self.http_context(http),
        };
        Ok(ContextContent::Files(FetchedContext { layer, name }))
    }

    /// The files of a named context. A URL that holds no archive is a context of one file, as in the
    /// reference.
    pub(crate) fn named_context(&self, remote: &Remote) -> Result<FetchedContext, BuildError> {
        let name = remote.url().to_owned();
        match self.context(remote)? {
            ContextContent::Files(files) => Ok(files),
            ContextContent::Dockerfile(text) => {
                let mut writer = self.deps.store.contents().writer();
                let (content, size) = writer.put_bytes(&text)?;
                writer.finish()?;
                let entry =
                    Entry { mode: HTTP_MODE, size, content: Some(content), ..file("context") };
                Ok(FetchedContext { layer: self.keep(vec![entry])?, name })
            }
        }
    }

    /// A stream that is either an archive of a context, compressed or not, or a Dockerfile.
    pub fn stream(
        &self,
        reader: impl Read + Send,
        name: &str,
    ) -> Result<ContextContent, BuildError> {
        let no_context = || RemoteError::NoContext { name: name.to_owned() };
        let (is_archive, mut whole) = probe(reader).map_err(|source| BuildError::Context {
            verb: "read",
            path: name.into(),
            errno: source.raw_os_error().unwrap_or(0),
            source,
        })?;
        if is_archive {
            let layer = self.unpacked(Box::new(whole), name)?.ok_or_else(no_context)?;
            return Ok(ContextContent::Files(FetchedContext { layer, name: name.to_owned() }));
        }
        let mut text = Vec::new();
        let read = whole.by_ref().take(MAX_DOCKERFILE_BYTES as u64 + 1).read_to_end(&mut text);
        read.map_err(|source| BuildError::Context {
            verb: "read",
            path: name.into(),
            errno: source.raw_os_error().unwrap_or(0),
            source,
        })?;
        if text.len() > MAX_DOCKERFILE_BYTES || text.contains(&0) {
            return Err(no_context().into());
        }
        Ok(ContextContent::Dockerfile(text))
    }

    // --- URLs ---

    /// What a URL holds now. With a checksum that is known without asking.
    pub(crate) fn http_file(&self, source: &HttpSource) -> Result<HttpFile, BuildError> {
        if let Some(digest) = source.checksum {
            let known = self.recall::<HttpRecord>(&http_key(source, Form::File));
            let layer = known.filter(|(record, _)| record.digest == digest).map(|(_, layer)| layer);
            return Ok(HttpFile { digest, layer });
        }
        self.fetched.files.get_or_try(&source.url, || self.ask(source))
    }

    /// The layer whose one file, [`CONTENT`], is what the URL holds.
    pub(crate) fn http_layer(
        &self,
        source: &HttpSource,
        file: &HttpFile,
    ) -> Result<Arc<Layer>, BuildError> {
        if let Some(layer) = &file.layer {
            return Ok(Arc::clone(layer));
        }
        let fetched = self.fetched.files.get_or_try(&source.url, || self.ask(source))?;
        if fetched.digest != file.digest {
            return Err(RemoteError::Checksum {
                url: source.url.clone(),
                expected: file.digest.to_string(),
                found: fetched.digest.to_string(),
            }
            .into());
        }
        Ok(fetched.layer.expect("because what was asked for is here"))
    }

    /// Ask the server; the file of last time is used while it says that nothing changed.
    fn ask(&self, source: &HttpSource) -> Result<HttpFile, BuildError> {
        let key = http_key(source, Form::File);
        let (answer, known) = self.request(source, &key)?;
        let (body, etag, modified) = match (answer, known) {
            (HttpAnswer::Content { body, etag, last_modified }, _) => (body, etag, last_modified),
            (HttpAnswer::NotModified, Some((record, layer))) => {
                return Ok(HttpFile { digest: record.digest, layer: Some(layer) });
            }
            (HttpAnswer::NotModified, None) => return Err(not_asked(source).into()),
        };
        let mut body = HashingReader::new(self.bounded(body, source));
        let mut writer = self.deps.store.contents().writer();
        let put = writer.put(&mut body);
        let (content, size) = body.get_mut().or_failure(put)?;
        writer.finish()?;
        let (content, mtime) = (Some(content), modified.unwrap_or(0));
        let layer =
            self.keep(vec![Entry { mode: HTTP_MODE, mtime, size, content, ..file(CONTENT) }])?;
        let (digest, _) = body.finish();
        self.remember(
            &key,
            &layer,
            &source.url,
            &HttpRecord { url: source.url.clone(), digest, etag },
        )?;
        Ok(HttpFile { digest, layer: Some(layer) })
    }

    fn http_context(&self, source: &HttpSource) -> Result<ContextContent, BuildError> {
        let key = http_key(source, Form::Files);
        let name = source.url.clone();
        let (answer, known) = self.request(source, &key)?;
        let (body, etag) = match (answer, known) {
            (HttpAnswer::Content { body, etag, .. }, _) => (body, etag),
            (HttpAnswer::NotModified, Some((_, layer))) => {
                return Ok(ContextContent::Files(FetchedContext { layer, name }));
            }
            (HttpAnswer::NotModified, None) => return Err(not_asked(source).into()),
        };
        let mut body = HashingReader::new(self.bounded(body, source));
        let content = self.stream(&mut body, &name);
        let content = body.get_mut().or_failure(content)?;
        if let ContextContent::Files(files) = &content {
            // What follows the archive's end counts for its digest, too.
            let drained = io::copy(&mut body, &mut io::sink());
            body.get_mut().or_failure(drained.map_err(|source| RemoteError::Broken {
                url: name.clone(),
                received: 0,
                source,
            }))?;
            let (digest, _) = body.finish();
            let record = HttpRecord { url: name.clone(), digest, etag };
            self.remember(&key, &files.layer, &name, &record)?;
        }
        Ok(content)
    }

    fn request(
        &self,
        source: &HttpSource,
        key: &CacheKey,
    ) -> Result<(HttpAnswer, Option<Known<HttpRecord>>), BuildError> {
        let known = self.recall::<HttpRecord>(key);
        let authorization = source.login.clone().or_else(|| self.http_secret(source.host()));
        let answer = self.deps.remotes.get(&HttpRequest {
            url: &source.url,
            authorization: authorization.as_ref(),
            etag: known.as_ref().and_then(|(record, _)| record.etag.as_deref()),
        })?;
        Ok((answer, known))
    }

    fn bounded(&self, body: Box<dyn Read + Send>, source: &HttpSource) -> Bounded<'a> {
        Bounded::new(body, source.url.clone(), self.deps.cancel)
    }

    // --- repositories ---

    /// The commit that the source means now. A full hash is one without asking.
    pub(crate) fn commit(&self, source: &GitSource) -> Result<GitRef, BuildError> {
        let reference = source.reference.as_deref();
        let at = if let Some(commit) = reference.filter(|name| address::is_commit(name)) {
            GitRef { commit: commit.to_ascii_lowercase(), name: None }
        } else {
            let name = format!("{} {}", source.url, reference.unwrap_or_default());
            let resolve = |at: &Repository<'_>| Ok(self.deps.remotes.resolve(at, reference)?);
            self.fetched.refs.get_or_try(&name, || self.with_repository(source, resolve))?
        };
        match &source.checksum {
            Some(wanted) if !at.commit.starts_with(wanted.as_str()) => Err(RemoteError::Checksum {
                url: source.url.clone(),
                expected: wanted.clone(),
                found: at.commit,
            }
            .into()),
            _ => Ok(at),
        }
    }

    /// The files of a commit, or of the directory in it that the source names.
    pub(crate) fn git_files(
        &self,
        source: &GitSource,
        at: &GitRef,
    ) -> Result<GitFiles, BuildError> {
        let key = git_key(source, at);
        self.fetched.checkouts.get_or_try(&key.hex(), || {
            if let Some((record, layer)) = self.recall::<GitRecord>(&key) {
                return Ok(GitFiles { layer, time: record.time });
            }
            let files = self.with_repository(source, |repository| {
                let directory = repository.work.join("files");
                std::fs::create_dir(&directory).map_err(|source| BuildError::Context {
                    verb: "make",
                    path: directory.clone(),
                    errno: source.raw_os_error().unwrap_or(0),
                    source,
                })?;
                let (directory, submodules) = (directory.as_path(), source.submodules);
                let wanted = Checkout { at, directory, submodules };
                let time = self.deps.remotes.check_out(repository, &wanted)?.time;
                let layer = self.take_checkout(source, at, directory, time)?;
                Ok(GitFiles { layer, time })
            })?;
            let (url, commit, time) = (source.url.clone(), at.commit.clone(), files.time);
            self.remember(&key, &files.layer, &source.url, &GitRecord { url, commit, time })?;
            Ok(files)
        })
    }

    /// Read what git checked out into a layer: the commit's time, the reference's modes, nobody's owner.
    fn take_checkout(
        &self,
        source: &GitSource,
        at: &GitRef,
        directory: &Path,
        time: i64,
    ) -> Result<Arc<Layer>, BuildError> {
        let no_directory = || RemoteError::NoDirectory {
            url: source.url.clone(),
            path: source.subdir.clone(),
            commit: at.commit.clone(),
        };
        let tree = ContextTree::open(directory, None)?;
        let how = Selector { literal: true, ..Selector::default() };
        let found = select::select(&tree, source.subdir.as_bytes(), &how);
        let mut selected = match found {
            Err(BuildError::SourceNotFound { .. }) => return Err(no_directory().into()),
            other => other?,
        };
        let own = |path: &LayerPath| path.components().all(|name| name != GIT_DIR);
        let keep_git_dir = source.keep_git_dir == Some(true);
        for each in &mut selected {
            if !each.node.is_dir() || !(own(&each.source) || keep_git_dir) {
                return Err(no_directory().into());
            }
            each.items.retain(|item| keep_git_dir || own(&item.source));
        }
        let memo = Mutex::new(Memo::default());
        let contents = self.deps.store.contents();
        Hasher { contents: Some(contents), memo: &memo, build_start_ns: 0, feed: None }
            .fill(&tree, &mut selected)?;
        for each in &mut selected {
            for item in &mut each.items {
                dress(&mut item.node, time);
            }
        }
        self.keep(entries(&selected, time)?)
    }

    /// A directory for git, and what it needs to get to the repository.
    fn with_repository<T>(
        &self,
        source: &GitSource,
        f: impl FnOnce(&Repository<'_>) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        let area = self.deps.store.work_dir()?;
        let authorization = source.login.clone().or_else(|| self.git_secret(source.host()));
        f(&Repository {
            url: &source.url,
            authorization: authorization.as_ref(),
            ssh_agent: self.options.ssh.get("default").map(PathBuf::as_path),
            work: area.path(),
            cancel: self.deps.cancel,
        })
    }

    // --- secrets, by the reference's names ---

    fn http_secret(&self, host: &str) -> Option<Authorization> {
        let header = self.secret(&format!("HTTP_AUTH_HEADER_{host}"));
        let token = || Some(format!("Bearer {}", self.secret(&format!("HTTP_AUTH_TOKEN_{host}"))?));
        Authorization::new(header.or_else(token)?)
    }

    fn git_secret(&self, host: &str) -> Option<Authorization> {
        let header = |id: &str| self.secret(id);
        let token = |id: &str| {
            let pair = format!("x-access-token:{}", self.secret(id)?);
            Some(format!("basic {}", BASE64_STANDARD.encode(pair)))
        };
        let found = header(&format!("GIT_AUTH_HEADER.{host}"))
            .or_else(|| token(&format!("GIT_AUTH_TOKEN.{host}")))
            .or_else(|| header("GIT_AUTH_HEADER"))
            .or_else(|| token("GIT_AUTH_TOKEN"));
        Authorization::new(found?)
    }

    fn secret(&self, id: &str) -> Option<String> {
        let text = std::str::from_utf8(self.options.secrets.get(id)?).ok()?;
        Some(text.trim_end_matches(['\n', '\r']).to_owned())
    }

    // --- the store ---

    /// The members of an archive as a layer of a context: nobody's, without attributes.
    fn unpacked(
        &self,
        reader: Box<dyn Read + Send + '_>,
        name: &str,
    ) -> Result<Option<Arc<Layer>>, BuildError> {
        let Some(archive) = unpack::open(reader, name)? else { return Ok(None) };
        let now = self.options.epoch.unwrap_or(self.options.now);
        let mut staging = Staging::over(&EmptyTree, now);
        let how = Placement { dest: b"/".to_vec(), owner: Some((0, 0)), mode: None, now };
        let writer = self.deps.store.contents().writer();
        unpack::extract(archive, name.to_owned(), writer, None, (&mut staging, &how))?;
        let mut entries = staging.into_entries()?;
        for entry in &mut entries {
            entry.xattrs.clear();
        }
        self.keep(entries).map(Some)
    }

    fn keep(&self, entries: Vec<Entry>) -> Result<Arc<Layer>, BuildError> {
        let layer = self.deps.store.layers().create(entries)?;
        self.lease.hold(layer.short())?;
        Ok(layer)
    }

    fn recall<R: for<'de> Deserialize<'de>>(&self, key: &CacheKey) -> Option<Known<R>> {
        let record = self.deps.store.cache_get(key, self.lease)?;
        let layer = self.deps.store.layers().by_id(&record.layer?).ok()??;
        Some((serde_json::from_value(record.inputs).ok()?, layer))
    }

    fn remember<R: Serialize>(
        &self,
        key: &CacheKey,
        layer: &Layer,
        url: &str,
        record: &R,
    ) -> Result<(), BuildError> {
        let inputs = serde_json::to_value(record).expect("because the keys are plain strings");
        let (layer, step) = (Some(*layer.id()), format!("fetch {url}"));
        let record = CacheRecord { layer, created_unix: self.options.now, step, inputs };
        Ok(self.deps.store.cache_put(key, &record)?)
    }
}

impl FetchedContext {
    /// A regular file of the context, links followed within it; `None` if there is none of that name.
    pub fn read(
        &self,
        store: &Store,
        path: &[u8],
        limit: u64,
    ) -> Result<Option<Vec<u8>>, BuildError> {
        let tree = self.tree(store)?;
        let Resolved::Found(path) = resolve(&tree, path, true)? else { return Ok(None) };
        if tree.get(&path)?.is_none_or(|node| node.kind != Kind::File) {
            return Ok(None);
        }
        let shown = || format!("{}: /{path}", self.name);
        let unreadable = |source: io::Error| BuildError::Context {
            verb: "read",
            path: shown().into(),
            errno: source.raw_os_error().unwrap_or(0),
            source,
        };
        let mut bytes = Vec::new();
        tree.open(&path)?.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > limit {
            return Err(unreadable(io::Error::other(format!("it is larger than {limit} bytes"))));
        }
        Ok(Some(bytes))
    }

    /// The files.
    pub(crate) fn tree<'s>(&self, store: &'s Store) -> Result<ViewTree<'s>, BuildError> {
        Ok(ViewTree::new(View::new(vec![Arc::clone(&self.layer)])?, store.layers()))
    }
}

/// The entries of a layer with the files of a selected directory at its root.
fn entries(selected: &[Selected], time: i64) -> Result<Vec<Entry>, BuildError> {
    let mut staging = Staging::over(&EmptyTree, time);
    let how = Placement { dest: b"/".to_vec(), owner: None, mode: None, now: time };
    for each in selected {
        place(&mut staging, each, &how)?;
    }
    staging.into_entries()
}

fn file(name: &str) -> Entry {
    Entry::new(LayerPath::parse(name).expect("because it is one plain name"), Kind::File)
}

fn dress(node: &mut Node, time: i64) {
    node.mtime = time;
    node.link_group = None;
    node.mode = match node.kind {
        Kind::Symlink => 0o777,
        Kind::Dir => 0o755,
        _ if node.mode & 0o222 == 0 => GIT_OBJECT_MODE,
        _ => GIT_MODES[usize::from(node.mode & 0o100 != 0)],
    };
}

fn not_asked(source: &HttpSource) -> RemoteError {
    RemoteError::Status { url: source.url.clone(), status: 304 }
}

fn http_key(source: &HttpSource, form: Form) -> CacheKey {
    key(&[form.name(), &source.url])
}

fn git_key(source: &GitSource, at: &GitRef) -> CacheKey {
    let flag = |on: bool| if on { "yes" } else { "no" };
    let keep = flag(source.keep_git_dir == Some(true));
    let name = at.name.as_deref().filter(|_| source.keep_git_dir == Some(true)).unwrap_or_default();
    key(&["git", &source.url, &at.commit, &source.subdir, keep, name, flag(source.submodules)])
}

fn key(parts: &[&str]) -> CacheKey {
    let mut hasher = blake3::Hasher::new();
    for part in std::iter::once(&FORMAT).chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    CacheKey(*hasher.finalize().as_bytes())
}
