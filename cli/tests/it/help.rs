//! Help and version: there before anything else works, and worth reading.

use std::process::Command;
use std::time::{Duration, Instant};

/// Runs `lap` without a home and without a store.
fn lap(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lap"));
    let output = command.args(arguments).env_clear().output().expect("lap can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Every command that issue 2 and the design name for now.
const COMMANDS: [&str; 26] = [
    "build",
    "check",
    "explain",
    "fmt",
    "run",
    "images",
    "inspect",
    "history",
    "layers",
    "diff",
    "tag",
    "rmi",
    "pull",
    "push",
    "login",
    "logout",
    "load",
    "save",
    "import",
    "serve",
    "du",
    "prune",
    "fsck",
    "doctor",
    "completion",
    "version",
];

#[test]
fn every_command_explains_itself() {
    let (code, overview, _) = lap(&["--help"]);
    assert_eq!(code, Some(0));
    for command in COMMANDS {
        assert!(overview.contains(&format!("\n  {command} ")), "{command} is not in the overview");
        let (code, help, stderr) = lap(&[command, "--help"]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
        assert!(help.contains("Examples:") && help.contains(&format!("lap {command}")), "{help}");
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{command}: a line has {widest:?} characters");
    }
}

#[test]
fn the_overview_stays_as_it_is() {
    let (_, overview, _) = lap(&["--help"]);
    let expected = include_str!("help.txt");
    assert_eq!(overview, expected, "if this is meant: lap --help > cli/tests/it/help.txt");
}

#[test]
fn versions_are_quick() {
    let (code, text, _) = lap(&["--version"]);
    assert_eq!((code, text.as_str()), (Some(0), concat!("lap ", env!("CARGO_PKG_VERSION"), "\n")));
    // The best of several tries: the machine may be busy with other tests. Debug builds are slower.
    let fastest = (0..10).map(|_| {
        let begun = Instant::now();
        drop(lap(&["--version"]));
        begun.elapsed()
    });
    let limit = if cfg!(debug_assertions) { 50 } else { 5 };
    assert!(fastest.min() < Some(Duration::from_millis(limit)), "starting takes too long");
}

#[test]
fn what_cannot_be_known_is_said() {
    // Root's store needs no home.
    if lapstrake_fixtures::host::is_root() {
        return;
    }
    let (code, _, stderr) = lap(&["images"]);
    assert_eq!(code, Some(4));
    assert!(stderr.contains("HOME is not set") && stderr.contains("--root DIR"), "{stderr}");
}

#[test]
fn doctor_and_completion_speak() {
    let (_, text, stderr) = lap(&["--root", "/tmp/lap-doctor-store", "doctor"]);
    for word in ["kernel", "namespaces", "overlay", "RUN", "COPY, ADD"] {
        assert!(text.contains(word), "{text}{stderr}");
    }
    assert!(lap(&["completion", "bash"]).1.contains("_lap"));
}
