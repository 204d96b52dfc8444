//! COPY's rules over trees in memory.

use super::place::destination;
use super::select::select;
use super::{Placement, Selector, Staging, place};
use crate::chmod::Mode;
use crate::error::BuildError;
use crate::ignore::Matcher;
use crate::tree::{Node, Resolved, Tree, resolve};
use lapstrake_layerstore::digest::ContentHash;
use lapstrake_layerstore::path::LayerPath;
use lapstrake_layerstore::toc::{Entry, Kind};
use proptest::prelude::*;
use std::collections::BTreeMap;

const NOW: i64 = 1_000;

/// Paths ending in `/` are directories, `a -> b` is a link, the rest are files with their path as content.
struct Memory(BTreeMap<LayerPath, Node>);

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text).unwrap()
}

fn memory(lines: &[&str]) -> Memory {
    let mut files = BTreeMap::from([(LayerPath::root(), Node::directory(0o755, 0, 0, 1))]);
    for line in lines {
        let (at, node) = match line.split_once(" -> ") {
            Some((at, target)) => {
                let mut node = Node::empty_file(0o777, 5);
                node.kind = Kind::Symlink;
                node.link = target.as_bytes().into();
                (at, node)
            }
            None if line.ends_with('/') => (*line, Node::directory(0o700, 7, 8, 5)),
            None => {
                let mut node = Node::empty_file(0o640, 5);
                node.size = line.len() as u64;
                node.content = Some(ContentHash::of(line.as_bytes()));
                (*line, node)
            }
        };
        files.insert(path(at), node);
    }
    Memory(files)
}

impl Tree for Memory {
    fn get(&self, path: &LayerPath) -> Result<Option<Node>, BuildError> {
        Ok(self.0.get(path).cloned())
    }

    fn children(&self, dir: &LayerPath) -> Result<Vec<(Vec<u8>, Node)>, BuildError> {
        let below = self.0.iter().filter(|(p, _)| p.parent().as_ref() == Some(dir));
        Ok(below.map(|(p, n)| (p.file_name().unwrap().to_vec(), n.clone())).collect())
    }
}

fn placement(dest: &str) -> Placement {
    let dest = destination("/w", dest).unwrap();
    Placement { dest, owner: None, mode: None, now: NOW }
}

fn copy(
    from: &Memory,
    sources: &[&str],
    to: &Memory,
    how: &Placement,
) -> Result<Vec<Entry>, BuildError> {
    let mut staging = Staging::over(to, NOW);
    for source in sources {
        for selected in select(from, source.as_bytes(), &Selector::default())? {
            place(&mut staging, &selected, how)?;
        }
    }
    staging.into_entries()
}

/// Everything that the layer changes, directories that are only on the way left out.
fn names(entries: &[Entry]) -> Vec<String> {
    let mut names: Vec<String> = entries
        .iter()
        .filter(|e| e.kind != Kind::Dir)
        .map(|e| match e.kind {
            Kind::Whiteout => format!("-{}", e.path),
            _ => e.path.to_string(),
        })
        .collect();
    names.sort();
    names
}

fn check(sources: &[&str], dest: &str, expected: &[&str]) {
    let from = memory(&["a", "d/", "d/b", "d/s/", "d/s/c", "l -> d/b", "dl -> d"]);
    let to = memory(&["old/", "old/x", "w/", "file", "to -> old"]);
    let made = copy(&from, sources, &to, &placement(dest)).unwrap();
    assert_eq!(names(&made), expected, "COPY {sources:?} {dest}");
}

#[test]
fn where_files_go() {
    check(&["a"], "/n", &["n"]);
    check(&["a"], "/n/", &["n/a"]);
    check(&["a"], "n", &["w/n"]);
    check(&["a"], ".", &["w/a"]);
    check(&["a"], "/old", &["old/a"]);
    check(&["a"], "/file", &["file"]);
    check(&["a"], "/to", &["old/a"]);
    check(&["a"], "/to/x", &["old/x"]);
    check(&["d"], "/n", &["n/b", "n/s/c"]);
    check(&["d/"], "/old/", &["old/b", "old/s/c"]);
    check(&["l"], "/n/", &["n/l"]);
    check(&["dl"], "/n", &["n/b", "n/s/c"]);
    check(&["a", "d/b"], "/n", &["n"]);
    check(&["*"], "/n/", &["n/a", "n/b", "n/l", "n/s/c"]);
    check(&["d/?"], "/n/", &["n/b", "n/c"]);
    check(&["nothing*"], "/n/", &[]);
    check(&["../../a"], "/../n", &["n"]);
}

