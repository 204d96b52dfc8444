//! The client: options, the way to a registry, and one authenticated exchange with it.
//!
//! `pull` and `push` are built from [`Session::request`], which knows the repository, adds the
//! authorization, renews it once on 401, repeats what may pass, and turns every status that is no
//! success into a typed error.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use lapstrake_layerstore::reference::{DEFAULT_REGISTRY, Reference};
use ureq::http::Method;

use crate::challenge;
use crate::credential::{Anonymous, CredentialSource};
use crate::error::{Codes, Fault, Operation, RegistryError};
use crate::http::{Http, Request, Response};
use crate::limits;
use crate::progress::{Event, Progress};
use crate::retry::{self, RetryPolicy};
use crate::token::{Asker, Authorizer, Scopes};
use crate::url::{Scheme, Url};

/// The host behind the default registry's name.
const DEFAULT_REGISTRY_HOST: &str = "registry-1.docker.io";

/// How a client behaves; everything it needs from its surroundings is in here.
#[derive(Debug, Clone)]
pub struct Options {
    /// Registries (`host` or `host:port`) that plain http may go to; loopback always may.
    pub insecure: Vec<String>,
    /// PEM files with certificate authorities to believe beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Requests in flight at once.
    pub jobs: usize,
    /// What we call ourselves.
    pub user_agent: String,
    /// Where credentials come from.
    pub credentials: Arc<dyn CredentialSource>,
    /// Proxy for http addresses.
    pub http_proxy: Option<String>,
    /// Proxy for https addresses.
    pub https_proxy: Option<String>,
    /// Hosts that are asked directly; this machine always is.
    pub no_proxy: Vec<String>,
    /// How patiently requests are repeated.
    pub retry: RetryPolicy,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure: Vec::new(),
            ca_files: Vec::new(),
            jobs: limits::DEFAULT_JOBS,
            user_agent: concat!("lapstrake/", env!("CARGO_PKG_VERSION")).to_owned(),
            credentials: Arc::new(Anonymous),
            http_proxy: None,
            https_proxy: None,
            no_proxy: Vec::new(),
            retry: RetryPolicy::default(),
        }
    }
}

/// A client of registries; cheap to keep, safe to share between threads.
#[derive(Debug)]
pub struct Client {
    http: Http,
    authorizer: Authorizer,
    credentials: Arc<dyn CredentialSource>,
    retry: RetryPolicy,
    jobs: usize,
    schemes: Mutex<HashMap<String, Scheme>>,
}

impl Client {
    /// A client; nothing is opened or read before its first use.
    pub fn new(options: Options) -> Result<Self, RegistryError> {
        let credentials = Arc::clone(&options.credentials);
        let (retry, jobs) = (options.retry, options.jobs.clamp(1, limits::MAX_JOBS));
        let http = Http::new(options).map_err(|fault| RegistryError {
            operation: Operation::Configure,
            registry: "registries".to_owned(),
            repository: String::new(),
            object: None,
            fault: Box::new(fault),
        })?;
        let (authorizer, schemes) = (Authorizer::default(), Mutex::default());
        Ok(Self { http, authorizer, credentials, retry, jobs, schemes })
    }

    /// Requests in flight at once.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs
    }

    /// How patiently requests are repeated.
    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        self.retry
    }

    /// Finds the way to a reference's repository.
    pub(crate) fn session<'a>(
        &'a self,
        reference: &'a Reference,
        operation: Operation,
        scopes: Scopes,
        progress: &'a dyn Progress,
    ) -> Result<Session<'a>, RegistryError> {
        let authority = match reference.registry() {
            DEFAULT_REGISTRY => DEFAULT_REGISTRY_HOST,
            other => other,
        };
        let mut session =
            Session { client: self, reference, operation, scopes, progress, origin: None };
        let scheme = session
            .retrying(|| self.scheme(authority).map_err(|fault| session.error(None, fault)))?;
        let origin = Url::new(scheme, authority, "/v2/");
        session.origin = Some(origin.map_err(|bad| session.error(None, bad.into()))?);
        Ok(session)
    }

    /// How to talk to a host: https, unless plain http is allowed there and is what it speaks.
    fn scheme(&self, authority: &str) -> Result<Scheme, Fault> {
        if !self.http.allows_plain(authority) {
            return Ok(Scheme::Https);
        }
        let schemes = || self.schemes.lock().expect("because nothing panics while holding it");
        if let Some(known) = schemes().get(authority) {
            return Ok(*known);
        }
        let scheme = self.probe(authority)?;
        schemes().insert(authority.to_owned(), scheme);
        Ok(scheme)
    }

    /// Tries plain http, then https. Nothing secret is in these requests.
    fn probe(&self, authority: &str) -> Result<Scheme, Fault> {
        let ask = |scheme| {
            self.http.send(&Request::new(Method::GET, Url::new(scheme, authority, "/v2/")?))
        };
        let plain = match ask(Scheme::Http) {
            // What servers that expect TLS say to plain http, if they say anything.
            Ok(response) if response.status == 400 => None,
            Ok(response) => return Ok(response.url.scheme()),
            Err(fault @ (Fault::Malformed(_) | Fault::Connection(_))) => Some(fault),
            Err(fault) => return Err(fault),
        };
        match ask(Scheme::Https) {
            Ok(_) => Ok(Scheme::Https),
            // A certificate means that TLS is spoken there; else the first failure says more.
            Err(fault) if is_certificate_fault(&fault) => Err(fault),
            Err(fault) => Err(plain.unwrap_or(fault)),
        }
    }
}

