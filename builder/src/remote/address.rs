//! What a source text means: a file of this machine, a URL, or a git repository.
//!
//! ```text
//! https://host/path/file.tar.gz                       a URL
//! https://host/path/x.git[?query][#ref[:subdir]]      a repository: the path ends in .git
//! git://…  ssh://…  user@host:path                    repositories
//! query: ref tag branch subdir checksum commit keep-git-dir submodules mtime fetch-by-commit
//! ```
//! *Invariants:* no password stays in a URL; nothing that is handed to git begins with a dash; a ref is one
//! that git allows.

use super::Authorization;
use crate::limits::MAX_REMOTE_ADDRESS_BYTES;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use lapstrake_layerstore::Digest;

/// The name of a file whose URL has none.
const UNNAMED: &str = "__unnamed__";
/// What the path of a repository behind http ends with.
const REPOSITORY_SUFFIX: &str = ".git";
/// Shortest commit hash that is believed to mean one commit; git's own default is 7.
const SHORT_COMMIT_MIN: usize = 7;

/// Why a text that looks like a remote source is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

fn wrong<T>(message: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError(message.into()))
}

/// A source that is not on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remote {
    /// A file behind a URL.
    Http(HttpSource),
    /// A git repository.
    Git(GitSource),
}

/// A file behind a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSource {
    /// The URL, without user information and fragment.
    pub url: String,
    /// What the URL's user information says of who asks.
    pub login: Option<Authorization>,
    /// The name that the file gets inside a directory.
    pub name: String,
    /// The content's digest, when it is known beforehand.
    pub checksum: Option<Digest>,
}

/// A git repository at some commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// Where it is, without a password.
    pub url: String,
    /// What the URL's user information says of who asks.
    pub login: Option<Authorization>,
    /// Branch, tag, other ref or commit; none for the repository's HEAD.
    pub reference: Option<String>,
    /// The directory whose files are wanted; empty for all.
    pub subdir: String,
    /// The beginning of the commit's hash, when it is known beforehand.
    pub checksum: Option<String>,
    /// Whether `.git` stays, if anything was said about it.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched.
    pub submodules: bool,
}

impl Remote {
    /// What a source of ADD means; `None` is a file of the context.
    pub fn parse(text: &str) -> Result<Option<Self>, AddressError> {
        // No address is without a colon, and nearly all files are.
        let has_colon = text.as_bytes().contains(&b':');
        if !has_colon || text.starts_with("./") || text.starts_with("../") {
            return Ok(None);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let scheme = scheme.to_ascii_lowercase();
            let parts = Parts::split(rest);
            return match scheme.as_str() {
                "http" | "https" if parts.path.ends_with(REPOSITORY_SUFFIX) => {
                    parts.git(&scheme).map(|git| Some(Self::Git(git)))
                }
                "http" | "https" => parts.http(&scheme).map(|http| Some(Self::Http(http))),
                "git" | "ssh" => parts.git(&scheme).map(|git| Some(Self::Git(git))),
                _ => Ok(None),
            };
        }
        match scp_style(text) {
            Some(parts) => parts.map(|git| Some(Self::Git(git))),
            None => Ok(None),
        }
    }

    /// What a build context means; beyond the forms of ADD, `github.com/…` is a repository there.
    pub fn parse_context(text: &str) -> Result<Option<Self>, AddressError> {
        if text.starts_with("github.com/") {
            return Parts::split(text).git("https").map(|git| Some(Self::Git(git)));
        }
        Self::parse(text)
    }

    /// The address for messages.
    pub fn url(&self) -> &str {
        match self {
            Self::Http(http) => &http.url,
            Self::Git(git) => &git.url,
        }
    }

    /// Whether the text alone says which bytes it means, so that nobody has to be asked.
    pub fn is_pinned(&self) -> bool {
        match self {
            Self::Http(http) => http.checksum.is_some(),
            Self::Git(git) => git.reference.as_deref().is_some_and(is_commit),
        }
    }

    /// With what `--checksum` says.
    pub fn with_checksum(mut self, checksum: &str) -> Result<Self, AddressError> {
        match &mut self {
            Self::Http(http) => http.checksum = Some(sha256(checksum)?),
            Self::Git(git) => match &git.checksum {
                Some(old) if old != checksum => {
                    return wrong(format!("checksum mismatch \"{checksum}\" != \"{old}\""));
                }
                _ => {
                    git.set_checksum(checksum)?;
                    git.default_reference();
                }
            },
        }
        Ok(self)
    }

    /// With what `--keep-git-dir` says; it means nothing for a URL.
    pub fn with_keep_git_dir(mut self, keep: Option<bool>) -> Result<Self, AddressError> {
        if let (Self::Git(git), Some(keep)) = (&mut self, keep) {
            if git.keep_git_dir.is_some_and(|own| own != keep) {
                return wrong("inconsistent keep-git-dir configuration");
            }
            git.keep_git_dir = Some(keep);
        }
        Ok(self)
    }
}

