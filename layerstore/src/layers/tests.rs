//! A store of layers in a temporary directory, and what becomes of layers in it.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    sync::Arc,
};

use super::*;
use crate::{
    ContentHash, Digest, LayerPath,
    archive::TarWriter,
    compress::{Codec, Compression},
    toc::{Entry, Kind},
    view::View,
};

pub(crate) struct Fixture {
    pub(crate) root: tempfile::TempDir,
    pub(crate) layers: Layers,
}

/// As [`fixture`], where that name is taken by a variable.
pub(crate) fn new_fixture() -> Fixture {
    fixture()
}

pub(crate) fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let staging = Arc::new(Staging::create(&root.path().join("work")).unwrap());
    let contents = Contents::open_store(root.path(), Arc::clone(&staging)).unwrap();
    let blobs = Blobs::open(root.path(), Arc::clone(&staging)).unwrap();
    let overlay = OverlayXattr::Trusted;
    let layers = Layers::open(root.path(), overlay, staging, Arc::new(contents), blobs).unwrap();
    Fixture { root, layers }
}

pub(crate) fn path(text: &str) -> LayerPath {
    LayerPath::parse(text).unwrap()
}

pub(crate) fn dir(at: &str) -> Entry {
    Entry::directory(path(at), 0o755, 1000)
}

pub(crate) fn link(at: &str, kind: Kind, to: &str) -> Entry {
    let mode = if kind == Kind::Symlink { 0o777 } else { 0o644 };
    Entry { link: to.into(), mode, mtime: 1000, ..Entry::new(path(at), kind) }
}

impl Fixture {
    pub(crate) fn file(&self, at: &str, content: &[u8]) -> Entry {
        let mut writer = self.layers.contents().writer();
        let (hash, size) = writer.put_bytes(content).unwrap();
        writer.finish().unwrap();
        Entry {
            mode: 0o644,
            mtime: 1000,
            size,
            content: Some(hash),
            ..Entry::new(path(at), Kind::File)
        }
    }

    pub(crate) fn tar(&self, layer: &Arc<Layer>) -> Vec<u8> {
        let mut tar = Vec::new();
        self.layers.write_tar(layer, &mut tar, None).unwrap();
        tar
    }

    fn import(&self, bytes: &[u8]) -> Result<Arc<Layer>, StoreError> {
        self.layers.import_tar(&mut &*bytes, Expected::default())
    }
}

/// May this process give files to anybody, and make devices?
pub(crate) fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.contains("4294967295")
}

/// One of everything.
fn sample(fixture: &Fixture) -> Vec<Entry> {
    let mut secret = fixture.file("etc/secret", b"s3cret");
    (secret.mode, secret.uid, secret.gid) = (0o4600, 7, 8);
    let mut zero = fixture.file("empty", b"");
    zero.mtime = -5;
    let mut null = Entry::new(path("dev/null"), Kind::CharDevice);
    (null.mode, null.device) = (0o666, (1, 3));
    let mut big_ids = fixture.file("big/ids", &[9; 700]);
    (big_ids.uid, big_ids.gid) = (3_000_000, 4_000_000_000);
    let long = format!("{}/{}", "d".repeat(200), "n".repeat(120));
    vec![
        dir("etc"),
        secret,
        fixture.file("etc/hosts", b"127.0.0.1 localhost\n"),
        link("etc/link", Kind::Symlink, "/usr/../etc/hosts"),
        link("etc/same", Kind::Hardlink, "etc/hosts"),
        zero,
        dir("dev"),
        null,
        Entry { mode: 0o600, ..Entry::new(path("pipe"), Kind::Fifo) },
        dir("big"),
        big_ids,
        dir(&"d".repeat(200)),
        fixture.file(&long, b"long"),
        Entry::whiteout(path("etc/gone")),
        Entry::whiteout(path("gone")),
        dir("a"),
        dir("a-b"),
        fixture.file("a/x", b"x"),
        fixture.file("a-b/y", b"y"),
    ]
}

