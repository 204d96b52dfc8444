//! Broken, lying and truncated input: one clear error, no name, a store that is whole.

use std::{collections::BTreeMap, error::Error, io::Read, path::Path};

use lapstrake_layerstore::{
    Digest, Store,
    archive::{ReadLimits, TarReader, TarWriter},
    compress::{Codec, Compression},
    toc::{Entry, Kind},
    transfer::{LoadOptions, NamedImages, SaveOptions, TransferError, load, save_docker, save_oci},
};

use crate::support::{Fixture, assert_clean, fixture, path};

fn archive(f: &Fixture) -> Vec<u8> {
    let layer = f.layer(&[("etc/motd", b"hello"), ("data", &[3; 5000])]);
    f.image("app:1", &[layer]);
    let mut bytes = Vec::new();
    let options = SaveOptions::new(Compression::new(Codec::Gzip));
    save_oci(&f.store, &f.named(&["app:1"]), &mut bytes, &options).expect("saved");
    bytes
}

fn try_load(store: &Store, bytes: &[u8]) -> Result<NamedImages, TransferError> {
    let lease = store.lease().expect("a lease");
    load(store, &lease, &mut &*bytes, &LoadOptions::default())
}

fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

type Members = BTreeMap<String, Vec<u8>>;

/// The members of an archive, to be changed and put together again.
fn members(bytes: &[u8]) -> Members {
    let mut tar = TarReader::new(bytes, ReadLimits::default());
    let mut members = BTreeMap::new();
    while let Some(member) = tar.next_member().expect("a tar") {
        let mut data = Vec::new();
        tar.read_to_end(&mut data).expect("its data");
        let name = String::from_utf8(member.name).expect("plain");
        if !name.ends_with('/') {
            members.insert(name, data);
        }
    }
    members
}

fn together(members: &Members) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new(), None);
    for (name, data) in members {
        let size = data.len() as u64;
        tar.append_bytes(&Entry { size, ..Entry::new(path(name), Kind::File) }, data)
            .expect("room");
    }
    tar.finish().expect("room")
}

/// Exchanges a blob for another one, under the digest that it really has, and follows the names up.
fn exchange(members: &mut Members, old: &str, bytes: Vec<u8>) {
    let removed = members.remove(old).expect("the blob");
    let (old_digest, new_digest) = (Digest::of(&removed).hex(), Digest::of(&bytes).hex());
    let bytes_size = bytes.len().to_string();
    members.insert(format!("blobs/sha256/{new_digest}"), bytes);
    let mentions = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains(&old_digest);
    let parents: Vec<String> =
        members.iter().filter(|(_, bytes)| mentions(bytes)).map(|(name, _)| name.clone()).collect();
    for parent in parents {
        let text = String::from_utf8(members[&parent].clone()).expect("json");
        let text = text.replace(&old_digest, &new_digest);
        // The size follows its digest.
        let mut text = text;
        let at = text.find(&new_digest).expect("just put there");
        let at = at + text[at..].find("\"size\": ").expect("a size") + "\"size\": ".len();
        let end = at + text[at..].find(|c: char| !c.is_ascii_digit()).expect("an end");
        text.replace_range(at..end, &bytes_size);
        if parent == "index.json" {
            members.insert(parent, text.into_bytes());
        } else {
            exchange(members, &parent, text.into_bytes());
        }
    }
}

fn blob_like(members: &Members, is: impl Fn(&str) -> bool) -> String {
    let found = members
        .iter()
        .find(|(name, bytes)| name.starts_with("blobs/") && is(&String::from_utf8_lossy(bytes)));
    found.expect("such a blob").0.clone()
}

#[test]
fn an_archive_that_ends_anywhere_leaves_nothing() {
    let source = fixture();
    let bytes = archive(&source);
    let f = fixture();
    let end = bytes.len() - 1024;
    for cut in (0..end).step_by(509).chain([end - 1]) {
        let error = try_load(&f.store, &bytes[..cut]).expect_err("cut short");
        assert!(!in_words(&error).is_empty());
    }
    assert_eq!(f.store.tags().expect("tags"), []);
    assert_eq!(f.store.layers().list().expect("layers"), []);
    assert_clean(&f.store);
    try_load(&f.store, &bytes).expect("the whole one is fine");
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let source = fixture();
    let bytes = archive(&source);
    let f = fixture();
    let mut unnoticed = 0;
    for at in (0..bytes.len() - 1024).step_by(97) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        unnoticed += usize::from(try_load(&f.store, &bytes).is_ok());
    }
    // Padding, and the text of names and annotations in the index, are not covered by any digest.
    assert!(unnoticed < 60, "{unnoticed} changed archives were taken");
    assert_clean(&f.store);
}

