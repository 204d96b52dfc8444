//! What can go wrong between us and a registry, as data.
//!
//! A [`RegistryError`] says which operation on which object of which registry could not be done;
//! its [`Fault`] says why, with the facts a hint needs. Nothing here holds a secret: credentials
//! and tokens never enter an error, and text from the registry is cut and cleaned first.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::Deserialize;

use crate::credential::CredentialError;
use crate::limits;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Finding out which manifest a name means.
    Resolve,
    /// Fetching an image.
    Pull,
    /// Sending an image.
    Push,
    /// Proving who we are.
    Authenticate,
    /// Setting the client up: roots, proxies.
    Configure,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Authenticate => "authenticate for",
            Self::Configure => "set up the connection for",
        })
    }
}

/// What the caller can do about an error (style §12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The name, flag or credential given is wrong.
    Input,
    /// This machine cannot: its store, disk or trust roots.
    Host,
    /// The registry cannot or will not: try again, or log in.
    Remote,
    /// What came is not what its digest promised.
    Corrupt,
}

/// One entry of a registry's error document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorCode {
    /// The specification's code, such as `MANIFEST_UNKNOWN`.
    #[serde(default)]
    pub code: String,
    /// The registry's own words.
    #[serde(default)]
    pub message: String,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.is_empty(), self.message.is_empty()) {
            (false, false) => write!(f, "{}: {}", self.code, self.message),
            (false, true) => f.write_str(&self.code),
            _ => f.write_str(&self.message),
        }
    }
}

/// The codes of an error answer, shown in brackets after a message; nothing if there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Codes(pub Vec<ErrorCode>);

impl Codes {
    /// Reads the codes of an answer's body; a body of another form gives none.
    pub(crate) fn parse(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Document {
            #[serde(default)]
            errors: Vec<ErrorCode>,
        }
        let Ok(document) = serde_json::from_slice::<Document>(body) else {
            return Self::default();
        };
        let cleaned = document
            .errors
            .into_iter()
            .take(limits::ERROR_CODES)
            .map(|entry| ErrorCode { code: clean(&entry.code), message: clean(&entry.message) });
        Self(cleaned.collect())
    }
}

impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, code) in self.0.iter().enumerate() {
            write!(f, "{}{code}", if at == 0 { " (the registry says " } else { "; " })?;
        }
        f.write_str(if self.0.is_empty() { "" } else { ")" })
    }
}

