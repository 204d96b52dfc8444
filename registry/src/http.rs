//! One request, one answer: the only module that talks HTTP.
//!
//! Invariants:
//! - `Authorization` goes to the origin it was meant for and to no other; a redirect elsewhere
//!   carries none.
//! - Plain http goes to loopback and to hosts the user named, nowhere else; an answer from the
//!   network never leads to loopback.
//! - Every wait is bounded, every small body is read under a limit.
//! - A status is data here; whether it is an error is the caller's business.

use std::fmt;
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION};
use ureq::http::{HeaderMap, Method, Request as HttpRequest};
use ureq::{Agent, Body, Proxy, SendBody};

use crate::client::Options;
use crate::error::Fault;
use crate::proxy::{self, Exceptions};
use crate::secret::Secret;
use crate::url::{BadUrl, Scheme, Url, is_loopback};
use crate::{limits, tls};

/// What is sent along with a request; each kind can be sent again.
pub(crate) enum Payload<'a> {
    /// Nothing.
    None,
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A stream of known length, opened anew for each attempt.
    Stream {
        /// Opens the stream at its beginning.
        open: &'a (dyn Fn() -> io::Result<Box<dyn Read + 'a>> + Sync),
        /// Its exact length.
        size: u64,
    },
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream { size, .. } => write!(f, "Stream({size})"),
        }
    }
}

/// A request before it is sent.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// The method.
    pub(crate) method: Method,
    /// Where to.
    pub(crate) url: Url,
    /// Headers beyond those that every request has.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The `Authorization` value for the origin of `url`.
    pub(crate) authorization: Option<Secret>,
    /// The body.
    pub(crate) payload: Payload<'a>,
    /// Whether plain http may go to any host: the user wrote an address that says so.
    plain: bool,
}

impl<'a> Request<'a> {
    /// A request without headers, authorization or body.
    pub(crate) fn new(method: Method, url: Url) -> Self {
        let (headers, authorization, payload) = (Vec::new(), None, Payload::None);
        Self { method, url, headers, authorization, payload, plain: false }
    }

    /// The same request, over plain http if `plain` says so.
    pub(crate) fn allow_plain(mut self, plain: bool) -> Self {
        self.plain = plain;
        self
    }

    /// The same request with one more header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same request with a body.
    pub(crate) fn payload(mut self, payload: Payload<'a>) -> Self {
        self.payload = payload;
        self
    }
}

/// An answer: its head, and its body to be read.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    /// The address that answered, after redirects.
    pub(crate) url: Url,
    headers: HeaderMap,
    body: Body,
}

impl Response {
    /// A header's first value, if it is readable text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// All readable values of a header.
    pub(crate) fn header_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// The announced length of the body.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// The body as a stream; read errors are turned into faults by [`body_fault`].
    pub(crate) fn into_reader(self) -> Box<dyn Read + Send + Sync> {
        Box::new(self.body.into_reader())
    }

    /// The whole body, if it is not larger than the limit.
    pub(crate) fn into_bytes(self, limit: u64) -> Result<Vec<u8>, Fault> {
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(Fault::TooLarge { limit });
        }
        let mut bytes = Vec::new();
        self.into_reader().take(limit + 1).read_to_end(&mut bytes).map_err(body_fault)?;
        if bytes.len() as u64 > limit {
            return Err(Fault::TooLarge { limit });
        }
        Ok(bytes)
    }

    /// The beginning of the body, whatever follows: for error documents.
    pub(crate) fn into_start(self, limit: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.into_reader().take(limit).read_to_end(&mut bytes) {
            Ok(_) => bytes,
            // The status is the news; a broken explanation is left out.
            Err(_) => Vec::new(),
        }
    }
}

