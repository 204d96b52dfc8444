//! Random Dockerfiles over random contexts: a build from the cache gives the image of a build from
//! nothing, before and after every edit. This is the test that finds wrong cache hits.
//!
//! ```text
//! case = context + Dockerfile + edits
//! store A: build, build again ─ edit ─ build ─ edit ─ build …      4 jobs, its cache
//! store B: (emptied each time)         build          build        1 job, no cache
//! ```
//!
//! Times are cut to one second by `SOURCE_DATE_EPOCH`, so equal images are equal ids.
//! `PROPTEST_CASES=2000 cargo nextest run -p lapstrake-cli random` is a long run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fmt::Write as _;
use std::fs::{self, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use lapstrake_fixtures::require;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{Lap, Output, RUN};

/// Cases of a normal run: some ten seconds.
const CASES: u32 = 12;

/// Every file of the context; edits pick from them.
const PATHS: [&str; 7] = ["a", "b.md", "d/a", "d/e/c", "d/b.md", "z/q", "l"];
const SOURCES: [&str; 10] = [".", "a", "d", "d/", "*", "d/*", "a b.md", "l", "d/e z", "?"];
const DESTS: [&str; 6] = ["/x/", "/", "sub/", "/x/y/", "/w/../x/", "/x/d/"];
const FLAGS: [&str; 8] = [
    "",
    "",
    "--chmod=640 ",
    "--chown=app ",
    "--link ",
    "--parents ",
    "--exclude=**/*.md ",
    "--link --chown=7:8 ",
];
const NAMES: [&str; 3] = ["P", "Q", "R"];
const VALUES: [&str; 4] = ["one", "two", "$P$Q", "${R:-none}"];

/// What a RUN does: reads all there is, some of it, or changes it.
const COMMANDS: [&str; 16] = [
    "echo $P-$Q-$R > /out",
    "env | busybox grep -v HOSTNAME | busybox sort > /env",
    "busybox find / -xdev -type f | busybox grep -vE '^/(proc|sys|dev|etc|sums)' | busybox sort | busybox xargs busybox sha256sum > /sums",
    "busybox find / -xdev | busybox grep -vE '^/(proc|sys|dev|etc|stats)' | busybox sort | busybox xargs busybox stat -c '%n %A %u %g %N' > /stats",
    "mkdir -p /x/y && echo $P > /x/y/f",
    "rm -rf /x",
    "busybox mv /x /moved || true",
    "busybox ln -sfn /x/d /x/link || true",
    "busybox ln -f /out /hard || true",
    "busybox chmod -R o-r /x || true",
    "busybox touch -d @77 /t",
    "busybox stat -c %Y /t > /seen || true",
    "busybox cp -r /x /copy || true",
    "rm -rf /x && mkdir -p /x && echo new > /x/a",
    "id -u > /who",
    "cat a > /here || busybox pwd > /here",
];

/// What a mount shows is read, and counts.
const MOUNTS: [&str; 4] = [
    "--mount=type=bind,target=/m busybox find /m -type f | busybox sort | busybox xargs busybox sha256sum > /mount",
    "--mount=type=bind,source=d,target=/m cat /m/a > /mount || true",
    "--mount=type=bind,source=d,target=/m,rw echo x > /m/new",
    "--mount=type=tmpfs,target=/x busybox ls /x > /mount",
];

#[derive(Clone, Debug)]
enum Line {
    Copy { flags: usize, source: usize, dest: usize },
    CopyFrom { stage: usize, path: usize, dest: usize },
    Run(usize),
    Mount(usize),
    MountFrom(usize),
    Env(usize, usize),
    Arg(usize, usize),
    Workdir(usize),
    User(bool),
    Label(usize, usize),
}

#[derive(Clone, Debug)]
struct StageText {
    /// The stage this one stands on, when there is one with that number below it.
    parent: usize,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
enum Edit {
    Write {
        path: usize,
        text: u8,
    },
    /// Other bytes of the same length, and the time put back.
    Replace {
        path: usize,
        text: u8,
    },
    Mode {
        path: usize,
        private: bool,
    },
    Remove {
        path: usize,
    },
    Swap {
        one: usize,
        two: usize,
    },
    Touch {
        path: usize,
    },
    Link {
        target: usize,
    },
    Argument {
        name: usize,
        value: usize,
    },
    Line {
        stage: usize,
        at: usize,
        line: Line,
    },
    Drop {
        stage: usize,
        at: usize,
    },
    Ignore {
        pattern: usize,
    },
    /// Nothing at all: what was built stays.
    Again,
}

#[derive(Clone, Debug)]
struct Case {
    files: Vec<u8>,
    stages: Vec<StageText>,
    edits: Vec<Edit>,
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        4 => (0..FLAGS.len(), 0..SOURCES.len(), 0..DESTS.len())
            .prop_map(|(flags, source, dest)| Line::Copy { flags, source, dest }),
        2 => (0..3_usize, 0..4_usize, 0..DESTS.len())
            .prop_map(|(stage, path, dest)| Line::CopyFrom { stage, path, dest }),
        5 => (0..COMMANDS.len()).prop_map(Line::Run),
        1 => (0..MOUNTS.len()).prop_map(Line::Mount),
        1 => (0..3_usize).prop_map(Line::MountFrom),
        1 => (0..NAMES.len(), 0..VALUES.len()).prop_map(|(name, value)| Line::Env(name, value)),
        2 => (0..NAMES.len(), 0..VALUES.len()).prop_map(|(name, value)| Line::Arg(name, value)),
        1 => (0..DESTS.len()).prop_map(Line::Workdir),
        1 => any::<bool>().prop_map(Line::User),
        1 => (0..NAMES.len(), 0..VALUES.len()).prop_map(|(name, value)| Line::Label(name, value)),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let path = 0..PATHS.len();
    prop_oneof![
        2 => (path.clone(), any::<u8>()).prop_map(|(path, text)| Edit::Write { path, text }),
        2 => (path.clone(), any::<u8>()).prop_map(|(path, text)| Edit::Replace { path, text }),
        1 => (path.clone(), any::<bool>())
            .prop_map(|(path, private)| Edit::Mode { path, private }),
        1 => path.clone().prop_map(|path| Edit::Remove { path }),
        1 => (path.clone(), path.clone()).prop_map(|(one, two)| Edit::Swap { one, two }),
        1 => path.clone().prop_map(|path| Edit::Touch { path }),
        1 => path.prop_map(|target| Edit::Link { target }),
        2 => (0..NAMES.len(), 0..2_usize)
            .prop_map(|(name, value)| Edit::Argument { name, value }),
        2 => (0..3_usize, 0..6_usize, line())
            .prop_map(|(stage, at, line)| Edit::Line { stage, at, line }),
        1 => (0..3_usize, 0..6_usize).prop_map(|(stage, at)| Edit::Drop { stage, at }),
        1 => (0..IGNORES.len()).prop_map(|pattern| Edit::Ignore { pattern }),
        1 => Just(Edit::Again),
    ]
}

const IGNORES: [&str; 4] = ["", "*.md", "d/*\n!d/a", "**/e"];

fn case() -> impl Strategy<Value = Case> {
    let stage =
        (0..3_usize, vec(line(), 1..7)).prop_map(|(parent, lines)| StageText { parent, lines });
    (vec(any::<u8>(), PATHS.len()), vec(stage, 1..4), vec(edit(), 1..5))
        .prop_map(|(files, stages, edits)| Case { files, stages, edits })
}

fn text_of(line: &Line, stage: usize) -> String {
    match line {
        Line::Copy { flags, source, dest } => {
            format!("COPY {}{} {}", FLAGS[*flags], SOURCES[*source], DESTS[*dest])
        }
        Line::CopyFrom { stage: from, path, dest } if *from < stage => {
            let path = ["/x", "/out", "/x/", "/etc/passwd"][*path];
            format!("COPY --from=s{from} {path} {}", DESTS[*dest])
        }
        Line::MountFrom(from) if *from < stage => format!(
            "RUN --mount=type=bind,from=s{from},target=/m busybox ls /m/x > /mount 2>&1 || true"
        ),
        Line::CopyFrom { .. } | Line::MountFrom(_) => "RUN true".to_owned(),
        Line::Run(command) => format!("RUN {}", COMMANDS[*command]),
        Line::Mount(mount) => format!("RUN {}", MOUNTS[*mount]),
        Line::Env(name, value) => format!("ENV {}={}", NAMES[*name], VALUES[*value]),
        Line::Arg(name, value) => format!("ARG {}={}", NAMES[*name], VALUES[*value]),
        Line::Workdir(dest) => format!("WORKDIR {}", DESTS[*dest]),
        Line::User(root) => format!("USER {}", if *root { "root" } else { "app" }),
        Line::Label(name, value) => format!("LABEL {}={}", NAMES[*name], VALUES[*value]),
    }
}

fn dockerfile(stages: &[StageText]) -> String {
    let mut text = String::new();
    for (index, stage) in stages.iter().enumerate() {
        let base = match stage.parent.checked_sub(1) {
            Some(parent) if parent < index => format!("s{parent}"),
            _ => "busybox".to_owned(),
        };
        let _ = writeln!(text, "FROM {base} AS s{index}");
        for line in &stage.lines {
            let _ = writeln!(text, "{}", text_of(line, index));
        }
    }
    text
}

/// Contents of one to four bytes, so that many have the same length.
fn content(seed: u8) -> Vec<u8> {
    vec![b'0' + seed % 10; usize::from(seed % 4) + 1]
}

/// Give a file a content; what stood in its place is gone first.
fn write(context: &Path, path: usize, seed: u8) {
    let file = context.join(PATHS[path]);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    drop(fs::remove_file(&file));
    if PATHS[path] == "l" {
        symlink(PATHS[usize::from(seed) % 4], &file).unwrap();
    } else {
        fs::write(&file, content(seed)).unwrap();
    }
}

fn set_time(file: &Path, time: SystemTime) {
    if let Ok(file) = fs::File::open(file) {
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    }
}

/// Do an edit. What cannot be done in this context changes nothing.
fn apply(edit: &Edit, context: &Path, stages: &mut [StageText], args: &mut Vec<String>) {
    match edit {
        Edit::Write { path, text } => write(context, *path, *text),
        Edit::Replace { path, text } => {
            let file = context.join(PATHS[*path]);
            let Ok(old) = fs::read(&file) else { return };
            let time = fs::metadata(&file).unwrap().modified().unwrap();
            fs::write(&file, vec![b'a' + text % 26; old.len()]).unwrap();
            set_time(&file, time);
        }
        Edit::Mode { path, private } => {
            let file = context.join(PATHS[*path]);
            if file.is_file() {
                let mode = if *private { 0o600 } else { 0o755 };
                fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            }
        }
        Edit::Remove { path } => drop(fs::remove_file(context.join(PATHS[*path]))),
        Edit::Swap { one, two } => {
            let (one, two) = (context.join(PATHS[*one]), context.join(PATHS[*two]));
            let aside = context.join("aside");
            if one.symlink_metadata().is_ok() && two.symlink_metadata().is_ok() {
                fs::rename(&one, &aside).unwrap();
                fs::rename(&two, &one).or_else(|_| fs::rename(&aside, &one)).unwrap();
                drop(fs::rename(&aside, &two));
            }
        }
        Edit::Touch { path } => {
            set_time(&context.join(PATHS[*path]), SystemTime::UNIX_EPOCH + Duration::from_secs(5));
        }
        Edit::Link { target } => {
            drop(fs::remove_file(context.join("l")));
            symlink(PATHS[*target], context.join("l")).unwrap();
        }
        Edit::Argument { name, value } => {
            args.push("--build-arg".to_owned());
            args.push(format!("{}={}", NAMES[*name], ["three", "one"][*value]));
        }
        Edit::Line { stage, at, line } => {
            let Some(stage) = stages.get_mut(*stage) else { return };
            stage.lines.insert((*at).min(stage.lines.len()), line.clone());
        }
        Edit::Drop { stage, at } => {
            let Some(stage) = stages.get_mut(*stage) else { return };
            if *at < stage.lines.len() {
                stage.lines.remove(*at);
            }
        }
        Edit::Ignore { pattern } => {
            fs::write(context.join(".dockerignore"), IGNORES[*pattern]).unwrap();
        }
        Edit::Again => {}
    }
}

/// Build the context `context` of `home`; the image's id, or what was said of the failure.
fn build(lap: &Lap, context: &Path, args: &[String], jobs: &str) -> Output {
    let mut command = lap.command(["build", "-q", "--jobs", jobs]);
    command.args(args).arg(context).env("SOURCE_DATE_EPOCH", "1");
    let output = command.output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// An empty store but for the base.
fn with_base(base: &Path) -> Lap {
    let lap = Lap::new("random");
    lap.ok(["load", "-q", "-i", &base.display().to_string()]);
    lap
}

/// All that is in an image, so that two that should be equal can be told apart when they are gone.
fn contents(lap: &Lap, built: &Output) -> String {
    let id = built.stdout.trim();
    let said = |command: &[&str]| lap.run(command.iter().copied().chain([id])).stdout;
    format!("{}{}", said(&["inspect"]), said(&["diff", "--format", "json", "busybox"]))
}

fn check(case: &Case, base: &Path) -> Result<(), TestCaseError> {
    let cached = with_base(base);
    let context = cached.work.join("context");
    for (path, seed) in case.files.iter().enumerate() {
        write(&context, path, *seed);
    }
    let mut stages = case.stages.clone();
    let mut args = Vec::new();
    for edit in std::iter::once(&Edit::Again).chain(&case.edits) {
        apply(edit, &context, &mut stages, &mut args);
        let text = dockerfile(&stages);
        fs::write(context.join("Dockerfile"), &text).unwrap();
        let nothing = with_base(base);
        let fresh = build(&nothing, &context, &args, "1");
        let from_cache = build(&cached, &context, &args, "4");
        let again = build(&cached, &context, &args, "4");
        let say = || {
            let images = [(&nothing, &fresh), (&cached, &from_cache), (&cached, &again)];
            let images: String = images.map(|(lap, built)| contents(lap, built)).concat();
            format!("{edit:?}\n{text}\n{args:?}\n{fresh:?}\n{from_cache:?}\n{again:?}\n{images}")
        };
        prop_assert_eq!(&fresh.stdout, &from_cache.stdout, "{}", say());
        prop_assert_eq!(&fresh.code, &from_cache.code, "{}", say());
        prop_assert_eq!(&fresh.stdout, &again.stdout, "{}", say());
        prop_assert!(matches!(fresh.code, Some(0..=3)), "{}", say());
    }
    // A failed build does not wait for the hashing of layers that nobody wants any more; what that had
    // begun is swept by a later command.
    let found = cached.run(["fsck", "--deep"]);
    let harmless = |line: &str| line.starts_with("leftover: work area");
    prop_assert!(found.code == Some(0) && found.stdout.lines().all(harmless), "{found:?}");
    Ok(())
}

#[test]
fn a_build_from_the_cache_is_a_build_from_nothing() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("random-base");
    let base = lap.work.join("base.tar");
    lap.ok(["save", "-o", &base.display().to_string(), "busybox"]);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let config =
        Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&case(), |case| check(&case, &base))
        .unwrap_or_else(|e| panic!("{e}"));
}
