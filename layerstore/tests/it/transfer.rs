//! Images out and in again.

use std::{fs, path::Path};

use lapstrake_fixtures::host::{Need, require};
use lapstrake_layerstore::{
    Reference, Store,
    compress::{Codec, Compression},
    layers::Purpose,
    oci::{Manifest, Platform, media_type},
    source::{ImageSource, LayoutSource},
    transfer::{
        ImportOptions, LoadOptions, NamedImages, SaveOptions, TransferError, export_rootfs,
        import_rootfs, load, load_dir, load_file, save_docker, save_oci, save_oci_dir, write_file,
    },
    view::View,
};

use crate::support::{Fixture, fixture, name, run, text};

fn gzip() -> SaveOptions {
    SaveOptions::new(Compression::new(Codec::Gzip))
}

fn two_images() -> Fixture {
    let f = fixture();
    let base = f.layer(&[("etc/motd", b"hello"), ("bin/sh", &vec![7; 100_000])]);
    let top = f.layer(&[("etc/motd", b"other"), ("empty", b"")]);
    f.image("app:1", std::slice::from_ref(&base));
    f.image("localhost:5000/team/app:2", &[base, top]);
    f
}

fn saved(f: &Fixture, tags: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    save_oci(&f.store, &f.named(tags), &mut bytes, &gzip()).expect("saved");
    bytes
}

fn load_all(store: &Store, bytes: &[u8]) -> Result<NamedImages, TransferError> {
    let lease = store.lease().expect("a lease");
    let images = load(store, &lease, &mut &*bytes, &LoadOptions::default())?;
    for (name, image) in &images {
        if let Some(name) = name {
            store.tag(name, image).expect("a tag");
        }
    }
    Ok(images)
}

fn same_images(a: &Fixture, b: &Fixture, tags: &[&str]) {
    for tag in tags {
        let (theirs, ours) = (b.named(&[tag]), a.named(&[tag]));
        assert_eq!(theirs[0].1.config, ours[0].1.config, "{tag}");
    }
}

/// An image with a layer of which nothing becomes smaller, longer than what is copied at once.
fn large_image() -> Fixture {
    let f = fixture();
    let mut noise = vec![0; 10 << 20];
    let mut state = 1u64;
    for word in noise.as_chunks_mut::<8>().0 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *word = (state ^ (state >> 29)).to_le_bytes();
    }
    let layer = f.layer(&[("noise", &noise)]);
    f.image("large:1", &[layer]);
    f
}

#[test]
fn a_large_blob_comes_back_the_same() {
    let (a, b) = (large_image(), fixture());
    let bytes = saved(&a, &["large:1"]);
    assert!(bytes.len() > 10 << 20, "{}", bytes.len());
    load_all(&b.store, &bytes).expect("loaded");
    same_images(&a, &b, &["large:1"]);
    assert!(saved(&b, &["large:1"]) == bytes);
}

/// A disk with room for so much.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = self.0.checked_sub(bytes.len());
        self.0 = left.ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_large_blob_for_which_there_is_no_room_is_an_error() {
    let f = large_image();
    for room in [0, 4 << 20, 9 << 20] {
        let error = save_oci(&f.store, &f.named(&["large:1"]), &mut Full(room), &gzip());
        let error = error.expect_err("there is no room").to_string();
        assert!(error.contains("write"), "{error}");
    }
}

#[test]
fn an_oci_archive_comes_back_the_same() {
    let (a, b) = (two_images(), fixture());
    let tags = ["app:1", "localhost:5000/team/app:2"];
    let bytes = saved(&a, &tags);
    assert_eq!(bytes, saved(&a, &tags), "saving twice gives the same bytes");
    let images = load_all(&b.store, &bytes).expect("loaded");
    assert_eq!(images.len(), 2);
    same_images(&a, &b, &tags);
    assert_eq!(saved(&b, &tags), bytes, "what was loaded goes out as it came");
    for (_, image) in &images {
        let (_, descriptor) = b.store.manifest(image, &gzip()).expect("a manifest");
        assert_eq!(Some(descriptor.digest), image.manifest.as_ref().map(|known| known.digest));
    }
}

#[test]
fn an_archive_may_be_compressed_as_a_whole() {
    let (a, b) = (two_images(), fixture());
    let bytes = saved(&a, &["app:1"]);
    let packed = zstd::encode_all(&*bytes, 3).expect("compressed");
    load_all(&b.store, &packed).expect("loaded");
    same_images(&a, &b, &["app:1"]);
}

fn load_as_file(store: &Store, bytes: &[u8]) -> Result<NamedImages, TransferError> {
    let mut file = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut file, bytes).expect("written");
    let lease = store.lease().expect("a lease");
    load_file(store, &lease, &file, &LoadOptions::default())
}