/// The connections of one client.
pub(crate) struct Http {
    options: Options,
    exceptions: Exceptions,
    plain: Agent,
    secure: Mutex<Option<Agent>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    /// Connections as the options describe; nothing is opened or read yet.
    pub(crate) fn new(options: Options) -> Result<Self, Fault> {
        let proxy = proxy::parse(options.http_proxy.as_deref())?;
        let plain = agent(&options, proxy).build().new_agent();
        let exceptions = Exceptions::new(&options.no_proxy);
        Ok(Self { options, exceptions, plain, secure: Mutex::new(None) })
    }

    /// Whether plain http may go to this host.
    pub(crate) fn allows_plain(&self, authority: &str) -> bool {
        let host = crate::url::host_of(authority);
        is_loopback(host) || self.named_insecure(authority)
    }

    /// Whether the user listed this host, with or without its port.
    fn named_insecure(&self, authority: &str) -> bool {
        let host = crate::url::host_of(authority);
        let named = |entry: &String| {
            entry.eq_ignore_ascii_case(authority) || entry.eq_ignore_ascii_case(host)
        };
        self.options.insecure.iter().any(named)
    }

    /// Sends a request and returns the answer's head; redirects of GET and HEAD are followed.
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Response, Fault> {
        let mut url = request.url.clone();
        self.check_way(&url, request)?;
        for _ in 0..=limits::REDIRECTS {
            let response = self.exchange(request, &url)?;
            let follows = matches!(request.method, Method::GET | Method::HEAD)
                && matches!(response.status, 301 | 302 | 303 | 307 | 308);
            let location = response.header(LOCATION.as_str()).filter(|_| follows);
            let Some(location) = location else {
                return Ok(response);
            };
            let next = url.join(location)?;
            self.check_way(&next, request)?;
            url = next;
        }
        Err(Fault::Redirects)
    }

    /// Refuses a way that the request must not take. One that began in the clear may go on so, but a server
    /// on the network must not send anyone to this machine's own.
    fn check_way(&self, url: &Url, request: &Request<'_>) -> Result<(), Fault> {
        if request.plain && (!is_loopback(url.host()) || is_loopback(request.url.host())) {
            return Ok(());
        }
        self.check_plain(url, &request.url)
    }

    /// Refuses plain http where it must not go; `origin` is what the user asked for.
    pub(crate) fn check_plain(&self, url: &Url, origin: &Url) -> Result<(), Fault> {
        let allowed = url.scheme() == Scheme::Https
            || self.named_insecure(url.authority())
            || (is_loopback(url.host()) && is_loopback(origin.host()));
        if allowed { Ok(()) } else { Err(Fault::PlainHttp(url.authority().to_owned())) }
    }

    /// One request on the wire.
    fn exchange(&self, request: &Request<'_>, url: &Url) -> Result<Response, Fault> {
        let way =
            Way { agent: self.agent_for(url.scheme())?, direct: self.exceptions.apply_to(url) };
        let mut builder = HttpRequest::builder().method(&request.method).uri(url.to_string());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(secret) =
            request.authorization.as_ref().filter(|_| url.same_origin(&request.url))
        {
            builder = builder.header(AUTHORIZATION, secret.expose());
        }
        let answer = match &request.payload {
            Payload::None if request.method == Method::POST || request.method == Method::PUT => {
                way.run(builder, &b""[..], limits::IDLE_TIMEOUT)
            }
            Payload::None => way.run(builder, (), limits::IDLE_TIMEOUT),
            Payload::Bytes(bytes) => way.run(builder, *bytes, limits::RESPONSE_TIMEOUT),
            Payload::Stream { open, size } => {
                let mut stream = open().map_err(|error| Fault::Store(Box::new(error)))?;
                let builder = builder.header(CONTENT_LENGTH, *size);
                let body = SendBody::from_reader(&mut stream);
                way.run(builder, body, limits::RESPONSE_TIMEOUT)
            }
        };
        let (head, body) = answer.map_err(transport_fault)?.into_parts();
        Ok(Response { status: head.status.as_u16(), url: url.clone(), headers: head.headers, body })
    }