#[test]
fn what_cannot_be_copied() {
    let from = memory(&["a", "d/", "d/x", "x/", "loop -> loop"]);
    let to = memory(&["f", "w/", "w/d/", "w/d/x/"]);
    let fails =
        |source: &str, dest: &str| copy(&from, &[source], &to, &placement(dest)).unwrap_err();
    assert!(matches!(fails("none", "/"), BuildError::SourceNotFound { path } if path == "/none"));
    assert!(matches!(fails("d", "/f"), BuildError::NotADirectory { path } if path == "/f"));
    assert!(matches!(fails("a", "/f/b"), BuildError::NotADirectory { .. }));
    assert!(
        matches!(fails("d", "/w/d"), BuildError::FileOverDirectory { path } if path == "/w/d/x")
    );
    assert!(matches!(fails("[", "/"), BuildError::BadPattern { .. }));
    assert!(matches!(fails("loop", "/"), BuildError::SymlinkLoop { .. }));
}

#[test]
fn modes_owners_and_times() {
    let from = memory(&["d/", "d/s/", "d/s/f"]);
    let how = Placement {
        owner: Some((3, 4)),
        mode: Some(Mode::parse("4711").unwrap()),
        ..placement("/n/m/")
    };
    let made = copy(&from, &["d"], &memory(&[]), &how).unwrap();
    let of = |name: &str| made.iter().find(|e| e.path == path(name)).unwrap();
    // Directories that had to be made take the mode without set-id bits; copied ones take all of it.
    assert_eq!((of("n").mode, of("n").mtime), (0o711, NOW));
    assert_eq!((of("n/m").mode, of("n/m").mtime), (0o711, 5));
    assert_eq!((of("n/m/s").mode, of("n/m/s").mtime), (0o4711, 5));
    assert_eq!((of("n/m/s/f").mode, of("n/m/s/f").mtime), (0o4711, 5));
    assert!(made.iter().all(|e| (e.uid, e.gid) == (3, 4)));
}

#[test]
fn what_is_the_same_is_no_change() {
    let tree = memory(&["d/", "d/f"]);
    let made = copy(&tree, &["d"], &memory(&["d/", "d/f"]), &placement("/d")).unwrap();
    assert!(names(&made).is_empty(), "{made:?}");
}

#[test]
fn a_parent_that_gets_something_gets_a_new_time() {
    let made = copy(&memory(&["a"]), &["a"], &memory(&["old/"]), &placement("/old/")).unwrap();
    let parent = made.iter().find(|e| e.path == path("old")).unwrap();
    assert_eq!((parent.mtime, parent.mode, parent.uid), (NOW, 0o700, 7));
}

#[test]
fn excludes_count_from_the_copied_directory() {
    let from = memory(&["d/", "d/a.md", "d/s/", "d/s/b.md", "d/s/c"]);
    let how =
        Selector { excludes: Some(Matcher::new(&["*.md", "s/c"]).unwrap()), ..Selector::default() };
    let found = select(&from, b"d", &how).unwrap();
    let kept: Vec<String> = found[0].items.iter().map(|i| i.relative.to_string()).collect();
    assert_eq!(kept, ["s", "s/b.md"]);
}

/// Mode, owner and time of a directory that the layer has.
fn directory(made: &[Entry], at: &str) -> (u32, u32, i64) {
    let found = made.iter().find(|entry| entry.path == path(at)).unwrap();
    (found.mode, found.uid, found.mtime)
}

#[test]
fn a_directory_that_is_only_on_the_way_keeps_its_owner_and_time() {
    let from = memory(&["x/", "x/y/", "x/y/b", "x/y/c", "x/z/", "x/z/d"]);
    let mut to = memory(&["w/", "w/x/", "w/x/y/"]);
    for at in ["w/x", "w/x/y"] {
        *to.0.get_mut(&path(at)).unwrap() = Node::directory(0o755, 33, 33, 3);
    }
    let made = |source: &[u8], how: &Selector, chmod: Option<&str>| {
        let mode = chmod.map(|mode| Mode::parse(mode).unwrap());
        let how_placed = Placement { mode, ..placement(".") };
        let mut staging = Staging::over(&to, NOW);
        for selected in select(&from, source, how).unwrap() {
            place(&mut staging, &selected, &how_placed).unwrap();
        }
        staging.into_entries().unwrap()
    };
    let parents = Selector { parents: true, ..Selector::default() };
    let found = made(b"x/y/b", &parents, Some("750"));
    assert_eq!(directory(&found, "w/x"), (0o700, 33, 3));
    assert_eq!(directory(&found, "w/x/y"), (0o700, 33, NOW));
    // One that the pattern names is copied with all that belongs to it.
    let found = made(b"x/y", &parents, None);
    assert_eq!(directory(&found, "w/x"), (0o700, 33, 3));
    assert_eq!(directory(&found, "w/x/y"), (0o700, 7, 5));
    // One that is not there yet is, too.
    let found = made(b"x/z/d", &parents, Some("750"));
    assert_eq!(directory(&found, "w/x/z"), (0o750, 7, 5));
    let excludes = Some(Matcher::new(&["y", "!y/b"]).unwrap());
    let found = made(b"x/./", &Selector { excludes, ..parents }, None);
    assert_eq!(names(&found), ["w/y/b", "w/z/d"]);
}

