//! Our own server: with our client, and request by request.

use std::net::SocketAddr;
use std::sync::Arc;

use lapstrake_layerstore::digest::Digest;
use lapstrake_layerstore::oci::{Descriptor, Index, Platform, media_type};
use lapstrake_layerstore::reference::Reference;
use lapstrake_registry::serve::{ServeOptions, Server};
use lapstrake_registry::{Fault, Silent};
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::support::{
    GZIP, TestImage, TestStore, big_image, client, empty_store, pull, reference, small_image,
};

fn start(store: &TestStore, writable: bool) -> Server {
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let options = ServeOptions { writable, compression: GZIP };
    Server::start(Arc::clone(&store.store), address, options).unwrap()
}

#[test]
fn push_and_pull_through_our_own_server() {
    let (ours, theirs, back) = (empty_store(), empty_store(), empty_store());
    let image = big_image(3_000_000).install(&ours.store);
    let server = start(&theirs, true);
    let host = server.addr().to_string();
    let name = reference(&host, "test/app:1");
    let digest = client().push(&ours.store, &image, &name, GZIP, &Silent).unwrap();
    // It is an image of the server's store, under the name that has no port in it.
    let tagged = theirs.store.tagged(&Reference::parse("test/app:1").unwrap()).unwrap().unwrap();
    assert_eq!(tagged.config, image.config);
    assert_eq!(theirs.store.image_layers(&tagged).unwrap().len(), 1);
    let pulled = pull(&client(), &host, &back, &Silent).unwrap();
    assert_eq!((pulled.config, pulled.manifest.unwrap().digest), (image.config, digest));
    assert_eq!(client().resolve(&name, &Platform::host()).unwrap(), digest);
    let pinned = reference(&host, &format!("test/app@{digest}"));
    assert_eq!(client().resolve(&pinned, &Platform::host()).unwrap(), digest);
    server.stop();
    let error = pull(&client(), &host, &back, &Silent).unwrap_err();
    assert!(matches!(*error.fault, Fault::Refused(_)), "{error:?}");
}

