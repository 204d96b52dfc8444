//! Archives that nobody honest writes: `fixtures/layer/hostile/<case>/{archive,expected}.txt`.
//!
//! Every way in gives the same answer: refused for the reason that is recorded, and then the store
//! has not one file more; or taken for the entries that are recorded, and then the tree on the disk
//! is those entries. Whatever it is, nothing beside the store was touched.

use std::{error::Error, io::Write as _, path::Path, sync::Arc};

use lapstrake_fixtures::{
    case::{Case, cases},
    host::is_root,
    raw_tar,
};
use lapstrake_layerstore::{
    DiffId, Digest, ErrorKind, Store, StoreError,
    archive::TarWriter,
    layers::{Expected, Layer, Purpose},
    oci::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type},
    toc::{Entry, Kind},
    transfer::{ImportOptions, LoadOptions, TransferError, import_rootfs, load, load_file},
    view::View,
};

use rayon::prelude::*;

use crate::{
    listing::{disk, listed, shown},
    support::{Fixture, assert_clean, fixture, path},
};

/// A way into the store.
type Way = fn(&Store, &[Vec<u8>]) -> Result<Vec<Arc<Layer>>, Box<dyn Error>>;

const WAYS: [(&str, Way); 8] = [
    ("plain", plain),
    ("pulled as gzip", pulled_gzip),
    ("pulled to run", pulled_to_run),
    ("pulled as zstd", pulled_zstd),
    ("OCI archive", oci_archive),
    ("OCI archive in a file", oci_archive_file),
    ("docker archive", docker_archive),
    ("root file system", root_file_system),
];

fn plain(store: &Store, archives: &[Vec<u8>]) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    each(archives, |tar| store.layers().import_tar(&mut &*tar, Expected::default()))
}

fn pulled_gzip(store: &Store, archives: &[Vec<u8>]) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    each(archives, |tar| pulled(store, tar, gzip(tar)))
}

fn pulled_zstd(store: &Store, archives: &[Vec<u8>]) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    each(archives, |tar| pulled(store, tar, zstd::encode_all(tar, 1).expect("room")))
}

/// Trees are made while the layers arrive; what they become is looked at as all others are.
fn pulled_to_run(store: &Store, archives: &[Vec<u8>]) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    each(archives, |tar| {
        let (blob, expected) = promised(tar, gzip(tar));
        store.layers().import_tar_for(&mut &*blob, expected, Purpose::Run)
    })
}

fn each(
    archives: &[Vec<u8>],
    import: impl Fn(&[u8]) -> Result<Arc<Layer>, StoreError>,
) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    Ok(archives.iter().map(|tar| import(tar)).collect::<Result<_, _>>()?)
}

/// As from a registry: everything that a manifest and a config promise is true.
fn pulled(store: &Store, tar: &[u8], blob: Vec<u8>) -> Result<Arc<Layer>, StoreError> {
    let (blob, expected) = promised(tar, blob);
    store.layers().import_tar(&mut &*blob, expected)
}

fn promised(tar: &[u8], blob: Vec<u8>) -> (Vec<u8>, Expected) {
    let diff_id = Some(DiffId::from_digest(Digest::of(tar)));
    let expected = Expected { blob: Some((Digest::of(&blob), blob.len() as u64)), diff_id };
    (blob, expected)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("room");
    encoder.finish().expect("room")
}

fn config(archives: &[Vec<u8>]) -> Vec<u8> {
    let mut config = ImageConfig::default();
    config.set_platform(&Platform::host());
    let diff_id = |tar: &Vec<u8>| DiffId::from_digest(Digest::of(tar));
    config.rootfs.diff_ids = archives.iter().map(diff_id).collect();
    config.to_json()
}

fn together(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new(), None);
    for (name, data) in members {
        let size = data.len() as u64;
        let entry = Entry { mode: 0o644, size, ..Entry::new(path(name), Kind::File) };
        tar.append_bytes(&entry, data).expect("room");
    }
    tar.finish().expect("room")
}

fn oci_archive(store: &Store, archives: &[Vec<u8>]) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    load_one(store, &oci(archives))
}

