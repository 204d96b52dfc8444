//! What a caller asks of a build, as plain data.
//!
//! Everything that comes from the outside world (environment, clock, terminal) is a field here, so that
//! the library itself reads none of it.

use crate::exec::FetchedContext;
use crate::remote::Remote;
use crate::share::SharedCache;
use lapstrake_layerstore::compress::Compression;
use lapstrake_layerstore::oci::Platform;
use lapstrake_layerstore::reference::Reference;
use lapstrake_runner::{SHM_SIZE_DEFAULT_BYTES, Ulimit};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// One build: the file, the context, and every option that can change the result.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct BuildOptions {
    /// The Dockerfile's bytes.
    pub dockerfile: Vec<u8>,
    /// What the Dockerfile is called in messages, as the user named it.
    pub dockerfile_name: String,
    /// The main build context.
    pub context: ContextSource,
    /// The ignore file that belongs to the Dockerfile (`<name>.dockerignore`), when there is one; it
    /// replaces the context's own `.dockerignore`. The first field is its name for messages.
    pub ignore_file: Option<(String, Vec<u8>)>,
    /// `--build-context name=…`.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `--build-arg`, in the order given; a later one of a name wins.
    pub build_args: Vec<(String, String)>,
    /// `--label`, in the order given.
    pub labels: Vec<(String, String)>,
    /// `--target`.
    pub target: Option<String>,
    /// The platform to build for.
    pub platform: Platform,
    /// The platform that the build runs on.
    pub build_platform: Platform,
    /// `--no-cache`: look nothing up (results are still recorded).
    pub no_cache: bool,
    /// `--no-cache-filter`: stages for which nothing is looked up.
    pub no_cache_filter: Vec<String>,
    /// `--pull`: ask the source for base images even when the store has them.
    pub pull: bool,
    /// Secret values by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// SSH agent sockets by id (`default` when none is named).
    pub ssh: BTreeMap<String, PathBuf>,
    /// `--network` for steps that name none.
    pub network: NetworkMode,
    /// `--allow network.host`.
    pub allow_host_network: bool,
    /// `--allow security.insecure`.
    pub allow_insecure: bool,
    /// `--add-host name:ip`.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--shm-size` in bytes.
    pub shm_size_bytes: u64,
    /// The resolver configuration that steps get as `/etc/resolv.conf`.
    pub resolv_conf: Vec<u8>,
    /// `SOURCE_DATE_EPOCH` in seconds, when set.
    pub epoch: Option<i64>,
    /// The present time in seconds since 1970 for `created` fields.
    pub now: i64,
    /// Where results are looked for that the store does not have, in this order.
    pub cache_from: Vec<Arc<dyn SharedCache>>,
    /// `--keep-failed`: the files of a RUN that failed become an image.
    pub keep_failed: bool,
    /// `--debug-shell`: a shell on the terminal in the root of a RUN that failed.
    pub debug_shell: bool,
    /// A build that only shows what comes out: later builds find neither its results nor its report.
    pub rehearsal: bool,
    /// How many steps may run at once.
    pub jobs: usize,
    /// How the image's layers will be wanted, when that is known: they are compressed while later steps
    /// run, in the pass that their digests need anyway.
    pub compression: Option<Compression>,
}

impl BuildOptions {
    /// A Dockerfile alone, for this machine: no context, no arguments, no rights.
    #[must_use]
    pub fn of(dockerfile: impl Into<Vec<u8>>) -> Self {
        Self::new(dockerfile, "Dockerfile", ContextSource::Empty, Platform::host())
    }

    /// A build of a file for a platform, with everything else as if no flag were given.
    #[must_use]
    pub fn new(
        dockerfile: impl Into<Vec<u8>>,
        dockerfile_name: impl Into<String>,
        context: ContextSource,
        platform: Platform,
    ) -> Self {
        Self {
            dockerfile: dockerfile.into(),
            dockerfile_name: dockerfile_name.into(),
            context,
            ignore_file: None,
            named_contexts: BTreeMap::new(),
            build_args: Vec::new(),
            labels: Vec::new(),
            target: None,
            build_platform: platform.clone(),
            platform,
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            network: NetworkMode::Default,
            allow_host_network: false,
            allow_insecure: false,
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size_bytes: SHM_SIZE_DEFAULT_BYTES,
            resolv_conf: Vec::new(),
            epoch: None,
            now: 0,
            cache_from: Vec::new(),
            keep_failed: false,
            rehearsal: false,
            debug_shell: false,
            jobs: 1,
            compression: None,
        }
    }
}

impl BuildOptions {
    /// The build argument by which something is said to the builder itself; an empty one says nothing.
    pub(crate) fn builder_argument(&self, name: &str) -> Option<&str> {
        let given = self.build_args.iter().rev().find(|(given, _)| given == name);
        given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The named contexts, each under the key by which all its names find it.
    pub(crate) fn contexts(&self) -> BTreeMap<String, NamedContext> {
        let entry =
            |(name, context): (&String, &NamedContext)| (context_key(name), context.clone());
        self.named_contexts.iter().map(entry).collect()
    }

    /// The named context that has this key.
    pub(crate) fn context_of(&self, key: &str) -> Option<&NamedContext> {
        // As in a map of them: of two names with one key, the last counts.
        let mut all = self.named_contexts.iter().rev();
        all.find_map(|(name, context)| (context_key(name) == key).then_some(context))
    }
}

/// The short form of a name, which it shares with the longer ones: that of `docker.io/library/x:latest`
/// is `x`. What follows `::` is a platform.
pub(crate) fn context_key(name: &str) -> String {
    let (image, platform) = name.split_at(name.find("::").unwrap_or(name.len()));
    let Ok(image) = Reference::parse(image) else { return name.to_owned() };
    let image = image.familiar();
    format!("{}{platform}", image.strip_suffix(":latest").unwrap_or(&image))
}

/// Where a context's files come from.
#[derive(Debug, Clone)]
pub enum ContextSource {
    /// A directory on this machine.
    Directory(PathBuf),
    /// No files at all (a Dockerfile alone on standard input).
    Empty,
    /// Files that were brought into the store: an archive, a repository.
    Fetched(FetchedContext),
}

/// What a `--build-context` name stands for.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// A directory on this machine.
    Directory(PathBuf),
    /// `docker-image://reference`.
    Image(String),
    /// An image in a directory in OCI layout.
    Layout(LayoutImage),
    /// A repository, or an archive behind a URL.
    Remote(Remote),
}

/// An image in a directory in OCI layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutImage {
    /// The directory.
    pub directory: PathBuf,
    /// The tag in the layout's index, or the digest of a manifest.
    pub image: String,
}

impl LayoutImage {
    /// What stands for it where images are named.
    pub fn name(&self) -> String {
        format!("{LAYOUT_SCHEME}{}:{}", self.directory.display(), self.image)
    }
}

/// What the names of images in layouts begin with; no reference to a registry does.
pub(crate) const LAYOUT_SCHEME: &str = "oci-layout://";

impl NamedContext {
    /// The image that it is, if it is one.
    pub(crate) fn image(&self) -> Option<String> {
        match self {
            Self::Image(reference) => Some(reference.clone()),
            Self::Layout(layout) => Some(layout.name()),
            Self::Directory(_) | Self::Remote(_) => None,
        }
    }
}

/// The network that a step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NetworkMode {
    /// What the machine gives steps by default (for now the host's network).
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
}
