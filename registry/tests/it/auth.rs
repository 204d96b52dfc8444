//! Who we are, and who gets to hear it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lapstrake_fixtures::TempDir;
use lapstrake_registry::{
    Client, Credential, CredentialFiles, Fault, FixedCredential, Options, Secret, Silent,
};

use crate::fake::Fake;
use crate::http_server::{Answer, HttpServer, Request};
use crate::support::{client, empty_store, options, pull, small_image};

/// `user:pass` in base64.
const BASIC: &str = "Basic dXNlcjpwYXNz";

fn with_credential(host: &str, password: &str) -> Client {
    let credential = Credential::Basic { username: "user".into(), password: Secret::new(password) };
    let source = FixedCredential { registry: host.to_owned(), credential };
    Client::new(Options { credentials: Arc::new(source), ..options() }).unwrap()
}

fn demand(challenge: impl Into<String>) -> Answer {
    Answer::status(401)
        .header("www-authenticate", challenge)
        .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#)
}

fn is_basic(request: &Request) -> bool {
    request.header("authorization") == Some(BASIC)
}

#[test]
fn basic_from_a_docker_config() {
    let fake = Fake::with(&small_image());
    let server = HttpServer::start(move |request| {
        if is_basic(request) { fake.answer(request) } else { demand("Basic realm=\"x\"") }
    });
    let folder = TempDir::new("auth");
    let json = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#, server.host());
    let source = CredentialFiles::new(vec![folder.write("config.json", json)]);
    let options = Options { credentials: Arc::new(source), ..options() };
    let known = Client::new(options).unwrap();
    pull(&known, &server.host(), &empty_store(), &Silent).unwrap();
    // Asked once, then sent along: the probe and the first manifest are without.
    let without = server.requests().iter().filter(|r| !is_basic(r)).count();
    assert_eq!(without, 2);
    let error = pull(&client(), &server.host(), &empty_store(), &Silent).unwrap_err();
    assert!(
        matches!(*error.fault, Fault::Unauthorized { had_credentials: false, .. }),
        "{error:?}"
    );
    let wrong = with_credential(&server.host(), "wrong");
    let error = pull(&wrong, &server.host(), &empty_store(), &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Unauthorized { had_credentials: true, .. }), "{error:?}");
    assert!(!format!("{error:?} {error} {wrong:?}").contains("wrong\""), "{error:?}");
    assert!(error.to_string().contains("UNAUTHORIZED: who are you"), "{error}");
}

/// A registry that wants tokens, and the service that gives them: `t1`, `t2`, … each good for
/// `uses` requests.
fn token_registry(
    uses: usize,
    service: impl Fn(&Request) -> bool + Send + Sync + 'static,
) -> HttpServer {
    let fake = Fake::with(&small_image());
    let issued = AtomicUsize::new(0);
    let used = Mutex::new(0_usize);
    HttpServer::start(move |request| {
        if request.target.starts_with("/token") {
            if !service(request) {
                return Answer::status(401);
            }
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            *used.lock().unwrap() = 0;
            return Answer::status(200)
                .body(format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        let current = format!("Bearer t{}", issued.load(Ordering::SeqCst));
        let mut used = used.lock().unwrap();
        if request.target != "/v2/"
            && request.header("authorization") == Some(&current)
            && *used < uses
        {
            *used += 1;
            return fake.answer(request);
        }
        let host = request.header("host").unwrap_or_default();
        demand(format!(
            "Bearer realm=\"http://{host}/token\",service=\"s p\",scope=\"repository:test/app:pull\""
        ))
    })
}

#[test]
fn an_anonymous_token_is_fetched_once_and_renewed_when_it_expires() {
    let server = token_registry(usize::MAX, |request| request.header("authorization").is_none());
    pull(&client(), &server.host(), &empty_store(), &Silent).unwrap();
    let asked: Vec<String> =
        server.lines().into_iter().filter(|line| line.contains("/token")).collect();
    assert_eq!(asked, ["GET /token?service=s%20p&scope=repository%3Atest%2Fapp%3Apull"]);
    // Good for two requests each: manifest, config, then a new one for the layers.
    let server = token_registry(2, |_| true);
    let one = Client::new(Options { jobs: 1, ..options() }).unwrap();
    pull(&one, &server.host(), &empty_store(), &Silent).unwrap();
    assert_eq!(server.lines().iter().filter(|line| line.contains("/token")).count(), 2);
}

#[test]
fn a_token_for_credentials() {
    let server = token_registry(usize::MAX, is_basic);
    let known = with_credential(&server.host(), "pass");
    pull(&known, &server.host(), &empty_store(), &Silent).unwrap();
    let leaked = |r: &Request| is_basic(r) && !r.target.starts_with("/token");
    assert!(!server.requests().iter().any(leaked));
    let wrong = with_credential(&server.host(), "wrong");
    let error = pull(&wrong, &server.host(), &empty_store(), &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Unauthorized { had_credentials: true, .. }), "{error:?}");
}

#[test]
fn an_identity_token_is_exchanged() {
    let server = token_registry(usize::MAX, |request| {
        request.method == "POST"
            && String::from_utf8_lossy(&request.body).contains("refresh_token=the%20token")
    });
    let credential = Credential::IdentityToken(Secret::new("the token"));
    let source = FixedCredential { registry: server.host(), credential };
    let known = Client::new(Options { credentials: Arc::new(source), ..options() }).unwrap();
    pull(&known, &server.host(), &empty_store(), &Silent).unwrap();
}

#[test]
fn authorization_stays_at_home_on_redirects() {
    let image = small_image();
    let storage = {
        let fake = Fake::with(&image);
        HttpServer::start(move |request| fake.answer(request))
    };
    let (fake, elsewhere) = (Fake::with(&image), storage.host());
    let server = HttpServer::start(move |request| {
        if !is_basic(request) {
            return demand("Basic realm=\"x\"");
        }
        if request.target.contains("/blobs/") {
            let there = format!("http://{elsewhere}{}?signature=1", request.target);
            return Answer::status(307).header("location", there);
        }
        fake.answer(request)
    });
    let known = with_credential(&server.host(), "pass");
    pull(&known, &server.host(), &empty_store(), &Silent).unwrap();
    assert_eq!(storage.requests().len(), 3);
    assert!(storage.requests().iter().all(|request| request.header("authorization").is_none()));
    // A redirect within the registry keeps it.
    let fake = Fake::with(&image);
    let server = HttpServer::start(move |request| {
        if !is_basic(request) {
            return demand("Basic realm=\"x\"");
        }
        if request.target.starts_with("/v2/test/app/blobs/") {
            let there = request.target.replace("/v2/test/app", "/v2/moved");
            return Answer::status(302).header("location", there);
        }
        fake.answer(request)
    });
    let known = with_credential(&server.host(), "pass");
    pull(&known, &server.host(), &empty_store(), &Silent).unwrap();
}

#[test]
fn a_realm_over_plain_http_elsewhere_gets_nothing() {
    let server = HttpServer::start(|_| demand("Bearer realm=\"http://192.0.2.1/token\""));
    let known = with_credential(&server.host(), "pass");
    let error = pull(&known, &server.host(), &empty_store(), &Silent).unwrap_err();
    assert!(matches!(&*error.fault, Fault::PlainHttp(host) if host == "192.0.2.1"), "{error:?}");
}
