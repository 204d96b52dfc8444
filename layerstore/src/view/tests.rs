//! Views over small tables of contents.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::toc::{Entry, Kind, Toc};

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text).unwrap()
}

/// `a/` directory, `-a` whiteout, `!a` opaque, `a>b` symbolic link, `a=b` hard link, else a file.
fn layer(words: &str) -> Arc<Toc> {
    let entry = |word: &str| {
        let with = |name: &str, kind| Entry::new(path(name), kind);
        if let Some((name, to)) = word.split_once('>') {
            return Entry { link: to.into(), ..with(name, Kind::Symlink) };
        }
        if let Some((name, to)) = word.split_once('=') {
            return Entry { link: to.into(), ..with(name, Kind::Hardlink) };
        }
        match word.as_bytes() {
            [b'-', ..] => with(&word[1..], Kind::Whiteout),
            [b'!', ..] => with(&word[1..], Kind::Opaque),
            [.., b'/'] => with(word, Kind::Dir),
            _ => Entry { size: 1, ..with(word, Kind::File) },
        }
    };
    Arc::new(Toc::from_entries(words.split_whitespace().map(entry).collect()).unwrap())
}

fn view(layers: &[&str]) -> View {
    let whole = View::of_tocs(layers.iter().map(|words| layer(words)).collect());
    let pushed = layers.iter().fold(View::default(), |view, words| view.push_toc(layer(words)));
    assert_eq!(shown(&whole), shown(&pushed));
    whole
}

