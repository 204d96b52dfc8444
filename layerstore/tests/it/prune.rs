//! Garbage goes, and nothing else does.

use std::{fs, path::Path, sync::Arc};

use lapstrake_layerstore::{
    CacheKey, CacheRecord, Store,
    compress::{Codec, Compression},
    layers::Layer,
    store::{BUILDS_KEPT, BuildId, ManifestOptions, Sharing, gc::PruneOptions},
};

use crate::support::{Fixture, count, fixture, layer, name, open, put_image};

fn record(layer: &Arc<Layer>) -> CacheRecord {
    let layer = Some(*layer.id());
    CacheRecord { layer, created_unix: 5, step: "RUN x".into(), inputs: serde_json::json!({}) }
}

fn key(number: u8) -> CacheKey {
    CacheKey([number; 32])
}

fn has(store: &Store, layer: &Arc<Layer>) -> bool {
    store.layers().get(layer.short()).expect("readable").is_some()
}

fn prune(f: &Fixture, options: &PruneOptions) -> usize {
    f.store.prune(options).expect("pruned").layers.len()
}

#[test]
fn only_what_nothing_reaches_goes() {
    let f = fixture();
    let tagged = f.layer(&[("tagged", b"1")]);
    let cached = f.layer(&[("cached", b"2")]);
    let garbage = f.layer(&[("garbage", b"3")]);
    let image = f.image("app:1", std::slice::from_ref(&tagged));
    f.store.manifest(&image, &ManifestOptions::new(Compression::new(Codec::Gzip))).expect("made");
    f.store.cache_put(&key(1), &record(&cached)).expect("room");
    let before = f.store.usage().expect("usage");
    let report = f.store.prune(&PruneOptions::default()).expect("pruned");
    assert_eq!(report.layers, [garbage.short().clone()]);
    assert_eq!(report.packs.len(), 1);
    assert!(report.bytes > 0 && before.total > f.store.usage().expect("usage").total);
    assert!(has(&f.store, &tagged) && has(&f.store, &cached) && !has(&f.store, &garbage));
    f.store.tag(&name("app:2"), &image).expect("the image is whole");
    assert_eq!(prune(&f, &PruneOptions::default()), 0, "a second prune finds nothing");
    f.store.untag(&name("app:1")).expect("untagged");
    assert_eq!(prune(&f, &PruneOptions::default()), 0, "another name keeps it");
    f.store.untag(&name("app:2")).expect("untagged");
    assert_eq!(prune(&f, &PruneOptions { all: true, ..PruneOptions::default() }), 2);
    for part in ["layers", "packs", "blobs/sha256", "index/diff", "tags", "leases"] {
        assert_eq!(count(&f.store.root().join(part)), 0, "{part}");
    }
}

#[test]
fn a_lease_keeps_what_it_holds_and_what_is_made_under_it() {
    let f = fixture();
    let old = f.layer(&[("old", b"1")]);
    let forgotten = f.layer(&[("forgotten", b"2")]);
    std::thread::sleep(std::time::Duration::from_millis(30));
    let lease = f.store.lease().expect("a lease");
    lease.hold(old.short()).expect("there");
    let fresh = f.layer(&[("fresh", b"3")]);
    let image = put_image(&f.store, &lease, std::slice::from_ref(&fresh));
    let other = open(f.store.root());
    let report =
        other.prune(&PruneOptions { all: true, ..PruneOptions::default() }).expect("pruned");
    assert_eq!(report.live_leases, 1);
    assert_eq!(report.layers, [forgotten.short().clone()]);
    assert_eq!(report.packs.len(), 1, "the forgotten one's; work goes on");
    f.store.tag(&name("app:1"), &image).expect("the image is whole");
    assert!(lease.hold(forgotten.short()).is_err());
    drop(lease);
    let report = other.prune(&PruneOptions::default()).expect("pruned");
    assert_eq!(report.layers, [old.short().clone()]);
    assert_eq!(report.packs.len(), 1);
    assert!(has(&other, &fresh));
}

