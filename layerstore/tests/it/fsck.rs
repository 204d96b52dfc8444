//! Every kind of damage is found, and repairing takes exactly what cannot be used.

use std::{
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use lapstrake_fixtures::host::{Need, is_root, require};
use lapstrake_layerstore::{
    CacheKey, CacheRecord, Store, StoreError,
    compress::{Codec, Compression},
    layers::Expected,
    store::{
        ManifestOptions,
        check::{FsckOptions, FsckReport, Severity},
        gc::PruneOptions,
    },
};

use crate::support::{Fixture, assert_clean, fixture, name, open, options};

/// Images `packs:1` (layers of ours) and `blob:1` (a layer that came), trees, cache, manifest.
fn full() -> Fixture {
    let f = fixture();
    let base = f.layer(&[("etc/motd", b"hello"), ("bin/sh", &[7; 9000])]);
    let top = f.layer(&[("etc/motd", b"other")]);
    let image = f.image("packs:1", &[base.clone(), top.clone()]);
    let options = ManifestOptions::new(Compression::new(Codec::Gzip));
    let (_, manifest) = f.store.manifest(&image, &options).expect("a manifest");
    f.store.tag(&name("packs:1"), &image.with_manifest(manifest)).expect("tagged");
    f.tree(&base);
    let single = f.layer(&[("only", b"foreign")]);
    let mut tar = Vec::new();
    f.store.layers().write_tar(&single, &mut tar, None).expect("a tar");
    // The same files with another end: another diffID.
    tar.extend_from_slice(&[0; 512]);
    let foreign = f.store.layers().import_tar(&mut &*tar, Expected::default()).expect("imported");
    f.tree(&foreign);
    f.image("blob:1", &[foreign]);
    let record = CacheRecord {
        layer: Some(*top.id()),
        created_unix: 1,
        step: "COPY".into(),
        inputs: serde_json::json!({"a": 1}),
    };
    f.store.cache_put(&CacheKey([1; 32]), &record).expect("room");
    assert_clean(&f.store);
    f
}

/// As another process would, which knows nothing of the store yet.
fn fsck(f: &Fixture, repair: bool, deep: bool) -> FsckReport {
    open(f.store.root()).fsck(FsckOptions { repair, deep }).expect("fsck")
}

/// Files below a directory.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).expect("readable") {
        let entry = entry.expect("readable");
        if entry.file_type().expect("readable").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn flip(path: &Path) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).expect("writable");
    let middle = file.metadata().expect("readable").len() / 2;
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, middle).expect("not empty");
    file.seek(SeekFrom::Start(middle)).expect("seek");
    file.write_all(&[byte[0] ^ 0x55]).expect("room");
}

#[test]
fn damage_to_any_file_is_found_and_repaired() {
    let count = files(full().store.root()).len();
    for at in 0..count {
        let f = full();
        let all = files(f.store.root());
        let path = &all[at];
        let shown = path.strip_prefix(f.store.root()).expect("below").display().to_string();
        if fs::metadata(path).expect("there").len() == 0 || shown == "store.json" {
            continue;
        }
        flip(path);
        let report = fsck(&f, false, true);
        // The text of a mount's id, the lock and such are checked by nobody; none is in here.
        assert!(!report.problems.is_empty(), "{shown} was changed and nobody saw it");
        let repaired = fsck(&f, true, true);
        assert!(repaired.is_clean(), "{shown}: {:#?}", repaired.problems);
        let again = fsck(&f, false, true);
        assert!(again.problems.is_empty(), "{shown}: {:#?}", again.problems);
    }
}

#[test]
fn damaged_pieces_of_a_compressed_form_are_removed() {
    let f = fixture();
    let layer = f.layer(&[("zeros", &vec![0; 2 << 20])]);
    let compression = Compression::new(Codec::Gzip);
    f.store.layers().compressed(&layer, &compression, None).expect("a blob");
    assert_clean(&f.store);
    let name = format!("{}.pieces", compression.format_name());
    let path = layer.directory().join(name);
    flip(&path);
    let report = fsck(&f, false, true);
    assert_eq!(report.problems.len(), 1, "{:#?}", report.problems);
    assert!(fsck(&f, true, true).is_clean() && !path.exists());
    assert_clean(&f.store);
}