fn shown(view: &View) -> String {
    let word = |found: Found| {
        let layer = found.layer.map_or("?".to_owned(), |layer| layer.to_string());
        let slash = if found.entry.kind == Kind::Dir { "/" } else { "" };
        format!("{}{slash}@{layer}", found.entry.path)
    };
    view.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn layers_lie_over_each_other() {
    for (layers, expected) in [
        (&["a/ a/x", "a/ a/y"][..], "a/@1 a/x@0 a/y@1"),
        (&["a/ a/x b", "-a"], "b@0"),
        (&["a/ a/x a/y", "a/ -a/x"], "a/@1 a/y@0"),
        (&["a/ a/x", "a/ !a a/y"], "a/@1 a/y@1"),
        (&["a/ a/x b", "! c"], "c@1"),
        (&["a/ a/x", "a"], "a@1"),
        (&["a/ a/x", "a", "a/ a/y"], "a/@2 a/y@2"),
        (&["a", "a/ a/y"], "a/@1 a/y@1"),
        (&["a/ a/x", "a>b"], "a@1"),
        (&["a/ a/x a-b/ a-b/y a0", "-a"], "a-b/@0 a-b/y@0 a0@0"),
        (&["a/b/c"], "a/@? a/b/@? a/b/c@0"),
        (&["a/ a/b", "a/b/c"], "a/@0 a/b/@? a/b/c@1"),
        (&["d/ d/x", "d/y"], "d/@0 d/x@0 d/y@1"),
    ] {
        assert_eq!(shown(&view(layers)), expected, "{layers:?}");
    }
}

#[test]
fn children_and_walks() {
    let view = view(&["a/ a/b/ a/b/c a/b-d a/b/e/ a/b/e/f z", "a/ a/n a-x"]);
    let names = |at: &str| {
        let children = view.children(&path(at));
        children.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["a", "a-x", "z"]);
    assert_eq!(names("a"), ["b", "b-d", "n"]);
    assert_eq!(names("a/b"), ["c", "e"]);
    assert_eq!(names("z"), [] as [&str; 0]);
    let mut walked = Vec::new();
    view.walk(&path(""), &mut |path, _| {
        walked.push(path.to_string());
        if path.to_string() == "a/b/e" { Descend::Over } else { Descend::Into }
    });
    assert_eq!(walked, ["a", "a/b", "a/b/c", "a/b/e", "a/b-d", "a/n", "a-x", "z"]);
}

#[test]
fn hard_links_show_their_file() {
    let view = view(&["f g=f", "h=f", "-f"]);
    let found = view.get(&path("g")).unwrap();
    assert_eq!((found.entry.kind, found.entry.size, found.layer), (Kind::File, 1, Some(0)));
    assert_eq!((found.entry.path, found.link_target), (path("g"), Some(path("f"))));
    // A foreign layer's link to a file below.
    assert_eq!(view.get(&path("h")).unwrap().layer, Some(0));
    assert_eq!(view.get(&path("f")), None);
    assert_eq!(view.kind(&path("g")), Some(Kind::File));
}

#[test]
fn links_are_followed_inside_the_root() {
    let view = view(&["d/ d/f l>d abs>/d/f up>../../../d loop>loop d/rel>../e e>missing/x f"]);
    let check = |text: &str, follow, expected: &str| {
        let result = view.resolve_path(text.as_bytes(), follow);
        let shown = match result {
            Ok(Resolved { path, missing_from: None }) => path.to_string(),
            Ok(Resolved { path, missing_from: Some(from) }) => format!("{path} ({from})"),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    };
    check("/l/f", true, "d/f");
    check("l", true, "d");
    check("l", false, "l");
    check("abs", true, "d/f");
    check("up/f", true, "d/f");
    check("../../l/../f", true, "f");
    check("e/y", true, "missing/x/y (0)");
    check("d/rel", true, "missing/x (0)");
    check("d/new/sub", true, "d/new/sub (1)");
    check("d/new/../f", true, "d/f");
    check("loop", true, "`loop` goes through too many symbolic links");
    check("f/x", true, "`f` is not a directory");
    check("f", true, "f");
    check("", true, "");
}

#[test]
fn a_link_below_is_found_through_layers() {
    // Each names what the one below named; the file itself is gone from the root.
    let view = view(&["f g=f", "h=g", "-f -g i=h", "h/ h/x"]);
    for (name, layer) in [("i", Some(0)), ("h/x", Some(3))] {
        let found = view.get(&path(name)).unwrap();
        assert_eq!((found.entry.kind, found.layer), (Kind::File, layer), "{name}");
    }
    let view = self::view(&["d/ d/x", "a=nothing b=d"]);
    assert_eq!(view.get(&path("a")).unwrap().entry.kind, Kind::Hardlink);
    assert_eq!(view.get(&path("b")).unwrap().entry.kind, Kind::Dir);
}

/// Deep paths and many links took minutes where each name was looked up from the root, or each link
/// in a view of its own.
#[test]
fn deep_paths_and_many_links_cost_little() {
    const DEPTH: usize = 600;
    const FILES: usize = 4000;
    let deep: Vec<Entry> =
        (2..DEPTH).map(|depth| Entry::directory(path(&"a/".repeat(depth)), 0o755, 0)).collect();
    let unlisted = (0..DEPTH)
        .map(|at| Entry::new(path(&format!("{}x{at}/f", "b/".repeat(DEPTH))), Kind::File));
    let foreign: Vec<Entry> = deep.iter().cloned().chain(unlisted).collect();
    let files = (0..FILES).map(|at| Entry::new(path(&format!("f{at}")), Kind::File));
    let links = (0..FILES).map(|at| {
        let link = format!("f{at}").as_bytes().into();
        Entry { link, ..Entry::new(path(&format!("l{at}")), Kind::Hardlink) }
    });
    let toc = |entries: Vec<Entry>| Arc::new(Toc::from_entries(entries).unwrap());
    let tocs = [files.collect(), foreign, links.collect()].map(toc);
    let view = View::of_tocs(tocs.to_vec());
    let started = cpu_seconds();
    for entry in view.iter() {
        assert_eq!(view.resolve(entry.entry.path.as_bytes(), true).unwrap(), entry.entry.path);
    }
    for toc in &tocs[1..] {
        let settled = settled(toc, &view).unwrap();
        assert!(settled.toc.len() >= toc.len());
    }
    // In milliseconds where it was minutes; the bound is for the slowest of machines.
    let took = cpu_seconds() - started;
    assert!(took < 20.0, "{took} s");
}

/// What this thread has run; 0 where the kernel does not count that.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok());
    nanos.unwrap_or_default() / 1e9
}

/// As [`Above`](super::settle::Above), looking at every parent.
fn has_one_above(paths: &[LayerPath], asked: &LayerPath) -> bool {
    paths.iter().any(|above| above != asked && asked.starts_with(above))
}

/// As [`View::resolve_path`], name by name.
fn resolve_slowly(view: &View, path: &[u8], follow_last: bool) -> Option<(String, Option<usize>)> {
    let names = |bytes: &[u8]| -> Vec<Vec<u8>> {
        let names = bytes.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b"."));
        names.map(<[u8]>::to_vec).collect()
    };
    let mut pending: std::collections::VecDeque<Vec<u8>> = names(path).into();
    let (mut at, mut missing_from, mut links) = (LayerPath::root(), None, 0);
    while let Some(name) = pending.pop_front() {
        if name == b".." {
            at = at.parent().unwrap_or_default();
            missing_from = missing_from.filter(|from| at.components().count() > *from);
            continue;
        }
        let next = at.join(&name).ok()?;
        let entry = if missing_from.is_some() { None } else { view.get(&next).map(|f| f.entry) };
        match entry {
            Some(link) if link.kind == Kind::Symlink && (follow_last || !pending.is_empty()) => {
                links += 1;
                if links > crate::limits::SYMLINKS_MAX {
                    return None;
                }
                at = if link.link.starts_with(b"/") { LayerPath::root() } else { at };
                names(&link.link).into_iter().rev().for_each(|name| pending.push_front(name));
            }
            Some(entry) if entry.kind != Kind::Dir && !pending.is_empty() => return None,
            Some(_) => at = next,
            None => {
                missing_from = missing_from.or_else(|| Some(at.components().count()));
                at = next;
            }
        }
    }
    Some((at.to_string(), missing_from))
}

