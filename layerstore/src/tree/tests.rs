//! Random trees: from a directory to a layer, to its tar, to a foreign layer, to a tree again.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use proptest::prelude::*;

use crate::{
    LayerPath,
    layers::{
        Expected, UpperOptions,
        tests::{fixture, is_root},
    },
    toc::{Entry, Kind},
    view::View,
};

/// One thing to make: where, what, its mode and owner, its time.
type Piece = (Vec<String>, u8, u32, u32, i64);

fn any_piece() -> impl Strategy<Value = Piece> {
    let name = prop_oneof![
        "[abc]".boxed(),
        "[a-c]-[a-c]".boxed(),
        Just("sp ace\n".to_owned()).boxed(),
        Just("\u{fc}n\u{ef}".to_owned()).boxed(),
        "l{101,120}".boxed(),
    ];
    let names = proptest::collection::vec(name, 1..4);
    (names, 0u8..6, 0o400u32..0o10000, 0u32..3_000_000, -1000i64..5_000_000_000)
}

/// Makes the piece if there is room for it; what is in the way stays.
fn make(root: &Path, (names, kind, mode, owner, time): &Piece) {
    let parent = names[..names.len() - 1].iter().fold(root.to_owned(), |at, name| at.join(name));
    let at = parent.join(&names[names.len() - 1]);
    let is_free = fs::symlink_metadata(&at).is_err();
    if fs::create_dir_all(&parent).is_err() || !is_free {
        return;
    }
    let first = fs::read_dir(&parent).unwrap().filter_map(Result::ok).map(|e| e.path());
    let first = first.filter(|path| !fs::symlink_metadata(path).unwrap().is_dir()).min();
    let size = owner % 3000;
    match kind {
        0 => fs::create_dir(&at).unwrap(),
        1 => symlink("../somewhere/\u{fc}", &at).unwrap(),
        2 => {
            let made = Command::new("mkfifo").arg(&at).status().unwrap();
            assert!(made.success());
        }
        3 if first.is_some() => fs::hard_link(first.unwrap_or_default(), &at).unwrap(),
        4 => fs::File::create(&at).unwrap().set_len(u64::from(size) * 1000).unwrap(),
        _ => fs::write(&at, vec![*owner as u8; size as usize]).unwrap(),
    }
    let directory = fs::File::open(&parent).unwrap();
    let name = at.file_name().unwrap();
    let (uid, gid) = (rustix::fs::Uid::from_raw(*owner), rustix::fs::Gid::from_raw(owner / 2));
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&directory, name, Some(uid), Some(gid), flags).unwrap();
    if !fs::symlink_metadata(&at).unwrap().is_symlink() {
        let mode = rustix::fs::Mode::from_raw_mode(*mode);
        rustix::fs::chmodat(&directory, name, mode, rustix::fs::AtFlags::empty()).unwrap();
    }
    let path = LayerPath::parse(name.as_encoded_bytes()).unwrap();
    let entry = Entry { mtime: *time, mtime_nanos: 5, ..Entry::new(path, Kind::File) };
    super::set_mtime(&directory, name.as_encoded_bytes(), &entry).unwrap();
}

/// Everything that a layer keeps of a tree, as text.
fn listing(root: &Path) -> String {
    let print = "%P\\t%y %m %U:%G %s %l %n\\t%Ts\\n";
    let output = Command::new("find").arg(root).args(["-mindepth", "1", "-printf", print]).output();
    let output = output.unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<&str> = text.split_terminator('\n').collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn contents(root: &Path, entries: &[Entry]) -> Vec<Vec<u8>> {
    let files = entries.iter().filter(|entry| entry.kind == Kind::File);
    files.map(|entry| fs::read(root.join(entry.path.as_path())).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_tree_survives_being_a_layer(pieces in proptest::collection::vec(any_piece(), 0..25)) {
        if !is_root() {
            println!("skipped: owners need root");
            return Ok(());
        }
        let (fixture, other) = (fixture(), fixture());
        let upper = fixture.root.path().join("upper");
        fs::create_dir(&upper).unwrap();
        for piece in &pieces {
            make(&upper, piece);
        }
        let before = listing(&upper);
        let options = UpperOptions::default();
        let layer = fixture.layers.create_from_upper(&upper, &View::default(), &options).unwrap();
        let tree = fixture.layers.tree(&layer).unwrap();
        prop_assert_eq!(&listing(&tree), &before);
        let mut tar = Vec::new();
        fixture.layers.write_tar(&layer, &mut tar, None).unwrap();
        let expected = Expected { blob: None, diff_id: Some(fixture.layers.diff_id(&layer).unwrap()) };
        let foreign = other.layers.import_tar(&mut tar.as_slice(), expected).unwrap();
        let foreign_tree = other.layers.tree(&foreign).unwrap();
        prop_assert_eq!(&listing(&foreign_tree), &before);
        let entries = layer.toc().unwrap().entries();
        prop_assert!(contents(&tree, entries) == contents(&foreign_tree, entries));
        // Over itself, a tree is no change; from the packs, it is the same layer.
        let view = View::new(vec![layer.clone()]).unwrap();
        let copy = other.root.path().join("copy");
        let copied = Command::new("cp").arg("-a").arg(&tree).arg(&copy).status().unwrap();
        prop_assert!(copied.success());
        let nothing = fixture.layers.create_from_upper(&copy, &view, &options).unwrap();
        prop_assert_eq!(nothing.toc().unwrap().entries(), []);
        other.layers.ensure_contents(&foreign, foreign.toc().unwrap().entries()).unwrap();
        let packed = other.layers.create(foreign.toc().unwrap().entries().to_vec()).unwrap();
        prop_assert_eq!(packed.id(), layer.id());
        prop_assert_eq!(listing(&other.layers.tree(&packed).unwrap()), before);
    }
}
