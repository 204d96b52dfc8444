//! A table of contents of 50,000 files: opened, listed, looked into, compared, flattened.

use std::{path::Path, sync::Arc};

use divan::Bencher;
use lapstrake_layerstore::{
    ContentHash, LayerPath,
    toc::{self, Entry, Kind, Toc},
    view::View,
};

fn main() {
    divan::main();
}

/// 50,000 files in 500 directories; every hundredth file differs between two versions.
fn table(version: usize) -> Toc {
    let mut entries = Vec::with_capacity(50_501);
    for directory in 0..500 {
        let at = format!("usr/lib/module-{directory:03}");
        entries.push(Entry::directory(path(&at), 0o755, 1_700_000_000));
        for file in 0..100 {
            let changed = if file == 0 { version } else { 0 };
            let content = format!("{directory} {file} {changed}");
            entries.push(Entry {
                mode: 0o644,
                mtime: 1_700_000_000 + file,
                size: 4000,
                content: Some(ContentHash::of(content.as_bytes())),
                ..Entry::new(path(&format!("{at}/file-{file:04}.dat")), Kind::File)
            });
        }
    }
    entries.extend(["usr", "usr/lib"].map(|at| Entry::directory(path(at), 0o755, 0)));
    Toc::from_entries(entries).expect("entries of a layer")
}

fn path(text: &str) -> LayerPath {
    LayerPath::parse(text).expect("a clean path")
}

/// From the file to the entries, checksum included.
#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("toc");
    std::fs::write(&file, table(0).encode()).expect("room");
    bencher.bench_local(|| open_file(&file));
}

fn open_file(file: &Path) -> Toc {
    Toc::decode(&std::fs::read(file).expect("there")).expect("what was written")
}

/// From the file to one line for each entry.
#[divan::bench]
fn open_and_list(bencher: Bencher<'_, '_>) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("toc");
    std::fs::write(&file, table(0).encode()).expect("room");
    bencher.bench_local(|| {
        let mut list = Vec::new();
        for entry in &open_file(&file) {
            list.extend_from_slice(entry.path.as_bytes());
            list.push(b'\n');
        }
        list
    });
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let toc = table(0);
    bencher.bench_local(|| toc.encode());
}

/// A thousand paths, there and not.
#[divan::bench]
fn look_up_1000(bencher: Bencher<'_, '_>) {
    let toc = table(0);
    let at = |number: usize| {
        path(&format!("usr/lib/module-{:03}/file-{:04}.dat", number % 500, number % 150))
    };
    let paths: Vec<LayerPath> = (0..1000).map(at).collect();
    bencher.bench_local(|| paths.iter().filter(|path| toc.lookup(path).is_some()).count());
}

#[divan::bench]
fn below_a_directory(bencher: Bencher<'_, '_>) {
    let (toc, directory) = (table(0), path("usr/lib/module-250"));
    bencher
        .bench_local(|| toc.entries()[toc.below(&directory)].iter().map(|e| e.size).sum::<u64>());
}

/// 500 changed files among 50,000.
#[divan::bench]
fn compare(bencher: Bencher<'_, '_>) {
    let (old, new) = (table(0), table(1));
    bencher.bench_local(|| toc::compare(&old, &new).len());
}

/// What two layers of 50,000 show together, and from which each path comes.
#[divan::bench]
fn flatten_two(bencher: Bencher<'_, '_>) {
    let tocs = [Arc::new(table(0)), Arc::new(table(1))];
    bencher.bench_local(|| View::of_tocs(tocs.to_vec()).flatten().len());
}
