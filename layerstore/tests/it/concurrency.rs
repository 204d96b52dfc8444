//! Many at once: threads, and stores opened side by side as processes do.

use std::thread;

use lapstrake_fixtures::host::is_root;
use lapstrake_layerstore::{
    CacheKey, CacheRecord, StoreError,
    compress::{Codec, Compression},
    store::ManifestOptions,
    transfer::{LoadOptions, SaveOptions, load, save_oci},
};

use crate::support::{assert_clean, fixture, layer, name, open, put_image};

const AT_ONCE: usize = 6;

#[test]
fn the_same_archive_loaded_by_many_is_stored_once() {
    let source = fixture();
    let base = source.layer(&[("a", &vec![1; 50_000])]);
    let top = source.layer(&[("b", &vec![2; 50_000])]);
    source.image("app:1", &[base, top]);
    let mut archive = Vec::new();
    let options = SaveOptions::new(Compression::new(Codec::Gzip));
    save_oci(&source.store, &source.named(&["app:1"]), &mut archive, &options).expect("saved");
    let f = fixture();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let store = open(f.store.root());
                let lease = store.lease().expect("a lease");
                let images = load(&store, &lease, &mut &*archive, &LoadOptions::default());
                store.tag(&name("app:1"), &images.expect("loaded")[0].1).expect("complete");
            });
        }
    });
    assert_eq!(f.store.layers().list().expect("layers").len(), 2);
    assert_eq!(f.named(&["app:1"])[0].1.config, source.named(&["app:1"])[0].1.config);
}

#[test]
fn of_many_that_remember_one_key_the_first_counts() {
    let f = fixture();
    let made = f.layer(&[("a", b"1")]);
    for round in 0..20 {
        let key = CacheKey([round; 32]);
        let record = |number: i64| CacheRecord {
            layer: Some(*made.id()),
            created_unix: number,
            step: "RUN x".into(),
            inputs: serde_json::json!({}),
        };
        let first: Vec<i64> = thread::scope(|scope| {
            let add = |number: i64| {
                let (root, record) = (f.store.root(), record(number));
                move || open(root).cache_add(&key, &record).expect("room").then_some(number)
            };
            let threads: Vec<_> = (1..=4).map(|number| scope.spawn(add(number))).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(first.len(), 1);
        assert_eq!(f.store.cache_peek(&key), Some(record(first[0])));
    }
    assert_clean(&f.store);
}

#[test]
fn trees_manifests_and_tags_made_by_many_are_the_same() {
    let f = fixture();
    let root = f.store.root();
    let digests: Vec<_> = thread::scope(|scope| {
        let make = || {
            let store = open(root);
            let lease = store.lease().expect("a lease");
            let made = layer(&store, &[("dir/a", &[5; 9000]), ("dir/b", b"x")]);
            if is_root() {
                let tree = store.layers().tree(&made).expect("a tree");
                assert!(tree.join("dir/a").is_file());
            }
            let image = put_image(&store, &lease, &[made]);
            let options = ManifestOptions::new(Compression::new(Codec::Gzip));
            let (_, manifest) = store.manifest(&image, &options).expect("a manifest");
            let digest = manifest.digest;
            store.tag(&name("app:1"), &image.with_manifest(manifest)).expect("complete");
            digest
        };
        let makers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(make)).collect();
        makers.into_iter().map(|maker| maker.join().expect("made")).collect()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    assert_eq!(f.store.layers().list().expect("layers").len(), 1);
}

#[test]
fn a_store_is_made_once_by_many() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().join("deep/store");
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| open(&root).lease().map(drop).expect("a lease"));
        }
    });
    assert_clean(&open(&root));
}

#[test]
fn a_place_that_cannot_be_written_is_a_clear_error() {
    use lapstrake_layerstore::Store;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let below = file.path().join("store");
    let error = Store::open(&below, &crate::support::options()).expect_err("below a file");
    assert!(matches!(&error, StoreError::Io { path, .. } if path.starts_with(&below)), "{error}");
    let error = Store::open("/proc/lapstrake".as_ref(), &crate::support::options());
    let error = error.expect_err("not in /proc");
    assert!(error.to_string().contains("/proc/lapstrake"), "{error}");
}