/// What is wrong with a file, in words, and how it comes to that.
type Spoiler = (&'static str, fn(&Path));

/// Besides one changed byte and its absence.
const SPOILERS: [Spoiler; 4] = [
    ("cut in half", |path| {
        let file = OpenOptions::new().write(true).open(path).expect("writable");
        file.set_len(file.metadata().expect("readable").len() / 2).expect("shorter");
    }),
    ("empty", |path| drop(File::create(path).expect("writable"))),
    ("longer", |path| {
        let mut file = OpenOptions::new().append(true).open(path).expect("writable");
        file.write_all(b"more").expect("room");
    }),
    ("under another name", |path| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let at = name.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(0);
        let other = if name[at..].starts_with('0') { "1" } else { "0" };
        let name = format!("{}{other}{}", &name[..at], &name[at + 1..]);
        fs::rename(path, path.with_file_name(name)).expect("room");
    }),
];

/// The images that are there, with their layers; all of them must be usable.
fn usable(f: &Fixture, story: &str) -> Vec<String> {
    let store = open(f.store.root());
    let mut names = Vec::new();
    for (reference, image) in store.tags().expect("tags") {
        let layers = store.image_layers(&image);
        let layers = layers.unwrap_or_else(|error| panic!("{story}: {reference}: {error}"));
        for layer in layers {
            let mut tar = Vec::new();
            let written = store.layers().write_tar(&layer, &mut tar, None);
            written.unwrap_or_else(|error| panic!("{story}: {reference}: {error}"));
        }
        names.push(reference.familiar());
    }
    names
}

/// Which images cannot do without a file, as it is below the root.
fn takes(shown: &str, f: &Fixture) -> Vec<&'static str> {
    let mut taken = Vec::new();
    for name in ["packs:1", "blob:1"] {
        let image = f.store.tagged(&self::name(name)).expect("readable").expect("there");
        let mut needed = vec![image.config.hex()];
        for layer in f.store.image_layers(&image).expect("layers") {
            needed.push(layer.short().to_string());
            needed.extend(layer.blob().map(|blob| blob.digest.hex()));
        }
        let of_image = needed.iter().any(|part| shown.contains(part.as_str()));
        // A pack may have contents of either; a tag's file is named by its name's hash.
        if of_image || shown.starts_with("packs/") || shown.starts_with("tags/") {
            taken.push(name);
        }
    }
    taken
}

#[test]
fn whatever_happens_to_a_file_the_rest_stays() {
    let count = files(full().store.root()).len();
    for (what, spoil) in SPOILERS {
        for at in 0..count {
            let f = full();
            let path = files(f.store.root())[at].clone();
            let shown = path.strip_prefix(f.store.root()).expect("below").display().to_string();
            if ["store.json", "lock"].contains(&shown.as_str()) {
                continue;
            }
            let may_go = takes(&shown, &f);
            spoil(&path);
            let story = format!("{shown} is {what}");
            let found = fsck(&f, false, true);
            let repaired = fsck(&f, true, true);
            assert!(repaired.is_clean(), "{story}: {:#?}", repaired.problems);
            assert_eq!(found.problems.len(), repaired.problems.len(), "{story}");
            let again = fsck(&f, false, true);
            assert!(again.problems.is_empty(), "{story}: {:#?}", again.problems);
            let left = usable(&f, &story);
            for name in ["packs:1", "blob:1"] {
                let stays = left.iter().any(|left| left == name);
                assert!(stays || may_go.contains(&name), "{story}, and {name} is gone");
            }
        }
    }
}