#[test]
fn a_content_that_another_process_pruned_is_not_believed_in() {
    let f = fixture();
    let first = f.store.lease().expect("a lease");
    f.layer(&[("a", b"soon gone")]);
    let hash = lapstrake_layerstore::ContentHash::of(b"soon gone");
    assert!(f.store.contents().has(&hash));
    drop(first);
    open(f.store.root()).prune(&PruneOptions::default()).expect("pruned");
    let _second = f.store.lease().expect("a lease");
    assert!(!f.store.contents().has(&hash));
    let again = f.layer(&[("a", b"soon gone")]);
    f.image("app:1", &[again]);
}

#[test]
fn a_cache_record_is_used_held_and_forgotten() {
    let f = fixture();
    let made = f.layer(&[("a", b"1")]);
    f.store.cache_put(&key(1), &record(&made)).expect("room");
    let lease = f.store.lease().expect("a lease");
    assert_eq!(f.store.cache_get(&key(1), &lease), Some(record(&made)));
    assert_eq!(f.store.cache_get(&key(2), &lease), None);
    f.store.memo_put("hashes", b"bytes").expect("room");
    assert_eq!(f.store.memo_get("hashes").as_deref(), Some(&b"bytes"[..]));
    f.store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).expect("pruned");
    assert_eq!(f.store.cache_get(&key(1), &lease), None);
    assert_eq!(f.store.memo_get("hashes"), None);
    assert!(has(&f.store, &made), "the lease still holds the layer");
}

#[test]
fn builds_are_remembered_by_slot_and_the_oldest_forgotten() {
    let f = fixture();
    let first = f.store.build_put("one", b"first").expect("room");
    let other = f.store.build_put("two", b"other").expect("room");
    let second = f.store.build_put("one", b"second").expect("room");
    assert_eq!(f.store.build_newest("one"), Some(second.clone()));
    assert_eq!(f.store.build_newest("two"), Some(other));
    assert_eq!(f.store.build_newest("three"), None);
    assert_eq!(f.store.build_get(&first).as_deref(), Some(&b"first"[..]));
    assert_eq!(f.store.builds().expect("a list").len(), 3);
    for number in 0..BUILDS_KEPT * 2 {
        f.store.build_put("one", format!("build {number}").as_bytes()).expect("room");
    }
    let kept = f.store.builds().expect("a list");
    assert!((BUILDS_KEPT..BUILDS_KEPT * 3 / 2).contains(&kept.len()), "{}", kept.len());
    assert_eq!(f.store.build_get(&first), None);
    assert_eq!(f.store.build_newest("two").and_then(|id| f.store.build_get(&id)), None);
    f.store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).expect("pruned");
    assert_eq!(f.store.builds().expect("a list"), []);
    assert!("../../../etc/pass".parse::<BuildId>().is_err());
    assert_eq!(second.as_str().parse(), Ok(second));
}

#[test]
fn a_damaged_record_is_as_if_it_were_not_there() {
    let f = fixture();
    let made = f.layer(&[("a", b"1")]);
    f.store.cache_put(&key(1), &record(&made)).expect("room");
    let hex = key(1).hex();
    let path = f.store.root().join("cache/keys").join(&hex[..2]).join(&hex);
    let good = fs::read(&path).expect("there");
    let lease = f.store.lease().expect("a lease");
    for cut in 0..good.len() {
        fs::write(&path, &good[..cut]).expect("room");
        assert_eq!(f.store.cache_get(&key(1), &lease), None, "{cut} bytes");
    }
    fs::write(&path, &good).expect("room");
    assert!(f.store.cache_get(&key(1), &lease).is_some());
}

