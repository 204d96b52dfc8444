//! Tables of contents there and back.

use proptest::prelude::*;

use super::*;
use crate::digest::ContentHash;

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text).unwrap()
}

fn entry(at: &str, kind: Kind) -> Entry {
    Entry::new(path(at), kind)
}

fn sample() -> Toc {
    let file = Entry {
        mode: 0o4755,
        uid: 1,
        gid: 4_000_000_000,
        mtime: -1,
        size: 5,
        content: Some(ContentHash::of(b"hello")),
        xattrs: vec![(b"b".to_vec(), b"2".to_vec()), (b"a".to_vec(), vec![0])].into(),
        tar_offset: NonZeroU64::new(1 << 40),
        mtime_nanos: 5,
        ..entry("usr/bin/x", Kind::File)
    };
    let device = Entry { device: (8, 1), mode: 0o660, ..entry("dev/sda1", Kind::BlockDevice) };
    let link = Entry { link: "../x".into(), ..entry("usr/bin/y", Kind::Symlink) };
    Toc::from_entries(vec![
        link,
        file,
        device,
        Entry::directory(path("usr"), 0o755, 7),
        Entry::directory(path("usr-x"), 0o755, 7),
        Entry::directory(path("usr/bin"), 0o755, 7),
        Entry::whiteout(path("gone")),
        entry("usr", Kind::Opaque),
    ])
    .unwrap()
}

/// The format is a promise: these bytes change only with `TOC_VERSION`.
#[test]
fn golden_bytes() {
    let toc = sample();
    let bytes = toc.encode();
    assert_eq!(Toc::decode(&bytes).unwrap(), toc);
    let (length, hash) = (bytes.len(), blake3::hash(&bytes));
    let (layer, content) = (toc.layer_id(), toc.content_id());
    insta::assert_snapshot!(format!("{length} bytes {hash}\nlayer {layer}\ncontent {content}\n"));
}

/// Large tables are held whole: two lines of a processor's cache for each entry.
#[test]
fn an_entry_is_small() {
    assert!(size_of::<Entry>() <= 128, "{}", size_of::<Entry>());
}

#[test]
fn damage_is_seen() {
    let bytes = sample().encode();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(Toc::decode(&damaged).is_err(), "byte {at}");
        assert!(Toc::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    let mut other = bytes;
    other[6] = 9;
    assert_eq!(Toc::decode(&other), Err(TocError::Version { found: 9 }));
}

/// Paths in several pieces, one of them as long as paths get, and a checksum worked out beside.
#[test]
fn a_large_table_comes_back() {
    let long = "n".repeat(250) + "/";
    let name = |at: u32| match at % 1000 {
        999 => format!("d{:03}/{}end", at / 100, long.repeat(15)),
        _ => format!("d{:03}/file-{at}", at / 100),
    };
    let entries: Vec<Entry> = (0..20_000_u32)
        .map(|at| Entry { uid: at, ..entry(&name(at), Kind::Fifo) })
        .chain((0..200).map(|at| entry(&format!("d{at:03}"), Kind::Dir)))
        .collect();
    let toc = Toc::from_entries(entries).unwrap();
    let mut bytes = toc.encode();
    assert_eq!(Toc::decode(&bytes).unwrap(), toc);
    assert_eq!(Toc::decode(&bytes).unwrap().encode(), bytes);
    // Where a path stands, which reads as another path.
    let at = bytes.windows(5).rposition(|part| part == b"file-").unwrap();
    bytes[at] ^= 2;
    let damage = TocError::Damaged { what: "its checksum does not fit" };
    assert_eq!(Toc::decode(&bytes), Err(damage));
}

#[test]
fn ids_see_what_they_should() {
    let toc = sample();
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut entries = toc.entries().to_vec();
        entries.iter_mut().filter(|e| e.kind == Kind::File).for_each(change);
        Toc::from_entries(entries).unwrap()
    };
    let nanos = with(&|entry| (entry.mtime_nanos, entry.tar_offset) = (9, None));
    assert_eq!((nanos.layer_id(), nanos.content_id()), (toc.layer_id(), toc.content_id()));
    let time = with(&|entry| entry.mtime = 9);
    assert_eq!(time.content_id(), toc.content_id());
    assert_ne!(time.layer_id(), toc.layer_id());
    let mode = with(&|entry| entry.mode = 0);
    assert_ne!(mode.content_id(), toc.content_id());
}

