//! A full disk, on a small file system of its own: a clear error, and nothing half-visible.

use std::{error::Error, io, path::PathBuf};

use lapstrake_fixtures::host::{Need, require};
use lapstrake_layerstore::{
    compress::{Codec, Compression},
    layers::Expected,
    store::gc::PruneOptions,
    toc::{Entry, Kind},
    transfer::{LoadOptions, SaveOptions, load, save_oci},
};

use crate::support::{assert_clean, fixture, name, open, path, run, text};

/// A file system of two megabytes, unmounted at the end.
struct Small {
    directory: tempfile::TempDir,
}

impl Small {
    fn mount() -> Small {
        let directory = tempfile::tempdir().expect("a directory");
        run("mount", &["-t", "tmpfs", "-o", "size=2m", "tmpfs", text(directory.path())]);
        Small { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("store")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("umount", &[text(self.directory.path())]);
    }
}

fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let source = error.downcast_ref::<io::Error>();
        if source.is_some_and(|source| source.kind() == io::ErrorKind::StorageFull) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Bytes that no codec makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_full_disk_loses_only_the_work_in_hand() {
    if !require(&[Need::Root, Need::Tool("mount")]) {
        return;
    }
    let source = fixture();
    let layer = source.layer(&[("big", &noise(3 << 20))]);
    source.image("big:1", std::slice::from_ref(&layer));
    let mut archive = Vec::new();
    let options = SaveOptions::new(Compression::new(Codec::Gzip));
    save_oci(&source.store, &source.named(&["big:1"]), &mut archive, &options).expect("saved");
    let mut tar = Vec::new();
    source.store.layers().write_tar(&layer, &mut tar, None).expect("a tar");

    let small = Small::mount();
    let store = open(&small.root());
    let kept = crate::support::layer(&store, &[("kept", b"small")]);
    let lease = store.lease().expect("a lease");
    let image = crate::support::put_image(&store, &lease, &[kept]);
    store.tag(&name("kept:1"), &image).expect("room");

    let error = load(&store, &lease, &mut &*archive, &LoadOptions::default()).expect_err("full");
    assert!(is_full(&error), "{error:?}");
    let error = store.layers().import_tar(&mut &*tar, Expected::default()).expect_err("full");
    assert!(is_full(&error), "{error:?}");
    let mut writer = store.contents().writer();
    let written = writer.put_bytes(&noise(3 << 20)).map(drop).and_then(|()| writer.finish());
    assert!(is_full(&written.expect_err("full")));
    let missing = Entry { size: 3, ..Entry::new(path("x"), Kind::File) };
    assert!(store.layers().create(vec![missing]).is_err());

    let names: Vec<String> =
        store.tags().expect("tags").into_iter().map(|tag| tag.0.familiar()).collect();
    assert_eq!(names, ["kept:1"]);
    drop(lease);
    assert_clean(&store);
    store.prune(&PruneOptions::default()).expect("pruned, full or not");
    crate::support::layer(&store, &[("again", &noise(1 << 20))]);
    assert_clean(&store);
}