/// Text from outside, fit for a terminal: no control characters, bounded length.
pub(crate) fn clean(text: &str) -> String {
    let shown = text.chars().take(limits::ERROR_TEXT_CHARS);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// A source error of any type.
pub(crate) type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation on a registry could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The host name has no address.
    #[error("the host name has no address")]
    UnknownHost,
    /// Nothing listens there.
    #[error("connection refused")]
    Refused(#[source] io::Error),
    /// The network failed.
    #[error("the connection failed")]
    Connection(#[source] io::Error),
    /// The registry was silent for too long.
    #[error("no answer in time ({0})")]
    Timeout(String),
    /// The TLS handshake failed: an unknown authority, a wrong name, no common version.
    #[error("the TLS connection failed")]
    Tls(#[source] Source),
    /// A certificate authority file could not be used.
    #[error("cannot use the certificates in {path}")]
    Authorities {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// A proxy address could not be used.
    #[error("cannot use the proxy address {0}")]
    Proxy(String),
    /// An answer led to plain http, on a host where that is not allowed.
    #[error("refused to go on over plain http to {0}")]
    PlainHttp(String),
    /// Too many redirects.
    #[error("more than {} redirects", limits::REDIRECTS)]
    Redirects,
    /// The registry wants to know who asks, and what we had was not enough.
    #[error("authentication required{}{codes}", if *.had_credentials { ", and the stored credentials were not accepted" } else { "" })]
    Unauthorized {
        /// Whether credentials were found and sent.
        had_credentials: bool,
        /// The registry's own words.
        codes: Codes,
    },
    /// Known, but not allowed to do this.
    #[error("access denied{codes}")]
    Denied {
        /// Whether credentials were found and sent.
        had_credentials: bool,
        /// The registry's own words.
        codes: Codes,
    },
    /// Not there (or hidden from us).
    #[error("not found{codes}")]
    NotFound {
        /// The registry's own words.
        codes: Codes,
    },
    /// The registry names it in an image and does not have it.
    #[error("the registry lacks this part of the image{codes}")]
    Missing {
        /// The registry's own words.
        codes: Codes,
    },
    /// Too many requests, also after the waits that are bearable.
    #[error("the registry limits the rate of requests{}{codes}", retry_text(*.retry_after))]
    RateLimited {
        /// How long the registry wants us to wait.
        retry_after: Option<Duration>,
        /// The registry's own words.
        codes: Codes,
    },
    /// Any other answer that is not success.
    #[error("unexpected status {status}{codes}")]
    Status {
        /// The status.
        status: u16,
        /// How long the registry wants us to wait, if it says so.
        retry_after: Option<Duration>,
        /// The registry's own words.
        codes: Codes,
    },
    /// The bytes are not those the digest names.
    #[error("the content does not match its digest: expected {expected}, got {actual}")]
    Digest {
        /// What was asked for.
        expected: String,
        /// What came.
        actual: String,
    },
    /// More or fewer bytes than the descriptor says.
    #[error("the content has {actual} bytes where its descriptor says {expected}")]
    Size {
        /// What the descriptor says.
        expected: u64,
        /// What came, or was announced.
        actual: u64,
    },
    /// The answer ended early, also after resuming.
    #[error("the answer ended after {received} of {expected} bytes")]
    Truncated {
        /// What the descriptor says.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// Larger than any sane answer.
    #[error("larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// An answer that the protocol or the formats do not allow.
    #[error("{0}")]
    Malformed(String),
    /// The content has no sense, whatever its digest: no archive, a broken compression.
    #[error("the content cannot be used")]
    Content(#[source] Source),
    /// The index has nothing for this platform.
    #[error("no image for {wanted}; there is {}", available.join(", "))]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What the index offers.
        available: Vec<String>,
    },
    /// Given up, because another part of the same image failed.
    #[error("given up, because another part of the image failed")]
    Stopped,
    /// The credential store failed.
    #[error("cannot get the credentials")]
    Credential(#[source] CredentialError),
    /// The store failed.
    #[error("the store cannot take or give it")]
    Store(#[source] Source),
}

impl Fault {
    /// An answer of which nothing but its status is known.
    pub(crate) fn status(status: u16) -> Self {
        Self::Status { status, retry_after: None, codes: Codes::default() }
    }
}

/// The part of a message that tells the registry's wish.
fn retry_text(wait: Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| format!("; it asks to wait {} s", wait.as_secs()))
}

/// An operation on a registry that could not be done. The message ends in the fault's own, so the
/// source of this error is what lies behind the fault.
#[derive(Debug)]
pub struct RegistryError {
    /// What was being done.
    pub operation: Operation,
    /// The registry's host, as the reference names it.
    pub registry: String,
    /// The repository on it; empty when the registry as a whole is meant.
    pub repository: String,
    /// The tag, digest or blob it was done to.
    pub object: Option<String>,
    /// Why.
    pub fault: Box<Fault>,
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = subject(&self.registry, &self.repository, self.object.as_deref());
        write!(f, "cannot {} {subject}: {}", self.operation, self.fault)
    }
}

impl std::error::Error for RegistryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.fault.source()
    }
}

/// `host/repository, layer sha256:…`
fn subject(registry: &str, repository: &str, object: Option<&str>) -> String {
    let separator = if repository.is_empty() { "" } else { "/" };
    let object = object.map_or_else(String::new, |object| format!(" {object}"));
    format!("{registry}{separator}{repository}{object}")
}

impl RegistryError {
    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        match *self.fault {
            Fault::Authorities { .. } | Fault::Proxy(_) | Fault::Platform { .. } => Kind::Input,
            Fault::NotFound { .. } if self.operation != Operation::Push => Kind::Input,
            Fault::Credential(_) | Fault::Store(_) => Kind::Host,
            Fault::Digest { .. } | Fault::Size { .. } | Fault::Content(_) => Kind::Corrupt,
            _ => Kind::Remote,
        }
    }

    /// The HTTP status behind it, if one is.
    pub fn status(&self) -> Option<u16> {
        match *self.fault {
            Fault::Unauthorized { .. } => Some(401),
            Fault::Denied { .. } => Some(403),
            Fault::NotFound { .. } | Fault::Missing { .. } => Some(404),
            Fault::RateLimited { .. } => Some(429),
            Fault::Status { status, .. } => Some(status),
            _ => None,
        }
    }

    /// The registry's own error codes, if it sent any.
    pub fn codes(&self) -> &[ErrorCode] {
        match &*self.fault {
            Fault::Unauthorized { codes, .. }
            | Fault::Denied { codes, .. }
            | Fault::NotFound { codes }
            | Fault::Missing { codes }
            | Fault::RateLimited { codes, .. }
            | Fault::Status { codes, .. } => &codes.0,
            _ => &[],
        }
    }

    /// Of something that a manifest names: that it is not there is no matter of names.
    pub(crate) fn of_a_part(mut self) -> Self {
        if let Fault::NotFound { codes } = &mut *self.fault {
            *self.fault = Fault::Missing { codes: std::mem::take(codes) };
        }
        self
    }

    /// Whether the registry says that there is no such image (or shows none to us).
    pub fn is_not_found(&self) -> bool {
        matches!(*self.fault, Fault::NotFound { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_cleaned_and_bounded() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way","detail":{}},{"code":"X"}]}"#;
        assert_eq!(Codes::parse(body).to_string(), " (the registry says DENIED: no [31m way; X)");
        assert_eq!(Codes::parse(b"<html>").to_string(), "");
        assert_eq!(Codes::parse(b"{\"errors\":7}").to_string(), "");
        assert_eq!(clean(&"x".repeat(1000)).len(), limits::ERROR_TEXT_CHARS);
    }

    #[test]
    fn messages_name_the_object() {
        let error = RegistryError {
            operation: Operation::Pull,
            registry: "127.0.0.1:5000".into(),
            repository: "a/b".into(),
            object: Some("manifest 1.0".into()),
            fault: Box::new(Fault::NotFound { codes: Codes::default() }),
        };
        assert_eq!(error.to_string(), "cannot pull 127.0.0.1:5000/a/b manifest 1.0: not found");
        assert_eq!(error.kind(), Kind::Input);
    }
}
