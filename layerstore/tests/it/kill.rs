//! `kill -9` at any moment: nothing that has a name is ever lost, and what stays is swept.
//!
//! The worker is this test binary again, told by its environment which store to work on.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use lapstrake_fixtures::host::is_root;
use lapstrake_layerstore::{
    CacheKey, CacheRecord, Store,
    compress::{Codec, Compression},
    store::{
        ManifestOptions, Sharing,
        check::{FsckOptions, Severity},
        gc::PruneOptions,
    },
    transfer::{LoadOptions, SaveOptions, load, save_oci},
};

use crate::support::{fixture, layer, name, open, put_image};

const STORE: &str = "LAPSTRAKE_TEST_STORE";
const SEED: &str = "LAPSTRAKE_TEST_SEED";
/// How many kills, where the few of every run are not enough: `LAPSTRAKE_TEST_KILLS=500`.
const MORE_KILLS: &str = "LAPSTRAKE_TEST_KILLS";
const KILLS: u64 = 40;
const WORKERS: u64 = 2;
/// Long enough to get into the middle of anything.
const LONGEST: u64 = 120;

/// A small generator, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Does nothing unless it is a worker.
#[test]
fn worker() {
    let Ok(root) = std::env::var(STORE) else { return };
    let seed = std::env::var(SEED).expect("a seed").parse().expect("a number");
    let mut random = Random(seed);
    loop {
        let store = open(Path::new(&root));
        for _ in 0..5 {
            work(&store, &mut random);
        }
    }
}

fn work(store: &Store, random: &mut Random) {
    let lease = store.lease().expect("a lease");
    let number = random.next(6) as u8;
    let data = vec![number; 1 + random.next(200_000) as usize];
    let made = layer(store, &[("etc/same", b"in all"), ("data", &data), ("n", &[number])]);
    lease.hold(made.short()).expect("it is there");
    match random.next(7) {
        0 if is_root() => drop(store.layers().tree(&made).expect("a tree")),
        1 => {
            let record = CacheRecord {
                layer: Some(*made.id()),
                created_unix: 1,
                step: "RUN".into(),
                inputs: serde_json::Value::Null,
            };
            store.cache_put(&CacheKey([number; 32]), &record).expect("room");
            store.cache_get(&CacheKey([number ^ 1; 32]), &lease);
        }
        2 => {
            let mut options = PruneOptions { all: random.next(2) == 0, ..PruneOptions::default() };
            options.keep_storage = (random.next(2) == 0).then_some(1 << 20);
            drop(lease);
            store.prune(&options).expect("pruned");
        }
        3 => {
            let mut fill = |path: &Path| std::fs::write(path.join("seed"), "x");
            store.cache_mount("m", Sharing::Private, &mut fill, &mut || ()).expect("a mount");
        }
        4 => {
            let image = put_image(store, &lease, &[made]);
            let mut archive = Vec::new();
            let options = SaveOptions::new(Compression::new(Codec::Gzip));
            let images = vec![(Some(name("loaded:1")), image)];
            save_oci(store, &images, &mut archive, &options).expect("saved");
            let loaded =
                load(store, &lease, &mut &*archive, &LoadOptions::default()).expect("loaded");
            store.tag(&name(&format!("loaded:{number}")), &loaded[0].1).expect("complete");
        }
        5 => drop(store.untag(&name(&format!("app:{number}"))).expect("untagged")),
        _ => {
            let image = put_image(store, &lease, &[Arc::clone(&made)]);
            let options = ManifestOptions::new(Compression::new(Codec::Zstd));
            let (_, manifest) = store.manifest(&image, &options).expect("a manifest");
            let tag = name(&format!("app:{number}"));
            store.tag(&tag, &image.with_manifest(manifest)).expect("complete");
        }
    }
}

fn start(root: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["kill::worker", "--exact", "--nocapture"])
        .env(STORE, root)
        .env(SEED, seed.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process")
}

#[test]
fn killed_at_any_moment_the_store_is_whole() {
    let f = fixture();
    let root = f.store.root();
    let mut random = Random(7);
    let kills = std::env::var(MORE_KILLS).ok().and_then(|text| text.parse().ok());
    for round in 0..kills.unwrap_or(KILLS) {
        let workers: Vec<Child> =
            (0..WORKERS).map(|worker| start(root, round * WORKERS + worker)).collect();
        std::thread::sleep(Duration::from_millis(10 + random.next(LONGEST)));
        for mut worker in workers {
            let ended = worker.try_wait().expect("a process of ours");
            worker.kill().expect("a process of ours");
            let output = worker.wait_with_output().expect("a process of ours");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(ended.is_none(), "round {round}: a worker failed: {errors}");
        }
        let store = open(root);
        let report = store.fsck(FsckOptions { repair: false, deep: true }).expect("fsck");
        assert!(report.is_clean(), "round {round}: {:#?}", report.problems);
        for (reference, image) in store.tags().expect("tags") {
            let layers = store.image_layers(&image);
            layers.unwrap_or_else(|error| panic!("round {round}: {reference}: {error}"));
        }
    }
    f.store.prune(&PruneOptions::default()).expect("pruned");
    let report = f.store.fsck(FsckOptions::default()).expect("fsck");
    let left: Vec<_> =
        report.problems.iter().filter(|problem| problem.severity == Severity::Leftover).collect();
    assert!(left.is_empty(), "a prune sweeps everything: {left:#?}");
}
