//! `fixtures/formats/v1`: a small store that holds every format, as this program wrote it once.
//!
//! Later versions must read it, and write the same bytes. `LAPSTRAKE_ACCEPT=1` writes it anew; then
//! a format changed, and its page in `docs/formats/` and its version must say so.

use std::{
    collections::BTreeMap,
    env, fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use lapstrake_fixtures::{case::fixtures_dir, host::is_root};
use lapstrake_layerstore::{
    CacheKey, CacheRecord, ContentHash, ImageRecord, Lease, Store,
    compress::{Codec, Compression},
    layers::{Expected, Layer, Origin},
    oci::{ImageConfig, Platform},
    store::{IndexRecord, ManifestOptions, gc::PruneOptions},
    toc::{Entry, Kind, Toc},
};

use crate::support::{Fixture, assert_clean, fixture, name, open, path};

const LEASE: &str = "leases/l-golden";

fn golden() -> PathBuf {
    fixtures_dir().join("formats/v1")
}

/// One of everything that a table of contents can say.
fn entries(f: &Fixture) -> Vec<Entry> {
    let mut writer = f.store.contents().writer();
    let (hash, size) = writer.put_bytes(b"content of a file\n").expect("room");
    writer.finish().expect("room");
    let file = |at: &str| Entry {
        mode: 0o4755,
        mtime: -5,
        size,
        content: Some(hash),
        ..Entry::new(path(at), Kind::File)
    };
    let link = |at: &str, kind, to: &str| Entry { link: to.into(), ..Entry::new(path(at), kind) };
    let device = |at: &str, kind| Entry { device: (8, 300), ..Entry::new(path(at), kind) };
    let capability = (b"security.capability".to_vec(), [&[1, 0, 0, 2][..], &[0; 16]].concat());
    vec![
        Entry::directory(path("d"), 0o1777, 1_700_000_000),
        Entry { xattrs: vec![capability].into(), uid: 3_000_000, gid: 7, ..file("d/file") },
        link("d/hard", Kind::Hardlink, "d/file"),
        link("d/soft", Kind::Symlink, "../nowhere"),
        Entry { mtime: 99_999_999_999, ..Entry::new(path("empty"), Kind::File) },
        device("block", Kind::BlockDevice),
        device("char", Kind::CharDevice),
        Entry { mode: 0o600, ..Entry::new(path("fifo"), Kind::Fifo) },
        Entry::whiteout(path("gone")),
    ]
}

fn foreign(f: &Fixture) -> Arc<Layer> {
    let archive = lapstrake_fixtures::raw_tar::parse(
        "dir o/\nfile o/.wh..wh..opq\npax mtime=7.5 ; SCHILY.xattr.user.note=x\nfile f = foreign\n",
    );
    let tar = &mut archive[0].as_slice();
    f.store.layers().import_tar(tar, Expected::default()).expect("a layer")
}

fn image(f: &Fixture, architecture: &str, layers: &[Arc<Layer>]) -> ImageRecord {
    let mut config =
        ImageConfig { created: Some("2026-01-02T03:04:05Z".into()), ..Default::default() };
    config.set_platform(&Platform::new("linux", architecture, ""));
    let diff_id = |layer| f.store.layers().diff_id(layer).expect("a diffID");
    config.rootfs.diff_ids = layers.iter().map(diff_id).collect();
    let image = f.store.put_image(&config.to_json(), layers).expect("an image");
    ImageRecord { created_unix: 1_767_323_045, ..image }
}

fn record(layer: &Layer) -> CacheRecord {
    CacheRecord {
        layer: Some(*layer.id()),
        created_unix: 1_767_323_045,
        step: "COPY d /d".into(),
        inputs: serde_json::json!({"chain": "x", "inputs": [["d/file", 18]]}),
    }
}

/// Everything, made anew; the lease is still held.
fn made() -> (Fixture, Lease) {
    let f = fixture();
    let lease = f.store.lease().expect("a lease");
    let ours = f.store.layers().create(entries(&f)).expect("a layer");
    let foreign = foreign(&f);
    lease.hold(ours.short()).expect("there");
    let plain = image(&f, "amd64", &[ours.clone(), foreign.clone()]);
    let options = ManifestOptions::new(Compression::new(Codec::Zstd));
    let (_, manifest) = f.store.manifest(&plain, &options).expect("a manifest");
    lease.hold_blob(&plain.config).expect("there");
    f.store.tag(&name("app:1"), &plain.clone().with_manifest(manifest)).expect("a tag");
    let other = image(&f, "arm64", std::slice::from_ref(&foreign));
    let index = IndexRecord { images: vec![plain.clone(), other], manifest: None };
    let many = ImageRecord { index: Some(Box::new(index)), ..plain };
    f.store.tag(&name("localhost:5000/many:2"), &many).expect("a tag");
    f.store.cache_put(&CacheKey([0xab; 32]), &record(&ours)).expect("room");
    (f, lease)
}

/// The files of a store but for what is never the same: boots and clocks have fixed values.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("readable") {
            let at = entry.expect("readable").path();
            if at.is_dir() {
                pending.push(at);
                continue;
            }
            let shown = at.strip_prefix(root).expect("below").display().to_string();
            let bytes = fs::read(&at).expect("readable");
            let part = shown.split('/').next().unwrap_or_default();
            match part {
                "work" | "lock" => {}
                "leases" => drop(files.insert(LEASE.to_owned(), fixed_lease(&bytes))),
                "layers" if shown.ends_with("meta.json") => {
                    files.insert(shown, fixed_meta(&bytes));
                }
                _ => drop(files.insert(shown, bytes)),
            }
        }
    }
    files
}