#[test]
fn an_archive_in_a_file_is_read_only_where_it_must_be() {
    let (a, b, c) = (two_images(), fixture(), fixture());
    let tags = ["app:1", "localhost:5000/team/app:2"];
    let bytes = saved(&a, &tags);
    let mut docker = Vec::new();
    save_docker(&a.store, &a.named(&tags), &mut docker).expect("saved");
    for form in [bytes.clone(), docker, zstd::encode_all(&*bytes, 3).expect("compressed")] {
        let images = load_as_file(&b.store, &form).expect("loaded");
        for ((_, theirs), tag) in images.iter().zip(tags) {
            assert_eq!(theirs.config, a.named(&[tag])[0].1.config, "{tag}");
        }
    }
    // One byte of the largest layer is wrong: who has the layer does not look at it.
    let layers = a.store.image_layers(&a.named(&["app:1"])[0].1).expect("layers");
    let blob = a.store.layers().compressed(&layers[0], &gzip().compression, None).expect("a blob");
    let data = a.store.blobs().get(&blob.digest, 1 << 20).expect("a blob");
    let at = bytes.windows(data.len()).position(|window| window == data).expect("it is there");
    let mut wrong = bytes.clone();
    wrong[at + data.len() / 2] ^= 1;
    load_as_file(&b.store, &wrong).expect("loaded");
    let error = load_as_file(&c.store, &wrong).expect_err("it is damaged");
    assert!(matches!(error, TransferError::Lying { .. }), "{error}");
    assert_eq!(c.store.layers().list().expect("layers"), []);
    for cut in [bytes.len() / 2, 700, 0] {
        load_as_file(&c.store, &bytes[..cut]).expect_err("it is cut off");
    }
}

#[test]
fn a_docker_archive_comes_back_the_same() {
    let (a, b) = (two_images(), fixture());
    let tags = ["app:1", "localhost:5000/team/app:2"];
    let mut bytes = Vec::new();
    save_docker(&a.store, &a.named(&tags), &mut bytes).expect("saved");
    let images = load_all(&b.store, &bytes).expect("loaded");
    assert_eq!(images.len(), 2);
    same_images(&a, &b, &tags);
}

#[test]
fn a_layout_directory_is_read_and_added_to() {
    let (a, b) = (two_images(), fixture());
    let directory = a.beside("layout");
    save_oci_dir(&a.store, &a.named(&["app:1"]), &directory, &gzip()).expect("saved");
    save_oci_dir(&a.store, &a.named(&["localhost:5000/team/app:2"]), &directory, &gzip())
        .expect("saved beside it");
    save_oci_dir(&a.store, &a.named(&["app:1"]), &directory, &gzip()).expect("saved again");
    let lease = b.store.lease().expect("a lease");
    let images = load_dir(&b.store, &lease, &directory, &LoadOptions::default()).expect("loaded");
    assert_eq!(images.len(), 2);
    let source = LayoutSource::new(&directory);
    let fetch = |wanted: &str| {
        source
            .fetch(&name(wanted), &Platform::host(), &b.store, &lease, Purpose::Keep)
            .expect("a source")
    };
    assert_eq!(fetch("app:1").map(|image| image.config), Some(a.named(&["app:1"])[0].1.config));
    assert_eq!(fetch("nothing"), None);
}

#[test]
fn other_compressions_and_docker_s_media_types() {
    let f = two_images();
    let image = &f.named(&["app:1"])[0].1;
    for (codec, expected) in [
        (Codec::None, media_type::OCI_LAYER),
        (Codec::Gzip, media_type::OCI_LAYER_GZIP),
        (Codec::Zstd, media_type::OCI_LAYER_ZSTD),
    ] {
        let options = SaveOptions::new(Compression::new(codec));
        let (bytes, descriptor) = f.store.manifest(image, &options).expect("a manifest");
        let manifest = Manifest::parse(&bytes).expect("valid");
        assert_eq!(manifest.layers[0].media_type, expected);
        assert_eq!(descriptor.media_type, media_type::OCI_MANIFEST);
    }
    let options = SaveOptions { docker_types: true, ..gzip() };
    let (bytes, _) = f.store.manifest(image, &options).expect("a manifest");
    let manifest = Manifest::parse(&bytes).expect("valid");
    assert_eq!(manifest.media_type, media_type::DOCKER_MANIFEST);
    assert_eq!(manifest.config.media_type, media_type::DOCKER_CONFIG);
    assert_eq!(manifest.layers[0].media_type, media_type::DOCKER_LAYER_GZIP);
}