    /// The agent for a scheme; the secure one is made at its first use.
    fn agent_for(&self, scheme: Scheme) -> Result<Agent, Fault> {
        if scheme == Scheme::Http {
            return Ok(self.plain.clone());
        }
        let mut secure = self.secure.lock().expect("because nothing panics while holding it");
        if let Some(agent) = &*secure {
            return Ok(agent.clone());
        }
        let options = &self.options;
        let proxy = proxy::parse(options.https_proxy.as_deref())?;
        let config = agent(options, proxy).tls_config(tls::config(&options.ca_files)?).build();
        Ok(secure.insert(config.new_agent()).clone())
    }
}

/// How a request travels: whose connections, and whether past the proxy.
struct Way {
    agent: Agent,
    direct: bool,
}

impl Way {
    /// Hands one request to ureq; `silence` bounds the wait for each part of the answer.
    fn run(
        &self,
        builder: ureq::http::request::Builder,
        body: impl ureq::AsSendBody,
        silence: Duration,
    ) -> Result<ureq::http::Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(builder.body(body)?);
        let request = request.timeout_per_read(Some(silence));
        let request = if self.direct { request.proxy(None) } else { request };
        self.agent.run(request.build())
    }
}

/// What both agents share.
fn agent(
    options: &Options,
    proxy: Option<Proxy>,
) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(options.user_agent.as_str())
        .accept_encoding("identity")
        .proxy(proxy)
        .timeout_resolve(Some(limits::CONNECT_TIMEOUT))
        .timeout_connect(Some(limits::CONNECT_TIMEOUT))
        .timeout_recv_response(Some(limits::RESPONSE_TIMEOUT))
        .timeout_per_write(Some(limits::IDLE_TIMEOUT))
        .max_response_header_size(limits::RESPONSE_HEADER_BYTES)
        .max_idle_connections(limits::MAX_JOBS)
        .max_idle_connections_per_host(limits::MAX_JOBS)
        .input_buffer_size(limits::CONNECTION_BUFFER_BYTES)
        .output_buffer_size(limits::CONNECTION_BUFFER_BYTES)
}

impl From<BadUrl> for Fault {
    fn from(error: BadUrl) -> Self {
        Self::Malformed(format!("the server gave an address that is {error}"))
    }
}

/// What a failure before or during the exchange of heads means.
fn transport_fault(error: ureq::Error) -> Fault {
    match error {
        ureq::Error::HostNotFound => Fault::UnknownHost,
        ureq::Error::Timeout(phase) => Fault::Timeout(phase.to_string()),
        ureq::Error::Io(error) => io_fault(error),
        ureq::Error::Rustls(error) => Fault::Tls(Box::new(error)),
        ureq::Error::Tls(why) => Fault::Tls(why.into()),
        error @ ureq::Error::ConnectProxyFailed(_) => Fault::Connection(io::Error::other(error)),
        error @ (ureq::Error::ConnectionFailed | ureq::Error::BodyStalled) => {
            Fault::Connection(io::Error::other(error))
        }
        other => Fault::Malformed(format!("the answer is not HTTP: {other}")),
    }
}

/// A failure to read what was to be sent: ours, not the connection's.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct SourceFailure(pub(crate) io::Error);

/// What a failing read or write on a connection means.
fn io_fault(error: io::Error) -> Fault {
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<SourceFailure>) {
        return Fault::Store(Box::new(error));
    }
    // std has no kind for a name that does not resolve, only these words before the resolver's own.
    if error.to_string().starts_with("failed to lookup address information") {
        return Fault::UnknownHost;
    }
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return Fault::Refused(error);
    }
    // The TLS layer reports a failed handshake as an io error around its own.
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) {
        return Fault::Tls(Box::new(error));
    }
    Fault::Connection(error)
}

/// What a failing read of a body means.
pub(crate) fn body_fault(error: io::Error) -> Fault {
    transport_fault(ureq::Error::from(error))
}
