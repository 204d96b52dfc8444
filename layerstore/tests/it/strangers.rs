//! Strangers judge: skopeo and umoci read what we write, and we read what they write.

use std::fs::{self, File};

use lapstrake_fixtures::host::{Need, require};
use lapstrake_layerstore::{
    compress::{Codec, Compression},
    transfer::{
        LoadOptions, NamedImages, SaveOptions, load, load_dir, save_docker, save_oci, save_oci_dir,
        write_file,
    },
};

use crate::support::{Fixture, fixture, run, text};

fn image() -> Fixture {
    let f = fixture();
    let base = f.layer(&[("etc/motd", b"hello"), ("bin/sh", &vec![7; 100_000])]);
    let top = f.layer(&[("etc/motd", b"other")]);
    f.image("app:1", &[base, top]);
    f
}

fn options(codec: Codec) -> SaveOptions {
    SaveOptions::new(Compression::new(codec))
}

fn load_file(f: &Fixture, file: &str) -> NamedImages {
    let lease = f.store.lease().expect("a lease");
    let mut archive = File::open(f.beside(file)).expect("the archive");
    load(&f.store, &lease, &mut archive, &LoadOptions::default()).expect("loaded")
}

#[test]
fn skopeo_copies_our_archives_and_we_read_its() {
    if !require(&[Need::Tool("skopeo")]) {
        return;
    }
    let f = image();
    let images = f.named(&["app:1"]);
    let ours = f.beside("ours.tar");
    write_file(&ours, |out| save_oci(&f.store, &images, out, &options(Codec::Gzip)))
        .expect("saved");
    let docker = f.beside("docker.tar");
    write_file(&docker, |out| save_docker(&f.store, &images, out)).expect("saved");
    let copies = [
        (format!("oci-archive:{}", text(&ours)), "oci-archive", "theirs.tar", ":app:1"),
        (format!("oci-archive:{}", text(&ours)), "docker-archive", "theirs-docker.tar", ":app:1"),
        (format!("docker-archive:{}", text(&docker)), "oci-archive", "from-docker.tar", ":app:1"),
    ];
    for (from, kind, file, tag) in copies {
        let to = format!("{kind}:{}{tag}", text(&f.beside(file)));
        let policy = ["--insecure-policy", "copy", "-q", from.as_str(), to.as_str()];
        run("skopeo", &policy);
        let loaded = load_file(&f, file);
        assert_eq!(loaded.len(), 1, "{file}");
        // From docker's form, skopeo writes the config anew; the layers are the same.
        let same = loaded[0].1.config == images[0].1.config;
        assert!(same || from.starts_with("docker-archive"), "{from} to {to}");
        assert_eq!(loaded[0].1.layers, images[0].1.layers, "{from} to {to}");
        assert_eq!(loaded[0].0, images[0].0, "{from} to {to}");
    }
}

#[test]
fn umoci_unpacks_our_layout_and_we_read_what_it_made_of_it() {
    if !require(&[Need::Tool("umoci"), Need::Root]) {
        return;
    }
    let f = image();
    let layout = f.beside("layout");
    save_oci_dir(&f.store, &f.named(&["app:1"]), &layout, &options(Codec::Gzip)).expect("saved");
    let image = format!("{}:1", text(&layout));
    let bundle = f.beside("bundle");
    run("umoci", &["unpack", "--image", &image, text(&bundle)]);
    let motd = fs::read(bundle.join("rootfs/etc/motd")).expect("unpacked");
    assert_eq!(motd, b"other");
    fs::write(bundle.join("rootfs/new"), "by umoci").expect("room");
    run("umoci", &["repack", "--image", &image, text(&bundle)]);
    let lease = f.store.lease().expect("a lease");
    let loaded = load_dir(&f.store, &lease, &layout, &LoadOptions::default()).expect("loaded");
    let layers = f.store.image_layers(&loaded[0].1).expect("its layers");
    assert_eq!(layers.len(), 3);
}

#[test]
fn gnu_tar_lists_our_archives_without_a_word() {
    let f = image();
    let path = f.beside("ours.tar");
    let images = f.named(&["app:1"]);
    write_file(&path, |out| save_oci(&f.store, &images, out, &options(Codec::Zstd)))
        .expect("saved");
    let listed = run("tar", &["-tf", text(&path)]);
    assert!(listed.starts_with("oci-layout\nindex.json\nblobs/\nblobs/sha256/\n"), "{listed}");
}