#[test]
fn every_lie_is_named() {
    let source = fixture();
    let good = members(&archive(&source));
    let layer = blob_like(&good, |text| !text.starts_with('{'));
    let manifest = blob_like(&good, |text| text.contains("schemaVersion"));
    let config = blob_like(&good, |text| text.contains("rootfs"));
    let edit = |change: &dyn Fn(&mut Members)| {
        let mut members = good.clone();
        change(&mut members);
        members
    };
    let text = |name: &str| String::from_utf8(good[name].clone()).expect("json");
    let wrong_diff_id = {
        let at = text(&config).find("diff_ids\":[\"sha256:").expect("a diffID") + 19;
        let mut text = text(&config);
        text.replace_range(at..at + 4, "0000");
        text.into_bytes()
    };
    let cases: Vec<(&str, Members)> = vec![
        ("its sha256 is", edit(&|m| m.get_mut(&layer).expect("there")[20] ^= 1)),
        ("is missing", edit(&|m| drop(m.remove(&layer)))),
        ("is missing", edit(&|m| drop(m.remove(&config)))),
        ("is missing", edit(&|m| drop(m.remove(&manifest)))),
        ("no image", edit(&|m| drop(m.remove("index.json")))),
        ("index.json", edit(&|m| drop(m.insert("index.json".into(), b"{".to_vec())))),
        (
            "schemaVersion",
            edit(&|m| {
                let text =
                    text("index.json").replace("\"schemaVersion\": 2", "\"schemaVersion\": 3");
                m.insert("index.json".into(), text.into_bytes());
            }),
        ),
        (
            "bytes, but",
            edit(&|m| {
                let text = text("index.json").replace("\"size\": ", "\"size\": 1");
                m.insert("index.json".into(), text.into_bytes());
            }),
        ),
        ("expected diffID", edit(&|m| exchange(m, &config, wrong_diff_id.clone()))),
        (
            "diff_ids",
            edit(&|m| {
                exchange(m, &config, br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec());
            }),
        ),
        ("image config", edit(&|m| exchange(m, &config, b"[]".to_vec()))),
        ("archive", edit(&|m| exchange(m, &layer, b"this is no layer at all".to_vec()))),
        (
            "not an image",
            edit(&|m| {
                let text = text(&manifest).replace("image.config.v1", "something.else");
                exchange(m, &manifest, text.into_bytes());
            }),
        ),
    ];
    let f = fixture();
    for (why, members) in cases {
        let error = in_words(&try_load(&f.store, &together(&members)).expect_err(why));
        assert!(error.contains(why), "{why}: {error}");
    }
    assert_eq!(f.store.tags().expect("tags"), []);
    try_load(&f.store, &together(&good)).expect("the good one, put together anew, is fine");
}

/// As `cosign`, `oras` and `regctl` store signatures and lists of contents: their own manifests in the
/// index, or in the index of the image.
#[test]
fn what_lies_beside_an_image_is_left_out() {
    use serde_json::json;
    let source = fixture();
    let good = members(&archive(&source));
    let mut index: serde_json::Value =
        serde_json::from_slice(&good["index.json"]).expect("an index");
    let image = index["manifests"][0].clone();
    let mut all = good.clone();
    let mut put = |media_type: &str, bytes: Vec<u8>| {
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        all.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
    };
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let empty = put("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let signature = json!({
        "schemaVersion": 2, "mediaType": manifest_type, "artifactType": "application/x.signature",
        "config": empty, "layers": [empty], "subject": image,
    });
    let signature = put(manifest_type, signature.to_string().into_bytes());
    let index_type = "application/vnd.oci.image.index.v1+json";
    let nested = json!({
        "schemaVersion": 2, "mediaType": index_type, "manifests": [signature, image],
    });
    let mut nested = put(index_type, nested.to_string().into_bytes());
    nested["annotations"] = image["annotations"].clone();
    let others = [json!([signature, image]), json!([image, signature]), json!([nested])];
    for manifests in others {
        index["manifests"] = manifests;
        all.insert("index.json".into(), index.to_string().into_bytes());
        let f = fixture();
        let images = try_load(&f.store, &together(&all)).expect("the image is fine");
        assert_eq!(images.len(), 1, "{index}");
        assert_clean(&f.store);
    }
    // Alone, it is said what they are.
    for (manifests, words) in [
        (json!([signature]), "it is not an image: its config is application/vnd.oci.empty"),
        (json!([]), "no image in it: its index.json names none"),
    ] {
        index["manifests"] = manifests;
        all.insert("index.json".into(), index.to_string().into_bytes());
        let error = try_load(&fixture().store, &together(&all)).expect_err("no image");
        assert!(in_words(&error).contains(words), "{}", in_words(&error));
    }
}

#[test]
fn a_docker_archive_that_lies_is_refused() {
    let source = fixture();
    archive(&source);
    let mut bytes = Vec::new();
    save_docker(&source.store, &source.named(&["app:1"]), &mut bytes).expect("saved");
    let good = members(&bytes);
    let layer = good
        .keys()
        .find(|name| Path::new(name).extension().is_some_and(|extension| extension == "tar"))
        .expect("a layer")
        .clone();
    let f = fixture();
    let mut changed = good.clone();
    changed.get_mut(&layer).expect("there")[600] ^= 1;
    let error = in_words(&try_load(&f.store, &together(&changed)).expect_err("a lie"));
    assert!(error.contains("expected diffID"), "{error}");
    changed.remove(&layer);
    let error = in_words(&try_load(&f.store, &together(&changed)).expect_err("a hole"));
    assert!(error.contains("is missing"), "{error}");
}

#[test]
fn indexes_do_not_nest_for_ever() {
    let source = fixture();
    let mut members = members(&archive(&source));
    for _ in 0..6 {
        let index = members["index.json"].clone();
        let digest = Digest::of(&index);
        members.insert(format!("blobs/sha256/{}", digest.hex()), index.clone());
        let outer = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}","size":{}}}]}}"#,
            index.len()
        );
        members.insert("index.json".into(), outer.into_bytes());
    }
    let f = fixture();
    let error = try_load(&f.store, &together(&members)).expect_err("too deep");
    assert!(matches!(error, TransferError::Nested { .. }), "{error}");
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let f = fixture();
    for bytes in [&b""[..], b"hello", &[0; 1024], &[0xff; 4096], b"\x1f\x8b\x08\x00garbage"] {
        try_load(&f.store, bytes).expect_err("no archive");
    }
}
