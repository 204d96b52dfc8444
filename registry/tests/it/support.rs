//! Images, stores and clients for tests.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapstrake_fixtures::{TempDir, Tree};
use lapstrake_layerstore::compress::{Codec, Compression};
use lapstrake_layerstore::digest::{DiffId, Digest};
use lapstrake_layerstore::layers::{Expected, OverlayXattr};
use lapstrake_layerstore::oci::{Descriptor, ImageConfig, Manifest, Platform, media_type};
use lapstrake_layerstore::reference::Reference;
use lapstrake_layerstore::store::check::FsckOptions;
use lapstrake_layerstore::store::{ImageRecord, OpenOptions, Store};
use lapstrake_registry::{Client, Event, Options, Progress, RegistryError, RetryPolicy};

/// An image as bytes: plain tar layers, so that blobs and diffIDs are the same.
#[derive(Debug, Clone)]
pub(crate) struct TestImage {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

impl TestImage {
    /// One layer for each tree.
    pub(crate) fn new(trees: &[&str]) -> Self {
        let tar = |text: &&str| Tree::parse(text).to_tar().unwrap();
        Self::of_layers(trees.iter().map(tar).collect())
    }

    pub(crate) fn of_layers(layers: Vec<Vec<u8>>) -> Self {
        let mut config = ImageConfig::default();
        config.set_platform(&Platform::host());
        config.rootfs.kind = "layers".into();
        config.rootfs.diff_ids =
            layers.iter().map(|layer| DiffId::from_digest(Digest::of(layer))).collect();
        let config = config.to_json();
        let describe = |kind: &str, bytes: &Vec<u8>| {
            Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64)
        };
        let named = layers.iter().map(|layer| describe(media_type::OCI_LAYER, layer)).collect();
        let manifest = Manifest::image(describe(media_type::OCI_CONFIG, &config), named).to_json();
        Self { manifest, config, layers }
    }

    /// Puts it into a store.
    pub(crate) fn install(&self, store: &Store) -> ImageRecord {
        let import = |layer: &Vec<u8>| {
            let digest = Digest::of(layer);
            let diff_id = Some(DiffId::from_digest(digest));
            let expected = Expected { blob: Some((digest, layer.len() as u64)), diff_id };
            store.layers().import_tar(&mut layer.as_slice(), expected).unwrap()
        };
        let layers: Vec<_> = self.layers.iter().map(import).collect();
        store.put_image(&self.config, &layers).unwrap()
    }
}

/// A few small files.
pub(crate) fn small_image() -> TestImage {
    TestImage::new(&["etc/\netc/motd = hello\\n\n", "bin/\nbin/sh = not a shell\n"])
}

/// A layer of this many bytes and a bit that do not repeat.
pub(crate) fn big_image(size: usize) -> TestImage {
    let mut seed = 7_u32;
    let noise = (0..size / 16).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("{seed:08x}{:08x}", seed.rotate_left(9))
    });
    TestImage::new(&[&format!("noise = {}\n", noise.collect::<String>())])
}

/// An empty store and its folder.
pub(crate) struct TestStore {
    pub(crate) store: Arc<Store>,
    folder: TempDir,
}

pub(crate) fn empty_store() -> TestStore {
    let folder = TempDir::new("registry");
    let overlay_xattr = OverlayXattr::User;
    let options = OpenOptions { create: true, overlay_xattr, owner_map: None };
    let store = Store::open(&folder.join("store"), &options).unwrap();
    TestStore { store: Arc::new(store), folder }
}

impl Drop for TestStore {
    /// Whatever a test did, the store is whole after it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let report = self.store.fsck(FsckOptions { repair: false, deep: true }).unwrap();
        assert!(report.problems.is_empty(), "{:?}", report.problems);
    }
}

impl TestStore {
    /// Its folder, which is gone with it.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What a failed pull must leave: no layer and no blob beyond the small documents.
    pub(crate) fn assert_no_layers(&self) {
        assert_eq!(self.store.layers().list().unwrap(), []);
        let blobs = self.store.blobs().list().unwrap();
        assert!(blobs.iter().all(|(_, size)| *size < 1500), "{blobs:?}");
    }
}

/// Options for tests: no waits worth the name.
pub(crate) fn options() -> Options {
    let wait = Duration::from_millis(1);
    let retry = RetryPolicy { attempts: 4, first_wait: wait, longest_wait: wait };
    Options { retry, ..Options::default() }
}

pub(crate) fn client() -> Client {
    Client::new(options()).unwrap()
}

pub(crate) fn reference(host: &str, rest: &str) -> Reference {
    Reference::parse(&format!("{host}/{rest}")).unwrap()
}

pub(crate) const GZIP: Compression = Compression { codec: Codec::Gzip, level: None, force: false };

/// Remembers events.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Vec<Event>>);

impl Events {
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn waits(&self) -> Vec<Duration> {
        let wait = |event| if let Event::Waiting { wait, .. } = event { Some(wait) } else { None };
        self.all().into_iter().filter_map(wait).collect()
    }
}

impl Progress for Events {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// Pulls `test/app:1` from a host into a store.
pub(crate) fn pull(
    client: &Client,
    host: &str,
    store: &TestStore,
    progress: &dyn Progress,
) -> Result<ImageRecord, RegistryError> {
    let lease = store.store.lease().unwrap();
    let name = reference(host, "test/app:1");
    client.pull(&name, &Platform::host(), &store.store, &lease, progress)
}
