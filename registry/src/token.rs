//! From a challenge to an `Authorization` value, kept as long as it is good.
//!
//! ```text
//! 401 + WWW-Authenticate ──▶ basic:  credential ──▶ "Basic …"
//!                        └─▶ bearer: GET realm?service&scope (with basic, or as nobody)
//!                                    POST realm, refresh token   ──▶ "Bearer …" until it expires
//! ```
//!
//! Invariants: one grant per registry and set of scopes, fetched by one thread while the others
//! wait for it; what a registry refused is never sent to it again as if it were new; credentials
//! go to the registry they are filed under or to the token service that it names, over https
//! unless the registry itself is on plain http.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use ureq::http::Method;

use crate::challenge::Challenge;
use crate::credential::{Credential, CredentialSource};
use crate::error::{Codes, Fault};
use crate::http::{Http, Payload, Request};
use crate::limits;
use crate::secret::Secret;
use crate::url::{Url, encode};

/// What a token is asked for: actions on repositories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(BTreeMap<String, BTreeSet<&'static str>>);

impl Scopes {
    /// Reading one repository.
    pub(crate) fn pull(repository: &str) -> Self {
        Self::default().with(repository, &["pull"])
    }

    /// Reading and writing one repository.
    pub(crate) fn push(repository: &str) -> Self {
        Self::default().with(repository, &["pull", "push"])
    }

    /// The same and these actions on a repository.
    pub(crate) fn with(mut self, repository: &str, actions: &[&'static str]) -> Self {
        self.0.entry(repository.to_owned()).or_default().extend(actions);
        self
    }

    /// In the words of token services.
    fn words(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(repository, actions)| {
            let actions: Vec<&str> = actions.iter().copied().collect();
            format!("repository:{repository}:{}", actions.join(","))
        })
    }
}

/// Who asks whom for what.
#[derive(Debug)]
pub(crate) struct Asker<'a> {
    /// The connections.
    pub(crate) http: &'a Http,
    /// Where credentials come from.
    pub(crate) credentials: &'a dyn CredentialSource,
    /// The registry as references name it.
    pub(crate) registry: &'a str,
    /// The repository that the credentials should be for.
    pub(crate) repository: &'a str,
    /// An address on the registry.
    pub(crate) origin: &'a Url,
    /// What is to be done there.
    pub(crate) scopes: &'a Scopes,
}

/// What a registry wants, as its challenge said.
#[derive(Debug, Clone)]
enum Scheme {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// An authorization that is thought to be good.
#[derive(Debug, Clone)]
struct Grant {
    header: Secret,
    good_until: Option<Instant>,
    had_credentials: bool,
}

impl Grant {
    fn is_good(&self) -> bool {
        self.good_until.is_none_or(|until| Instant::now() < until)
    }
}

/// A place for the grant of one registry and one set of scopes.
type Slot = Arc<Mutex<Option<Grant>>>;

/// All grants of one client.
#[derive(Debug, Default)]
pub(crate) struct Authorizer {
    schemes: Mutex<HashMap<String, Scheme>>,
    slots: Mutex<HashMap<(String, Scopes), Slot>>,
}

impl Authorizer {
    /// The authorization to begin with: none until the registry has asked for one.
    pub(crate) fn current(&self, asker: &Asker<'_>) -> Result<Option<Secret>, Fault> {
        let Some(scheme) = lock(&self.schemes).get(asker.registry).cloned() else {
            return Ok(None);
        };
        let slot = self.slot(asker);
        let mut grant = lock(&slot);
        if grant.as_ref().is_none_or(|grant| !grant.is_good()) {
            *grant = Some(fetch(asker, &scheme, &Codes::default())?);
        }
        Ok(grant.as_ref().map(|grant| grant.header.clone()))
    }

    /// The authorization after a refusal of `used`.
    pub(crate) fn renew(
        &self,
        asker: &Asker<'_>,
        challenges: &[Challenge],
        used: Option<&Secret>,
        codes: &Codes,
    ) -> Result<Secret, Fault> {
        let scheme = choose(asker, challenges)?
            .ok_or_else(|| Fault::Unauthorized { had_credentials: false, codes: codes.clone() })?;
        lock(&self.schemes).insert(asker.registry.to_owned(), scheme.clone());
        let slot = self.slot(asker);
        let mut grant = lock(&slot);
        // Another thread may have renewed it while this one's request was on its way.
        if let Some(newer) = grant.as_ref().filter(|g| g.is_good() && Some(&g.header) != used) {
            return Ok(newer.header.clone());
        }
        *grant = None;
        let fetched = fetch(asker, &scheme, codes)?;
        if Some(&fetched.header) == used {
            let had_credentials = fetched.had_credentials;
            return Err(Fault::Unauthorized { had_credentials, codes: codes.clone() });
        }
        Ok(grant.insert(fetched).header.clone())
    }

    /// Whether the last grant for this was made with credentials.
    pub(crate) fn had_credentials(&self, asker: &Asker<'_>) -> bool {
        lock(&self.slot(asker)).as_ref().is_some_and(|grant| grant.had_credentials)
    }

    fn slot(&self, asker: &Asker<'_>) -> Slot {
        let key = (asker.registry.to_owned(), asker.scopes.clone());
        Arc::clone(lock(&self.slots).entry(key).or_default())
    }
}

/// Locks; no code panics while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("because nothing panics while holding it")
}