/// Nobody waits for a pipe or reads a device to its end, and what belongs there is made or missed.
#[test]
fn a_file_that_is_none_any_more_is_found_and_repaired() {
    let count = files(full().store.root()).len();
    let pipe = |path: &Path| {
        let directory = File::open(path.parent().expect("below the root")).expect("there");
        let name = path.file_name().expect("a name");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(&directory, name, kind, mode, 0).expect("a pipe");
    };
    let endless = |path: &Path| {
        std::os::unix::fs::symlink("/dev/zero", path).expect("room");
    };
    let directory = |path: &Path| {
        fs::create_dir(path).expect("room");
        fs::write(path.join("x"), "y").expect("room");
    };
    for (what, make) in
        [("a pipe", &pipe as &dyn Fn(&Path)), ("a device", &endless), ("a directory", &directory)]
    {
        for at in 0..count {
            let f = full();
            let path = files(f.store.root())[at].clone();
            let shown = path.strip_prefix(f.store.root()).expect("below").display().to_string();
            if ["store.json", "lock"].contains(&shown.as_str()) {
                continue;
            }
            fs::remove_file(&path).expect("there");
            make(&path);
            let story = format!("{shown} is {what}");
            fsck(&f, false, true);
            let repaired = fsck(&f, true, true);
            assert!(repaired.is_clean(), "{story}: {:#?}", repaired.problems);
            let again = fsck(&f, false, true);
            assert!(again.problems.is_empty(), "{story}: {:#?}", again.problems);
            usable(&f, &story);
        }
    }
}

#[test]
fn a_store_that_does_not_say_what_it_is_is_repaired() {
    let f = full();
    let (root, mark) = (f.store.root(), f.store.root().join("store.json"));
    let good = fs::read(&mark).expect("there");
    let options = options();
    for bad in [&good[..good.len() / 2], b"", b"\0\0\0", b"[1, 2]"] {
        fs::write(&mark, bad).expect("room");
        let error = Store::open(root, &options).expect_err("damaged");
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        let (store, problems) = Store::open_repaired(root, &options).expect("repaired");
        assert!(problems.len() == 1 && problems[0].repaired);
        assert!(store.fsck(FsckOptions { repair: true, deep: true }).expect("fsck").is_clean());
        assert_eq!(fs::read(&mark).expect("there"), good);
        assert_eq!(usable(&f, "store.json is damaged").len(), 2);
    }
    // What can be read is left as it is.
    let newer = String::from_utf8(good).expect("json").replace("\"version\": 1", "\"version\": 9");
    fs::write(&mark, &newer).expect("room");
    Store::open_repaired(root, &options).map(drop).expect_err("a newer store");
    assert_eq!(fs::read_to_string(&mark).expect("there"), newer);
}

/// What is deleted in a work area must never be somebody else's, nor the store itself.
#[test]
fn a_directory_that_is_a_link_is_not_followed() {
    for (part, target) in [("work", "."), ("work", "../precious"), ("leases", "."), ("packs", "/")]
    {
        let f = full();
        let precious = f.beside("precious");
        fs::create_dir_all(precious.join("a")).expect("room");
        let root = f.beside("moved");
        fs::rename(f.store.root(), &root).expect("moved");
        let path = root.join(part);
        fs::remove_dir_all(&path).expect("there");
        std::os::unix::fs::symlink(target, &path).expect("room");
        let error = Store::open(&root, &options()).expect_err("refused");
        assert!(error.to_string().contains("is damaged: it is not a directory"), "{error}");
        let (store, problems) = Store::open_repaired(&root, &options()).expect("repaired");
        assert_eq!(problems.len(), 1);
        store.fsck(FsckOptions { repair: true, deep: true }).expect("fsck");
        assert_clean(&store);
        assert_eq!(store.tags().expect("tags").len(), if part == "packs" { 1 } else { 2 });
        assert!(precious.join("a").is_dir());
        drop(store);
        fs::rename(&root, f.store.root()).expect("moved back");
    }
    // What is merely missing is made again, and a directory of somebody else stays as it is.
    let f = full();
    for part in ["leases", "mounts"] {
        fs::remove_dir_all(f.store.root().join(part)).expect("there");
    }
    assert_clean(&open(f.store.root()));
    fs::write(f.store.root().join("thesis"), "data").expect("room");
    Store::open_repaired(f.store.root(), &options()).map(drop).expect_err("not all is ours");
    fs::remove_file(f.store.root().join("thesis")).expect("there");
}

