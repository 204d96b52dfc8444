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
}
