//! Pulling, from registries that behave and from registries that do not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use lapstrake_layerstore::digest::Digest;
use lapstrake_layerstore::layers::{Layer, Purpose};
use lapstrake_layerstore::oci::{Descriptor, Index, Platform, media_type};
use lapstrake_layerstore::source::ImageSource;
use lapstrake_layerstore::store::ImageRecord;
use lapstrake_registry::{Client, Event, Fault, Kind, Options, Outcome, RegistryError, Silent};

use crate::fake::{Fake, name};
use crate::http_server::{Answer, HttpServer, Request};
use crate::support::{
    Events, TestImage, TestStore, big_image, client, empty_store, options, pull, reference,
    small_image,
};

/// Starts a registry with an image, and something around it that may answer instead.
fn around(
    image: &TestImage,
    fault: impl Fn(&Request, &Fake, usize) -> Option<Answer> + Send + Sync + 'static,
) -> HttpServer {
    let fake = Fake::with(image);
    let count = AtomicUsize::new(0);
    HttpServer::start(move |request| {
        // The probe for plain http is not counted: faults begin after it.
        if request.target == "/v2/" {
            return fake.answer(request);
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        fault(request, &fake, number).unwrap_or_else(|| fake.answer(request))
    })
}

fn pull_from(server: &HttpServer, store: &TestStore) -> Result<ImageRecord, RegistryError> {
    pull(&client(), &server.host(), store, &Silent)
}

/// What went wrong when everything around an image is faulty.
fn fault_of(
    image: &TestImage,
    fault: impl Fn(&Request, &Fake, usize) -> Option<Answer> + Send + Sync + 'static,
) -> RegistryError {
    let server = around(image, fault);
    let store = empty_store();
    let error = pull_from(&server, &store).unwrap_err();
    store.assert_no_layers();
    error
}

#[test]
fn an_image_comes_once_and_complete() {
    let image = small_image();
    let server = around(&image, |_, _, _| None);
    let store = empty_store();
    let events = Events::default();
    let record = pull(&client(), &server.host(), &store, &events).unwrap();
    assert_eq!(record.config, Digest::of(&image.config));
    assert_eq!(record.layers.len(), 2);
    assert_eq!(record.manifest.as_ref().map(|m| m.digest), Some(Digest::of(&image.manifest)));
    assert_eq!(
        store.store.blobs().get(&Digest::of(&image.manifest), 9999).unwrap(),
        image.manifest
    );
    let outcomes = |events: &Events, wanted: &Outcome| {
        let done = |e: &Event| matches!(e, Event::Done { outcome, .. } if outcome == wanted);
        events.all().iter().filter(|event| done(event)).count()
    };
    assert_eq!(outcomes(&events, &Outcome::Downloaded), 3);
    // Again: only the manifest is asked for.
    let (before, events) = (server.lines().len(), Events::default());
    assert_eq!(pull(&client(), &server.host(), &store, &events).unwrap().layers, record.layers);
    let asked = server.lines().split_off(before);
    assert_eq!(asked, ["GET /v2/", "GET /v2/test/app/manifests/1"]);
    assert_eq!(outcomes(&events, &Outcome::Present), 3);
}

#[test]
fn as_a_source_of_images() {
    let server = around(&small_image(), |_, _, _| None);
    let store = empty_store();
    let lease = store.store.lease().unwrap();
    let fetch = |client: &dyn ImageSource, name: &str| {
        let name = reference(&server.host(), name);
        client.fetch(&name, &Platform::host(), &store.store, &lease, Purpose::Keep).unwrap()
    };
    let (client, events) = (client(), Events::default());
    assert!(fetch(&client.observed(&Silent), "test/app:1").is_some());
    assert!(fetch(&client.observed(&events), "test/app:absent").is_none());
    assert!(fetch(&client.observed(&events), "test/app:1").is_some());
    assert!(events.all().iter().any(|event| matches!(event, Event::Resolved { .. })));
    // A missing layer is not a missing image.
    let server = around(&small_image(), |request, _, _| {
        request.target.contains("/blobs/").then(|| Answer::status(404))
    });
    let name = reference(&server.host(), "test/app:1");
    let error = client.observed(&Silent).fetch(
        &name,
        &Platform::host(),
        &empty_store().store,
        &lease,
        Purpose::Keep,
    );
    assert!(error.is_err());
}

#[test]
fn an_index_leads_to_the_platform() {
    let image = small_image();
    let fake = Fake::with(&image);
    let entry = Descriptor::new(
        media_type::OCI_MANIFEST,
        Digest::of(&image.manifest),
        image.manifest.len() as u64,
    );
    let other = Platform::new("linux", "s390x", "");
    let index = Index::new(vec![
        entry.clone().with_platform(other.clone()),
        entry.with_platform(Platform::host()),
    ]);
    fake.put_manifest("1", media_type::OCI_INDEX, &index.to_json());
    let server = HttpServer::start(move |request| fake.answer(request));
    let store = empty_store();
    assert_eq!(pull_from(&server, &store).unwrap().config, Digest::of(&image.config));
    let name = reference(&server.host(), "test/app:1");
    let found = client().resolve(&name, &other).unwrap();
    assert_eq!(found, Digest::of(&image.manifest));
    let absent = Platform::new("linux", "riscv64", "");
    let error = client().resolve(&name, &absent).unwrap_err();
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.to_string().contains("linux/riscv64; there is linux/s390x"), "{error}");
}