/// The text of a source without what opens a door: a password, or the name that stands for one over http.
pub fn without_login(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let Some((user, host)) = place.rsplit_once('@') else { return text.to_owned() };
    let user = match user.split(':').next() {
        Some(name) if scheme.eq_ignore_ascii_case("ssh") => format!("{name}@"),
        _ => String::new(),
    };
    format!("{scheme}://{user}{host}{path}")
}

fn sha256(checksum: &str) -> Result<Digest, AddressError> {
    checksum.to_ascii_lowercase().parse().or_else(|_| {
        wrong(format!("--checksum={checksum} is not sha256: and 64 hexadecimal digits"))
    })
}

impl GitSource {
    /// The host that secrets may be meant for, with its port if it has one.
    pub fn host(&self) -> &str {
        host_of(&self.url)
    }

    fn set_checksum(&mut self, text: &str) -> Result<(), AddressError> {
        if !(SHORT_COMMIT_MIN..=64).contains(&text.len()) || !is_hex(text) {
            return wrong(format!("checksum \"{text}\" is no commit hash"));
        }
        self.checksum = Some(text.to_ascii_lowercase());
        Ok(())
    }

    /// Where nothing else is named, the checksum's commit is meant.
    fn default_reference(&mut self) {
        if self.reference.is_none() {
            self.reference.clone_from(&self.checksum);
        }
    }

    fn set_reference(&mut self, text: String) -> Result<(), AddressError> {
        if let Some(old) = self.reference.as_ref().filter(|old| **old != text) {
            return wrong(format!("ref conflicts: \"{old}\" vs \"{text}\""));
        }
        if !is_ref(&text) {
            return wrong(format!("\"{text}\" is no name of a ref"));
        }
        self.reference = Some(text);
        Ok(())
    }

    fn set_subdir(&mut self, text: String) -> Result<(), AddressError> {
        if !self.subdir.is_empty() && self.subdir != text {
            return wrong(format!("subdir conflicts: \"{}\" vs \"{text}\"", self.subdir));
        }
        self.subdir = text;
        Ok(())
    }

    /// `#ref:subdir`
    fn read_fragment(&mut self, fragment: &str) -> Result<(), AddressError> {
        let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        if !reference.is_empty() {
            self.set_reference(decoded(reference, false))?;
        }
        self.set_subdir(decoded(subdir, false))
    }

    fn read_query(&mut self, query: &str) -> Result<(), AddressError> {
        let mut seen: Vec<String> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decoded(key, true), decoded(value, true));
            if seen.contains(&key) {
                return wrong(format!("query \"{key}\" has multiple values"));
            }
            self.read_parameter(&key, value)?;
            seen.push(key);
        }
        if seen.iter().any(|k| k == "tag") && seen.iter().any(|k| k == "branch") {
            return wrong("branch conflicts with tag");
        }
        Ok(())
    }

    fn read_parameter(&mut self, key: &str, value: String) -> Result<(), AddressError> {
        match key {
            "keep-git-dir" => self.keep_git_dir = Some(flag(key, &value)?),
            "submodules" => self.submodules = flag(key, &value)?,
            // A commit is always fetched by its hash where the server allows it.
            "fetch-by-commit" => drop(flag(key, &value)?),
            _ if value.is_empty() => return wrong(format!("query \"{key}\" has no value")),
            "ref" => self.set_reference(value)?,
            "tag" => self.set_reference(below(value, "refs/tags/"))?,
            "branch" => self.set_reference(below(value, "refs/heads/"))?,
            "subdir" => self.set_subdir(value)?,
            "checksum" | "commit" => self.set_checksum(&value)?,
            // Files have the commit's time in any case.
            "mtime" if matches!(value.as_str(), "commit" | "checkout") => {}
            "mtime" => return wrong(format!("invalid mtime value: \"{value}\"")),
            _ => return wrong(format!("unexpected query \"{key}\"")),
        }
        Ok(())
    }
}

impl HttpSource {
    /// The host that secrets may be meant for, with its port if it has one.
    pub fn host(&self) -> &str {
        host_of(&self.url)
    }
}

/// An address after its scheme, in pieces.
struct Parts<'a> {
    user: Option<&'a str>,
    authority: &'a str,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