fn oci_archive_file(
    store: &Store,
    archives: &[Vec<u8>],
) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    let mut file = tempfile::tempfile()?;
    file.write_all(&oci(archives))?;
    let lease = store.lease()?;
    let images = load_file(store, &lease, &file, &LoadOptions::default())?;
    Ok(store.image_layers(&images[0].1)?)
}

fn oci(archives: &[Vec<u8>]) -> Vec<u8> {
    let mut members = Vec::new();
    let mut blob = |bytes: Vec<u8>, kind: &str| {
        let digest = Digest::of(&bytes);
        let descriptor = Descriptor::new(kind, digest, bytes.len() as u64);
        members.push((format!("blobs/sha256/{}", digest.hex()), bytes));
        descriptor
    };
    let layers =
        archives.iter().map(|tar| blob(gzip(tar), media_type::OCI_LAYER_GZIP)).collect::<Vec<_>>();
    let config = blob(config(archives), media_type::OCI_CONFIG);
    let manifest = Manifest::image(config, layers).to_json();
    let top = blob(manifest, media_type::OCI_MANIFEST);
    members.push(("index.json".into(), Index::new(vec![top]).to_json()));
    together(&members)
}

fn docker_archive(store: &Store, archives: &[Vec<u8>]) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    let name = |at: usize| format!("{at}.tar");
    let mut members: Vec<_> =
        archives.iter().enumerate().map(|(at, tar)| (name(at), tar.clone())).collect();
    let layers: Vec<String> = (0..archives.len()).map(name).collect();
    members.push(("config.json".into(), config(archives)));
    let manifest = serde_json::json!([{"Config": "config.json", "Layers": layers}]);
    members.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    load_one(store, &together(&members))
}

fn load_one(store: &Store, archive: &[u8]) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    let lease = store.lease()?;
    let images = load(store, &lease, &mut &*archive, &LoadOptions::default())?;
    Ok(store.image_layers(&images[0].1)?)
}

fn root_file_system(
    store: &Store,
    archives: &[Vec<u8>],
) -> Result<Vec<Arc<Layer>>, Box<dyn Error>> {
    let lease = store.lease()?;
    let import = |tar: &Vec<u8>| {
        let image = import_rootfs(store, &lease, &mut tar.as_slice(), &ImportOptions::default())?;
        Ok(store.image_layers(&image)?.remove(0))
    };
    Ok(archives.iter().map(import).collect::<Result<_, TransferError>>()?)
}

/// The innermost reason.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What became of the archives, in words that do not depend on the way.
fn outcome(f: &Fixture, way: Way, archives: &[Vec<u8>]) -> String {
    let before = everything_below(f.directory.path());
    let layers = match way(&f.store, archives) {
        Ok(layers) => layers,
        Err(error) => {
            let reason = root_cause(&*error);
            if archives.len() == 1 {
                // Layers below the bad one are good layers.
                let after = everything_below(f.directory.path());
                assert_eq!(before, after, "a trace is left, though it was refused: {reason}");
            }
            return format!("refused: {reason}\n");
        }
    };
    let mut text = String::new();
    for (at, layer) in layers.iter().enumerate() {
        if at > 0 {
            text += "===\n";
        }
        text += &listed(layer.toc().expect("a table of contents"));
    }
    if layers.len() > 1 {
        text += "=== shown\n";
        text += &shown(&View::new(layers.clone()).expect("a view"));
    }
    let stacked = match f.store.layers().stack(&layers) {
        Ok(stacked) => stacked,
        Err(error) => return format!("{text}cannot be mounted: {}\n", root_cause(&error)),
    };
    if is_root() {
        for layer in &stacked {
            let tree = f.store.layers().tree(layer).expect("a tree");
            let toc = layer.toc().expect("a table of contents");
            disk::check(&tree, toc);
        }
    }
    text
}

fn everything_below(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).expect("readable") {
            let entry = entry.expect("readable");
            let meta = entry.metadata().expect("readable");
            if meta.is_dir() {
                pending.push(entry.path());
            } else {
                found.push(format!("{} {}", entry.path().display(), meta.len()));
            }
        }
    }
    found.sort();
    // A lease is a file as long as it is held.
    found.retain(|line| !line.contains("/store/leases/"));
    found
}