#[test]
fn an_image_built_here_is_served_without_a_push() {
    let (store, back) = (empty_store(), empty_store());
    let image = small_image().install(&store.store);
    let server = start(&store, false);
    let host = server.addr().to_string();
    store.store.tag(&reference(&host, "test/app:1"), &image).unwrap();
    assert_eq!(pull(&client(), &host, &back, &Silent).unwrap().config, image.config);
    let name = reference(&host, "test/other:1");
    let error = client().push(&store.store, &image, &name, GZIP, &Silent).unwrap_err();
    assert_eq!(error.status(), Some(405), "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
    let absent = client().resolve(&reference(&host, "test/absent:1"), &Platform::host());
    assert!(absent.unwrap_err().is_not_found());
}

/// Requests by hand.
struct Raw {
    agent: Agent,
    base: String,
}

impl Raw {
    fn new(server: &Server) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).proxy(None).build();
        Self { agent: config.new_agent(), base: format!("http://{}", server.addr()) }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response<Body> {
        let mut request = ureq::http::Request::builder().method(method);
        request = request.uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if matches!(method, "GET" | "HEAD" | "DELETE") {
            return self.agent.run(request.body(()).unwrap()).unwrap();
        }
        self.agent.run(request.body(body).unwrap()).unwrap()
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut response = self.send("GET", path, &[], b"");
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    fn status(&self, method: &str, path: &str, body: &[u8]) -> u16 {
        self.send(method, path, &[], body).status().as_u16()
    }

    fn begin(&self) -> String {
        let response = self.send("POST", "/v2/a/b/blobs/uploads/", &[], b"");
        assert_eq!(response.status(), 202);
        header(&response, "location")
    }
}

fn header(response: &Response<Body>, name: &str) -> String {
    response.headers()[name].to_str().unwrap().to_owned()
}

#[test]
fn uploads_in_pieces_in_order() {
    let store = empty_store();
    let server = start(&store, true);
    let raw = Raw::new(&server);
    let at = raw.begin();
    let piece =
        |range: &str, body: &[u8]| raw.send("PATCH", &at, &[("content-range", range)], body);
    let first = piece("0-4", b"hello");
    assert_eq!((first.status().as_u16(), header(&first, "range").as_str()), (202, "0-4"));
    let wrong = piece("9-10", b"xx");
    assert_eq!((wrong.status().as_u16(), header(&wrong, "range").as_str()), (416, "0-4"));
    let status = raw.send("GET", &at, &[], b"");
    assert_eq!((status.status().as_u16(), header(&status, "range").as_str()), (204, "0-4"));
    assert_eq!(piece("5-10", b" world").status(), 202);
    let digest = Digest::of(b"hello world!");
    let done = raw.send("PUT", &format!("{at}?digest={digest}"), &[], b"!");
    assert_eq!(done.status(), 201);
    assert_eq!(header(&done, "location"), format!("/v2/a/b/blobs/{digest}"));
    assert_eq!(raw.get(&format!("/v2/a/b/blobs/{digest}")), (200, "hello world!".into()));
    assert_eq!(raw.status("GET", &at, b""), 404);
    // Half an upload is no blob, and a wrong digest makes none.
    let at = raw.begin();
    let lie = format!("{at}?digest={}", Digest::of(b"something else"));
    let mut refused = raw.send("PUT", &lie, &[], b"this");
    assert_eq!(refused.status(), 400);
    assert!(refused.body_mut().read_to_string().unwrap().contains("DIGEST_INVALID"));
    assert_eq!(store.store.blobs().list().unwrap().len(), 1);
    let at = raw.begin();
    assert_eq!(raw.status("DELETE", &at, b""), 204);
    assert_eq!(raw.status("PATCH", &at, b"x"), 404);
    // All at once, and from another repository.
    let digest = Digest::of(b"at once");
    let path = format!("/v2/a/b/blobs/uploads/?digest={digest}");
    assert_eq!(raw.status("POST", &path, b"at once"), 201);
    let path = format!("/v2/c/blobs/uploads/?mount={digest}&from=a/b");
    assert_eq!(raw.status("POST", &path, b""), 201);
    let path = format!("/v2/c/blobs/uploads/?mount={}&from=a/b", Digest::of(b"absent"));
    assert_eq!(raw.status("POST", &path, b""), 202);
}

#[test]
fn blobs_in_parts() {
    let store = empty_store();
    let (digest, _) = store.store.blobs().put_bytes(b"0123456789").unwrap();
    let server = start(&store, false);
    let raw = Raw::new(&server);
    let path = format!("/v2/a/blobs/{digest}");
    let part = |range: &str| {
        let mut response = raw.send("GET", &path, &[("range", range)], b"");
        let stated = response.headers().get("content-range").cloned();
        let stated = stated.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        (response.status().as_u16(), stated, response.body_mut().read_to_string().unwrap())
    };
    assert_eq!(part("bytes=2-4"), (206, "bytes 2-4/10".into(), "234".into()));
    assert_eq!(part("bytes=-2"), (206, "bytes 8-9/10".into(), "89".into()));
    assert_eq!(part("bytes=1-2,4-5"), (200, String::new(), "0123456789".into()));
    let (status, stated, _) = part("bytes=10-");
    assert_eq!((status, stated.as_str()), (416, "bytes */10"));
    let head = raw.send("HEAD", &path, &[], b"");
    assert_eq!((header(&head, "content-length").as_str(), head.status().as_u16()), ("10", 200));
    assert_eq!(header(&head, "docker-content-digest"), digest.to_string());
}

#[test]
fn errors_are_those_of_the_specification() {
    let store = empty_store();
    let server = start(&store, true);
    let raw = Raw::new(&server);
    let check = |method: &str, path: &str, body: &[u8], status: u16, code: &str| {
        let mut response = raw.send(method, path, &[], body);
        let text = response.body_mut().read_to_string().unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {path}: {text}");
        assert!(text.contains(&format!("\"code\":\"{code}\"")), "{method} {path}: {text}");
    };
    let absent = Digest::of(b"absent");
    assert_eq!(raw.get("/v2/"), (200, "{}".into()));
    check("GET", "/v2/a/manifests/1", b"", 404, "MANIFEST_UNKNOWN");
    check("GET", &format!("/v2/a/manifests/{absent}"), b"", 404, "MANIFEST_UNKNOWN");
    check("GET", &format!("/v2/a/blobs/{absent}"), b"", 404, "BLOB_UNKNOWN");
    check("GET", "/v2/a/blobs/sha256:00", b"", 400, "DIGEST_INVALID");
    check("GET", "/v2/a/tags/list", b"", 404, "NAME_UNKNOWN");
    check("DELETE", "/v2/a/manifests/1", b"", 405, "UNSUPPORTED");
    check("PUT", "/v2/a/manifests/1", b"{}", 400, "MANIFEST_INVALID");
    check("PUT", "/v2/a/manifests/1", &vec![b' '; 9 << 20], 413, "SIZE_INVALID");
    let image = small_image();
    check("PUT", "/v2/a/manifests/1", &image.manifest, 404, "MANIFEST_BLOB_UNKNOWN");
    check("PUT", &format!("/v2/a/manifests/{absent}"), &image.manifest, 400, "DIGEST_INVALID");
    check("PUT", "/v2/A/manifests/1", &image.manifest, 400, "MANIFEST_INVALID");
    check("GET", "/elsewhere", b"", 404, "NAME_UNKNOWN");
    // A layer that is no archive makes no image.
    let broken = TestImage::of_layers(vec![b"not a tar".to_vec()]);
    for blob in broken.layers.iter().chain([&broken.config]) {
        store.store.blobs().put_bytes(blob).unwrap();
    }
    check("PUT", "/v2/a/manifests/1", &broken.manifest, 400, "MANIFEST_INVALID");
    assert_eq!(store.store.tags().unwrap(), []);
    // A blob that is no manifest is none under that path.
    let config = Digest::of(&broken.config);
    check("GET", &format!("/v2/a/manifests/{config}"), b"", 404, "MANIFEST_UNKNOWN");
}

#[test]
fn lists_come_in_pages() {
    let store = empty_store();
    let image = small_image().install(&store.store);
    let server = start(&store, false);
    for name in ["app:1", "app:2", "app:3", "quay.example/team/tool:1", "other.example:99/x:1"] {
        store.store.tag(&Reference::parse(name).unwrap(), &image).unwrap();
    }
    let own = reference(&server.addr().to_string(), "own/thing:9");
    store.store.tag(&own, &image).unwrap();
    let raw = Raw::new(&server);
    assert_eq!(raw.get("/v2/app/tags/list").1, r#"{"name":"app","tags":["1","2","3"]}"#);
    assert_eq!(raw.get("/v2/own/thing/tags/list").1, r#"{"name":"own/thing","tags":["9"]}"#);
    let catalog = r#"{"repositories":["app","own/thing","quay.example/team/tool"]}"#;
    assert_eq!(raw.get("/v2/_catalog").1, catalog);
    let page = raw.send("GET", "/v2/app/tags/list?n=2", &[], b"");
    assert_eq!(header(&page, "link"), "</v2/app/tags/list?n=2&last=2>; rel=\"next\"");
    assert_eq!(raw.get("/v2/app/tags/list?n=2&last=2").1, r#"{"name":"app","tags":["3"]}"#);
}

#[test]
fn an_index_is_tagged_with_all_of_its_images() {
    let store = empty_store();
    let server = start(&store, true);
    let raw = Raw::new(&server);
    let image = small_image();
    for blob in image.layers.iter().chain([&image.config]) {
        store.store.blobs().put_bytes(blob).unwrap();
    }
    let digest = Digest::of(&image.manifest);
    let entry = Descriptor::new(media_type::OCI_MANIFEST, digest, image.manifest.len() as u64);
    let index = Index::new(vec![entry.with_platform(Platform::host())]).to_json();
    assert_eq!(raw.status("PUT", "/v2/a/manifests/1", &index), 404);
    assert_eq!(raw.status("PUT", &format!("/v2/a/manifests/{digest}"), &image.manifest), 201);
    assert_eq!(raw.status("PUT", "/v2/a/manifests/1", &index), 201);
    let tagged = store.store.tagged(&Reference::parse("a:1").unwrap()).unwrap().unwrap();
    assert_eq!(tagged.config, Digest::of(&image.config));
    let by_digest = raw.send("GET", &format!("/v2/a/manifests/{}", Digest::of(&index)), &[], b"");
    assert_eq!(header(&by_digest, "content-type"), media_type::OCI_INDEX);
    assert_eq!(raw.get("/v2/a/manifests/1").1, String::from_utf8(index).unwrap());
}
