//! What a directory keeps, and what it does not give back.

use super::*;
use lapstrake_layerstore::layers::OverlayXattr;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::store::{OpenOptions, OwnerMap};
use lapstrake_layerstore::toc::{Entry, Kind};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

const KEY: CacheKey = CacheKey([7; 32]);

/// Collects warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { message } = event {
            self.0.lock().unwrap().push(message);
        }
    }
}

fn store(root: &Path) -> Store {
    let options = OpenOptions {
        create: true,
        owner_map: Some(OwnerMap::root()),
        overlay_xattr: OverlayXattr::Trusted,
    };
    Store::open(root, &options).unwrap()
}

/// A layer with one file of each kind that a step can leave behind without privileges.
fn layer(store: &Store, content: &[u8]) -> Arc<Layer> {
    let mut writer = store.contents().writer();
    let (hash, size) = writer.put_bytes(content).unwrap();
    writer.finish().unwrap();
    let at = |path: &str, kind| Entry::new(LayerPath::parse(path).unwrap(), kind);
    let file = Entry {
        size,
        content: Some(hash),
        mode: 0o4755,
        mtime: -5,
        uid: 7,
        ..at("d/f", Kind::File)
    };
    let link = Entry { link: "f".into(), mode: 0o777, ..at("d/s", Kind::Symlink) };
    let entries = vec![
        Entry { mode: 0o1777, gid: 70_000, ..at("d", Kind::Dir) },
        file,
        link,
        Entry::whiteout(LayerPath::parse("gone").unwrap()),
    ];
    store.layers().create(entries).unwrap()
}

struct Shared {
    work: tempfile::TempDir,
    cache: Arc<dyn SharedCache>,
    made: Arc<Layer>,
}

fn shared() -> Shared {
    let work = tempfile::tempdir().unwrap();
    let store = store(&work.path().join("a"));
    let made = layer(&store, b"precious");
    let cache = DirectoryCache::create(&work.path().join("cache")).unwrap();
    let step = MadeStep {
        key: KEY,
        layer: Arc::clone(&made),
        created_unix: 5,
        step: "RUN x".into(),
        in_image: true,
    };
    export([&step], &store, &cache, &Compression::default()).unwrap();
    export([&step], &store, &cache, &Compression::default()).unwrap();
    Shared { work, cache: Arc::new(cache), made }
}

/// What a new store finds, and what was said.
fn found(shared: &Shared, name: &str) -> (Option<Arc<Layer>>, Vec<String>) {
    let store = store(&shared.work.path().join(name));
    let warnings = Warnings::default();
    let found = find(&[Arc::clone(&shared.cache)], &KEY, &store, &warnings);
    (found.map(|(layer, _)| layer), warnings.0.into_inner().unwrap())
}

/// The only file below a directory.
fn only(directory: &Path) -> PathBuf {
    let entry = fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
    if entry.is_dir() { only(&entry) } else { entry }
}

#[test]
fn a_layer_comes_back_as_itself() {
    let shared = shared();
    let store = store(&shared.work.path().join("b"));
    let warnings = Warnings::default();
    let caches = [Arc::clone(&shared.cache)];
    let (layer, step) = find(&caches, &KEY, &store, &warnings).unwrap();
    assert_eq!((layer.id(), step.created_unix, &*step.step), (shared.made.id(), 5, "RUN x"));
    assert_eq!(layer.toc().unwrap().entries(), shared.made.toc().unwrap().entries());
    let ids = |store: &Store, layer| store.layers().diff_id(layer).unwrap();
    let first = self::store(&shared.work.path().join("a"));
    assert_eq!(ids(&store, &layer), ids(&first, &shared.made));
    assert!(find(&caches, &CacheKey([8; 32]), &store, &warnings).is_none());
    assert_eq!(warnings.0.into_inner().unwrap(), Vec::<String>::new());
}

#[test]
fn damage_is_a_warning_and_no_result() {
    let shared = shared();
    let root = shared.work.path().join("cache");
    let (blob, record) = (only(&root.join("blobs")), only(&root.join("keys")));
    let (good_blob, good_record) = (fs::read(&blob).unwrap(), fs::read(&record).unwrap());
    let mut number = 0;
    let mut damaged = |path: &Path, bytes: &[u8], words: &str| {
        number += 1;
        fs::write(path, bytes).unwrap();
        let (layer, said) = found(&shared, &format!("damaged-{number}"));
        assert!(layer.is_none() && said.len() == 1 && said[0].contains(words), "{words}: {said:?}");
    };
    // Every cut, and a changed byte anywhere.
    for at in [0, 1, good_blob.len() / 2, good_blob.len() - 1] {
        damaged(&blob, &good_blob[..at], "cannot take the layer of `RUN x`");
        let mut bytes = good_blob.clone();
        bytes[at] ^= 0x20;
        damaged(&blob, &bytes, "cannot take the layer of `RUN x`");
    }
    damaged(&blob, &[&good_blob[..], b"more"].concat(), "cannot take the layer");
    fs::write(&blob, &good_blob).unwrap();
    for at in [0, 10, HEADER_AND_SOME, good_record.len() - 1] {
        damaged(&record, &good_record[..at], "is damaged");
        let mut bytes = good_record.clone();
        bytes[at] ^= 0x20;
        damaged(&record, &bytes, "is damaged");
    }
    fs::write(&record, &good_record).unwrap();
    fs::remove_file(&blob).unwrap();
    let (layer, said) = found(&shared, "no-blob");
    assert!(layer.is_none() && said[0].contains("cannot open"), "{said:?}");
    fs::write(&blob, &good_blob).unwrap();
    assert!(found(&shared, "whole").0.is_some());
}

/// Somewhere in the checksum of a record.
const HEADER_AND_SOME: usize = 40;

/// Whole files with right checksums whose contents are others.
#[test]
fn a_lie_about_a_layer_is_seen() {
    let shared = shared();
    let store = store(&shared.work.path().join("liar"));
    let other = layer(&store, b"poisoned");
    let blob = store.layers().compressed(&other, &Compression::default(), None).unwrap();
    shared.cache.put_blob(&blob, &mut store.blobs().open_blob(&blob.digest).unwrap()).unwrap();
    let layer = *shared.made.id();
    let step = SharedStep { layer, blob, created_unix: 5, step: "RUN x".into() };
    shared.cache.put(&KEY, &step).unwrap();
    let (layer, said) = found(&shared, "b");
    assert!(layer.is_none() && said[0].contains("another layer"), "{said:?}");
}

#[test]
fn what_is_no_cache_says_so() {
    let work = tempfile::tempdir().unwrap();
    let why = |path: &Path| DirectoryCache::open(path).unwrap_err().to_string();
    assert!(why(&work.path().join("none")).contains("no such directory"));
    assert!(why(work.path()).contains("nothing was written there"));
    fs::write(work.path().join("lapstrake-cache"), "lapstrake-cache 9\n").unwrap();
    assert!(why(work.path()).contains("another version"));
    assert!(DirectoryCache::create(work.path()).is_err());
}