#[test]
fn ranges_and_lookups() {
    let toc = sample();
    let names = |range: Range<usize>| {
        toc.entries()[range]
            .iter()
            .map(|entry| entry.path.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names(toc.below(&path("usr"))), "usr/bin usr/bin/x usr/bin/y");
    assert_eq!(toc.below(&path("")).len(), toc.len());
    assert_eq!(toc.below(&path("us")).len(), 0);
    assert_eq!(toc.below(&path("usr/bin/x")).len(), 0);
    assert_eq!(toc.lookup(&path("usr")).unwrap().kind, Kind::Dir);
    assert!(toc.lookup(&path("usr/b")).is_none());
    let stats = toc.stats();
    assert_eq!((stats.files, stats.dirs, stats.whiteouts, stats.bytes), (1, 3, 2, 5));
}

#[test]
fn of_two_entries_the_later_counts() {
    let kinds = |entries: Vec<Entry>| {
        let toc = Toc::from_entries(entries).unwrap();
        toc.iter().map(|entry| entry.kind).collect::<Vec<_>>()
    };
    let (file, dir) = (entry("a", Kind::File), entry("a", Kind::Dir));
    let (whiteout, opaque) = (entry("a", Kind::Whiteout), entry("a", Kind::Opaque));
    assert_eq!(kinds(vec![file.clone(), dir.clone()]), [Kind::Dir]);
    assert_eq!(kinds(vec![whiteout.clone(), file.clone()]), [Kind::File]);
    assert_eq!(kinds(vec![file, whiteout.clone()]), [Kind::File]);
    assert_eq!(kinds(vec![whiteout.clone(), dir.clone()]), [Kind::Dir, Kind::Opaque]);
    assert_eq!(kinds(vec![dir.clone(), whiteout.clone()]), [Kind::Dir, Kind::Opaque]);
    assert_eq!(kinds(vec![opaque.clone(), dir.clone(), opaque.clone()]), [Kind::Dir, Kind::Opaque]);
    let again = vec![whiteout.clone(), dir.clone(), dir.clone(), opaque.clone(), dir.clone()];
    assert_eq!(kinds(again), [Kind::Dir, Kind::Opaque]);
    assert_eq!(kinds(vec![whiteout, opaque]), [Kind::Whiteout]);
    assert!(Toc::from_entries(vec![entry("", Kind::Whiteout)]).is_err());
}

#[test]
fn comparison_names_the_attributes() {
    let old = sample();
    let mut entries = old.entries().to_vec();
    entries.retain(|entry| entry.kind != Kind::BlockDevice);
    entries.push(entry("new", Kind::Fifo));
    for entry in &mut entries {
        if entry.kind == Kind::File {
            (entry.mode, entry.content) = (0o600, Some(ContentHash::of(b"olleh")));
        }
    }
    let new = Toc::from_entries(entries).unwrap();
    let changes = compare(&old, &new);
    let shown: Vec<String> =
        changes.iter().map(|change| format!("{} {:?}", change.path, change.kind)).collect();
    assert_eq!(
        shown,
        ["dev/sda1 Removed", "new Added", "usr/bin/x Changed { attributes: [Mode, Content] }"]
    );
    assert_eq!(compare(&old, &old), []);
}

proptest! {
    #[test]
    fn any_bytes_decode_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        // A right checksum, so that the parser itself is reached.
        let mut file = b"LAPTOC\x01\n".to_vec();
        file.extend_from_slice(&bytes);
        let checksum = blake3::hash(&file);
        file.extend_from_slice(checksum.as_bytes());
        if let Ok(toc) = Toc::decode(&file) {
            prop_assert_eq!(Toc::decode(&toc.encode()).unwrap(), toc);
        }
    }

    #[test]
    fn ranges_are_what_a_scan_finds(names in proptest::collection::vec("[ab/.0-]{1,6}", 1..30)) {
        let entries = names.iter().filter_map(|name| LayerPath::parse(name).ok());
        let entries = entries.filter(|path| !path.is_root()).map(|path| Entry::new(path, Kind::Dir));
        let toc = Toc::from_entries(entries.collect()).unwrap();
        for directory in &toc {
            let below = toc.below(&directory.path);
            for (at, entry) in toc.iter().enumerate() {
                let is_below = entry.path != directory.path && entry.path.starts_with(&directory.path);
                prop_assert_eq!(below.contains(&at), is_below);
            }
        }
    }
}