#[test]
fn the_oldest_records_go_until_the_store_is_small_enough() {
    let f = fixture();
    let layers: Vec<_> = (0..4_u8)
        .map(|number| {
            let made = f.layer(&[("data", &vec![number; 1 << 20])]);
            f.store.cache_put(&key(number), &record(&made)).expect("room");
            std::thread::sleep(std::time::Duration::from_millis(20));
            made
        })
        .collect();
    let cap = PruneOptions { keep_storage: Some(5 << 19), ..PruneOptions::default() };
    let report = f.store.prune(&cap).expect("pruned");
    let left: Vec<bool> = layers.iter().map(|layer| has(&f.store, layer)).collect();
    assert_eq!(left, [false, false, true, true]);
    assert_eq!((report.cache_records, report.packs.len()), (2, 2));
    let none_is_older = PruneOptions { until: Some(1000), ..PruneOptions::default() };
    assert_eq!(prune(&f, &none_is_older), 0);
    let all_are_older = PruneOptions { until: Some(1 << 40), ..PruneOptions::default() };
    assert_eq!(prune(&f, &all_are_older), 2);
}

#[test]
fn a_pack_of_which_little_is_needed_is_written_anew() {
    let f = fixture();
    let big = vec![7; 1 << 20];
    let both = f.layer(&[("big", &big), ("small", b"needed")]);
    let kept = f.layer(&[("small", b"needed")]);
    f.image("both:1", &[both]);
    f.image("kept:1", std::slice::from_ref(&kept));
    assert_eq!(f.store.prune(&PruneOptions::default()).expect("pruned").packs_rewritten, 0);
    // Another process that knows where the contents were.
    let other = open(f.store.root());
    let small = lapstrake_layerstore::ContentHash::of(b"needed");
    assert!(other.contents().locate(&small).expect("readable").is_some());
    let stale = open(f.store.root());
    assert!(stale.contents().length(&small).expect("readable").is_some());
    f.store.untag(&name("both:1")).expect("untagged");
    let before = f.store.usage().expect("usage").total;
    let report = f.store.prune(&PruneOptions::default()).expect("pruned");
    assert_eq!((report.packs_rewritten, report.packs.len()), (1, 0));
    let after = f.store.usage().expect("usage").total;
    assert!(before - after > 1 << 20 && report.bytes > 1 << 20, "{before} {after} {report:?}");
    for store in [&f.store, &other, &stale] {
        let mut bytes = Vec::new();
        let mut reader = store.contents().open(&small).expect("readable").expect("there");
        std::io::Read::read_to_end(&mut reader, &mut bytes).expect("readable");
        assert_eq!(bytes, b"needed");
        assert!(!store.contents().has(&lapstrake_layerstore::ContentHash::of(&big)));
    }
}

#[test]
fn a_content_that_is_there_twice_is_kept_once() {
    let f = fixture();
    let made = f.layer(&[("a", &vec![1; 100_000])]);
    f.image("app:1", std::slice::from_ref(&made));
    // What a kill leaves between a new pack and the end of the old one.
    let elsewhere = fixture();
    elsewhere.layer(&[("a", &vec![1; 100_000]), ("b", &vec![2; 100_000])]);
    let (id, path) = elsewhere.store.contents().list_packs().expect("packs")[0].clone();
    fs::copy(path, f.store.root().join(format!("packs/{id}.pack"))).expect("room");
    let report = f.store.prune(&PruneOptions::default()).expect("pruned");
    assert_eq!(report.packs, [id]);
    assert_eq!(count(&f.store.root().join("packs")), 1);
}

#[test]
fn a_pack_in_which_a_build_found_something_stays() {
    let f = fixture();
    f.layer(&[("a", b"found")]);
    std::thread::sleep(std::time::Duration::from_millis(30));
    let builder = open(f.store.root());
    let lease = builder.lease().expect("a lease");
    assert!(builder.contents().has(&lapstrake_layerstore::ContentHash::of(b"found")));
    let report = f.store.prune(&PruneOptions::default()).expect("pruned");
    assert_eq!((report.layers.len(), report.packs.len()), (1, 0));
    let mut writer = builder.contents().writer();
    writer.put_bytes(b"found").expect("room");
    writer.finish().expect("room");
    assert_eq!(count(&f.store.root().join("packs")), 1, "it was not written again");
    drop(lease);
    assert_eq!(f.store.prune(&PruneOptions::default()).expect("pruned").packs.len(), 1);
}