impl<'a> Parts<'a> {
    /// `[user@]host[:port][/path][?query][#fragment]`
    fn split(text: &'a str) -> Self {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (place, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let (user, authority) = match place.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, place),
        };
        Self { user, authority, path, query, fragment }
    }

    fn http(&self, scheme: &str) -> Result<HttpSource, AddressError> {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let path = if self.path.is_empty() { "/" } else { self.path };
        let url = format!("{scheme}://{}{path}{query}", self.authority);
        self.check(&url)?;
        let (login, name) = (self.login(), file_name(self.path));
        Ok(HttpSource { url, login, name, checksum: None })
    }

    fn git(&self, scheme: &str) -> Result<GitSource, AddressError> {
        // The user of an ssh address is a name and no secret.
        let user = match self.user.filter(|_| scheme == "ssh") {
            Some(user) => format!("{}@", user.split(':').next().unwrap_or_default()),
            None => String::new(),
        };
        let url = format!("{scheme}://{user}{}{}", self.authority, self.path);
        self.check(&url)?;
        let login = self.login().filter(|_| scheme.starts_with("http"));
        git(url, login, self.query, self.fragment)
    }

    /// What the user information becomes.
    fn login(&self) -> Option<Authorization> {
        let (name, password) = self.user.map(|user| user.split_once(':').unwrap_or((user, "")))?;
        let pair = format!("{}:{}", decoded(name, false), decoded(password, false));
        Authorization::new(format!("Basic {}", BASE64_STANDARD.encode(pair)))
    }

    fn check(&self, url: &str) -> Result<(), AddressError> {
        let host = self.authority;
        if host.is_empty() || host.starts_with(['-', ':']) {
            return wrong(format!("{url} names no host"));
        }
        check_text(url)
    }
}

fn git(
    url: String,
    login: Option<Authorization>,
    query: &str,
    fragment: &str,
) -> Result<GitSource, AddressError> {
    let (reference, subdir, checksum) = (None, String::new(), None);
    let (keep_git_dir, submodules) = (None, true);
    let mut source =
        GitSource { url, login, reference, subdir, checksum, keep_git_dir, submodules };
    source.read_fragment(fragment)?;
    source.read_query(query)?;
    source.default_reference();
    Ok(source)
}

/// `user@host:path[?query][#ref:subdir]`
fn scp_style(text: &str) -> Option<Result<GitSource, AddressError>> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (place, path) = rest.split_once(':')?;
    let (user, host) = place.split_once('@')?;
    let word = |text: &str, more: &[u8]| {
        !text.is_empty()
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    if !word(user, b"-_") || !word(host, b"-.") || path.is_empty() {
        return None;
    }
    Some(check_text(rest).and_then(|()| git(rest.to_owned(), None, query, fragment)))
}

/// What no address holds, and what would be something else in a configuration file or a header.
fn check_text(url: &str) -> Result<(), AddressError> {
    if url.len() > MAX_REMOTE_ADDRESS_BYTES {
        return wrong(format!("an address has more than {MAX_REMOTE_ADDRESS_BYTES} bytes"));
    }
    if url.contains(|c: char| c.is_control() || c.is_whitespace() || c == '"' || c == '\\') {
        return wrong(format!("{} is no address", url.escape_debug()));
    }
    Ok(())
}

/// The host of an address whose user information is gone or harmless.
fn host_of(url: &str) -> &str {
    if let Some((_, rest)) = url.split_once("://") {
        let place = rest.split('/').next().unwrap_or_default();
        return place.rsplit_once('@').map_or(place, |(_, host)| host);
    }
    let place = url.split(':').next().unwrap_or_default();
    place.rsplit_once('@').map_or(place, |(_, host)| host)
}

/// The last element of a URL's path.
fn file_name(path: &str) -> String {
    let path = decoded(path, false);
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") || name.contains('\0') {
        return UNNAMED.to_owned();
    }
    name.to_owned()
}

fn below(name: String, prefix: &str) -> String {
    if name.starts_with(prefix) { name } else { format!("{prefix}{name}") }
}

fn flag(key: &str, value: &str) -> Result<bool, AddressError> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => wrong(format!("invalid {key} value: \"{value}\"")),
    }
}

/// Whether git would allow this as the name of a ref, or as a commit's hash.
fn is_ref(name: &str) -> bool {
    let bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\\"".contains(c);
    !name.is_empty()
        && name.len() <= 1024
        && !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.contains(bad)
        && !name.contains("..")
        && !name.contains("//")
        && !name.contains("@{")
}

/// Whether these are hexadecimal digits.
pub(crate) fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether this is the full hash of a commit.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

/// Whether this can be the beginning of a commit's hash.
pub fn is_short_commit(text: &str) -> bool {
    (SHORT_COMMIT_MIN..40).contains(&text.len()) && is_hex(text)
}

/// Percent escapes undone; in a query, `+` is a space. What is no escape stays.
fn decoded(text: &str, in_query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte =
            escape.filter(|hex| is_hex(hex)).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, bytes[at]) {
            (Some(byte), _) => {
                out.push(byte);
                at += 2;
            }
            (None, b'+') if in_query => out.push(b' '),
            (None, other) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}