#[test]
fn the_same_entries_are_the_same_layer() {
    let fixture = fixture();
    let layer = fixture.layers.create(sample(&fixture)).unwrap();
    let mut shuffled = sample(&fixture);
    shuffled.reverse();
    let again = fixture.layers.create(shuffled).unwrap();
    assert_eq!(layer.id(), again.id());
    assert_eq!(fixture.layers.list().unwrap().as_slice(), [layer.short().clone()]);
    let found = fixture.layers.get(layer.short()).unwrap().unwrap();
    assert_eq!(found.toc().unwrap(), layer.toc().unwrap());
    let missing = Entry { content: Some(ContentHash::of(b"no")), size: 2, ..dir("f") };
    let missing = Entry { kind: Kind::File, ..missing };
    assert!(matches!(fixture.layers.create(vec![missing]), Err(StoreError::ContentMissing { .. })));
}

/// The bytes of layers are a promise: these digests change only with a format version.
#[test]
fn golden_digests() {
    use std::fmt::Write as _;
    let fixture = fixture();
    let layer = fixture.layers.create(sample(&fixture)).unwrap();
    let mut text = format!("id {}\n", layer.id());
    writeln!(text, "content {}", layer.toc().unwrap().content_id()).unwrap();
    writeln!(text, "diff {}", fixture.layers.diff_id(&layer).unwrap()).unwrap();
    for epoch in [Epoch::Clamp(500), Epoch::Set(500)] {
        let diff_id = fixture.layers.diff_id_at(&layer, Some(epoch)).unwrap();
        writeln!(text, "diff {diff_id}").unwrap();
    }
    for (codec, level) in
        [(Codec::Gzip, 1), (Codec::Gzip, 6), (Codec::Gzip, 9), (Codec::Zstd, 3), (Codec::None, 0)]
    {
        let compression = Compression { level: Some(level), ..Compression::new(codec) };
        let made = fixture.layers.compressed(&layer, &compression, None).unwrap();
        writeln!(text, "{} {} {}", compression.format_name(), made.digest, made.size).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_compressed_layer_comes_back_as_itself() {
    let fixture = fixture();
    let layer = fixture.layers.create(sample(&fixture)).unwrap();
    let tar = fixture.tar(&layer);
    for codec in [Codec::Gzip, Codec::Zstd, Codec::None] {
        let made = fixture.layers.compressed(&layer, &Compression::new(codec), None).unwrap();
        let again = fixture.layers.compressed(&layer, &Compression::new(codec), None).unwrap();
        assert_eq!(made, again);
        let blob = fixture.layers.blobs().get(&made.digest, 1 << 20).unwrap();
        let (found, mut plain) = crate::compress::decoder(blob.as_slice()).unwrap();
        let mut bytes = Vec::new();
        plain.read_to_end(&mut bytes).unwrap();
        assert_eq!((found, bytes == tar), (codec, true));
        // Pulled back, it is the layer that it was.
        let pulled = fixture.import(&blob).unwrap();
        assert_eq!(pulled.id(), layer.id());
        // In another store it is a foreign layer with the same entries and the same diffID.
        let other = new_fixture();
        let foreign = other.import(&blob).unwrap();
        assert_eq!(foreign.origin(), Origin::Blob);
        assert_eq!(foreign.diff_id(), layer.diff_id());
        let plain = |entry: &Entry| Entry { tar_offset: None, ..entry.clone() };
        let entries = |layer: &Layer| layer.toc().unwrap().iter().map(plain).collect::<Vec<_>>();
        assert_eq!(entries(&foreign), entries(&layer));
        assert_eq!(other.tar(&foreign), tar);
    }
}

#[test]
fn gnu_tar_lists_a_layer_without_warnings() {
    let fixture = fixture();
    let layer = fixture.layers.create(sample(&fixture)).unwrap();
    let file = fixture.root.path().join("layer.tar");
    fs::write(&file, fixture.tar(&layer)).unwrap();
    for tool in ["tar", "bsdtar"] {
        let Ok(output) = Command::new(tool).arg("-tvf").arg(&file).output() else {
            println!("skipped: {tool} is not installed");
            continue;
        };
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{tool}");
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(listing.contains("etc/.wh.gone"), "{listing}");
        assert!(listing.contains(&"n".repeat(120)), "{listing}");
    }
}

#[test]
fn lies_leave_nothing() {
    let fixture = fixture();
    let source = new_fixture();
    let layer = source.layers.create(sample(&source)).unwrap();
    let made = source.layers.compressed(&layer, &Compression::default(), None).unwrap();
    let blob = source.layers.blobs().get(&made.digest, 1 << 20).unwrap();
    let right = (made.digest, made.size);
    let other = Digest::of(b"other");
    for (blob_expected, diff_id) in [
        (Some((other, made.size)), None),
        (Some((right.0, made.size + 1)), None),
        (Some((right.0, made.size - 1)), None),
        (Some(right), Some(DiffId::from_digest(other))),
    ] {
        let expected = Expected { blob: blob_expected, diff_id };
        assert!(fixture.layers.import_tar(&mut &*blob, expected).is_err());
    }
    for cut in 0..blob.len() {
        let expected = Expected { blob: Some(right), diff_id: None };
        assert!(fixture.layers.import_tar(&mut &blob[..cut], expected).is_err(), "{cut}");
    }
    // Bytes that are not the promised ones are that, whatever a decoder thinks of them.
    for at in 0..blob.len() {
        let mut bytes = blob.clone();
        bytes[at] ^= 1;
        let expected = Expected { blob: Some(right), diff_id: layer.diff_id() };
        let error = fixture.layers.import_tar(&mut &*bytes, expected).unwrap_err();
        assert!(matches!(error, StoreError::Mismatch { .. }), "{at}: {error}");
    }
    assert!(fixture.layers.list().unwrap().is_empty());
    assert!(fixture.layers.blobs().list().unwrap().is_empty());
    let left = fs::read_dir(fixture.layers.staging.path()).unwrap().count();
    assert_eq!(left, 0);
    let expected = Expected { blob: Some(right), diff_id: layer.diff_id() };
    fixture.layers.import_tar(&mut &*blob, expected).unwrap();
}

/// What a tree must say of each entry of its layer.
fn check_tree(tree: &Path, toc: &Toc) {
    for entry in toc {
        let at = tree.join(entry.path.as_path());
        let meta = fs::symlink_metadata(&at).unwrap();
        let shown = entry.path.to_string();
        if entry.kind == Kind::Whiteout {
            assert_eq!((meta.rdev(), meta.mode() & 0o170_000), (0, 0o020_000), "{shown}");
            continue;
        }
        if entry.kind == Kind::Hardlink {
            let named = tree.join(LayerPath::parse(&entry.link).unwrap().as_path());
            assert_eq!(meta.ino(), fs::symlink_metadata(named).unwrap().ino(), "{shown}");
            continue;
        }
        assert_eq!((meta.uid(), meta.gid()), (entry.uid, entry.gid), "{shown}");
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (entry.mtime, 0), "{shown}");
        if entry.kind != Kind::Symlink {
            assert_eq!(meta.mode() & 0o7777, entry.mode, "{shown}");
        }
        match entry.kind {
            Kind::Dir => assert!(meta.is_dir(), "{shown}"),
            Kind::File => {
                let hash = ContentHash::of(&fs::read(&at).unwrap());
                assert_eq!(entry.content.unwrap_or(ContentHash::of(b"")), hash, "{shown}");
            }
            Kind::Symlink => {
                assert_eq!(
                    fs::read_link(&at).unwrap().as_os_str().as_encoded_bytes(),
                    &*entry.link
                );
            }
            Kind::CharDevice => assert_eq!(meta.rdev(), rustix::fs::makedev(1, 3), "{shown}"),
            _ => {}
        }
    }
}

#[test]
fn trees_say_what_their_toc_says() {
    if !is_root() {
        println!("skipped: owners and devices need root");
        return;
    }
    let fixture = fixture();
    let layer = fixture.layers.create(sample(&fixture)).unwrap();
    let tree = fixture.layers.tree(&layer).unwrap();
    check_tree(&tree, layer.toc().unwrap());
    let blob = fixture.layers.compressed(&layer, &Compression::default(), None).unwrap();
    let blob = fixture.layers.blobs().get(&blob.digest, 1 << 20).unwrap();
    let other = new_fixture();
    let foreign = other.import(&blob).unwrap();
    let tree = other.layers.tree(&foreign).unwrap();
    check_tree(&tree, foreign.toc().unwrap());
    // From the tree back to the same layer.
    let upper = other.root.path().join("upper");
    fs::rename(&tree, &upper).unwrap();
    let below = fixture.layers.create(vec![
        dir("etc"),
        fixture.file("etc/gone", b"gone"),
        fixture.file("gone", b"gone"),
    ]);
    let below = View::new(vec![below.unwrap()]).unwrap();
    let again = other.layers.create_from_upper(&upper, &below, &UpperOptions::default()).unwrap();
    assert_eq!(crate::toc::compare(again.toc().unwrap(), layer.toc().unwrap()), []);
    assert_eq!(again.id(), layer.id());
}

#[test]
fn contents_of_foreign_files_can_be_read_and_kept() {
    let source = fixture();
    let layer = source.layers.create(sample(&source)).unwrap();
    let other = new_fixture();
    let mut tar = source.tar(&layer);
    for compressed in [false, true] {
        if compressed {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&tar).unwrap();
            tar = encoder.finish().unwrap();
        }
        let foreign = other.import(&tar).unwrap();
        let toc = foreign.toc().unwrap();
        let hosts = toc.lookup(&path("etc/hosts")).unwrap();
        let mut content = String::new();
        let mut reader = other.layers.open_content(&foreign, hosts).unwrap();
        reader.read_to_string(&mut content).unwrap();
        assert_eq!(content, "127.0.0.1 localhost\n");
        let files: Vec<Entry> = toc.iter().cloned().collect();
        other.layers.ensure_contents(&foreign, &files).unwrap();
        assert!(
            files.iter().filter_map(|e| e.content.as_ref()).all(|c| other.layers.contents().has(c))
        );
    }
}

