//! A store in a temporary directory, and images made for the occasion.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use lapstrake_fixtures::host::is_root;
use lapstrake_layerstore::{
    ImageRecord, LayerPath, Lease, OpenOptions, Reference, Store,
    layers::{Layer, OverlayXattr},
    oci::{ImageConfig, Platform},
    store::{OwnerMap, check::FsckOptions},
    toc::{Entry, Kind},
    transfer::NamedImages,
};

/// A store of its own, removed at the end, and checked before.
pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    /// For tests that leave damage behind on purpose.
    pub(crate) check_at_end: bool,
}

pub(crate) fn fixture() -> Fixture {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = open(&directory.path().join("store"));
    Fixture { directory, store, check_at_end: true }
}

pub(crate) fn open(root: &Path) -> Store {
    Store::open(root, &options()).expect("a store")
}

pub(crate) fn options() -> OpenOptions {
    let overlay_xattr = OverlayXattr::Trusted;
    // An ordinary user makes no trees here.
    let owner_map = is_root().then(OwnerMap::root);
    OpenOptions { create: true, overlay_xattr, owner_map }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if self.check_at_end && !std::thread::panicking() {
            assert_clean(&self.store);
        }
    }
}

/// fsck finds nothing, not even when it looks closely.
pub(crate) fn assert_clean(store: &Store) {
    let report = store.fsck(FsckOptions { repair: false, deep: true }).expect("fsck");
    assert!(report.is_clean(), "{:#?}", report.problems);
}

pub(crate) fn path(text: &str) -> LayerPath {
    LayerPath::parse(text).expect(text)
}

pub(crate) fn name(text: &str) -> Reference {
    Reference::parse(text).expect(text)
}

impl Fixture {
    /// A path beside the store.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn layer(&self, files: &[(&str, &[u8])]) -> Arc<Layer> {
        layer(&self.store, files)
    }

    /// The layer's tree, where the user running this can make one.
    pub(crate) fn tree(&self, layer: &Arc<Layer>) {
        if is_root() {
            self.store.layers().tree(layer).expect("a tree");
        }
    }

    /// An image of these layers, tagged.
    pub(crate) fn image(&self, tag: &str, layers: &[Arc<Layer>]) -> ImageRecord {
        let lease = self.store.lease().expect("a lease");
        let image = put_image(&self.store, &lease, layers);
        self.store.tag(&name(tag), &image).expect("a tag");
        image
    }

    pub(crate) fn named(&self, tags: &[&str]) -> NamedImages {
        let image = |tag: &&str| {
            let image = self.store.tagged(&name(tag)).expect("readable").expect("tagged");
            (Some(name(tag)), image)
        };
        tags.iter().map(image).collect()
    }
}

/// A layer of ours with these files, in a directory `etc` when their names say so.
pub(crate) fn layer(store: &Store, files: &[(&str, &[u8])]) -> Arc<Layer> {
    let mut writer = store.contents().writer();
    let mut entries = Vec::new();
    for (at, bytes) in files {
        let (hash, size) = writer.put_bytes(bytes).expect("room");
        let mut parent = path(at).parent();
        while let Some(directory) = parent.filter(|parent| !parent.is_root()) {
            entries.push(Entry::directory(directory.clone(), 0o755, 1000));
            parent = directory.parent();
        }
        let content = (size > 0).then_some(hash);
        let file = Entry::new(path(at), Kind::File);
        entries.push(Entry { mode: 0o644, mtime: 1000, size, content, ..file });
    }
    writer.finish().expect("room");
    store.layers().create(entries).expect("a layer")
}

pub(crate) fn put_image(store: &Store, lease: &Lease, layers: &[Arc<Layer>]) -> ImageRecord {
    let mut config =
        ImageConfig { created: Some("2026-01-02T03:04:05Z".into()), ..ImageConfig::default() };
    config.set_platform(&Platform::host());
    config.config.cmd = vec!["/hello".into(), "<&>".into()];
    config.config.labels.insert("a".into(), "b".into());
    for layer in layers {
        lease.hold(layer.short()).expect("the layer");
        config.rootfs.diff_ids.push(store.layers().diff_id(layer).expect("a diffID"));
    }
    let image = store.put_image(&config.to_json(), layers).expect("an image");
    lease.hold_blob(&image.config).expect("its config");
    image
}

/// Runs a program of the machine, which the test has required.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("required before");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

pub(crate) fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}