#[test]
fn a_broken_connection_is_resumed() {
    let image = big_image(300_000);
    let layer = image.layers[0].clone();
    let whole = layer.clone();
    let cut = AtomicUsize::new(0);
    let server = around(&image, move |request, fake, _| {
        let wanted = request.target.ends_with(&name(&layer));
        let first = wanted && cut.fetch_add(1, Ordering::Relaxed) < 2;
        first.then(|| fake.answer(request).cut(100_000))
    });
    let store = empty_store();
    let events = Events::default();
    let record = pull(&client(), &server.host(), &store, &events).unwrap();
    assert_eq!(record.layers.len(), 1);
    assert_eq!(events.waits().len(), 2);
    let requests = server.requests();
    let ranges: Vec<&str> = requests.iter().filter_map(|r| r.header("range")).collect();
    assert_eq!(ranges, ["bytes=100000-", "bytes=200000-"]);
    let digest = Digest::of(&whole);
    assert_eq!(store.store.blobs().get(&digest, 1 << 20).unwrap(), whole);
}

#[test]
fn a_registry_without_ranges_is_read_again() {
    let image = big_image(300_000);
    let digest = name(&image.layers[0]);
    let cut = AtomicUsize::new(0);
    let server = around(&image, move |request, fake, _| {
        let mut request = request.clone();
        request.headers.remove("range");
        let answer = fake.answer(&request);
        let first = request.target.ends_with(&digest) && cut.fetch_add(1, Ordering::Relaxed) == 0;
        Some(if first { answer.cut(100_000) } else { answer })
    });
    assert_eq!(pull_from(&server, &empty_store()).unwrap().layers.len(), 1);
}

