//! diffIDs that begin while files are read: they are those of the layers, or are not taken.

use crate::support::{Bench, Built};
use lapstrake_builder::BuildOptions;
use lapstrake_layerstore::compress::{Codec, Compression};
use lapstrake_layerstore::digest::DiffId;
use std::fs::{self, File};
use std::time::UNIX_EPOCH;

/// Thirty megabytes in names whose order by components is not the order of their bytes.
fn fill(bench: &Bench) {
    let text = |number: usize| format!("{number} ").repeat(60_000);
    for number in 0..40 {
        bench.write(&format!("src/a/{number}"), &text(number));
        bench.write(&format!("src/a-b/{number}"), &text(number + 100));
        bench.write(&format!("src/a.c/{number}/x"), &text(number + 200));
    }
    bench.write("src/empty", "");
}

fn diff_ids(bench: &Bench, built: Built) -> Vec<DiffId> {
    bench.store.image_config(&built.outcome.unwrap().image).unwrap().rootfs.diff_ids
}

/// The same in a store where nothing is foreseen, since it knows something.
fn worked_out(options: &BuildOptions) -> Vec<DiffId> {
    let other = Bench::new();
    other.write("other", "x");
    other.build(&other.options("FROM scratch\nCOPY other /\n")).outcome.unwrap();
    let options = BuildOptions { no_cache: false, ..options.clone() };
    let built = other.build(&options);
    assert_eq!(built.foreseen, 0);
    diff_ids(&other, built)
}

fn can_foresee() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

#[test]
fn what_is_foreseen_is_what_is_worked_out() {
    let files = Bench::new();
    fill(&files);
    for (instructions, epoch, count) in [
        ("COPY src /app", None, 1),
        ("COPY src /app", Some(1_000_000_000), 1),
        ("COPY --chown=7:8 --chmod=u+x src/a src/a-b src/empty /x/", None, 1),
        ("COPY --link src/a.c /deep/er/", None, 1),
        // Those of the second have the names of those of the first.
        ("COPY src/a src/a-* ./", None, 1),
        ("COPY src/a-b /b/\nCOPY src/a.c /c/", None, 2),
        // What the second reads is remembered by then.
        ("COPY src /b\nCOPY src /c", None, 1),
        ("ADD src /app", None, 0),
        ("COPY src/a/1 src/a/2 /", None, 0),
    ] {
        let bench = Bench::new();
        let options = files.options(&format!("FROM scratch\n{instructions}\n"));
        let options = BuildOptions { epoch, ..options };
        let built = bench.build(&options);
        if can_foresee() {
            assert_eq!(built.foreseen, count, "{instructions}");
        }
        assert_eq!(diff_ids(&bench, built), worked_out(&options), "{instructions}");
    }
}

#[test]
fn a_file_that_differs_in_nothing_but_its_content_is_a_change() {
    let files = Bench::new();
    for number in 0..40 {
        let (old, new) = (format!("{number:04} ").repeat(60_000), format!("{:04} ", 99));
        files.write(&format!("old/{number}"), &old);
        let is_same = number % 2 == 0;
        files.write(
            &format!("new/{number}"),
            if is_same { old } else { new.repeat(60_000) }.as_str(),
        );
        for version in ["old", "new"] {
            let file = files.path(&format!("{version}/{number}"));
            File::options().write(true).open(file).unwrap().set_modified(UNIX_EPOCH).unwrap();
        }
    }
    let options = files.options("FROM scratch AS old\nCOPY old /a\nFROM old\nCOPY new /a\n");
    let bench = Bench::new();
    let built = bench.build(&options);
    let image = built.outcome.as_ref().unwrap().image.clone();
    let changed = bench.store.image_layers(&image).unwrap()[1].toc().unwrap().stats();
    assert_eq!(changed.files, 20);
    assert_eq!(diff_ids(&bench, built), worked_out(&options));
}

#[test]
fn nothing_is_foreseen_where_something_may_be_found() {
    let bench = Bench::new();
    fill(&bench);
    let options = bench.options("FROM scratch\nCOPY src /app\n");
    let first = bench.build(&options);
    let expected = diff_ids(&bench, first);
    // Every file is new to the memo, and the key is known.
    let other = Bench::new();
    fill(&other);
    fs::remove_dir_all(bench.path("src")).unwrap();
    fs::rename(other.path("src"), bench.path("src")).unwrap();
    let again = bench.build(&options);
    assert_eq!((again.executed, again.foreseen), (0, 0));
    assert_eq!(diff_ids(&bench, again), expected);
}

#[test]
fn what_is_remembered_is_not_foreseen() {
    let bench = Bench::new();
    fill(&bench);
    let options = bench.options("FROM scratch\nCOPY src /app\n");
    assert_eq!(bench.build(&options).foreseen, usize::from(can_foresee()));
    let options = BuildOptions { no_cache: true, ..bench.options("FROM scratch\nCOPY src /y\n") };
    // Everything is remembered now: begun, and given up.
    let built = bench.build(&options);
    assert_eq!(built.foreseen, 0);
    assert_eq!(diff_ids(&bench, built), worked_out(&options));
}

#[test]
fn large_files_are_foreseen_in_pieces() {
    let files = Bench::new();
    fill(&files);
    files.write("src/a/large", &"0123456".repeat(2 << 20));
    files.write("src/b", &"x".repeat(5 << 20));
    let options = files.options("FROM scratch\nCOPY src /app\n");
    let bench = Bench::new();
    let built = bench.build(&options);
    assert_eq!(built.foreseen, usize::from(can_foresee()));
    assert_eq!(diff_ids(&bench, built), worked_out(&options));
}

#[test]
fn compressed_forms_are_foreseen_with_their_diff_ids() {
    let files = Bench::new();
    fill(&files);
    files.write("src/large", &"0123456".repeat(2 << 20));
    for codec in [Codec::Gzip, Codec::Zstd] {
        let compression = Some(Compression::new(codec));
        let options = files.options("FROM scratch\nCOPY src /app\n");
        let options = BuildOptions { compression, ..options };
        let blobs = |bench: &Bench| {
            let blobs = bench.store.layers().blobs().list().unwrap();
            blobs.into_iter().filter(|(_, size)| *size > 3000).collect::<Vec<_>>()
        };
        let (bench, other) = (Bench::new(), Bench::new());
        assert_eq!(bench.build(&options).foreseen, usize::from(can_foresee()));
        // One that knows something, so that nothing is foreseen.
        other.write("other", "x");
        other.build(&other.options("FROM scratch\nCOPY other /\n")).outcome.unwrap();
        assert_eq!(other.build(&options).foreseen, 0);
        assert_eq!(blobs(&bench).len(), 1);
        assert_eq!(blobs(&bench), blobs(&other), "{codec:?}");
    }
}