/// With the store's own path before them, these are longer than any path may be.
#[test]
fn the_longest_paths_are_checked_counted_and_removed() {
    let f = fixture();
    let long = ["a/".repeat(2047) + "bb", "d/".repeat(1500) + "x", "d/".repeat(1500) + "y"];
    let files: Vec<(&str, &[u8])> = long.iter().map(|path| (path.as_str(), &b"deep"[..])).collect();
    let layer = f.layer(&files);
    f.image("deep:1", std::slice::from_ref(&layer));
    f.tree(&layer);
    assert_eq!(fsck(&f, true, true).problems.len(), 0);
    let usage = f.store.usage().expect("counted");
    assert!(!is_root() || usage.total > 3500 * 4096, "{usage:?}");
    f.store.untag(&name("deep:1")).expect("untagged");
    f.store.prune(&PruneOptions::default()).expect("pruned");
    assert_eq!(f.store.layers().list().expect("layers"), []);
    assert_eq!(fs::read_dir(f.store.root().join("layers")).expect("there").count(), 0);
}

/// Each is whole; only the tar says to which layer it belongs.
#[test]
fn the_table_of_contents_of_another_layer_is_seen() {
    let f = fixture();
    let foreign = |content: &[u8]| {
        let mut tar = Vec::new();
        f.store.layers().write_tar(&f.layer(&[("file", content)]), &mut tar, None).expect("a tar");
        tar.extend_from_slice(&[0; 512]);
        f.store.layers().import_tar(&mut &*tar, Expected::default()).expect("imported")
    };
    let (one, two) = (foreign(b"one"), foreign(b"two"));
    f.image("one:1", std::slice::from_ref(&one));
    f.image("two:1", std::slice::from_ref(&two));
    assert_eq!(fsck(&f, false, true).problems.len(), 0);
    fs::copy(one.directory().join("toc"), two.directory().join("toc")).expect("room");
    let found = fsck(&f, true, true);
    let words = "its table of contents is not that of its blob";
    assert!(found.problems.iter().any(|problem| problem.what == words), "{:?}", found.problems);
    assert!(fsck(&f, false, true).problems.is_empty());
    assert_eq!(usable(&f, "a table of contents was exchanged"), ["one:1"]);
}

#[test]
fn a_file_that_is_gone_is_found_and_repaired() {
    let count = files(full().store.root()).len();
    for at in 0..count {
        let f = full();
        let all = files(f.store.root());
        let shown = all[at].strip_prefix(f.store.root()).expect("below").display().to_string();
        if ["store.json", "lock"].contains(&shown.as_str()) {
            continue;
        }
        fs::remove_file(&all[at]).expect("there");
        // What may be absent: tags, cache, index entries, recorded diffIDs and compressed forms.
        fsck(&f, true, true);
        let again = fsck(&f, false, true);
        assert!(again.problems.is_empty(), "{shown}: {:#?}", again.problems);
        for (reference, image) in f.store.tags().expect("tags") {
            f.store.image_layers(&image).unwrap_or_else(|e| panic!("{shown}: {reference}: {e}"));
        }
    }
}

#[test]
fn one_bad_content_takes_only_what_needs_it() {
    let f = full();
    let packs = f.store.contents().list_packs().expect("packs");
    let hello = blake3::hash(b"hello");
    for (id, path) in packs {
        for record in f.store.contents().pack_records(id).expect("records") {
            if record.hash.as_bytes() == hello.as_bytes() {
                let file = OpenOptions::new().write(true).open(&path).expect("writable");
                std::os::unix::fs::FileExt::write_all_at(&file, b"HELLO", record.offset)
                    .expect("room");
            }
        }
    }
    let report = fsck(&f, true, false);
    assert!(report.is_clean());
    let tags: Vec<_> =
        f.store.tags().expect("tags").into_iter().map(|tag| tag.0.familiar()).collect();
    assert_eq!(tags, ["blob:1"]);
    let sh = lapstrake_layerstore::ContentHash::of(&[7; 9000]);
    let store = open(f.store.root());
    assert!(store.contents().has(&sh), "the sound content of the same pack is still there");
    assert!(!store.contents().has(&lapstrake_layerstore::ContentHash::of(b"hello")));
    let layers = f.store.layers().list().expect("layers").len();
    assert_eq!(layers, 3, "only the layer with the bad content is gone");
}

