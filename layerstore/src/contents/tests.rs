//! Packs: what goes in comes out, once, in every process.

use std::{io::Read, sync::Arc};

use super::*;

fn open(root: &Path) -> Arc<Contents> {
    let staging = Arc::new(Staging::create(&root.join("work")).unwrap());
    Arc::new(Contents::open_store(root, staging).unwrap())
}

fn read(contents: &Contents, hash: &ContentHash) -> Vec<u8> {
    let mut bytes = Vec::new();
    contents.open(hash).unwrap().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn contents_are_kept_once() {
    let root = tempfile::tempdir().unwrap();
    let (contents, other) = (open(root.path()), open(root.path()));
    let mut writer = contents.writer();
    let (a, length) = writer.put_bytes(b"first").unwrap();
    assert_eq!((a, length), (ContentHash::of(b"first"), 5));
    let (b, _) = writer.put(&mut &b"second"[..]).unwrap();
    writer.put_bytes(b"first").unwrap();
    assert!(!contents.has(&a) && !other.has(&a), "not before finish");
    writer.finish().unwrap();
    for store in [&contents, &other] {
        assert_eq!(read(store, &a), b"first");
        assert_eq!(read(store, &b), b"second");
    }
    let mut writer = other.writer();
    writer.put_bytes(b"second").unwrap();
    writer.finish().unwrap();
    let packs = contents.list_packs().unwrap();
    assert_eq!(packs.len(), 1, "nothing new makes no pack");
    assert_eq!(contents.pack_records(packs[0].0).unwrap().len(), 2);
    assert_eq!(contents.verify_pack(packs[0].0).unwrap(), []);
    contents.remove_pack(packs[0].0).unwrap();
    assert!(!contents.has(&a));
    // The other process finds out before it relies on what it knew.
    let mut writer = other.writer();
    writer.put_bytes(b"first").unwrap();
    writer.finish().unwrap();
    assert_eq!(read(&contents, &a), b"first");
}

#[test]
fn an_unfinished_writer_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let contents = open(root.path());
    let mut writer = contents.writer();
    writer.put_bytes(b"x").unwrap();
    writer.put(&mut io::repeat(7).take(6 << 20)).unwrap();
    drop(writer);
    assert_eq!(contents.list_packs().unwrap(), []);
    assert_eq!(fs::read_dir(contents.staging.path()).unwrap().count(), 0);
}

#[test]
fn damage_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let contents = open(root.path());
    let mut writer = contents.writer();
    let (hash, _) = writer.put_bytes(b"content").unwrap();
    writer.finish().unwrap();
    let (id, file) = contents.list_packs().unwrap().remove(0);
    let bytes = fs::read(&file).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        fs::write(&file, &damaged).unwrap();
        match contents.verify_pack(id) {
            Ok(found) => assert_eq!((found.as_slice(), at < 7), ([hash].as_slice(), true), "{at}"),
            Err(error) => assert!(matches!(error, StoreError::Damaged { .. }) && at >= 7, "{at}"),
        }
    }
    for cut in 0..bytes.len() {
        fs::write(&file, &bytes[..cut]).unwrap();
        contents.verify_pack(id).unwrap_err();
    }
}
