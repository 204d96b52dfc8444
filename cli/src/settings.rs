//! What is meant, made from what was typed, the environment, and defaults.
//!
//! This is the only module of `lap` that reads the environment or the clock; everything else is
//! told. It must run before [`lapstrake_runner::enter`], which makes every user look like root.

use crate::args::GlobalArgs;
use crate::error::{CommandError, Kind};
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

/// Resolved settings, the same for every command.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The store.
    root: Result<PathBuf, RootUnknown>,
    /// Docker's configuration directory.
    pub(crate) docker_config: Option<PathBuf>,
    /// Files with registry credentials, the first that knows a registry wins.
    pub(crate) auth_files: Vec<PathBuf>,
    /// `SOURCE_DATE_EPOCH` as it was given.
    pub(crate) source_date_epoch: Option<String>,
    /// `BUILDKIT_PROGRESS` as it was given.
    pub(crate) progress: Option<String>,
    /// The socket of the user's SSH agent.
    pub(crate) ssh_auth_sock: Option<PathBuf>,
    /// The user's home directory, as the environment names it.
    pub(crate) home: Option<PathBuf>,
    /// Where programs are looked for.
    pub(crate) search_path: Option<OsString>,
    /// `LAP_KEEP_STORAGE` as it was given.
    pub(crate) keep_storage: Option<String>,
    /// The user's configuration.
    pub(crate) config_file: Option<PathBuf>,
    /// How http goes out.
    pub(crate) proxies: Proxies,
    /// The present time in seconds since 1970.
    pub(crate) now: i64,
}

/// Proxies by the variables that everybody uses; lower case first, as curl does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proxies {
    pub(crate) http: Option<String>,
    pub(crate) https: Option<String>,
    pub(crate) none: Vec<String>,
}

/// Neither a flag nor the environment says where the store is.
#[derive(Debug, Clone, Copy)]
struct RootUnknown;

impl Settings {
    /// Reads flags, environment and clock.
    pub(crate) fn resolve(global: &GlobalArgs) -> Self {
        let docker_config = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
        Self {
            root: store_root(global.root.clone()),
            auth_files: auth_files(docker_config.as_ref()),
            docker_config,
            source_date_epoch: variable("SOURCE_DATE_EPOCH"),
            progress: variable("BUILDKIT_PROGRESS"),
            ssh_auth_sock: path("SSH_AUTH_SOCK"),
            home: path("HOME"),
            search_path: env::var_os("PATH"),
            keep_storage: variable("LAP_KEEP_STORAGE"),
            config_file: config_file(),
            proxies: proxies(),
            now: now(),
        }
    }

    /// The directory of the store.
    pub(crate) fn root(&self) -> Result<&PathBuf, CommandError> {
        self.root.as_ref().map_err(|RootUnknown| {
            CommandError::new(Kind::Host, "cannot tell where the store is: HOME is not set")
                .hint("name a directory with --root DIR or LAP_ROOT")
        })
    }
}

/// A variable of the environment that the user named (`--build-arg NAME`, `--secret env=NAME`).
pub(crate) fn named_variable(name: &str) -> Option<OsString> {
    // Rust panics on nothing here, but the system knows no such names.
    if name.is_empty() || name.contains(['=', '\0']) { None } else { env::var_os(name) }
}

/// `--root`, else `LAP_ROOT`, else for root `/var/lib/lapstrake`, else below the user's data
/// directory.
fn store_root(flag: Option<PathBuf>) -> Result<PathBuf, RootUnknown> {
    if let Some(root) = flag.or_else(|| path("LAP_ROOT")) {
        return Ok(std::path::absolute(&root).unwrap_or(root));
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/lapstrake"));
    }
    let data = path("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let home = || path("HOME").map(|home| home.join(".local/share"));
    data.or_else(home).map(|data| data.join("lapstrake")).ok_or(RootUnknown)
}

/// Where the user's configuration would be.
fn config_file() -> Option<PathBuf> {
    let named = path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    if named.is_none() && rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/etc/lapstrake/config.json"));
    }
    let folder = named.or_else(|| Some(path("HOME")?.join(".config")));
    folder.map(|folder| folder.join("lapstrake/config.json"))
}

/// Where docker and the containers tools keep credentials, in the order in which they are asked.
fn auth_files(docker_config: Option<&PathBuf>) -> Vec<PathBuf> {
    let runtime = path("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let configured = path("XDG_CONFIG_HOME").or_else(|| Some(path("HOME")?.join(".config")));
    let named = path("REGISTRY_AUTH_FILE");
    let docker = docker_config.map(|dir| dir.join("config.json"));
    let containers = configured.map(|dir| dir.join("containers/auth.json"));
    [named, docker, runtime, containers].into_iter().flatten().collect()
}

fn proxies() -> Proxies {
    let either = |lower: &str, upper: &str| variable(lower).or_else(|| variable(upper));
    let all = either("all_proxy", "ALL_PROXY");
    // Upper-case HTTP_PROXY is what a web server would set from a request's header, but lap is no
    // CGI program.
    Proxies {
        http: either("http_proxy", "HTTP_PROXY").or_else(|| all.clone()),
        https: either("https_proxy", "HTTPS_PROXY").or(all),
        none: either("no_proxy", "NO_PROXY")
            .map(|list| list.split(',').map(|host| host.trim().to_owned()).collect())
            .unwrap_or_default(),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.ok().and_then(|elapsed| i64::try_from(elapsed.as_secs()).ok()).unwrap_or_default()
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