/// The challenge we can meet: bearer before basic.
fn choose(asker: &Asker<'_>, challenges: &[Challenge]) -> Result<Option<Scheme>, Fault> {
    if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
        let realm = bearer.parameter("realm").unwrap_or_default();
        let realm = Url::parse(realm)?;
        asker.http.check_plain(&realm, asker.origin)?;
        let service = bearer.parameter("service").map(str::to_owned);
        return Ok(Some(Scheme::Bearer { realm, service }));
    }
    Ok(challenges.iter().any(|challenge| challenge.scheme == "basic").then_some(Scheme::Basic))
}

/// Looks the credential up and makes a grant of it.
fn fetch(asker: &Asker<'_>, scheme: &Scheme, codes: &Codes) -> Result<Grant, Fault> {
    let credential = asker
        .credentials
        .credential(asker.registry, asker.repository)
        .map_err(Fault::Credential)?;
    match (scheme, credential) {
        (Scheme::Bearer { realm, service }, credential) => {
            fetch_token(asker, realm, service.as_deref(), credential.as_ref())
        }
        (Scheme::Basic, Some(Credential::Basic { username, password })) => Ok(Grant {
            header: basic(&username, &password),
            good_until: None,
            had_credentials: true,
        }),
        // An identity token is good for a token service only.
        (Scheme::Basic, found) => {
            Err(Fault::Unauthorized { had_credentials: found.is_some(), codes: codes.clone() })
        }
    }
}

/// The header value of basic authentication.
fn basic(username: &str, password: &Secret) -> Secret {
    let pair = format!("{username}:{}", password.expose());
    Secret::new(format!("Basic {}", BASE64.encode(pair)))
}

/// Asks the token service.
fn fetch_token(
    asker: &Asker<'_>,
    realm: &Url,
    service: Option<&str>,
    credential: Option<&Credential>,
) -> Result<Grant, Fault> {
    let response = if let Some(Credential::IdentityToken(token)) = credential {
        let form = refresh_form(asker.scopes, service, token);
        let mut request = Request::new(Method::POST, realm.clone());
        request.headers.push(("content-type", "application/x-www-form-urlencoded".into()));
        asker.http.send(&request.payload(Payload::Bytes(form.as_bytes())))?
    } else {
        let mut url = realm.clone();
        if let Some(service) = service {
            url = url.with_query("service", service);
        }
        for scope in asker.scopes.words() {
            url = url.with_query("scope", &scope);
        }
        let mut request = Request::new(Method::GET, url);
        if let Some(Credential::Basic { username, password }) = credential {
            request.authorization = Some(basic(username, password));
        }
        asker.http.send(&request)?
    };
    let had_credentials = credential.is_some();
    if response.status != 200 {
        return Err(crate::client::status_fault(response, had_credentials));
    }
    let token = Token::parse(&response.into_bytes(limits::TOKEN_BYTES)?)?;
    Ok(Grant {
        header: Secret::new(format!("Bearer {}", token.text.expose())),
        good_until: Some(Instant::now() + token.lifetime),
        had_credentials,
    })
}

/// The form that exchanges a refresh token for an access token.
fn refresh_form(scopes: &Scopes, service: Option<&str>, token: &Secret) -> String {
    let scope = scopes.words().collect::<Vec<_>>().join(" ");
    let mut pairs = vec![
        ("grant_type", "refresh_token"),
        ("client_id", "lapstrake"),
        ("scope", &scope),
        ("refresh_token", token.expose()),
    ];
    pairs.extend(service.map(|service| ("service", service)));
    let pairs = pairs.into_iter().map(|(name, value)| format!("{name}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A token service's answer.
#[derive(Debug)]
struct Token {
    text: Secret,
    lifetime: Duration,
}

impl Token {
    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<u64>,
        }
        // The parser's own message could quote a part of a token, so it is not shown.
        let wrong = |why: &str| Fault::Malformed(format!("the token service's answer {why}"));
        let answer: Answer =
            serde_json::from_slice(bytes).map_err(|_| wrong("is not what it should be"))?;
        let text = [answer.token, answer.access_token]
            .into_iter()
            .flatten()
            .find(|text| !text.is_empty())
            .ok_or_else(|| wrong("has no token"))?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("has a token that is not printable"));
        }
        let lifetime = answer.expires_in.map_or(limits::TOKEN_LIFETIME, Duration::from_secs);
        // A tenth less than promised: a request takes time to get there.
        let lifetime = lifetime.min(limits::MAX_TOKEN_LIFETIME) / 10 * 9;
        Ok(Self { text: Secret::new(text), lifetime })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_answers() {
        let parse = |text: &str| Token::parse(text.as_bytes());
        let token = parse(r#"{"token":"abc","expires_in":100}"#).unwrap();
        assert_eq!((token.text.expose(), token.lifetime), ("abc", Duration::from_secs(90)));
        let token = parse(r#"{"token":"","access_token":"x"}"#).unwrap();
        assert_eq!((token.text.expose(), token.lifetime), ("x", Duration::from_secs(54)));
        for bad in ["", "{}", r#"{"token":"a\nb"}"#, r#"{"token":7}"#, "[1]"] {
            assert!(matches!(parse(bad), Err(Fault::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn scopes_in_words() {
        let scopes = Scopes::push("a/b").with("c", &["pull"]);
        let words: Vec<String> = scopes.words().collect();
        assert_eq!(words, ["repository:a/b:pull,push", "repository:c:pull"]);
    }

    #[test]
    fn forms_and_headers_are_encoded() {
        let form = refresh_form(&Scopes::pull("a"), Some("s&t"), &Secret::new("r=1"));
        assert_eq!(
            form,
            "grant_type=refresh_token&client_id=lapstrake&scope=repository%3Aa%3Apull&refresh_token=r%3D1&service=s%26t"
        );
        assert_eq!(basic("user", &Secret::new("pass")).expose(), "Basic dXNlcjpwYXNz");
    }
}