/// Whether a TLS handshake got as far as a certificate that is not believed.
fn is_certificate_fault(fault: &Fault) -> bool {
    let mut source = std::error::Error::source(fault);
    while let Some(error) = source {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = error.downcast_ref().or_else(|| inner.and_then(|e| e.downcast_ref()));
        if let Some(rustls::Error::InvalidCertificate(_)) = found {
            return true;
        }
        source = error.source();
    }
    false
}

/// What an answer that is no success means; reads the beginning of its body.
pub(crate) fn status_fault(response: Response, had_credentials: bool) -> Fault {
    let status = response.status;
    let retry_after = response
        .header("retry-after")
        .and_then(|value| retry::parse_retry_after(value, response.header("date")));
    let codes = Codes::parse(&response.into_start(limits::ERROR_BYTES));
    match status {
        401 => Fault::Unauthorized { had_credentials, codes },
        403 => Fault::Denied { had_credentials, codes },
        404 => Fault::NotFound { codes },
        429 => Fault::RateLimited { retry_after, codes },
        _ => Fault::Status { status, retry_after, codes },
    }
}

/// Work on one repository of one registry.
#[derive(Clone)]
pub(crate) struct Session<'a> {
    client: &'a Client,
    reference: &'a Reference,
    operation: Operation,
    scopes: Scopes,
    progress: &'a dyn Progress,
    origin: Option<Url>,
}

impl<'a> Session<'a> {
    /// The same work with other rights.
    pub(crate) fn with_scopes(&self, scopes: Scopes) -> Session<'a> {
        Session { scopes, ..self.clone() }
    }

    /// The client it belongs to.
    pub(crate) fn client(&self) -> &'a Client {
        self.client
    }

    /// The repository.
    pub(crate) fn repository(&self) -> &'a str {
        self.reference.repository()
    }

    /// Tells the observer.
    pub(crate) fn tell(&self, event: Event) {
        self.progress.event(event);
    }

    /// The address of something in the repository.
    pub(crate) fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let path = format!("/v2/{}/{path}", self.reference.repository());
        self.origin().join(&path).map_err(|bad| self.error(None, bad.into()))
    }

    fn origin(&self) -> &Url {
        self.origin.as_ref().expect("because a session is handed out with its origin")
    }

    /// An error of this work.
    pub(crate) fn error(&self, object: Option<&str>, fault: Fault) -> RegistryError {
        RegistryError {
            operation: self.operation,
            registry: self.reference.registry().to_owned(),
            repository: self.reference.repository().to_owned(),
            object: object.map(str::to_owned),
            fault: Box::new(fault),
        }
    }

    /// Repeats what may pass, telling the observer of each wait.
    pub(crate) fn retrying<T>(
        &self,
        attempt: impl FnMut() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let notify = |error: &RegistryError, wait| {
            self.tell(Event::Waiting { reason: error.to_string(), wait });
        };
        retry::run(self.client.retry, &notify, attempt)
    }

    /// One exchange, repeated while its failure may pass. An answer whose status is neither a
    /// success nor among `accepted` is an error about `object`.
    pub(crate) fn request(
        &self,
        object: &str,
        request: Request<'_>,
        accepted: &[u16],
    ) -> Result<Response, RegistryError> {
        let mut request = request;
        self.retrying(|| self.once(object, &mut request, accepted))
    }

    /// One exchange, with the authorization renewed once if the registry asks for that.
    pub(crate) fn once(
        &self,
        object: &str,
        request: &mut Request<'_>,
        accepted: &[u16],
    ) -> Result<Response, RegistryError> {
        let error = |fault| self.error(Some(object), fault);
        let asker = self.asker();
        // Uploads may be sent to another host; what opens the registry is not for it.
        let own = request.url.same_origin(self.origin());
        let authorizer = &self.client.authorizer;
        request.authorization = if own { authorizer.current(&asker).map_err(error)? } else { None };
        let mut response = self.client.http.send(request).map_err(error)?;
        if response.status == 401 && own && response.url.same_origin(&request.url) {
            let challenges: Vec<_> =
                response.header_values("www-authenticate").flat_map(challenge::parse).collect();
            let codes = Codes::parse(&response.into_start(limits::ERROR_BYTES));
            let used = request.authorization.take();
            let renewed = authorizer.renew(&asker, &challenges, used.as_ref(), &codes);
            request.authorization = Some(renewed.map_err(error)?);
            response = self.client.http.send(request).map_err(error)?;
        }
        if matches!(response.status, 200..=299) || accepted.contains(&response.status) {
            return Ok(response);
        }
        Err(error(status_fault(response, authorizer.had_credentials(&asker))))
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            http: &self.client.http,
            credentials: &*self.client.credentials,
            registry: self.reference.registry(),
            repository: self.reference.repository(),
            origin: self.origin(),
            scopes: &self.scopes,
        }
    }
}