#[test]
fn a_named_parent_has_to_be_there_whether_it_is_excluded_or_not() {
    let from = memory(&["x/", "x/a", "l -> x", "f"]);
    let excludes = Some(Matcher::new(&["x/a"]).unwrap());
    let how = Selector { parents: true, excludes, ..Selector::default() };
    assert!(select(&from, b"x/a", &how).unwrap()[0].items.is_empty());
    for gone in ["x/b", "x/b/c", "f/g", "l/a", "none/./a"] {
        let found = select(&from, gone.as_bytes(), &how);
        assert!(matches!(found, Err(BuildError::SourceNotFound { .. })), "{gone}");
    }
    // A wildcard needs nothing, and a file that one before the pivot matches is copied itself.
    assert_eq!(select(&from, b"?/./none", &how).unwrap()[0].name, b"f");
}

#[test]
fn parents_are_kept_from_the_pivot_on() {
    let from = memory(&["x/", "x/y/", "x/y/b.t", "x/z/", "x/z/n"]);
    let how = Selector { parents: true, ..Selector::default() };
    let relative = |source: &[u8]| -> Vec<String> {
        let found = select(&from, source, &how).unwrap();
        found.iter().flat_map(|s| &s.items).map(|i| i.relative.to_string()).collect()
    };
    assert_eq!(relative(b"x/./y/*.t"), ["y", "y/b.t"]);
    assert_eq!(relative(b"x/y/b.t"), ["x", "x/y", "x/y/b.t"]);
    assert_eq!(relative(b"**/*.t"), ["x", "x/y", "x/y/b.t"]);
    assert!(matches!(select(&from, b"x/none", &how), Err(BuildError::SourceNotFound { .. })));
}

#[test]
fn a_replaced_directory_hides_what_was_below() {
    let to = memory(&["d/", "d/old", "d/kept"]);
    let mut staging = Staging::over(&to, NOW);
    staging.put(path("d"), Node::empty_file(0o644, 1)).unwrap();
    assert!(staging.get(&path("d/old")).unwrap().is_none());
    staging.put(path("d"), Node::directory(0o755, 0, 0, 1)).unwrap();
    let mut node = Node::empty_file(0o600, 1);
    node.mode = 0o600;
    staging.put(path("d/kept"), node).unwrap();
    assert_eq!(staging.children(&path("d")).unwrap().len(), 1);
    assert_eq!(names(&staging.into_entries().unwrap()), ["-d/old", "d/kept"]);
}

#[test]
fn links_stay_inside() {
    let tree = memory(&["d/", "d/up -> ../../../../e", "e", "abs -> /d", "f"]);
    let follow = |at: &str| resolve(&tree, at.as_bytes(), true).unwrap();
    assert_eq!(follow("d/up"), Resolved::Found(path("e")));
    assert_eq!(follow("/abs/up"), Resolved::Found(path("e")));
    assert_eq!(follow("abs/new/../x"), Resolved::Missing(path("d/x")));
    assert_eq!(follow("f/x"), Resolved::NotADirectory(path("f")));
    assert_eq!(follow("../../.."), Resolved::Found(LayerPath::root()));
}

fn any_path() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ab](/[ab]){0,3}").unwrap()
}

proptest! {
    /// Whatever is put where, and whoever asked before, a staging shows what was put over the base.
    #[test]
    fn a_staging_shows_what_was_put(
        base in proptest::collection::btree_set(any_path(), 0..6),
        puts in proptest::collection::vec((any_path(), any::<bool>(), any_path()), 0..12),
    ) {
        let mut shown = memory(&[]);
        let put_into = |shown: &mut Memory, at: &LayerPath, node: Node| {
            let is_dir = |node: &Node| node.is_dir();
            let parent = at.parent().and_then(|parent| shown.0.get(&parent).map(is_dir));
            if parent != Some(true) {
                return false;
            }
            if !(node.is_dir() && shown.0.get(at).is_some_and(is_dir)) {
                shown.0.retain(|path, _| !path.starts_with(at));
            }
            shown.0.insert(at.clone(), node);
            true
        };
        for at in &base {
            put_into(&mut shown, &path(at), Node::directory(0o755, 0, 0, 5));
        }
        let below = Memory(shown.0.clone());
        let mut staging = Staging::over(&below, NOW);
        for (at, is_dir, asked) in puts {
            let at = path(&at);
            let node = if is_dir { Node::directory(0o755, 0, 0, 7) } else { Node::empty_file(0o644, 7) };
            staging.get(&path(&asked)).unwrap();
            if put_into(&mut shown, &at, node.clone()) {
                staging.put(at, node).unwrap();
            }
            staging.kind(&path(&asked)).unwrap();
            let everywhere = shown.0.keys().cloned().chain([path(&asked), path("a/b/a"), path("b/a")]);
            for at in everywhere {
                let kind = shown.0.get(&at).map(|node| node.kind);
                prop_assert_eq!(staging.kind(&at).unwrap(), kind, "{}", at);
                prop_assert_eq!(staging.get(&at).unwrap().map(|node| node.kind), kind, "{}", at);
            }
        }
    }
}
