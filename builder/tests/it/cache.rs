//! When a step is done again, and when it is not.

use crate::support::Bench;
use lapstrake_layerstore::store::check::FsckOptions;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

const COPY: &str = "FROM scratch\nCOPY a /x/\nCOPY d /y/\n";

fn bench() -> Bench {
    let bench = Bench::new();
    bench.write("a", "one");
    bench.write("d/b", "two");
    bench.write("d/c", "three");
    symlink("b", bench.path("d/l")).unwrap();
    bench
}

#[test]
fn nothing_changed() {
    let bench = bench();
    let first = bench.build(&bench.options(COPY));
    let second = bench.build(&bench.options(COPY));
    assert_eq!((first.executed, second.executed), (2, 0));
    let (first, second) = (first.outcome.unwrap(), second.outcome.unwrap());
    assert_eq!(first.image.config, second.image.config);
    assert_eq!((second.steps, second.cached), (2, 2));
}

#[test]
fn a_touched_file_hits() {
    let bench = bench();
    bench.executed(COPY);
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    File::open(bench.path("a")).unwrap().set_times(times).unwrap();
    assert_eq!(bench.executed(COPY), 0);
}

#[test]
fn only_the_step_that_reads_a_changed_file_and_what_follows_miss() {
    let bench = bench();
    bench.executed(COPY);
    bench.write("d/b", "TWO");
    assert_eq!(bench.executed(COPY), 1);
    bench.write("a", "ONE");
    assert_eq!(bench.executed(COPY), 2);
    bench.write("unused", "x");
    assert_eq!(bench.executed(COPY), 0);
}

#[test]
fn same_size_and_time_but_other_content_misses() {
    let bench = bench();
    let time = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    File::open(bench.path("a")).unwrap().set_times(time).unwrap();
    bench.executed(COPY);
    bench.write("a", "eno");
    File::open(bench.path("a")).unwrap().set_times(time).unwrap();
    assert_eq!(bench.executed(COPY), 2);
}

#[test]
fn modes_links_and_names_count() {
    let change = |change: &dyn Fn(&Bench)| {
        let bench = bench();
        bench.executed(COPY);
        change(&bench);
        bench.executed(COPY)
    };
    let chmod =
        |b: &Bench| fs::set_permissions(b.path("d/b"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(change(&chmod), 1);
    let rename = |b: &Bench| fs::rename(b.path("d/b"), b.path("d/z")).unwrap();
    assert_eq!(change(&rename), 1);
    let swap = |b: &Bench| {
        fs::rename(b.path("d/b"), b.path("t")).unwrap();
        fs::rename(b.path("d/c"), b.path("d/b")).unwrap();
        fs::rename(b.path("t"), b.path("d/c")).unwrap();
    };
    assert_eq!(change(&swap), 1);
    let retarget = |b: &Bench| {
        fs::remove_file(b.path("d/l")).unwrap();
        symlink("c", b.path("d/l")).unwrap();
    };
    assert_eq!(change(&retarget), 1);
    let add = |b: &Bench| b.write("d/new", "");
    assert_eq!(change(&add), 1);
    // Moving the directory as a whole is the text's business, not the files'.
    let nothing = |_: &Bench| {};
    assert_eq!(change(&nothing), 0);
}

#[test]
fn arguments_count_where_they_are_seen() {
    let bench = bench();
    let text = "FROM scratch\nARG V=1\nCOPY a /x/\nCOPY d /y$V/\n";
    bench.executed(text);
    let mut options = bench.options(text);
    options.build_args = vec![("V".into(), "2".into())];
    assert_eq!(bench.build(&options).executed, 1, "only the step that names it");
    options.build_args = vec![("OTHER".into(), "2".into())];
    assert_eq!(bench.build(&options).executed, 0);
}

#[test]
fn no_cache_executes_and_keeps_the_image() {
    let bench = bench();
    let first = bench.build(&bench.options(COPY)).outcome.unwrap();
    let mut options = bench.options(COPY);
    options.no_cache = true;
    options.now += 100;
    let again = bench.build(&options);
    assert_eq!(again.executed, 2);
    assert_eq!(again.outcome.unwrap().image.config, first.image.config);
}

#[test]
fn no_cache_filter_names_stages() {
    let bench = bench();
    let text =
        "FROM scratch AS one\nCOPY a /x\nFROM scratch AS two\nCOPY d /y\nCOPY --from=one /x /x\n";
    bench.executed(text);
    let mut options = bench.options(text);
    options.no_cache_filter = vec!["ONE".into()];
    assert_eq!(bench.build(&options).executed, 1);
}

#[test]
fn stages_that_nothing_needs_are_not_built() {
    let bench = bench();
    let text =
        "FROM scratch AS unused\nCOPY none /\nFROM nowhere/at:all AS far\nFROM scratch\nCOPY a /\n";
    assert_eq!(bench.executed(text), 1);
}

#[test]
fn ignored_files_do_not_count_and_are_named_when_missed() {
    let bench = bench();
    bench.write(".dockerignore", "d/c\n");
    bench.executed(COPY);
    bench.write("d/c", "changed");
    assert_eq!(bench.executed(COPY), 0);
    let error = bench.build(&bench.options("FROM scratch\nCOPY d/c /\n")).outcome.unwrap_err();
    assert!(error.root().to_string().contains("ignore file"), "{error}");
}

#[test]
fn the_same_files_make_the_same_image_in_another_store() {
    let (one, two) = (bench(), bench());
    let epoch = |bench: &Bench| {
        let mut options = bench.options(COPY);
        options.epoch = Some(1_700_000_000);
        bench.build(&options).outcome.unwrap().image.config
    };
    assert_eq!(epoch(&one), epoch(&two));
}

#[test]
fn the_store_is_whole_afterwards() {
    // Without root or a user namespace the tree's files belong to whoever runs this.
    if !lapstrake_fixtures::require(&[lapstrake_fixtures::Need::Root]) {
        return;
    }
    let bench = bench();
    bench.executed(COPY);
    let error = bench.build(&bench.options("FROM scratch\nCOPY a /x\nRUN false\n")).outcome;
    assert!(error.is_err());
    let report = bench.store.fsck(FsckOptions { repair: false, deep: true }).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// S-90: with an epoch, an image has no other time, also where a step was done without one before.
#[test]
fn s90_an_epoch_is_the_time_of_cached_steps_too() {
    let bench = Bench::new();
    bench.write("a", "1");
    let created = |dockerfile: &str| {
        let outcome = bench.build(&bench.options(dockerfile)).outcome.unwrap();
        let times: Vec<_> =
            outcome.config.history.iter().map(|entry| entry.created.clone().unwrap()).collect();
        assert_eq!(outcome.config.created.as_ref(), times.last());
        times
    };
    let steps = "FROM scratch\nCOPY a /\nWORKDIR /w\nLABEL a=b\n";
    let now = created(steps);
    assert!(now.iter().all(|time| time.starts_with("2096")), "{now:?}");
    for (epoch, time) in [("86400", "1970-01-02T00:00:00Z"), ("172800", "1970-01-03T00:00:00Z")] {
        let dated = format!("ARG SOURCE_DATE_EPOCH={epoch}\n{steps}");
        assert_eq!(created(&dated), [time; 3]);
    }
    assert_eq!(created(steps), now);
}
