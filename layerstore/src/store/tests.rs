//! The files of the store, byte for byte: a change here is a change of format.

use std::fs;

use super::*;
use crate::{DiffId, Digest, LayerId, Reference, layers::OverlayXattr, oci::ImageConfig};

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let (overlay_xattr, owner_map) = (OverlayXattr::User, Some(OwnerMap::root()));
    let options = OpenOptions { create: true, overlay_xattr, owner_map };
    let store = Store::open(directory.path(), &options).unwrap();
    (directory, store)
}

#[test]
fn store_json_is_pinned() {
    let (directory, _store) = store();
    let text = fs::read_to_string(directory.path().join("store.json")).unwrap();
    let compact: serde_json::Value = serde_json::from_str(&text).unwrap();
    let range = r#"[{"inside":0,"outside":0,"length":4294967295}]"#;
    let expected = format!(
        r#"{{"version":1,"features":[],"owner":{{"uids":{range},"gids":{range}}},"overlay":"user"}}"#
    );
    assert_eq!(compact.to_string(), expected);
}

#[test]
fn a_feature_that_is_not_known_is_refused() {
    let (directory, store) = store();
    let path = directory.path().join("store.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"features\": []", "\"features\": [\"chunks\"]")).unwrap();
    drop(store);
    let options = OpenOptions { create: true, overlay_xattr: OverlayXattr::User, owner_map: None };
    let error = Store::open(directory.path(), &options).unwrap_err().to_string();
    assert!(error.contains("feature `chunks`"), "{error}");
}

#[test]
fn a_tag_is_pinned() {
    let (directory, store) = store();
    let config = store.blobs().put_bytes(&ImageConfig::default().to_json()).unwrap().0;
    let image = ImageRecord {
        config,
        layers: Vec::new(),
        manifest: None,
        platform: crate::oci::Platform::new("linux", "arm", "v7"),
        created_unix: 5,
        index: None,
    };
    let reference = Reference::parse("app:1").unwrap();
    store.tag(&reference, &image).unwrap();
    let name = blake3::hash(b"docker.io/library/app:1").to_hex();
    let text = fs::read_to_string(directory.path().join("tags").join(name.as_str())).unwrap();
    let (first, json) = text.split_once('\n').unwrap();
    assert_eq!(first, format!("lapstrake-tag 1 {}", blake3::hash(json.as_bytes()).to_hex()));
    let compact: serde_json::Value = serde_json::from_str(json).unwrap();
    let expected = concat!(
        r#"{"reference":"docker.io/library/app:1","image":{"config":"CONFIG","layers":[],"#,
        r#""platform":{"architecture":"arm","os":"linux","variant":"v7"},"created_unix":5}}"#,
    );
    assert_eq!(compact.to_string(), expected.replace("CONFIG", &config.to_string()));
}

#[test]
fn a_cache_record_is_pinned() {
    let (directory, store) = store();
    let record = CacheRecord {
        layer: Some(LayerId::from_bytes([0xab; 32])),
        created_unix: 5,
        step: "RUN x".into(),
        inputs: serde_json::json!({"shell": ["/bin/sh"]}),
    };
    store.cache_put(&CacheKey([0x12; 32]), &record).unwrap();
    let path = directory.path().join("cache/keys/12").join("12".repeat(32));
    let text = fs::read_to_string(path).unwrap();
    let json = format!(
        r#"{{"layer":"{}","created_unix":5,"step":"RUN x","inputs":{{"shell":["/bin/sh"]}}}}"#,
        "ab".repeat(32)
    );
    let expected = format!("lapcache 1 {}\n{json}", blake3::hash(json.as_bytes()).to_hex());
    assert_eq!(text, expected);
    assert_eq!(store.cache_peek(&CacheKey([0x12; 32])), Some(record));
}

#[test]
fn a_lease_is_pinned_and_goes_with_its_owner() {
    let (directory, store) = store();
    let digest = store.blobs().put_bytes(b"x").unwrap().0;
    let lease = store.lease().unwrap();
    lease.hold_blob(&digest).unwrap();
    lease.hold_blob(&digest).unwrap();
    let short = LayerId::from_bytes([1; 32]).short();
    assert!(matches!(lease.hold(&short), Err(StoreError::LayerMissing { .. })));
    let leases = || gc::list(&directory.path().join("leases")).unwrap();
    let text = fs::read_to_string(&leases()[0]).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let began = first.strip_prefix("lapstrake-lease 1 ").unwrap().parse::<i128>().unwrap();
    assert!(began > 1_700_000_000_000_000_000);
    assert_eq!(rest, format!("blob {digest}\n"));
    drop(lease);
    assert!(leases().is_empty());
}

#[test]
fn a_config_must_name_the_layers_that_it_comes_with() {
    let (_directory, store) = store();
    let layer = store.layers().create(Vec::new()).unwrap();
    let lying = DiffId::from_digest(Digest::of(b"something else"));
    let mut config = ImageConfig::default();
    let none = store.put_image(&config.to_json(), std::slice::from_ref(&layer)).unwrap_err();
    assert!(matches!(none, StoreError::LayerCount { named: 0, given: 1, .. }), "{none}");
    config.rootfs.diff_ids.push(lying);
    let other = store.put_image(&config.to_json(), std::slice::from_ref(&layer)).unwrap_err();
    assert!(matches!(other, StoreError::DiffIdMismatch { .. }), "{other}");
    config.rootfs.diff_ids = vec![store.layers().diff_id(&layer).unwrap()];
    let image = store.put_image(&config.to_json(), std::slice::from_ref(&layer)).unwrap();
    let durable = store.image_layers(&image).unwrap();
    store.make_durable(&durable).unwrap();
    assert!(store.image_layers(&image).unwrap()[0].is_marked_durable());
    assert!(store.put_image(b"{", &[]).is_err());
}