#[test]
fn what_a_dead_process_leaves_is_a_leftover() {
    let f = full();
    fs::create_dir(f.store.root().join("work/w-dead")).expect("room");
    File::create(f.store.root().join("leases/l-dead")).expect("room");
    fs::write(f.store.root().join("blobs/sha256/stray"), "x").expect("room");
    let report = fsck(&f, false, false);
    assert!(report.is_clean());
    assert_eq!(report.problems.len(), 3, "{:#?}", report.problems);
    assert!(report.problems.iter().all(|problem| problem.severity == Severity::Leftover));
    fsck(&f, true, false);
    assert!(fsck(&f, false, false).problems.is_empty());
}

#[test]
fn the_wrong_owner_and_the_wrong_version_are_refused() {
    use lapstrake_layerstore::{
        OpenOptions, Store, StoreError,
        layers::OverlayXattr,
        store::{IdRange, OwnerMap},
    };
    if !require(&[Need::Root]) {
        return;
    }
    let f = full();
    let root = f.store.root();
    let mapped = OwnerMap {
        uids: vec![IdRange { inside: 0, outside: 1000, length: 1 }],
        gids: vec![IdRange { inside: 0, outside: 1000, length: 1 }],
    };
    let open = |owner_map, overlay_xattr| {
        Store::open(root, &OpenOptions { create: false, overlay_xattr, owner_map })
    };
    let error = open(Some(mapped), OverlayXattr::User).expect_err("another owner");
    assert!(error.to_string().contains("belongs to root, and was opened as user 1000 with 1 ids"));
    let error = open(Some(OwnerMap::root()), OverlayXattr::User).expect_err("another namespace");
    assert!(matches!(error, StoreError::OtherOverlay { .. }), "{error}");
    open(None, OverlayXattr::User).expect("who touches no tree may come in");
    let json = fs::read_to_string(root.join("store.json")).expect("there");
    fs::write(root.join("store.json"), json.replace("\"version\": 1", "\"version\": 9"))
        .expect("room");
    let error = open(None, OverlayXattr::User).expect_err("another version");
    assert!(error.to_string().contains("format version 9"), "{error}");
    fs::write(root.join("store.json"), json).expect("room");
    let elsewhere = f.beside("elsewhere");
    let absent = OpenOptions { create: false, overlay_xattr: OverlayXattr::User, owner_map: None };
    let error = Store::open(&elsewhere, &absent).expect_err("nothing there");
    assert!(matches!(error, StoreError::NoStore { .. }), "{error}");
    assert!(!elsewhere.exists());
    fs::create_dir(&elsewhere).expect("room");
    fs::write(elsewhere.join("precious"), "data").expect("room");
    let create = OpenOptions { create: true, ..absent };
    let error = Store::open(&elsewhere, &create).expect_err("something else there");
    assert!(error.to_string().contains("holds `precious`"), "{error}");
}

#[test]
fn a_tag_of_a_newer_version_is_left_alone() {
    let f = full();
    let path = f.store.root().join("tags").join("f".repeat(64));
    fs::write(&path, "lapstrake-tag 3 of a form that nobody knows yet").expect("room");
    for repair in [false, true] {
        let report = fsck(&f, repair, true);
        assert!(report.is_clean(), "{:#?}", report.problems);
        assert_eq!(report.problems.len(), 1);
        assert_eq!(
            (report.problems[0].severity, report.problems[0].repaired),
            (Severity::Unknown, false)
        );
        assert!(path.exists());
    }
    // Nobody can tell what it keeps, so nothing is pruned.
    let error = f.store.prune(&PruneOptions::default()).expect_err("a tag that cannot be read");
    assert!(error.to_string().contains("a newer lap wrote it"), "{error}");
    fs::write(&path, "lapstrake-tag x").expect("room");
    assert!(!fsck(&f, false, false).is_clean(), "what is no tag of any version is damaged");
    fsck(&f, true, false);
    assert!(!path.exists());
}
