//! A model of what a store must keep, and random lives that end in prunes.

use std::{collections::BTreeMap, sync::Arc};

use lapstrake_layerstore::{
    CacheKey, CacheRecord, Lease,
    archive::TarWriter,
    compress::{Codec, Compression},
    layers::{Expected, Layer},
    store::{ManifestOptions, gc::PruneOptions},
    toc::{Entry, Kind},
};
use proptest::prelude::*;

use crate::support::{Fixture, fixture, name, path, put_image};

/// What happens to a store; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Event {
    /// A layer of ours with this content.
    Made(u8),
    /// A layer that came as a tar.
    Came(u8),
    /// An image of two layers gets a name.
    Tagged(u8, usize, usize),
    Exported(u8),
    Untagged(u8),
    Cached(u8, usize),
    /// A build begins that uses a layer, and ends.
    Leased(usize),
    Released,
    Pruned(PruneOptions),
}

fn any_event() -> impl Strategy<Value = Event> {
    let options = (any::<bool>(), prop::option::of(0u64..5000), any::<bool>()).prop_map(
        |(all, keep_storage, old)| PruneOptions {
            all,
            keep_storage,
            until: old.then_some(i64::MAX),
            ..PruneOptions::default()
        },
    );
    prop_oneof![
        3 => any::<u8>().prop_map(|content| Event::Made(content % 12)),
        2 => any::<u8>().prop_map(|content| Event::Came(content % 12)),
        3 => (0u8..3, any::<usize>(), any::<usize>()).prop_map(|(n, a, b)| Event::Tagged(n, a, b)),
        1 => (0u8..3).prop_map(Event::Exported),
        1 => (0u8..3).prop_map(Event::Untagged),
        2 => (any::<u8>(), any::<usize>()).prop_map(|(key, layer)| Event::Cached(key, layer)),
        1 => any::<usize>().prop_map(Event::Leased),
        1 => Just(Event::Released),
        3 => options.prop_map(Event::Pruned),
    ]
}

/// What the store must be able to give.
#[derive(Default)]
struct Model {
    /// Layers that were made and may be there; only what is reachable must be.
    layers: Vec<Arc<Layer>>,
    tags: BTreeMap<u8, Vec<Arc<Layer>>>,
    lease: Option<(Lease, Arc<Layer>)>,
}

impl Model {
    fn happen(&mut self, f: &Fixture, event: &Event) {
        match event {
            Event::Made(content) => self.layers.push(made(f, *content)),
            Event::Came(content) => self.layers.push(came(f, *content)),
            Event::Tagged(number, a, b) if !self.layers.is_empty() => {
                let count = self.layers.len();
                let layers = vec![self.layers[a % count].clone(), self.layers[b % count].clone()];
                self.tag(f, *number, layers);
            }
            Event::Exported(number) if self.tags.contains_key(number) => {
                let image = f.store.tagged(&tag(*number)).expect("readable").expect("tagged");
                let options = ManifestOptions::new(Compression::new(Codec::Gzip));
                let (_, manifest) = f.store.manifest(&image, &options).expect("a manifest");
                f.store.tag(&tag(*number), &image.with_manifest(manifest)).expect("a tag");
            }
            Event::Untagged(number) => {
                f.store.untag(&tag(*number)).expect("untagged");
                self.tags.remove(number);
            }
            Event::Cached(key, layer) if !self.layers.is_empty() => {
                let layer = &self.layers[layer % self.layers.len()];
                let record = CacheRecord {
                    layer: Some(*layer.id()),
                    created_unix: 5,
                    step: "COPY".into(),
                    inputs: serde_json::json!({}),
                };
                f.store.cache_put(&CacheKey([*key; 32]), &record).expect("room");
            }
            Event::Leased(layer) if !self.layers.is_empty() => {
                let layer = self.layers[layer % self.layers.len()].clone();
                let lease = f.store.lease().expect("a lease");
                // Holding what is gone already is refused, and then nothing is promised.
                self.lease = lease.hold(layer.short()).is_ok().then_some((lease, layer));
            }
            Event::Released => self.lease = None,
            Event::Pruned(options) => {
                f.store.prune(options).expect("pruned");
            }
            _ => {}
        }
    }

    fn tag(&mut self, f: &Fixture, number: u8, layers: Vec<Arc<Layer>>) {
        let lease = f.store.lease().expect("a lease");
        let is_held = |layer: &Arc<Layer>| lease.hold(layer.short()).is_ok();
        if layers.iter().all(is_held) {
            let image = put_image(&f.store, &lease, &layers);
            f.store.tag(&tag(number), &image).expect("a tag");
            self.tags.insert(number, layers);
        }
    }

    /// Everything that is promised can be read to its end.
    fn check(&self, f: &Fixture) {
        for (number, layers) in &self.tags {
            let image = f.store.tagged(&tag(*number)).expect("readable").expect("still tagged");
            f.store.config_bytes(&image).expect("its config");
            if let Some(manifest) = &image.manifest {
                f.store.blobs().get(&manifest.digest, 1 << 20).expect("its manifest");
            }
            let found = f.store.image_layers(&image).expect("its layers");
            assert_eq!(found.len(), layers.len());
            for layer in &found {
                readable(f, layer);
            }
        }
        if let Some((_, layer)) = &self.lease {
            let found = f.store.layers().get(layer.short()).expect("readable");
            readable(f, &found.expect("a lease holds it"));
        }
    }
}

fn readable(f: &Fixture, layer: &Arc<Layer>) {
    let mut tar = Vec::new();
    f.store.layers().write_tar(layer, &mut tar, None).expect("all of its contents");
    let diff_id = lapstrake_layerstore::Digest::of(&tar);
    assert_eq!(layer.diff_id().map(|known| known.digest()), Some(diff_id));
}

fn tag(number: u8) -> lapstrake_layerstore::Reference {
    name(&format!("app:{number}"))
}

fn made(f: &Fixture, content: u8) -> Arc<Layer> {
    let layer = f.layer(&[("file", &[content; 700]), ("shared", &[content % 3; 300])]);
    f.store.layers().diff_id(&layer).expect("a diffID");
    layer
}

fn came(f: &Fixture, content: u8) -> Arc<Layer> {
    let mut tar = TarWriter::new(Vec::new(), None);
    let entry = Entry { size: 500, ..Entry::new(path("foreign"), Kind::File) };
    tar.append_bytes(&entry, &[content; 500]).expect("room");
    let tar = tar.finish().expect("room");
    f.store.layers().import_tar(&mut tar.as_slice(), Expected::default()).expect("a layer")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn prune_never_removes_the_reachable(events in proptest::collection::vec(any_event(), 1..30)) {
        let f = fixture();
        let mut model = Model::default();
        for event in &events {
            model.happen(&f, event);
            if matches!(event, Event::Pruned(_)) {
                model.check(&f);
            }
        }
        f.store.prune(&PruneOptions { all: true, ..PruneOptions::default() }).expect("pruned");
        model.check(&f);
    }
}
