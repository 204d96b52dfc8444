//! skopeo, a stranger that judges our server and what we pushed elsewhere.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use lapstrake_fixtures::{Need, TempDir, require};
use lapstrake_layerstore::digest::Digest;
use lapstrake_layerstore::reference::Reference;
use lapstrake_registry::Silent;
use lapstrake_registry::serve::{ServeOptions, Server};

use crate::docker_registry::DockerRegistry;
use crate::support::{GZIP, TestStore, big_image, client, empty_store, reference, small_image};

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn start(store: &TestStore) -> Server {
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let options = ServeOptions { writable: true, compression: GZIP };
    Server::start(Arc::clone(&store.store), address, options).unwrap()
}

#[test]
fn copies_from_our_server_and_to_it() {
    if !require(&[Need::Tool("skopeo")]) {
        return;
    }
    let (store, other) = (empty_store(), empty_store());
    let image = big_image(2_000_000).install(&store.store);
    store.store.tag(&Reference::parse("test/app:1").unwrap(), &image).unwrap();
    let (server, target) = (start(&store), start(&other));
    let folder = TempDir::new("skopeo");
    let layout = format!("oci:{}:1", folder.join("layout").display());
    let from = format!("docker://{}/test/app:1", server.addr());
    let to = format!("docker://{}/copied:2", target.addr());
    let raw = skopeo(&["inspect", "--tls-verify=false", "--raw", &from]);
    let exact = ["copy", "--insecure-policy", "--preserve-digests"];
    skopeo(&[&exact[..], &["--src-tls-verify=false", &from, &layout]].concat());
    skopeo(&[&exact[..], &["--dest-tls-verify=false", &layout, &to]].concat());
    let copied = other.store.tagged(&Reference::parse("copied:2").unwrap()).unwrap().unwrap();
    assert_eq!(copied.config, image.config);
    assert_eq!(copied.manifest.unwrap().digest, Digest::of(raw.as_bytes()));
    let tags =
        skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{}/copied", target.addr())]);
    assert!(tags.contains("\"2\""), "{tags}");
    // And in docker's own manifest format.
    let docker = format!("docker://{}/docker:1", target.addr());
    let convert = ["copy", "--insecure-policy", "--format", "v2s2", "--dest-tls-verify=false"];
    skopeo(&[&convert[..], &[&layout, &docker]].concat());
    let back = empty_store();
    let lease = back.store.lease().unwrap();
    let name = reference(&target.addr().to_string(), "docker:1");
    let platform = lapstrake_layerstore::oci::Platform::host();
    let pulled = client().pull(&name, &platform, &back.store, &lease, &Silent).unwrap();
    assert_eq!(pulled.layers.len(), 1);
}

#[test]
fn inspects_what_we_pushed() {
    if !require(&[Need::Tool("skopeo"), Need::Tool("docker-registry")]) {
        return;
    }
    let registry = DockerRegistry::start("", "");
    let store = empty_store();
    let image = small_image().install(&store.store);
    let name = reference(&registry.host, "test/app:1");
    let digest = client().push(&store.store, &image, &name, GZIP, &Silent).unwrap();
    let there = format!("docker://{}/test/app:1", registry.host);
    let seen = skopeo(&["inspect", "--tls-verify=false", &there]);
    assert!(seen.contains(&digest.to_string()), "{seen}");
    let folder = TempDir::new("skopeo");
    let layout = format!("dir:{}", folder.join("copy").display());
    skopeo(&["copy", "--insecure-policy", "--src-tls-verify=false", &there, &layout]);
}