#[test]
fn a_cap_holds_while_others_work_and_nobody_waits_for_the_deletion() {
    let f = fixture();
    let cap = 4 << 20;
    let mut last = None;
    for number in 0..8_u8 {
        let lease = f.store.lease().expect("a lease");
        let made = f.layer(&[("data", &vec![number; 1 << 20])]);
        f.store.cache_put(&key(number), &record(&made)).expect("room");
        f.tree(&made);
        f.store.keep_within(cap).expect("evicted");
        last = Some(made);
        drop(lease);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let stopped = f.store.sweep(&|| false).expect("swept");
    assert_eq!(stopped, 0);
    let moved = f.store.usage().expect("usage").work;
    assert!(moved > 0, "it is aside and not deleted");
    assert!(f.store.sweep(&|| true).expect("swept") > 0);
    let usage = f.store.usage().expect("usage");
    // The newest one came after the last look.
    assert!(usage.total < cap + (3 << 20), "{}", usage.total);
    assert!(has(&f.store, &last.expect("the newest")));
    let report = f.store.keep_within(u64::MAX).expect("nothing to do");
    assert_eq!(report, lapstrake_layerstore::store::gc::PruneReport::default());
    // What has a name stays, whatever the cap.
    let named = f.layer(&[("named", &vec![99; 1 << 20])]);
    f.image("app:1", std::slice::from_ref(&named));
    f.store.keep_within(1).expect("evicted");
    assert!(has(&f.store, &named));
    assert_eq!(f.store.layers().list().expect("layers").len(), 1);
}

#[test]
fn what_an_image_alone_needed_goes_with_it() {
    let f = fixture();
    let base = f.layer(&[("base", b"1")]);
    let cached = f.layer(&[("cached", b"2")]);
    let own = f.layer(&[("own", b"3")]);
    let nobody = f.layer(&[("nobody", b"4")]);
    f.store.cache_put(&key(1), &record(&cached)).expect("room");
    f.image("base:1", std::slice::from_ref(&base));
    let image = f.image("app:1", &[base.clone(), cached.clone(), own.clone()]);
    f.store.discard(std::slice::from_ref(&image)).expect("nothing, it has its name");
    assert!(has(&f.store, &own));
    f.store.untag(&name("app:1")).expect("untagged");
    f.store.discard(std::slice::from_ref(&image)).expect("discarded");
    let left = [&base, &cached, &own, &nobody].map(|layer| has(&f.store, layer));
    assert_eq!(left, [true, true, false, true]);
    assert!(!f.store.blobs().has(&image.config));
}

#[test]
fn notes_of_builds_are_bounded() {
    let f = fixture();
    for number in 0..520 {
        f.store.memo_put(&format!("memo {number}"), b"x").expect("room");
    }
    let lost = f.store.build_put("one", b"report").expect("room");
    fs::remove_file(f.store.root().join("cache/builds").join(lost.as_str())).expect("there");
    f.store.prune(&PruneOptions::default()).expect("pruned");
    assert_eq!(count(&f.store.root().join("cache/memos")), 500);
    assert_eq!(count(&f.store.root().join("cache/slots")), 0, "it led nowhere");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(91 * 24 * 3600);
    for entry in fs::read_dir(f.store.root().join("cache/memos")).expect("readable") {
        let file = fs::File::options().write(true).open(entry.expect("readable").path());
        file.and_then(|file| file.set_modified(old)).expect("ours");
    }
    f.store.prune(&PruneOptions::default()).expect("pruned");
    assert_eq!(count(&f.store.root().join("cache/memos")), 0);
}

#[test]
fn cache_mounts_are_shared_private_or_locked_and_pruned_when_idle() {
    let f = fixture();
    let mount = |sharing| {
        let mut fill = |path: &Path| fs::write(path.join("seed"), "1");
        let mut waiting = || panic!("nobody should wait here");
        f.store.cache_mount("apt", sharing, &mut fill, &mut waiting).expect("a mount")
    };
    let one = mount(Sharing::Shared);
    let two = mount(Sharing::Shared);
    assert_eq!(one.path(), two.path());
    let own = mount(Sharing::Private);
    assert_ne!(one.path(), own.path());
    assert_eq!(fs::read_to_string(own.path().join("seed")).expect("filled"), "1");
    fs::write(one.path().join("kept"), "2").expect("room");
    let all = PruneOptions { all: true, ..PruneOptions::default() };
    assert_eq!(f.store.prune(&all).expect("pruned").mounts, Vec::<String>::new());
    drop((two, own));
    assert_eq!(f.store.prune(&all).expect("pruned").mounts, ["apt"]);
    drop(one);
    let locked = mount(Sharing::Locked);
    assert!(locked.path().join("kept").exists(), "an idle mount keeps what is in it");
    let waited = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut waiting = || waited.store(true, std::sync::atomic::Ordering::SeqCst);
            let mut fill = |_: &Path| Ok(());
            f.store.cache_mount("apt", Sharing::Locked, &mut fill, &mut waiting).expect("a mount")
        });
        while !waited.load(std::sync::atomic::Ordering::SeqCst) {
            std::thread::yield_now();
        }
        drop(locked);
        waiter.join().expect("it went on");
    });
    assert_eq!(f.store.prune(&all).expect("pruned").mounts, ["apt"]);
}