#[test]
fn views_are_compared_as_roots() {
    let changes = compare_views(&view(&["a/ a/x a/y=a/x", "b"]), &view(&["a/ a/x a/y b"]));
    assert_eq!(changes, []);
    let changes = compare_views(&view(&["a b"]), &view(&["a b", "-a c"]));
    let paths: Vec<String> = changes.iter().map(|change| change.path.to_string()).collect();
    assert_eq!(paths, ["a", "c"]);
}

/// The plain meaning of layers: one map, changed entry by entry.
fn by_hand(layers: &[Arc<Toc>]) -> Vec<(String, Kind)> {
    let mut map: std::collections::BTreeMap<LayerPath, Kind> = std::collections::BTreeMap::new();
    for toc in layers {
        let before = map.clone();
        for entry in toc.iter() {
            let path = &entry.path;
            if entry.kind != Kind::Dir {
                map.retain(|known, _| {
                    *known == *path || !known.starts_with(path) || !before.contains_key(known)
                });
            }
            match entry.kind {
                Kind::Whiteout => drop(map.remove(path)),
                Kind::Opaque => {}
                kind => drop(map.insert(path.clone(), kind)),
            }
        }
    }
    map.into_iter().map(|(path, kind)| (path.to_string(), kind)).collect()
}

fn any_layer() -> impl Strategy<Value = Arc<Toc>> {
    let kind = prop_oneof![
        3 => Just(Kind::Dir), 3 => Just(Kind::File), 1 => Just(Kind::Whiteout), 1 => Just(Kind::Opaque)
    ];
    proptest::collection::vec(("[ab]/[ab]/[ab]|[ab]/[ab]|[ab]", kind), 0..10).prop_map(|names| {
        let mut directories: Vec<Entry> = Vec::new();
        let mut assembler = crate::archive::Assembler::default();
        for (name, kind) in names {
            let path = path(&name);
            for above in path.ancestors() {
                directories.push(Entry::new(LayerPath::parse(above).unwrap(), Kind::Dir));
            }
            for directory in directories.drain(..) {
                assembler.add(directory).unwrap();
            }
            // A file cannot be opaque.
            assert!(assembler.add(Entry::new(path, kind)).is_ok() || kind == Kind::Opaque);
        }
        let mut toc = Toc::from_entries(assembler.finish()).unwrap();
        // Opaque marks come with their directories.
        let marks: Vec<Entry> = toc.iter().filter(|e| e.kind == Kind::Opaque).cloned().collect();
        let mut entries = toc.entries().to_vec();
        entries.extend(
            marks
                .iter()
                .filter(|mark| toc.lookup(&mark.path).unwrap().kind == Kind::Opaque)
                .map(|mark| Entry::new(mark.path.clone(), Kind::Dir)),
        );
        toc = Toc::from_entries(entries).unwrap();
        Arc::new(toc)
    })
}