#[test]
fn what_is_always_cut_short_is_an_error() {
    let image = big_image(100_000);
    let digest = name(&image.layers[0]);
    let error = fault_of(&image, move |request, fake, _| {
        request.target.ends_with(&digest).then(|| fake.answer(request).cut(0))
    });
    assert!(matches!(*error.fault, Fault::Truncated { received: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("layer sha256:"), "{error}");
}

#[test]
fn lies_are_found() {
    // The right length and the wrong bytes.
    let image = big_image(100_000);
    let digest = name(&image.layers[0]);
    let error = fault_of(&image, move |request, fake, _| {
        let mut answer = fake.answer(request);
        *answer.body.get_mut(50_000)? ^= 1;
        request.target.ends_with(&digest).then_some(answer)
    });
    assert!(matches!(*error.fault, Fault::Digest { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::Corrupt);
    // Not an archive at all.
    let error = fault_of(&TestImage::of_layers(vec![vec![b'x'; 2000]]), |_, _, _| None);
    assert!(matches!(*error.fault, Fault::Content(_)), "{error:?}");
    // A config that is another one.
    let image = small_image();
    let digest = name(&image.config);
    let error = fault_of(&image, move |request, fake, _| {
        let mut answer = fake.answer(request);
        *answer.body.last_mut()? ^= 1;
        request.target.ends_with(&digest).then_some(answer)
    });
    assert!(matches!(*error.fault, Fault::Digest { .. }), "{error:?}");
    // A manifest that is not what its header says.
    let error = fault_of(&small_image(), |request, fake, _| {
        let mut answer = fake.answer(request);
        answer.body.push(b' ');
        request.target.contains("/manifests/").then_some(answer)
    });
    assert!(matches!(*error.fault, Fault::Digest { .. }), "{error:?}");
    // Another length than the descriptor says, found before anything is read.
    let image = big_image(1000);
    let digest = name(&image.layers[0]);
    let error = fault_of(&image, move |request, fake, _| {
        let mut answer = fake.answer(request);
        answer.body.extend_from_slice(b"more");
        request.target.ends_with(&digest).then_some(answer)
    });
    assert!(matches!(*error.fault, Fault::Size { .. }), "{error:?}");
}

#[test]
fn a_manifest_and_config_that_disagree() {
    let image = small_image();
    let mut other = TestImage::of_layers(image.layers[..1].to_vec());
    other.manifest = {
        let text = String::from_utf8(image.manifest.clone()).unwrap();
        text.replace(&name(&image.config), &name(&other.config))
            .replace(
                &format!("\"size\": {}", image.config.len()),
                &format!("\"size\": {}", other.config.len()),
            )
            .into_bytes()
    };
    let error = fault_of(&other, |_, _, _| None);
    assert!(error.to_string().contains("the manifest has 2 layers and the config 1"), "{error}");
}

#[test]
fn passing_faults_are_waited_out() {
    let image = small_image();
    let server = around(&image, |_, _, number| match number {
        0 => Some(Answer::status(429).header("retry-after", "0")),
        1..=3 => Some(Answer::status(500)),
        _ => None,
    });
    let events = Events::default();
    // Four attempts at the manifest: 429, 500, 500, and the fourth 500 ends it.
    pull(&client(), &server.host(), &empty_store(), &events).unwrap_err();
    assert_eq!(events.waits()[0], Duration::ZERO);
    assert_eq!(events.waits().len(), 3);
    let server = around(&image, |_, _, number| (number < 3).then(|| Answer::status(503)));
    pull_from(&server, &empty_store()).unwrap();
}

#[test]
fn lasting_faults_are_told_at_once() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let error = fault_of(&small_image(), move |_, _, _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Some(
            Answer::status(429)
                .header("retry-after", "86400")
                .body(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#),
        )
    });
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!((error.status(), error.kind()), (Some(429), Kind::Remote));
    let text = error.to_string();
    assert!(text.contains("wait 86400 s") && text.contains("TOOMANYREQUESTS: slow down"), "{text}");
    let error = fault_of(&small_image(), |_, _, _| Some(Answer::status(404)));
    assert!(error.is_not_found());
    let error = fault_of(&small_image(), |_, _, _| {
        Some(Answer::status(403).body(r#"{"errors":[{"code":"DENIED"}]}"#))
    });
    assert!(matches!(*error.fault, Fault::Denied { had_credentials: false, .. }), "{error:?}");
    assert_eq!(error.codes()[0].code, "DENIED");
}

#[test]
fn a_registry_that_is_down() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = pull(&client(), &host, &empty_store(), &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Refused(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("cannot pull {host}/test/app")), "{error}");
}

#[test]
fn answers_without_end_are_bounded() {
    let error = fault_of(&small_image(), |request, _, _| {
        let huge = Answer::status(200).header("content-length", "99999999999");
        request.target.contains("/manifests/").then(|| huge.cut(0))
    });
    assert!(matches!(*error.fault, Fault::TooLarge { .. }), "{error:?}");
    let error = fault_of(&small_image(), |request, _, _| {
        let long = Answer::status(404).body(vec![b'x'; 1 << 20]);
        request.target.contains("/manifests/").then_some(long)
    });
    assert!(error.is_not_found());
    let error = fault_of(&small_image(), |request, _, _| {
        let there = request.target.clone();
        request
            .target
            .contains("/manifests/")
            .then(|| Answer::status(302).header("location", there))
    });
    assert!(matches!(*error.fault, Fault::Redirects), "{error:?}");
}

#[test]
fn plain_http_goes_to_loopback_only() {
    let error = fault_of(&small_image(), |request, _, _| {
        let away = Answer::status(307).header("location", "http://192.0.2.1/blob");
        request.target.contains("/blobs/").then_some(away)
    });
    assert!(matches!(&*error.fault, Fault::PlainHttp(host) if host == "192.0.2.1"), "{error:?}");
}

#[test]
fn a_proxy_is_asked_for_what_is_not_here() {
    let image = small_image();
    let fake = Fake::with(&image);
    // After CONNECT, what is asked on the same connection is for the registry behind the proxy.
    let proxy = HttpServer::start(move |request| match request.method.as_str() {
        "CONNECT" => Answer::status(200),
        _ => fake.answer(request),
    });
    let through = |no_proxy: &[&str]| {
        let options = Options {
            http_proxy: Some(format!("http://{}", proxy.host())),
            no_proxy: no_proxy.iter().map(|host| (*host).to_owned()).collect(),
            insecure: vec!["registry.test".into()],
            ..options()
        };
        pull(&Client::new(options).unwrap(), "registry.test", &empty_store(), &Silent)
    };
    assert_eq!(through(&[]).unwrap().config, Digest::of(&image.config));
    assert!(proxy.lines().contains(&"CONNECT registry.test:80".to_owned()), "{:?}", proxy.lines());
    let error = through(&["registry.test"]).unwrap_err();
    assert!(matches!(*error.fault, Fault::UnknownHost), "{error:?}");
    // Loopback is never asked for through it.
    let server = around(&image, |_, _, _| None);
    let asked = proxy.lines().len();
    let http_proxy = Some(format!("http://{}", proxy.host()));
    let client = Client::new(Options { http_proxy, ..options() }).unwrap();
    pull(&client, &server.host(), &empty_store(), &Silent).unwrap();
    assert_eq!(proxy.lines().len(), asked);
}

#[test]
fn an_artifact_is_not_an_image() {
    let image = small_image();
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    let manifest =
        text.replace(media_type::OCI_CONFIG, "application/vnd.example+json").into_bytes();
    let error = fault_of(&TestImage { manifest, ..image }, |_, _, _| None);
    assert!(error.to_string().contains("it is no image"), "{error}");
}

/// How many of the layers are asked for at the same time, when each answer waits until `all` are.
fn layers_at_once(jobs: usize, all: usize) -> usize {
    let trees: Vec<String> = (0..6).map(|n| format!("d{n}/\nd{n}/f = layer {n}\n")).collect();
    let image = TestImage::new(&trees.iter().map(String::as_str).collect::<Vec<_>>());
    let layers: Vec<String> = image.layers.iter().map(|layer| name(layer)).collect();
    let (waiting, arrived) = (Mutex::new((0, 0)), Condvar::new());
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let server = around(&image, move |request, fake, _| {
        if !layers.iter().any(|digest| request.target.ends_with(digest)) {
            return None;
        }
        let mut now = waiting.lock().unwrap();
        (now.0, now.1) = (now.0 + 1, now.1 + 1);
        seen.fetch_max(now.0, Ordering::Relaxed);
        arrived.notify_all();
        // Where they come one after the other, the wait is in vain: late, and counted all the same.
        let long = Duration::from_secs(5);
        now = arrived.wait_timeout_while(now, long, |now| now.1 < all).unwrap().0;
        now.0 -= 1;
        drop(now);
        Some(fake.answer(request))
    });
    let store = empty_store();
    let client = Client::new(Options { jobs, ..options() }).unwrap();
    let image = reference(&server.host(), "test/app:1");
    let lease = store.store.lease().unwrap();
    let within = (&*store.store, &lease);
    let pulled = client.pull_for(&image, &Platform::host(), within, Purpose::Run, &Silent).unwrap();
    let layers = store.store.image_layers(&pulled).unwrap();
    let names = |layer: &Arc<Layer>| layer.toc().unwrap().entries()[0].path.to_string();
    let names: Vec<String> = layers.iter().map(names).collect();
    assert_eq!(names, ["d0", "d1", "d2", "d3", "d4", "d5"], "in the image's order");
    assert!(layers.iter().all(|layer| layer.has_tree()), "made as they came");
    most.load(Ordering::Relaxed)
}

#[test]
fn layers_come_at_once_and_not_more_than_allowed() {
    assert_eq!(layers_at_once(6, 6), 6);
    assert_eq!(layers_at_once(2, 2), 2);
    assert_eq!(layers_at_once(1, 1), 1);
}
