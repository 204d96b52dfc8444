//! An ignore file of 100 patterns over a tree of 100,000 paths, on one core.
//!
//! `cargo bench -p lapstrake-builder --bench ignore`; the figures are in `docs/benchmarks.md`.

use divan::{Bencher, black_box};
use lapstrake_builder::ignore::{Ignore, ParentMatches};

fn main() {
    divan::main();
}

/// A hundred lines as large projects have them: names, endings, paths, `**`, `!`.
fn patterns(taken_back: bool) -> String {
    let mut lines = Vec::new();
    for n in 0..10 {
        lines.push(format!("build{n}"));
        lines.push(format!("/out/part{n}/"));
        lines.push(format!("**/*.tmp{n}"));
        lines.push(format!("**/cache{n}"));
        lines.push(format!("src/**/generated{n}/*.c"));
        lines.push(format!("*.log{n}"));
        lines.push(format!("docs/?{n}/[a-f]*.md"));
        lines.push(format!("lib/*/vendor{n}"));
        lines.push(format!("test{n}/**"));
        lines.push(if taken_back {
            format!("!**/keep{n}.tmp{n}")
        } else {
            format!("**/node_modules/pkg{n}/test")
        });
    }
    lines.join("\n")
}

/// A directory of the tree and what it holds.
enum Entry {
    File(String),
    Dir(String, Vec<Entry>),
}

/// 100,000 paths, six levels deep, some of which the patterns name.
fn tree() -> Vec<Entry> {
    let mut count = 0;
    let tops = ["src", "lib", "docs", "out", "test3", "build4", "app", "web", "tools", "pkg"];
    let tree = tops.iter().map(|top| dir(top.to_string(), 4, &mut count)).collect();
    assert!((100_000..110_000).contains(&count), "{count} paths");
    tree
}

fn dir(path: String, levels: usize, count: &mut usize) -> Entry {
    *count += 1;
    let mut entries = Vec::new();
    if levels > 0 {
        for n in 0..7 {
            let name = ["part", "module", "cache", "generated", "core", "util", "net"][n];
            entries.push(dir(format!("{path}/{name}{}", levels + n % 3), levels - 1, count));
        }
    }
    let endings = ["c", "h", "rs", "md", "tmp1", "txt"];
    for n in 0..if levels == 0 { 2 } else { 6 } {
        *count += 1;
        entries.push(Entry::File(format!("{path}/file_{n}.{}", endings[n % endings.len()])));
    }
    Entry::Dir(path, entries)
}

/// How many paths of the tree a build sees, walked as the context is.
fn seen(ignore: &Ignore, entries: &[Entry], matches: &ParentMatches) -> usize {
    let mut count = 0;
    for entry in entries {
        match entry {
            Entry::File(path) => count += usize::from(!ignore.decide(path, matches).0),
            Entry::Dir(path, below) => {
                let (ignored, matches) = ignore.decide(path, matches);
                count += usize::from(!ignored);
                if !ignored || !ignore.can_prune(path, &matches) {
                    count += seen(ignore, below, &matches);
                }
            }
        }
    }
    count
}

/// Whether the patterns end in `!` ones, which keep ignored directories from being skipped.
#[divan::bench(args = [false, true])]
fn walk_100_000_paths(bencher: Bencher<'_, '_>, taken_back: bool) {
    let tree = tree();
    let text = patterns(taken_back);
    bencher.bench_local(|| {
        let ignore = Ignore::parse(text.as_bytes()).expect("the patterns are right");
        black_box(seen(&ignore, &tree, &ParentMatches::default()))
    });
}

/// Each path by itself, its parents asked again and again.
#[divan::bench]
fn ask_for_100_000_paths(bencher: Bencher<'_, '_>) {
    fn all<'a>(entries: &'a [Entry], out: &mut Vec<&'a str>) {
        for entry in entries {
            match entry {
                Entry::File(path) => out.push(path),
                Entry::Dir(path, below) => {
                    out.push(path);
                    all(below, out);
                }
            }
        }
    }
    let tree = tree();
    let mut paths = Vec::new();
    all(&tree, &mut paths);
    let ignore = Ignore::parse(patterns(true).as_bytes()).expect("the patterns are right");
    bencher.bench_local(|| black_box(paths.iter().filter(|path| ignore.is_excluded(path)).count()));
}
