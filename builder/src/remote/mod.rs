//! Sources beyond this machine: URLs and git repositories.
//!
//! ```text
//! text ▶ address ▶ Remote        pure: what a source means
//! Remote ▶ RemoteSource ▶ bytes  the caller's: http and git as this machine has them
//! bytes ▶ exec::remotes ▶ layer  verified, bounded, straight into the content store
//! ```
//!
//! The builder never opens a connection itself. It asks a [`RemoteSource`], takes what comes as hostile, and
//! keeps it as a layer of the store, so that pruning, leases and fsck know it like any other.

pub mod address;
#[cfg(test)]
mod tests;

pub use address::{AddressError, GitSource, HttpSource, Remote, without_login};

use lapstrake_runner::Cancel;
use std::error::Error;
use std::fmt;
use std::io::Read;
use std::path::Path;

/// Brings what lies at URLs and in git repositories.
pub trait RemoteSource: Send + Sync {
    /// Ask for a URL; redirects are followed within bounds.
    fn get(&self, request: &HttpRequest<'_>) -> Result<HttpAnswer, RemoteError>;

    /// The commit that a ref means now; without a ref, the one that the repository's HEAD means.
    fn resolve(
        &self,
        repository: &Repository<'_>,
        reference: Option<&str>,
    ) -> Result<GitRef, RemoteError>;

    /// Put a commit's files into the empty directory of `checkout`.
    fn check_out(
        &self,
        repository: &Repository<'_>,
        checkout: &Checkout<'_>,
    ) -> Result<CheckedOut, RemoteError>;
}

/// What is asked of a web server.
#[derive(Debug, Clone, Copy)]
pub struct HttpRequest<'a> {
    /// Where; there is no user information in it.
    pub url: &'a str,
    /// What to say of who asks; it goes to the URL's own origin only.
    pub authorization: Option<&'a Authorization>,
    /// The entity tag of what is here already.
    pub etag: Option<&'a str>,
}

/// What a web server said.
pub enum HttpAnswer {
    /// What the entity tag names is still what it has.
    NotModified,
    /// The content.
    Content {
        /// The bytes, as they come.
        body: Box<dyn Read + Send>,
        /// Their entity tag.
        etag: Option<String>,
        /// When they last changed, in seconds since 1970.
        last_modified: Option<i64>,
    },
}

impl fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotModified => "NotModified",
            Self::Content { .. } => "Content",
        })
    }
}

/// A repository, and what reaching it takes.
#[derive(Debug, Clone, Copy)]
pub struct Repository<'a> {
    /// Where; there is no user information with a password in it.
    pub url: &'a str,
    /// What to say of who asks over http; it goes to the URL's own origin only.
    pub authorization: Option<&'a Authorization>,
    /// The socket of the SSH agent that may be asked for keys.
    pub ssh_agent: Option<&'a Path>,
    /// A directory for whatever has to lie somewhere meanwhile.
    pub work: &'a Path,
    /// Ends what is under way.
    pub cancel: &'a Cancel,
}

/// A commit and the ref that named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRef {
    /// The commit's full hash.
    pub commit: String,
    /// The ref's full name, when it was one.
    pub name: Option<String>,
}

/// What is wanted of a repository.
#[derive(Debug, Clone, Copy)]
pub struct Checkout<'a> {
    /// The commit.
    pub at: &'a GitRef,
    /// Where its files go; `.git` lies in it, too.
    pub directory: &'a Path,
    /// Whether submodules are fetched.
    pub submodules: bool,
}

/// A commit's files are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedOut {
    /// When the commit was made, in seconds since 1970.
    pub time: i64,
}

/// The value of an `Authorization` header; nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorization(String);

impl Authorization {
    /// Keep a header's value. One with line breaks would be two headers, so it is none.
    pub fn new(value: impl Into<String>) -> Option<Self> {
        let value = value.into();
        let fits = !value.is_empty() && !value.contains(|c: char| c.is_control());
        fits.then_some(Self(value))
    }

    /// The value, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorization(redacted)")
    }
}

/// Why something remote could not be had. URLs in here hold no passwords.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The server answered, but not with the content.
    #[error("cannot fetch {url}: the server answered {status}{}", status_text(*.status))]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
    },
    /// The content could not be fetched.
    #[error("cannot fetch {url}: {source}")]
    Http {
        /// The URL.
        url: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The content ended early, or its connection broke.
    #[error("cannot fetch {url}: it broke off after {received} bytes: {source}")]
    Broken {
        /// The URL.
        url: String,
        /// What came before.
        received: u64,
        /// Why.
        source: std::io::Error,
    },
    /// More than anyone is willing to take.
    #[error("cannot fetch {url}: it is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// Slower than anyone is willing to wait.
    #[error("cannot fetch {url}: it was not complete after {seconds} seconds")]
    TooSlow {
        /// The URL.
        url: String,
        /// The limit.
        seconds: u64,
    },
    /// The content is not what `--checksum` says.
    #[error("digest mismatch for {url}: {found} (expected: {expected})")]
    Checksum {
        /// The URL.
        url: String,
        /// What `--checksum` says.
        expected: String,
        /// What came.
        found: String,
    },
    /// git could not do it.
    #[error("cannot {action} {url}: {message}")]
    Git {
        /// What was tried.
        action: &'static str,
        /// The repository.
        url: String,
        /// git's own last words.
        message: String,
    },
    /// There is no git on this machine.
    #[error("cannot fetch {url}: there is no git on this machine")]
    NoGit {
        /// The repository.
        url: String,
    },
    /// The repository has no such ref.
    #[error("{url} has no branch, tag or other ref `{reference}`")]
    NoRef {
        /// The repository.
        url: String,
        /// The ref.
        reference: String,
    },
    /// The repository has no such directory.
    #[error("{url} has no directory `{path}` at commit {commit}")]
    NoDirectory {
        /// The repository.
        url: String,
        /// The directory.
        path: String,
        /// The commit.
        commit: String,
    },
    /// Neither an archive nor text.
    #[error("{name} is neither an archive nor a Dockerfile")]
    NoContext {
        /// The URL, or what else the bytes came from.
        name: String,
    },
    /// The program that builds has no way to the outside.
    #[error("cannot fetch {url}: remote sources are not available here")]
    Unavailable {
        /// The URL.
        url: String,
    },
    /// The caller stopped it.
    #[error("the transfer was stopped")]
    Cancelled,
}

/// The words of the statuses that people meet.
fn status_text(status: u16) -> &'static str {
    match status {
        400 => " Bad Request",
        401 => " Unauthorized",
        403 => " Forbidden",
        404 => " Not Found",
        407 => " Proxy Authentication Required",
        410 => " Gone",
        429 => " Too Many Requests",
        500 => " Internal Server Error",
        502 => " Bad Gateway",
        503 => " Service Unavailable",
        504 => " Gateway Timeout",
        _ => "",
    }
}

/// For builds that can have no remote sources.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoRemotes;

impl RemoteSource for NoRemotes {
    fn get(&self, request: &HttpRequest<'_>) -> Result<HttpAnswer, RemoteError> {
        Err(RemoteError::Unavailable { url: request.url.to_owned() })
    }

    fn resolve(&self, from: &Repository<'_>, _: Option<&str>) -> Result<GitRef, RemoteError> {
        Err(RemoteError::Unavailable { url: from.url.to_owned() })
    }

    fn check_out(
        &self,
        from: &Repository<'_>,
        _: &Checkout<'_>,
    ) -> Result<CheckedOut, RemoteError> {
        Err(RemoteError::Unavailable { url: from.url.to_owned() })
    }
}
