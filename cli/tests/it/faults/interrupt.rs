//! ^C and SIGTERM at random moments of a build: nothing is mounted afterwards, no process lives, no name
//! and no archive is half made, and the store has nothing left in it. `LAPSTRAKE_TEST_INTERRUPTS=100` is
//! the long form.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use lapstrake_fixtures::require;

use super::{Random, rounds};
use crate::support::{Lap, RUN};

const INTERRUPTS: usize = 10;
/// Somewhat longer than the build takes, so that some come to their end.
const LONGEST_MS: usize = 500;
/// Stages that run at once, with processes that outlive their shell, and files to be hashed.
const DOCKERFILE: &str = "\
FROM busybox AS a\nARG V\nRUN sleep MARK & echo $V > /a; sleep 0.1\nRUN sleep 0.1; echo a2 > /a2\n\
FROM busybox AS b\nARG V\nRUN --mount=type=cache,target=/c sh -c 'sleep MARK & sleep 0.2; echo $V > /b'\n\
FROM busybox\nCOPY big /big\nCOPY --from=a /a /a2 /\nCOPY --from=b /b /\nRUN cat /a /b > /ab\n";
const BIG_BYTES: usize = 4 << 20;

#[test]
fn interrupted_at_any_moment_nothing_is_left() {
    if !require(&RUN) {
        return;
    }
    let lap = Lap::with_busybox("interrupt");
    let mark = format!("7{}", std::process::id());
    let context = lap.context("context", &DOCKERFILE.replace("MARK", &mark));
    lap.work.write("context/big", "x".repeat(BIG_BYTES));
    let archive = lap.work.join("made.tar");
    let (mut random, mut stopped) = (Random(3), 0);
    let total = rounds("LAPSTRAKE_TEST_INTERRUPTS", INTERRUPTS);
    for round in 0..total {
        let tag = format!("made:{round}");
        let wait = Duration::from_millis(random.next(LONGEST_MS) as u64);
        let signal = if round % 3 == 2 { "TERM" } else { "INT" };
        let value = format!("V={round}");
        let output = format!("type=oci,dest={}", archive.display());
        let arguments =
            ["build", "--no-cache", "--build-arg", &value, "-t", &tag, "-o", &output, &context];
        let ended = interrupted(lap.command(arguments), signal, wait);
        let errors = String::from_utf8_lossy(&ended.stderr);
        let story = format!("round {round}, {signal} after {wait:?}: {errors}");
        assert!(!errors.contains("panicked"), "{story}");
        let number = if signal == "TERM" { 15 } else { 2 };
        match ended.status.code() {
            // It came before `lap` could take it.
            None if ended.status.signal() == Some(number) => stopped += 1,
            Some(0) => {
                lap.ok(["inspect", &tag]);
                fs::remove_file(&archive).expect("the archive is there");
            }
            Some(other) if other == 128 + number => {
                stopped += 1;
                // A name is the last thing but the archive, which appears when it is whole.
                assert!(!archive.exists() || lap.run(["inspect", &tag]).code == Some(0), "{story}");
                drop(fs::remove_file(&archive));
            }
            other => panic!("{other:?}, {story}"),
        }
        nothing_lives(&lap, &mark, &story);
        lap.is_whole();
    }
    eprintln!("{stopped} of {total} builds were stopped");
    assert!(stopped > 0, "the builds end too early to be stopped");
}

/// Runs a command as a terminal's foreground group that gets a signal.
fn interrupted(mut command: Command, signal: &str, wait: Duration) -> Output {
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().expect("lap can be started");
    let group = format!("-{}", child.id());
    std::thread::sleep(wait);
    // A group that is gone has ended by itself.
    let mut kill = Command::new("kill");
    drop(kill.args(["-s", signal, "--", &group]).stderr(Stdio::null()).status());
    child.wait_with_output().expect("a process of ours")
}

/// No process of a step, nothing mounted from the store, no file beside the archive.
fn nothing_lives(lap: &Lap, mark: &str, story: &str) {
    for process in fs::read_dir("/proc").expect("proc is mounted").flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(!line.contains(&format!("sleep {mark}")), "{line} lives: {story}");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let root = lap.root().display().to_string();
    assert!(!mounts.contains(&root), "something is mounted: {story}");
    let beside = fs::read_dir(lap.work.path()).expect("the folder is there").flatten();
    let names: Vec<_> = beside.map(|entry| entry.file_name()).collect();
    let known = ["store", "context", "busybox"];
    let odd = names.iter().find(|name| !known.iter().any(|known| *name == known));
    assert_eq!(odd, None, "{story}");
}
