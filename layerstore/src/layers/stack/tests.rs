//! Foreign layers that mean something only over others: what they show, and that overlayfs agrees.

use std::{fs, io::Read, sync::Arc};

use proptest::prelude::*;

use crate::{
    archive::TarWriter,
    layers::{
        Expected, Layer, Origin,
        tests::{Fixture, dir, fixture, is_root, link, path},
    },
    toc::{Entry, Kind, Rare},
    upper::tests::check_overlay_shows_the_view,
    view::View,
};

/// A layer as somebody else would ship it: these members in this order.
fn foreign(fixture: &Fixture, members: &[(Entry, &[u8])]) -> Option<Arc<Layer>> {
    let mut tar = TarWriter::new(Vec::new(), None);
    for (entry, data) in members {
        let entry = Entry { size: data.len() as u64, ..entry.clone() };
        tar.append_bytes(&entry, data).unwrap();
    }
    // A few bytes behind the end make it another layer than one of ours.
    let mut bytes = tar.finish().unwrap();
    bytes.extend_from_slice(&[0; 512]);
    fixture.layers.import_tar(&mut bytes.as_slice(), Expected::default()).ok()
}

fn file(at: &str) -> Entry {
    Entry { mode: 0o640, uid: 3, mtime: 7, ..Entry::new(path(at), Kind::File) }
}

/// A base as Debian has it: `/var/run` leads to `/run`.
fn base(fixture: &Fixture) -> Arc<Layer> {
    let sticky = Entry { mode: 0o1777, uid: 5, mtime: 11, ..dir("tmp") };
    fixture
        .layers
        .create(vec![
            Entry { mode: 0o700, ..dir("run") },
            dir("var"),
            link("var/run", Kind::Symlink, "/run"),
            link("loop", Kind::Symlink, "loop"),
            sticky,
            fixture.file("tmp/old", b"old"),
            fixture.file("bin", b"a program"),
            dir("deep"),
            link("deep/up", Kind::Symlink, "../../../tmp"),
        ])
        .unwrap()
}

fn names(view: &View) -> String {
    let name = |found: crate::view::Found| {
        let layer = found.layer.map_or_else(|| "?".to_owned(), |layer| layer.to_string());
        format!("{}@{layer}", found.entry.path)
    };
    view.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// The view of the base and these members shows `expected`, and overlayfs shows the same.
fn check(members: &[(Entry, &[u8])], expected: &str) -> (Fixture, View) {
    let fixture = fixture();
    let base = base(&fixture);
    let layer = foreign(&fixture, members).unwrap();
    let view = View::new(vec![base.clone(), layer.clone()]).unwrap();
    let below = "bin@0 deep@0 deep/up@0 loop@0 run@0 tmp@0 tmp/old@0 var@0 var/run@0";
    let mut shown: Vec<String> = names(&view).split(' ').map(str::to_owned).collect();
    shown.retain(|name| !below.split(' ').any(|known| known == name));
    assert_eq!(shown.join(" "), expected);
    let pushed = View::new(vec![base]).unwrap().push(layer).unwrap();
    assert_eq!(names(&pushed), names(&view));
    if is_root() {
        check_overlay_shows_the_view(&fixture, &view);
    }
    (fixture, view)
}

fn read(fixture: &Fixture, view: &View, at: &str) -> String {
    let found = view.get(&path(at)).unwrap();
    let layer = &view.layers()[found.layer.unwrap()];
    let mut text = String::new();
    fixture.layers.open_content(layer, &found.entry).unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_directory_that_is_not_listed_keeps_its_metadata() {
    let (_fixture, view) = check(&[(file("tmp/new"), b"1")], "tmp/new@1");
    assert_eq!(view.get(&path("tmp")).unwrap().entry.mode, 0o1777);
    check(&[(file("new/sub/x"), b"1")], "new@? new/sub@? new/sub/x@1");
    check(&[(Entry::new(path("tmp"), Kind::Opaque), b"")], "");
    check(&[(Entry::whiteout(path("tmp/old")), b"")], "");
    check(&[(Entry::whiteout(path("none/old")), b"")], "none@?");
}

#[test]
fn names_go_where_the_links_below_lead() {
    let (fixture, view) = check(&[(file("var/run/pid"), b"42")], "run/pid@1");
    assert_eq!(read(&fixture, &view, "run/pid"), "42");
    check(&[(file("deep/up/x"), b"1")], "tmp/x@1");
    check(&[(Entry::whiteout(path("deep/up/old")), b"")], "");
    check(&[(dir("var/run/d"), b""), (file("var/run/d/x"), b"1")], "run/d@1 run/d/x@1");
    // A directory that is listed takes the link's place.
    check(&[(dir("var/run"), b""), (file("var/run/x"), b"1")], "var/run@1 var/run/x@1");
    // What is made again in a directory that was removed has nothing of the old one.
    let gone = (Entry::whiteout(path("var")), &b""[..]);
    check(&[(file("var/cache/x"), b"1"), gone], "var/cache@? var/cache/x@1");
    // So does one in a directory of which nothing below shows.
    check(
        &[(Entry::new(path("var"), Kind::Opaque), b""), (file("var/run/x"), b"1")],
        "var/run@? var/run/x@1",
    );
}

#[test]
fn a_hard_link_brings_the_file_below_along() {
    let to = |at: &str, name: &str| (link(at, Kind::Hardlink, name), &b""[..]);
    let (fixture, view) =
        check(&[to("sbin", "bin"), to("tmp/again", "sbin")], "sbin@0 tmp/again@0");
    assert_eq!(read(&fixture, &view, "sbin"), "a program");
    let tree = |layer| fixture.layers.tree(layer).unwrap();
    tree(&view.layers()[0]);
    assert_eq!(read(&fixture, &view, "sbin"), "a program", "from the tree, under its own name");
    let stacked = fixture.layers.stack(view.layers()).unwrap();
    assert_eq!(stacked[1].origin(), Origin::Blob);
    assert_ne!(stacked[1].id(), view.layers()[1].id());
    assert_eq!(fixture.layers.stack(view.layers()).unwrap()[1].id(), stacked[1].id());
    let made = tree(&stacked[1]);
    assert_eq!(fs::read(made.join("sbin")).unwrap(), b"a program");
    let (a, b) = (fs::metadata(made.join("sbin")), fs::metadata(made.join("bin")));
    let inode = std::os::unix::fs::MetadataExt::ino;
    assert_eq!(inode(&a.unwrap()), inode(&b.unwrap()));
    // The layer in the image stays what it is.
    let diff_id = fixture.layers.diff_id(&view.layers()[1]).unwrap();
    assert_eq!(fixture.layers.diff_id(&stacked[1]).unwrap(), diff_id);
    let found = fixture.layers.by_diff_id(&diff_id).unwrap().unwrap();
    assert_eq!(found.id(), view.layers()[1].id());
    // What is removed lives on under its other names.
    let gone = (Entry::whiteout(path("bin")), &b""[..]);
    let (fixture, view) = check(&[to("b", "bin"), to("c", "bin"), gone], "b@0 c@0");
    assert_eq!(read(&fixture, &view, "c"), "a program");
    // A link through a link.
    check(&[(file("run/x"), b"1"), to("y", "var/run/x")], "run/x@1 y@1");
}

#[test]
fn what_leads_nowhere_is_shown_and_not_mounted() {
    let fixture = fixture();
    let base = base(&fixture);
    for members in [
        [(link("x", Kind::Hardlink, "absent"), &b""[..])],
        [(link("x", Kind::Hardlink, "tmp"), b"")],
        [(file("loop/x"), b"1")],
    ] {
        let layer = foreign(&fixture, &members).unwrap();
        let layers = vec![base.clone(), layer];
        let view = View::new(layers.clone()).unwrap();
        assert!(view.get(&members[0].0.path).is_some());
        let error = fixture.layers.stack(&layers).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("is refused"), "{cause}");
    }
}

#[test]
fn a_whiteout_in_what_a_link_below_made_a_file_is_not_mounted() {
    let fixture = fixture();
    let below = foreign(&fixture, &[(link("a", Kind::Symlink, "/b"), &b""[..])]).unwrap();
    let members = [(file("a/b"), &b"1"[..]), (Entry::whiteout(path("b/b/a")), b"")];
    let layers = vec![below, foreign(&fixture, &members).unwrap()];
    let error = fixture.layers.stack(&layers).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("below something that is not a directory"), "{cause}");
}