#[test]
fn what_came_uncompressed_goes_out_compressed_unless_its_manifest_came_too() {
    let (a, b) = (two_images(), fixture());
    let plain = SaveOptions::new(Compression::new(Codec::None));
    let mut oci = Vec::new();
    save_oci(&a.store, &a.named(&["app:1"]), &mut oci, &plain).expect("saved");
    load_all(&b.store, &oci).expect("loaded");
    assert_eq!(saved(&b, &["app:1"]), oci, "as it came");
    let mut docker = Vec::new();
    save_docker(&a.store, &a.named(&["localhost:5000/team/app:2"]), &mut docker).expect("saved");
    let image = load_all(&b.store, &docker).expect("loaded").remove(0).1;
    let (bytes, _) = b.store.manifest(&image, &gzip()).expect("a manifest");
    let manifest = Manifest::parse(&bytes).expect("valid");
    let kinds: Vec<_> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
    assert_eq!(kinds, [media_type::OCI_LAYER_GZIP; 2]);
}

#[test]
fn a_root_file_system_goes_out_and_in() {
    let (a, b) = (two_images(), fixture());
    let image = &a.named(&["localhost:5000/team/app:2"])[0].1;
    let view = View::new(a.store.image_layers(image).expect("its layers")).expect("a view");
    let mut tar = Vec::new();
    export_rootfs(&a.store, &view, &mut tar).expect("exported");
    let lease = b.store.lease().expect("a lease");
    let options = ImportOptions { comment: "imported".into(), ..ImportOptions::default() };
    let imported = import_rootfs(&b.store, &lease, &mut &*tar, &options).expect("imported");
    let layers = b.store.image_layers(&imported).expect("its layers");
    let again = View::new(layers).expect("a view");
    let paths = |view: &View| {
        let list =
            |found: lapstrake_layerstore::view::Found| (found.entry.path, found.entry.content);
        view.iter().filter(|found| found.layer.is_some()).map(list).collect::<Vec<_>>()
    };
    assert_eq!(paths(&view), paths(&again));
    let mut twice = Vec::new();
    export_rootfs(&b.store, &again, &mut twice).expect("exported");
    assert_eq!(tar, twice);
}

#[test]
fn a_root_file_system_may_be_compressed_in_any_way() {
    let f = two_images();
    let tar = f.beside("rootfs.tar");
    let view = View::new(f.store.image_layers(&f.named(&["app:1"])[0].1).expect("its layers"));
    write_file(&tar, |out| export_rootfs(&f.store, &view.expect("a view"), out)).expect("exported");
    let lease = f.store.lease().expect("a lease");
    let import = |path: &Path| {
        let mut file = fs::File::open(path).expect("there");
        import_rootfs(&f.store, &lease, &mut file, &ImportOptions::default()).expect("imported")
    };
    let plain = import(&tar);
    for (tool, extension) in [("gzip", "gz"), ("zstd", "zst"), ("bzip2", "bz2"), ("xz", "xz")] {
        if require(&[Need::Tool(tool)]) {
            run(tool, &["-k", "-q", text(&tar)]);
            assert_eq!(import(&f.beside(&format!("rootfs.tar.{extension}"))).config, plain.config);
        }
    }
}

#[test]
fn platforms_are_chosen_and_refused() {
    let f = two_images();
    let bytes = saved(&f, &["app:1"]);
    let lease = f.store.lease().expect("a lease");
    let s390x: Platform = "linux/s390x".parse().expect("valid");
    let options = LoadOptions { platform: Some(s390x), ..LoadOptions::default() };
    let error = load(&f.store, &lease, &mut &*bytes, &options).expect_err("none for it");
    assert!(matches!(error, TransferError::Platform { .. }), "{error}");
    assert!(error.to_string().contains("linux/s390x"), "{error}");
}

#[test]
fn a_file_appears_complete_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("out.tar");
    let failed = write_file(&path, |out| {
        out.write_all(b"half").expect("room");
        Err(TransferError::NotAnImage)
    });
    assert!(failed.is_err());
    assert_eq!(names(directory.path()), Vec::<String>::new());
    write_file(&path, |out| {
        out.write_all(b"whole").expect("room");
        Ok(())
    })
    .expect("written");
    assert_eq!(fs::read(&path).expect("there"), b"whole");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("readable");
    entries
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn names_and_ids_are_resolved() {
    let f = two_images();
    let image = f.named(&["app:1"])[0].1.clone();
    let id = image.config.hex();
    let found = |text: &str| f.store.resolve(text).expect("unambiguous").map(|(_, image)| image);
    for text in ["app:1", "docker.io/library/app:1", &id, &id[..12], &format!("sha256:{id}")] {
        assert_eq!(found(text).as_ref(), Some(&image), "{text}");
    }
    assert_eq!(found("app"), None);
    assert_eq!(found("app:2"), None);
    assert_eq!(found("ffffffffffff"), None);
    f.store.untag(&name("app:1")).expect("untagged");
    assert_eq!(found("app:1"), None);
    assert_eq!(found(&id[..12]).map(|image| image.config), Some(image.config), "still there by id");
    let tags: Vec<Reference> = f.store.tags().expect("tags").into_iter().map(|tag| tag.0).collect();
    assert_eq!(tags, [name("localhost:5000/team/app:2")]);
}