proptest! {
    #[test]
    fn views_are_what_layers_mean(layers in proptest::collection::vec(any_layer(), 1..5)) {
        let view = View::of_tocs(layers.clone());
        let found: Vec<(String, Kind)> =
            view.iter().map(|found| (found.entry.path.to_string(), found.entry.kind)).collect();
        prop_assert_eq!(&found, &by_hand(&layers));
        let pushed = layers.iter().fold(View::default(), |view, toc| view.push_toc(Arc::clone(toc)));
        prop_assert_eq!(shown(&view), shown(&pushed));
        let mut walked = 0;
        view.walk(&LayerPath::root(), &mut |path, found| {
            assert_eq!(view.get(path).as_ref(), Some(found));
            walked += 1;
            Descend::Into
        });
        prop_assert_eq!(walked, found.len());
    }

    #[test]
    fn links_are_followed_as_name_by_name(
        links in proptest::collection::vec(
            ("[ab](/[ab.-]){0,2}", "/?(([ab.-]|\\.\\.)/){0,4}([ab-]|\\.\\.)?"), 0..6),
        files in proptest::collection::vec("[ab.-](/[ab.-]){0,3}", 0..4),
        asked in "/?(([ab.-]|\\.\\.)/){0,6}([ab-]|\\.\\.)?",
        follow_last in any::<bool>(),
    ) {
        let mut assembler = crate::archive::Assembler::default();
        let links = links.into_iter().map(|(name, to)| {
            let link = to.as_bytes().into();
            Entry { link, ..Entry::new(path(&name), Kind::Symlink) }
        });
        let files = files.iter().map(|name| Entry::new(path(name), Kind::File));
        let entries = links.chain(files).filter(|entry| !entry.path.is_root());
        for entry in entries {
            // Some cannot be, as loops.
            assembler.add(entry).unwrap_or_default();
        }
        let view = View::of_tocs(vec![Arc::new(Toc::from_entries(assembler.finish()).unwrap())]);
        let quick = view.resolve_path(asked.as_bytes(), follow_last).ok();
        let quick = quick.map(|found| (found.path.to_string(), found.missing_from));
        prop_assert_eq!(quick, resolve_slowly(&view, asked.as_bytes(), follow_last));
    }

    #[test]
    fn what_lies_above_is_found_in_one_search(
        paths in proptest::collection::vec("[ab.0-](/[ab.0-]){0,3}", 0..12),
        asked in "[ab.0-](/[ab.0-]){0,4}",
    ) {
        let clean = |text: &String| LayerPath::parse(text).ok().filter(|path| !path.is_root());
        let paths: Vec<LayerPath> = paths.iter().filter_map(clean).collect();
        if let Some(asked) = clean(&asked) {
            let above = settle::Above::new(paths.iter().map(LayerPath::as_bytes));
            prop_assert_eq!(above.has_one_above(asked.as_bytes()), has_one_above(&paths, &asked));
        }
    }
}