/// Random stacks that are mounted: enough for every run; `PROPTEST_CASES` does not count here.
const CASES: u32 = 24;

fn any_member() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        3 => Just(Kind::File), 2 => Just(Kind::Dir), 2 => Just(Kind::Symlink),
        2 => Just(Kind::Hardlink), 1 => Just(Kind::Whiteout), 1 => Just(Kind::Opaque)
    ];
    let target = prop_oneof!["/[ab]", "[ab]", "\\.\\./[ab]", "/[ab]/[ab]"];
    ("[abc](/[abc]){0,2}", kind, target, 0..4_u32).prop_map(|(at, kind, target, owner)| {
        let link = match kind {
            Kind::Symlink => target.as_str().into(),
            Kind::Hardlink => target.trim_start_matches(['/', '.']).into(),
            _ => Rare::new(),
        };
        let mode = if kind == Kind::Symlink { 0o777 } else { 0o750 };
        let plain = Entry::new(path(&at), kind);
        Entry { link, mode, uid: owner, mtime: i64::from(owner) + 9, ..plain }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever archives say, and in whatever order, overlayfs shows what the view says.
    #[test]
    fn overlayfs_agrees(
        layers in proptest::collection::vec(proptest::collection::vec(any_member(), 1..9), 1..4)
    ) {
        if !is_root() {
            println!("skipped: mounting an overlay needs root");
            return Ok(());
        }
        let fixture = fixture();
        let members = |entries: &[Entry]| {
            let data = |entry: &Entry| if entry.kind == Kind::File { &b"data"[..] } else { b"" };
            let members: Vec<_> = entries.iter().map(|e| (e.clone(), data(e))).collect();
            foreign(&fixture, &members)
        };
        let layers: Vec<_> = layers.iter().filter_map(|entries| members(entries)).collect();
        prop_assume!(fixture.layers.stack(&layers).is_ok());
        // The lowest one has nothing to lean on.
        prop_assume!(layers.first().is_some_and(|first| fixture.layers.tree(first).is_ok()));
        check_overlay_shows_the_view(&fixture, &View::new(layers).unwrap());
    }
}
