//! Any URL's content, with the connections, proxies and authorities that registries are spoken to with.
//!
//! *Invariants:* authorization goes to the origin it was meant for; a redirect never leads from https to
//! plain http, nor from the network to loopback; plain http is spoken where the URL itself says so.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use ureq::http::Method;

use crate::client::Options;
use crate::error::Fault;
use crate::http::{Http, Request, Response};
use crate::limits;
use crate::retry::{self, RetryPolicy, parse_http_date, parse_retry_after};
use crate::secret::Secret;
use crate::url::{Scheme, Url};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct FetchRequest<'a> {
    /// Where, without user information.
    pub url: &'a str,
    /// The `Authorization` header for that origin.
    pub authorization: Option<&'a Secret>,
    /// What is here already, as the server called it.
    pub etag: Option<&'a str>,
}

/// What the server said.
pub enum Fetched {
    /// What the entity tag names is what it still has.
    NotModified,
    /// The content.
    Content {
        /// Its bytes; a body that is shorter than announced ends in an error.
        body: Box<dyn Read + Send>,
        /// Its entity tag.
        etag: Option<String>,
        /// When it last changed, in seconds since 1970.
        last_modified: Option<i64>,
    },
    /// Anything else.
    Refused {
        /// The status.
        status: u16,
    },
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotModified => f.write_str("NotModified"),
            Self::Content { .. } => f.write_str("Content"),
            Self::Refused { status } => write!(f, "Refused({status})"),
        }
    }
}

/// A client of web servers.
#[derive(Debug)]
pub struct Fetcher {
    http: Http,
    retry: RetryPolicy,
}

impl Fetcher {
    /// A client; nothing is opened or read before its first use. Credentials of registries are not used.
    pub fn new(options: Options) -> Result<Self, Fault> {
        let retry = options.retry;
        Ok(Self { http: Http::new(options)?, retry })
    }

    /// Sends a GET and waits for the answer's head. What may pass is tried again, after a wait that the
    /// server may name; `stopped` ends that.
    pub fn get(
        &self,
        request: &FetchRequest<'_>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Fetched, Fault> {
        let mut next = 1;
        loop {
            let fault = match self.once(request) {
                Ok(Fetched::Refused { status }) if !stopped() => Fault::status(status),
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            match retry::wait_before(self.retry, next, &fault).filter(|_| !stopped()) {
                Some(wait) => std::thread::sleep(wait),
                None => {
                    return match fault {
                        Fault::Status { status, .. } => Ok(Fetched::Refused { status }),
                        fault => Err(fault),
                    };
                }
            }
            next += 1;
        }
    }

    fn once(&self, wanted: &FetchRequest<'_>) -> Result<Fetched, Fault> {
        let url = Url::parse(wanted.url)?;
        let plain = url.scheme() == Scheme::Http;
        let mut request = Request::new(Method::GET, url).allow_plain(plain);
        request.authorization = wanted.authorization.cloned();
        if let Some(etag) = wanted.etag {
            request = request.header("if-none-match", etag);
        }
        let response = self.http.send(&request)?;
        match response.status {
            200 => Ok(content(response)),
            304 if wanted.etag.is_some() => Ok(Fetched::NotModified),
            429 => Err(Fault::Status {
                status: 429,
                retry_after: response
                    .header("retry-after")
                    .and_then(|value| parse_retry_after(value, response.header("date"))),
                codes: crate::error::Codes::default(),
            }),
            status => Ok(Fetched::Refused { status }),
        }
    }
}

/// A server that sends a body compressed although it was asked for the file as it is says so, and the file
/// is what comes out (as in the reference). Other encodings that servers name are passed on: many name what
/// is none.
fn content(response: Response) -> Fetched {
    let text = |name: &str| response.header(name).map(str::to_owned);
    let etag = text("etag").filter(|etag| etag.len() <= limits::ETAG_BYTES);
    let last_modified = response.header("last-modified").and_then(parse_http_date);
    let expected = response.content_length();
    let encoding = text("content-encoding").unwrap_or_default();
    let whole = Whole { body: response.into_reader(), received: 0, expected };
    let packed = encoding.eq_ignore_ascii_case("gzip");
    let body: Box<dyn Read + Send> =
        if packed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    Fetched::Content {
        etag,
        last_modified: last_modified.and_then(|seconds| i64::try_from(seconds).ok()),
        body,
    }
}

/// A body that must be as long as announced.
struct Whole {
    body: Box<dyn Read + Send + Sync>,
    received: u64,
    expected: Option<u64>,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.received += count as u64;
        let short = self.expected.filter(|expected| self.received < *expected);
        if let (0, false, Some(expected)) = (count, buffer.is_empty(), short) {
            let message = format!("{expected} bytes were announced");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        Ok(count)
    }
}