fn check(case: &Case) {
    let mut outcomes = Vec::new();
    for (name, way) in WAYS {
        let f = fixture();
        let outside = f.beside("outside");
        std::fs::create_dir(&outside).expect("room");
        std::fs::write(outside.join("sentinel"), "as it was").expect("room");
        let outside_text = outside.to_str().expect("plain").to_owned();
        let archives =
            raw_tar::parse(&case.text("archive.txt").replace("{outside}", &outside_text));
        let before = std::fs::metadata(&outside).expect("there").modified().expect("a time");
        let text = outcome(&f, way, &archives).replace(&outside_text, "{outside}");
        outcomes.push((name, text.replace(&outside_text[1..], "{outside}")));
        let after = std::fs::metadata(&outside).expect("there").modified().expect("a time");
        assert_eq!(before, after, "{}: {name}: something was made outside", case.name);
        let sentinel = std::fs::read(outside.join("sentinel")).expect("still there");
        assert_eq!(sentinel, b"as it was", "{}: {name}", case.name);
        assert_clean(&f.store);
    }
    for (name, text) in &outcomes {
        assert_eq!(*text, outcomes[0].1, "{}: {name}", case.name);
    }
    case.check("expected.txt", &outcomes[0].1);
}

#[test]
fn every_hostile_archive_is_refused_or_means_one_thing() {
    cases("layer/hostile").par_iter().for_each(check);
}

/// Cut anywhere, a layer is an error and no trace, or (at the end of a member) fewer entries.
/// Not the machine's, as it would be if a file of it could not be read.
#[test]
fn damaged_compression_is_a_fault_of_the_input() {
    let f = fixture();
    let whole = gzip(b"not even a tar");
    let end = whole.len();
    let mut wrong_sum = whole.clone();
    wrong_sum[end - 6] ^= 1;
    let mut wrong_flags = whole.clone();
    wrong_flags[3] = 0xe0;
    let behind = [&whole[..], b"more"].concat();
    for bytes in [&whole[..end - 5], &wrong_sum, &wrong_flags, &behind] {
        let lease = f.store.lease().expect("a lease");
        let error = import_rootfs(&f.store, &lease, &mut &*bytes, &ImportOptions::default());
        let Err(TransferError::Store(error)) = error else { panic!("{bytes:?} was taken") };
        assert_eq!(error.kind(), ErrorKind::Input, "{error}: {}", root_cause(&error));
    }
}

#[test]
fn an_archive_cut_at_any_byte_is_seen() {
    let text = "pax path=d/long ; SCHILY.xattr.security.capability=\\x01\\0*19\n\
                file d/x = some bytes\nfile .wh.gone\n";
    let whole = raw_tar::parse(text).remove(0);
    let f = fixture();
    // Behind the file; its extended header stands before it.
    let member = 2048;
    for end in 0..whole.len() - 1024 {
        let result = plain(&f.store, &[whole[..end].to_vec()]);
        assert_eq!(result.is_ok(), [0, member].contains(&end), "{end}: {result:?}");
    }
    assert_eq!(f.store.layers().list().expect("layers").len(), 2);
    // What a registry promised is not there, whatever it could mean.
    for end in (0..whole.len()).step_by(256) {
        let promised =
            Expected { blob: Some((Digest::of(&whole), whole.len() as u64)), diff_id: None };
        let error = f.store.layers().import_tar(&mut &whole[..end], promised).expect_err("cut");
        assert!(matches!(error, StoreError::Mismatch { .. }), "{end}: {error}");
    }
    let gzipped = gzip(&whole);
    let blobs = f.store.blobs().list().expect("blobs").len();
    // Two bytes tell what gzip is.
    for end in 1..gzipped.len() {
        plain(&f.store, &[gzipped[..end].to_vec()]).expect_err("cut");
    }
    assert_eq!(f.store.blobs().list().expect("blobs").len(), blobs);
}
