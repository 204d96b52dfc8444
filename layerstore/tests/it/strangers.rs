//! Strangers judge: skopeo and umoci read what we write, and we read what they write.

use std::fs::{self, File};

use lapstrake_fixtures::host::{Need, require};
use lapstrake_layerstore::{
    compress::{Codec, Compression},
    oci::{ImageConfig, Index, Platform},
    transfer::{
        LoadOptions, NamedImages, SaveOptions, load, load_dir, save_docker, save_oci, save_oci_dir,
        write_file,
    },
};

use crate::support::{Fixture, fixture, name, run, text};

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

/// podman with a storage of its own below the fixture.
fn podman(f: &Fixture, arguments: &[&str]) -> String {
    let (root, run_root) = (f.beside("podman"), f.beside("podman-run"));
    let own = ["--root", text(&root), "--runroot", text(&run_root), "--storage-driver", "vfs"];
    run("podman", &[&own, arguments].concat())
}

#[test]
fn podman_loads_our_archives_and_we_read_its() {
    if !require(&[Need::Tool("podman"), Need::Root]) {
        return;
    }
    let f = image();
    let other = f.layer(&[("other", b"image")]);
    f.image("second:2", &[other]);
    let images = f.named(&["app:1", "second:2"]);
    let forms: [(&str, Codec, bool); 3] = [
        ("gzip.tar", Codec::Gzip, false),
        ("zstd.tar", Codec::Zstd, false),
        ("docker.tar", Codec::None, true),
    ];
    for (file, codec, is_docker) in forms {
        let path = f.beside(file);
        // podman takes one image from an OCI archive, all of a docker archive.
        let some = if is_docker { images.clone() } else { f.named(&["app:1"]) };
        write_file(&path, |out| {
            if is_docker {
                return save_docker(&f.store, &some, out);
            }
            save_oci(&f.store, &some, out, &options(codec))
        })
        .expect("saved");
        podman(&f, &["load", "-q", "-i", text(&path)]);
        let known = podman(&f, &["images", "-a", "-q", "--no-trunc"]);
        for (name, image) in &some {
            assert!(known.contains(&image.config.hex()), "{file}: {name:?}: {known}");
        }
        let mounted = podman(&f, &["image", "mount", &some[0].1.config.hex()]);
        let motd = fs::read(std::path::Path::new(mounted.trim()).join("etc/motd"));
        assert_eq!(motd.expect("unpacked by podman"), b"other", "{file}");
        if !is_docker {
            podman(&f, &["rmi", "-f", "-a"]);
        }
    }
    let fresh = fixture();
    for (format, file) in [("docker-archive", "from-docker.tar"), ("oci-archive", "from-oci.tar")] {
        let (out, id) = (fresh.beside(file), images[0].1.config.hex());
        podman(&f, &["save", "-q", "--format", format, "-o", text(&out), &id]);
        let loaded = load_file(&fresh, file);
        // Into the other format, podman writes the config anew; the layers are the same.
        let same = loaded[0].1.config == images[0].1.config;
        assert!(same || format == "oci-archive", "{format}");
        let diff_ids = |f: &Fixture, image| f.store.image_config(image).expect("a config").rootfs;
        assert_eq!(diff_ids(&fresh, &loaded[0].1), diff_ids(&f, &images[0].1), "{format}");
    }
    let out = fresh.beside("many.tar");
    podman(
        &f,
        &["save", "-q", "-m", "--format", "docker-archive", "-o", text(&out), "app:1", "second:2"],
    );
    let mut configs: Vec<_> =
        load_file(&fresh, "many.tar").into_iter().map(|(_, image)| image.config).collect();
    let mut expected: Vec<_> = images.iter().map(|(_, image)| image.config).collect();
    configs.sort();
    expected.sort();
    assert_eq!(configs, expected);
}

/// One archive, two images, each for two platforms; and the same as a directory.
#[test]
fn several_images_and_platforms_share_an_archive() {
    let f = fixture();
    let (lease, mut tops) = (f.store.lease().expect("a lease"), Vec::new());
    let layout = f.beside("layout");
    for (number, tag) in ["one:1", "two:2"].iter().enumerate() {
        for architecture in ["amd64", "arm64"] {
            let content = format!("{number} for {architecture}");
            let layer = f.layer(&[("which", content.as_bytes())]);
            let mut config = ImageConfig::default();
            config.set_platform(&Platform::new("linux", architecture, ""));
            config.rootfs.diff_ids = vec![f.store.layers().diff_id(&layer).expect("a diffID")];
            let image = f.store.put_image(&config.to_json(), &[layer]).expect("an image");
            lease.hold_blob(&image.config).expect("its config");
            let named = vec![(Some(name(tag)), image)];
            let directory = f.beside(&format!("{number}-{architecture}"));
            save_oci_dir(&f.store, &named, &directory, &options(Codec::Gzip)).expect("saved");
            save_oci_dir(&f.store, &named, &layout, &options(Codec::Gzip)).expect("saved");
            let index = fs::read(directory.join("index.json")).expect("there");
            tops.extend(Index::parse(&index).expect("valid").manifests);
        }
    }
    // Adding a platform of the same name to a directory replaces the image; both are meant here.
    fs::write(layout.join("index.json"), Index::new(tops).to_json()).expect("room");
    let archive = f.beside("all.tar");
    run("tar", &["-C", text(&layout), "-cf", text(&archive), "."]);
    let fresh = fixture();
    let lease = fresh.store.lease().expect("a lease");
    let load_all = |options: &LoadOptions| {
        let mut archive = File::open(&archive).expect("there");
        let from_archive = load(&fresh.store, &lease, &mut archive, options).expect("loaded");
        let from_directory = load_dir(&fresh.store, &lease, &layout, options).expect("loaded");
        assert_eq!(from_archive, from_directory);
        from_archive
    };
    let every = load_all(&LoadOptions { all_platforms: true, ..LoadOptions::default() });
    assert_eq!(every.len(), 2);
    for (named, image) in &every {
        assert!(named.is_some());
        let there: Vec<_> = image.every().iter().map(|one| &*one.platform.architecture).collect();
        assert_eq!(there, ["amd64", "arm64"]);
    }
    for architecture in ["amd64", "arm64"] {
        let platform = Some(Platform::new("linux", architecture, ""));
        let chosen = load_all(&LoadOptions { platform, ..LoadOptions::default() });
        let names: Vec<_> = chosen.iter().map(|(name, _)| name.clone().expect("named")).collect();
        assert_eq!(names, [name("one:1"), name("two:2")]);
        for (_, image) in &chosen {
            let config = fresh.store.image_config(image).expect("a config");
            assert_eq!(config.platform().architecture, architecture);
        }
    }
    let select = Some(name("two:2"));
    let one = load_all(&LoadOptions { select, ..LoadOptions::default() });
    assert_eq!(one.len(), 1);
}