fn fixed_lease(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let (first, rest) = text.split_once('\n').expect("a line");
    let header = first.trim_end_matches(|c: char| c.is_ascii_digit());
    format!("{header}1767323045000000000\n{rest}").into_bytes()
}

fn fixed_meta(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let line = |line: &str| match line.trim_start().split(':').next() {
        Some("\"created_unix\"") => "  \"created_unix\": 1767323045,\n".to_owned(),
        Some("\"boot_id\"") => "  \"boot_id\": \"a boot\",\n".to_owned(),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect::<Vec<_>>().concat().into_bytes()
}

#[test]
fn every_format_is_written_as_it_was() {
    let (f, lease) = made();
    let mut written = files(f.store.root());
    drop(lease);
    if env::var_os("LAPSTRAKE_ACCEPT").is_some() {
        for (name, bytes) in &written {
            let path = golden().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("room");
            fs::write(path, bytes).expect("room");
        }
    }
    let mut recorded = files(&golden());
    if !is_root() {
        // An ordinary user's store has no owner yet.
        drop((written.remove("store.json"), recorded.remove("store.json")));
    }
    assert_eq!(recorded.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
    for (name, bytes) in &written {
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
        assert_eq!(shown(&recorded[name]), shown(bytes), "{name}");
    }
}

/// The golden store, copied to where it can be written.
fn copied() -> Fixture {
    let mut f = fixture();
    let root = f.beside("golden");
    for (name, bytes) in files(&golden()) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("room");
        fs::write(path, bytes).expect("room");
    }
    f.store = open(&root);
    f
}

#[test]
fn every_format_is_read_as_it_was_meant() {
    let f = copied();
    fs::remove_file(f.store.root().join(LEASE)).expect("there");
    assert_clean(&f.store);
    let (again, _lease) = made();
    for tag in ["app:1", "localhost:5000/many:2"] {
        let of = |store: &Store| store.tagged(&name(tag)).expect("readable").expect("tagged");
        assert_eq!(of(&f.store), of(&again.store), "{tag}");
        for image in of(&f.store).every() {
            assert!(!f.store.image_layers(image).expect("its layers").is_empty(), "{tag}");
        }
    }
    let content = ContentHash::of(b"content of a file\n");
    assert!(f.store.contents().has(&content), "the pack is read");
    let image = f.store.tagged(&name("app:1")).expect("readable").expect("tagged");
    let layers = f.store.image_layers(&image).expect("its layers");
    let origins: Vec<Origin> = layers.iter().map(|layer| layer.origin()).collect();
    assert_eq!(origins, [Origin::Packs, Origin::Blob]);
    let mut expected = Toc::from_entries(entries(&again)).expect("entries");
    for layer in &layers {
        let toc = layer.toc().expect("a table of contents");
        assert_eq!(toc.encode(), fs::read(layer.directory().join("toc")).expect("there"));
        if layer.origin() == Origin::Packs {
            assert_eq!(*toc, expected);
        } else {
            expected = Toc::decode(&toc.encode()).expect("what was written");
            assert_eq!(*toc, expected);
        }
        assert_eq!(f.store.layers().diff_id(layer).ok(), layer.diff_id());
    }
    let lease = f.store.lease().expect("a lease");
    let found = f.store.cache_get(&CacheKey([0xab; 32]), &lease);
    assert_eq!(found, Some(record(&layers[0])));
}

/// A lease of its version holds what it names for as long as its file is locked.
#[test]
fn a_golden_lease_holds() {
    let f = copied();
    let locked = fs::File::open(f.store.root().join(LEASE)).expect("there");
    rustix::fs::flock(locked.as_fd(), rustix::fs::FlockOperation::LockExclusive).expect("free");
    for tag in ["app:1", "localhost:5000/many:2"] {
        f.store.untag(&name(tag)).expect("untagged");
    }
    let everything = PruneOptions { all: true, ..PruneOptions::default() };
    let before = f.store.layers().list().expect("layers").len();
    let report = f.store.prune(&everything).expect("pruned");
    assert_eq!((report.live_leases, before), (1, 2));
    let text = fs::read_to_string(f.store.root().join(LEASE)).expect("there");
    for line in text.lines().skip(1) {
        let (kind, named) = line.split_once(' ').expect("two words");
        let is_there = match kind {
            "layer" => f.store.layers().contains(&named.parse().expect("a short id")),
            _ => f.store.blobs().has(&named.parse().expect("a digest")),
        };
        assert!(is_there, "{line}");
    }
    drop(locked);
    f.store.prune(&everything).expect("pruned");
    assert_eq!(f.store.layers().list().expect("layers").len(), 0);
}
