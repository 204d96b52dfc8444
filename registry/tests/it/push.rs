//! Pushing, to registries that behave and to registries that do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapstrake_layerstore::digest::Digest;
use lapstrake_layerstore::store::ImageRecord;
use lapstrake_registry::{Event, Fault, Outcome, Progress, RegistryError, Silent};

use crate::fake::{Fake, name};
use crate::http_server::{Answer, HttpServer, Request};
use crate::support::{
    Events, GZIP, TestStore, big_image, client, empty_store, pull, reference, small_image,
};

/// An empty registry with something around it that may answer instead.
fn around(
    fault: impl Fn(&Request, &Fake, usize) -> Option<Answer> + Send + Sync + 'static,
) -> (HttpServer, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let (inner, count) = (Arc::clone(&fake), AtomicUsize::new(0));
    let server = HttpServer::start(move |request| {
        if request.target == "/v2/" {
            return inner.answer(request);
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        fault(request, &inner, number).unwrap_or_else(|| inner.answer(request))
    });
    (server, fake)
}

fn push(
    server: &HttpServer,
    store: &TestStore,
    image: &ImageRecord,
    progress: &dyn Progress,
) -> Result<Digest, RegistryError> {
    let name = reference(&server.host(), "test/app:1");
    client().push(&store.store, image, &name, GZIP, progress)
}

fn outcomes(events: &Events) -> Vec<Outcome> {
    let outcome =
        |event| if let Event::Done { outcome, .. } = event { Some(outcome) } else { None };
    events.all().into_iter().filter_map(outcome).collect()
}

#[test]
fn an_image_arrives_and_comes_back() {
    let (server, fake) = around(|_, _, _| None);
    let store = empty_store();
    let image = small_image().install(&store.store);
    let events = Events::default();
    let digest = push(&server, &store, &image, &events).unwrap();
    assert_eq!(outcomes(&events), vec![Outcome::Uploaded; 4]);
    assert_eq!(fake.manifests.lock().unwrap()["1"].0, "application/vnd.oci.image.manifest.v1+json");
    let other = empty_store();
    let back = pull(&client(), &server.host(), &other, &Silent).unwrap();
    assert_eq!(back.config, image.config);
    assert_eq!(back.manifest.unwrap().digest, digest);
    // Again: everything is there, only the manifest is sent.
    let events = Events::default();
    assert_eq!(push(&server, &store, &image, &events).unwrap(), digest);
    let present = outcomes(&events).iter().filter(|o| **o == Outcome::Present).count();
    assert_eq!(present, 3);
}

#[test]
fn uploads_survive_passing_faults() {
    let (server, fake) = around(|request, _, number| match (request.method.as_str(), number) {
        ("HEAD", 0) => Some(Answer::status(502)),
        ("POST", 0..3) => Some(Answer::status(429).header("retry-after", "0")),
        ("PUT", 0..6) => Some(Answer::status(500)),
        _ => None,
    });
    let store = empty_store();
    let image = big_image(2_000_000).install(&store.store);
    let events = Events::default();
    push(&server, &store, &image, &events).unwrap();
    assert!(events.waits().len() >= 2);
    assert_eq!(fake.blobs.lock().unwrap().len(), 2);
}

#[test]
fn an_upload_whose_answer_was_lost_is_not_sent_again() {
    let puts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&puts);
    let (server, _) = around(move |request, fake, _| {
        let upload = request.method == "PUT" && request.target.contains("/blobs/");
        if !upload {
            return None;
        }
        fake.answer(request);
        counted.fetch_add(1, Ordering::SeqCst);
        Some(Answer::status(504))
    });
    let store = empty_store();
    let image = small_image().install(&store.store);
    push(&server, &store, &image, &Silent).unwrap();
    assert_eq!(puts.load(Ordering::SeqCst), 3);
}

#[test]
fn what_a_neighbour_has_is_mounted() {
    let (server, _) = around(|request, _, _| {
        let mount = request.method == "POST" && request.target.contains("mount=");
        let from = request.target.contains("from=other%2Fapp");
        mount.then(|| Answer::status(if from { 201 } else { 202 }))
    });
    let store = empty_store();
    let image = small_image().install(&store.store);
    store.store.tag(&reference(&server.host(), "other/app:7"), &image).unwrap();
    let events = Events::default();
    push(&server, &store, &image, &events).unwrap();
    let mounted = Outcome::Mounted { from: "other/app".into() };
    assert_eq!(outcomes(&events).iter().filter(|o| **o == mounted).count(), 2);
    // A registry that does not mount is uploaded to, at the place it named.
    let (server, fake) = around(|request, _, _| {
        let mount = request.target.contains("mount=");
        mount.then(|| Answer::status(202).header("location", "/v2/up/blobs/uploads/7?state=a%2Fb"))
    });
    store.store.tag(&reference(&server.host(), "other/app:7"), &image).unwrap();
    push(&server, &store, &image, &Silent).unwrap();
    assert_eq!(fake.blobs.lock().unwrap().len(), 3);
}

#[test]
fn refusals_are_told() {
    let store = empty_store();
    let image = small_image().install(&store.store);
    let (server, fake) = around(|request, _, _| {
        let body = r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#;
        (request.method == "POST").then(|| Answer::status(403).body(body))
    });
    let error = push(&server, &store, &image, &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("DENIED: not yours"), "{error}");
    assert!(fake.manifests.lock().unwrap().is_empty());
    // A registry that stored another manifest than the one it was sent.
    let (server, _) = around(|request, _, _| {
        let lie = Answer::status(201).header("docker-content-digest", name(b"other"));
        request.target.contains("/manifests/").then_some(lie)
    });
    let error = push(&server, &store, &image, &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Digest { .. }), "{error:?}");
    // A registry that does not say where to upload to.
    let (server, _) =
        around(|request, _, _| (request.method == "POST").then(|| Answer::status(202)));
    let error = push(&server, &store, &image, &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Malformed(_)), "{error:?}");
}
