//! The store on a file system with reflinks: XFS in a file, mounted for the test.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use lapstrake_fixtures::host::{Need, require};
use lapstrake_layerstore::{
    DiffId, Digest, Store,
    compress::Compression,
    layers::{Expected, Layer, Purpose},
    limits::OWN_PACK_BYTES,
    toc::{Entry, Kind},
    transfer::{LoadOptions, SaveOptions, load_dir, save_oci_dir},
};

use crate::{
    listing::disk,
    support::{assert_clean, open, path, put_image, run, text},
};

/// The smallest that mkfs.xfs makes; it takes up next to nothing.
const DISK_BYTES: u64 = 320 << 20;
/// Large enough for a pack of its own.
const LARGE_BYTES: usize = OWN_PACK_BYTES as usize + (3 << 20);

/// An XFS in a file, unmounted at the end.
struct Xfs {
    directory: tempfile::TempDir,
}

impl Xfs {
    /// `None` where this host mounts no files: the reason is printed.
    #[expect(clippy::print_stderr, reason = "a skipped test says so in the test's own output")]
    fn mount() -> Option<Xfs> {
        if !require(&[Need::Root, Need::Tool("mkfs.xfs")]) {
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let image = directory.path().join("image");
        fs::File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).expect("a file");
        let xfs = Xfs { directory };
        fs::create_dir(xfs.root()).expect("room");
        run("mkfs.xfs", &["-q", "-m", "reflink=1", text(&image)]);
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop", text(&image), text(&xfs.root())]);
        let mounted = mount.output().expect("mount can be started");
        if mounted.status.success() {
            return Some(xfs);
        }
        eprintln!("skipped: {}", String::from_utf8_lossy(&mounted.stderr).trim());
        None
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Bytes in use, each block once, however many files share it.
    fn used(&self) -> u64 {
        rustix::fs::syncfs(fs::File::open(self.root()).expect("mounted")).expect("synced");
        let stat = rustix::fs::statvfs(self.root()).expect("mounted");
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        // Where it was not mounted, there is nothing to unmount.
        drop(Command::new("umount").arg(self.root()).output());
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A large file, many small ones, and one that tells the versions apart.
fn version(store: &Store, changed: &[u8]) -> Arc<Layer> {
    let mut writer = store.layers().contents().writer();
    let mut file = |name: &str, content: &[u8]| {
        let (hash, size) = writer.put(&mut &*content).expect("room");
        let entry = Entry::new(path(name), Kind::File);
        Entry { mode: 0o644, size, content: Some(hash), ..entry }
    };
    let mut entries = vec![file("d/large", &noise(LARGE_BYTES)), file("e/changed", changed)];
    entries.extend((0..100).map(|n| file(&format!("d/{n}"), &noise(6000)[n..])));
    writer.finish().expect("room");
    store.layers().create(entries).expect("a layer")
}

fn tar(store: &Store, layer: &Arc<Layer>) -> Vec<u8> {
    let mut tar = Vec::new();
    store.layers().write_tar(layer, &mut tar, None).expect("a tar");
    tar
}

fn tree(store: &Store, layer: &Arc<Layer>) -> PathBuf {
    let tree = store.layers().tree(layer).expect("a tree");
    disk::check(&tree, layer.toc().expect("a table of contents"));
    tree
}

fn pulled(store: &Store, tar: &[u8], purpose: Purpose) -> Arc<Layer> {
    let diff_id = Some(DiffId::from_digest(Digest::of(tar)));
    let expected = Expected { diff_id, ..Expected::default() };
    store.layers().import_tar_for(&mut &*tar, expected, purpose).expect("a layer")
}

fn inode(tree: &Path, name: &str) -> u64 {
    tree.join(name).metadata().expect("it is there").ino()
}

/// What `du` says of the store, which counts what is shared as often as it is.
fn du(root: &Path) -> u64 {
    let out = Command::new("du").args(["-s", "-B1", text(root)]).output().expect("du");
    let out = String::from_utf8(out.stdout).expect("plain");
    out.split_whitespace().next().expect("a number").parse().expect("a number")
}

#[test]
fn trees_share_blocks_and_not_inodes() {
    let Some(xfs) = Xfs::mount() else { return };
    let large = LARGE_BYTES as u64;
    let (root, empty) = (xfs.root().join("store"), xfs.used());
    let store = open(&root);
    let first = version(&store, b"1");
    let before = xfs.used();
    let first_tree = tree(&store, &first);
    assert!(xfs.used() - before < large / 2, "a pack of its own gives its blocks to the tree");
    let before = xfs.used();
    let second_tree = tree(&store, &version(&store, b"2"));
    assert!(xfs.used() - before < large / 2, "and a tree to the next version's");
    assert_ne!(inode(&first_tree, "d/7"), inode(&second_tree, "d/7"));
    // `lap du` says what `du` says, within a hundredth: what is shared counts twice in both.
    let (ours, theirs) = (store.usage().expect("usage").total, du(&root));
    assert!(ours.abs_diff(theirs) <= theirs / 100, "{ours} and {theirs}");
    let used = xfs.used() - empty;
    assert!(theirs > 3 * large && used < 2 * large, "{theirs} {used}");
    // What is changed in one of them is not changed in the other.
    fs::write(second_tree.join("d/7"), b"changed").expect("written");
    assert_eq!(fs::read(first_tree.join("d/7")).expect("read"), noise(6000)[7..]);
}

#[test]
fn layers_that_come_share_blocks_with_those_that_came() {
    let Some(xfs) = Xfs::mount() else { return };
    let source = open(&xfs.root().join("source"));
    let tars = [b"1", b"2", b"3"].map(|changed| tar(&source, &version(&source, changed)));
    let store = open(&xfs.root().join("store"));
    let first = pulled(&store, &tars[0], Purpose::Run);
    assert!(first.has_tree());
    for (at, purpose) in [(1, Purpose::Run), (2, Purpose::Keep)] {
        let before = xfs.used();
        let next = pulled(&store, &tars[at], purpose);
        assert_ne!(inode(&tree(&store, &next), "d/7"), inode(&first.tree_path(), "d/7"));
        let (grown, blob) = (xfs.used() - before, tars[at].len() as u64);
        assert!(grown < blob + LARGE_BYTES as u64 / 2, "{purpose:?}: {grown} for {blob}");
    }
    assert_clean(&store);
    tree(&store, &first);
}

/// An image goes out as a layout and comes into another store: its blob is on the disk once.
#[test]
fn blobs_of_a_layout_share_blocks_with_the_store() {
    let Some(xfs) = Xfs::mount() else { return };
    let large = LARGE_BYTES as u64;
    let source = open(&xfs.root().join("source"));
    let lease = source.lease().expect("a lease");
    let image = put_image(&source, &lease, &[version(&source, b"1")]);
    let (layout, images) = (xfs.root().join("layout"), vec![(None, image)]);
    let options = SaveOptions::new(Compression::default());
    save_oci_dir(&source, &images, &layout, &options).expect("room");
    let exported = xfs.used();
    fs::remove_dir_all(&layout).expect("removed");
    assert!(exported - xfs.used() < large / 2, "the layout has the store's blocks");
    save_oci_dir(&source, &images, &layout, &options).expect("room");
    let (store, before) = (open(&xfs.root().join("store")), xfs.used());
    let lease = store.lease().expect("a lease");
    load_dir(&store, &lease, &layout, &LoadOptions::default()).expect("loaded");
    assert!(xfs.used() - before < large / 2, "the store has the layout's blocks");
    // Neither changes with the other.
    for blob in fs::read_dir(layout.join("blobs/sha256")).expect("there") {
        fs::write(blob.expect("readable").path(), b"changed").expect("written");
    }
    assert_clean(&store);
    assert_clean(&source);
}