#[test]
fn a_tree_is_made_once_by_many() {
    let fixture = fixture();
    let layer = fixture.layers.create(sample(&fixture)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| fixture.layers.tree(&layer).unwrap());
        }
    });
    assert!(layer.has_tree());
}

#[test]
fn marks_of_durability_are_kept() {
    let fixture = fixture();
    let layer = fixture.layers.create(vec![dir("a")]).unwrap();
    assert!(layer.is_durable());
    fixture.layers.mark_durable(&layer).unwrap();
    let again = fixture.layers.get(layer.short()).unwrap().unwrap();
    assert!(again.meta.durable);
}

#[test]
fn large_contents_stream() {
    let fixture = fixture();
    let mut content = vec![0u8; 9 << 20];
    for (at, byte) in content.iter_mut().enumerate() {
        *byte = (at / 7 % 251) as u8;
    }
    let large = fixture.file("large", &content);
    let mut writer = fixture.layers.contents().writer();
    let again = writer.put(&mut content.as_slice()).unwrap();
    writer.finish().unwrap();
    assert_eq!((Some(again.0), again.1), (large.content, large.size));
    let layer = fixture.layers.create(vec![large]).unwrap();
    let tree = fixture.layers.tree(&layer).unwrap();
    assert!(fs::read(tree.join("large")).unwrap() == content);
    let mut tar = TarWriter::new(Vec::new(), None);
    tar.append_bytes(&layer.toc().unwrap().entries()[0], &content).unwrap();
    let tar = tar.finish().unwrap();
    assert!(fixture.tar(&layer) == tar);
    let expected = DiffId::from_digest(Digest::of(&tar));
    assert_eq!(fixture.layers.diff_id(&layer).unwrap(), expected);
}