#[test]
fn every_byte_has_an_owner() {
    let f = fixture();
    let base = f.layer(&[("data", &vec![1; 3 << 20])]);
    let a = f.layer(&[("a", &vec![2; 1 << 20])]);
    f.image("a:1", &[base.clone(), a.clone()]);
    f.image("b:1", std::slice::from_ref(&base));
    f.tree(&base);
    f.store.cache_put(&key(1), &record(&a)).expect("room");
    let usage = f.store.usage().expect("usage");
    let by_name =
        |tag: &str| usage.images.iter().find(|image| image.reference == name(tag)).expect("it");
    assert!(by_name("a:1").exclusive >= 1 << 20 && by_name("a:1").shared >= 3 << 20);
    // Its layers are those of `a:1`, too; its config is its own.
    let config = fs::metadata(f.store.blobs().path(&by_name("b:1").config)).expect("it");
    let config = std::os::unix::fs::MetadataExt::blocks(&config) * 512;
    assert_eq!(by_name("b:1").exclusive, config);
    let du = crate::support::run("du", &["-s", "-B1", crate::support::text(f.store.root())]);
    let du: u64 = du.split_whitespace().next().expect("a number").parse().expect("a number");
    assert!(usage.total.abs_diff(du) * 100 <= du, "{} and du says {du}", usage.total);
}

#[test]
fn prune_never_takes_what_a_build_at_work_needs() {
    let f = fixture();
    let root = f.store.root().to_owned();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            let store = open(&root);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                store
                    .prune(&PruneOptions { all: true, ..PruneOptions::default() })
                    .expect("pruned");
            }
        });
        // A failure must stop the pruner, too, or the scope never ends.
        let built = std::panic::catch_unwind(|| build_again_and_again(&root));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        pruner.join().expect("it pruned");
        built.expect("every build had what it needs");
    });
}

fn build_again_and_again(root: &Path) {
    for round in 0..60_u8 {
        // Each build opens the store anew, as another process would.
        let store = open(root);
        let lease = store.lease().expect("a lease");
        let made = layer(&store, &[("same", b"in every round"), ("round", &[round % 3])]);
        let image = put_image(&store, &lease, &[made]);
        store.tag(&name("app:1"), &image).expect("everything is there");
    }
}
