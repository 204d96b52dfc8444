//! Every single write, rename, creation and sync of a command fails once, by strace's hand.
//!
//! `LAPSTRAKE_TEST_FAULTS=1` goes through all of them; else every few are tried.

use std::fs;
use std::process::Command;

use lapstrake_fixtures::{Need, require};

use super::scene::{text, under};
use super::{Job, Scene, rounds};

/// Calls that bring something to the disk, in classes that are counted on their own.
const CLASSES: [(&str, &str); 4] = [
    ("write", "ENOSPC"),
    ("pwrite64,copy_file_range,sendfile,writev,fallocate,ftruncate,ioctl", "EIO"),
    ("rename,renameat,renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat,mknodat", "ENOSPC"),
    ("fsync,fdatasync,syncfs,sync_file_range", "EIO"),
];
/// More calls than any of the commands makes in a thread.
const CALLS_MAX: usize = 2000;
/// Every run looks at one call of so many.
const STEP: usize = 7;

#[test]
fn a_write_that_fails_leaves_nothing_half() {
    // An ordinary user's newuidmap has no rights while it is traced.
    if !require(&[Need::Tool("strace"), Need::Root]) {
        return;
    }
    let scene = Scene::new("write");
    let step = if rounds("LAPSTRAKE_TEST_FAULTS", 0) > 0 { 1 } else { STEP };
    let mut tried = 0;
    for name in ["copy-cold", "load", "pull", "import", "save", "prune-all", "rmi", "run-cold"] {
        let Some(job) = scene.jobs.iter().find(|job| job.name == name) else { continue };
        for (calls, errno) in CLASSES {
            let mut at = 1;
            while at < CALLS_MAX && fails(&scene, job, calls, errno, at) {
                tried += 1;
                at += step;
            }
        }
    }
    eprintln!("{tried} faults");
    assert!(tried > 20, "strace injected nothing");
    scene.lap.ok(["prune"]);
    scene.lap.is_whole();
}

/// Runs the job with the `at`-th of the calls failing in every thread; false if there was none.
fn fails(scene: &Scene, job: &Job, calls: &str, errno: &str, at: usize) -> bool {
    prepare(scene, job);
    let before = scene.tags();
    let log = scene.lap.work.join("strace.log");
    let inject = format!("inject={calls}:error={errno}:when={at}");
    let trace = format!("trace={calls}");
    let arguments = ["-f", "-qq", "-y", "-o", text(&log), "-e", &trace, "-e", &inject];
    let mut command: Command = under("strace", &arguments, &scene.command(job));
    let output = command.output().expect("strace can be started");
    let log = fs::read_to_string(&log).expect("strace writes it");
    let injected: Vec<&str> = log.lines().filter(|line| line.contains("(INJECTED)")).collect();
    if injected.is_empty() {
        assert!(output.status.success(), "{}: {output:?}", job.name);
        return false;
    }
    let story = format!("{} with {errno} at {}", job.name, injected.join("\n"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked") && output.status.code() != Some(70), "{story}: {errors}");
    // What goes to the store's files must be missed; what cannot be said is not.
    let in_store = injected.iter().any(|line| line.contains(text(&scene.lap.root())));
    if !output.status.success() && in_store {
        let errors = errors.to_lowercase();
        let said = ["no space left on device", "input/output error"];
        assert!(said.iter().any(|words| errors.contains(words)), "{story}: {errors}");
    }
    scene.check(&before, &[job], &story);
    if !output.status.success() {
        scene.run(job);
    }
    true
}

/// Takes away what the job is to make.
fn prepare(scene: &Scene, job: &Job) {
    match job.name {
        "prune-all" => scene.run(scene.job("copy-1")),
        "rmi" => scene.run(scene.job("import")),
        "save" => scene.run(scene.job("load")),
        _ => {
            let tag = job.tag.clone().expect("it makes an image");
            scene.lap.ok(["rmi", "-f", &tag]);
            scene.lap.ok(["prune", "--all"]);
        }
    }
}
