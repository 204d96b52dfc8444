//! Runs real programs in real sandboxes, as root and as an ordinary user.
//!
//! The harness is our own, since the sandbox child is this very program and `init` has to come first
//! in `main`, before the standard harness starts threads. It speaks enough of the usual protocol
//! (`--list`, `--exact`, a filter) for `cargo test` and `cargo nextest`.
//!
//! Every case exists twice: `root::NAME` runs as it is and needs root; `user::NAME` runs after
//! `enter` as an ordinary user, which this program becomes through setpriv if root started it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test: it panics on surprises and prints its results"
)]

mod ends;
mod files;
mod identity;
mod isolation;
mod mounts;
mod world;

use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use lapstrake_runner::{EnterOptions, Entered, Facts, enter, init};
use world::World;

/// A case: its name and what it does.
pub(crate) type Case = (&'static str, fn(&World));

fn all_cases() -> Vec<Case> {
    [ends::CASES, files::CASES, identity::CASES, isolation::CASES, mounts::CASES].concat()
}

/// How a test ended.
enum Outcome {
    Passed,
    Failed,
    /// The machine lacks something; on CI that is a failure.
    Skipped(String),
    /// It is for somebody else; CI runs the tests as both.
    NotForUs(&'static str),
}

fn main() -> ExitCode {
    init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--helper") {
        // A program that embeds the runner, to be killed by a case.
        enter(&EnterOptions::default()).expect("because the case before could enter");
        ends::helper(&arguments[1..]);
        return ExitCode::SUCCESS;
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let names: Vec<String> = all_cases()
        .iter()
        .flat_map(|(name, _case)| ["root", "user"].map(|who| format!("{who}::{name}")))
        .collect();
    if has("--list") {
        if !has("--ignored") {
            for name in &names {
                println!("{name}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |name: &&String| {
        filters.is_empty()
            || filters.iter().any(|filter| {
                if has("--exact") { *filter == *name } else { name.contains(filter.as_str()) }
            })
    };
    let who = Who::find_out();
    let failed = names.iter().filter(wanted).filter(|name| !run_and_tell(name, &who)).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_and_tell(name: &str, who: &Who) -> bool {
    match run_one(name, who) {
        Outcome::Passed => println!("test {name} ... ok"),
        Outcome::NotForUs(reason) => println!("test {name} ... skipped: {reason}"),
        Outcome::Skipped(reason) => {
            println!("test {name} ... skipped: {reason}");
            return !lapstrake_fixtures::host::is_strict();
        }
        Outcome::Failed => {
            println!("test {name} ... FAILED");
            return false;
        }
    }
    true
}

/// Who runs the tests.
enum Who {
    Root,
    /// An ordinary user, who has entered a user namespace; that can be done once in a process.
    User(Entered),
}

impl Who {
    fn find_out() -> Self {
        if world::effective_uid() == 0 {
            return Self::Root;
        }
        Self::User(enter(&EnterOptions::default()).expect("because nothing was started yet"))
    }
}

fn run_one(name: &str, who: &Who) -> Outcome {
    let (kind, case_name) = name.split_once("::").expect("because names are made so");
    let case = all_cases().into_iter().find(|(known, _)| *known == case_name);
    let (_, case) = case.expect("because the name came from the list");
    match (kind, who) {
        ("root", Who::User(_)) => Outcome::NotForUs("needs root"),
        ("root", Who::Root) | (_, Who::User(Entered::Mapped(_))) => in_process(case),
        (_, Who::Root) => as_ordinary_user(name),
        (_, Who::User(other)) => {
            Outcome::Skipped(format!("no user namespace with ranges: {other:?}"))
        }
    }
}

fn in_process(case: fn(&World)) -> Outcome {
    let Some(busybox) = lapstrake_fixtures::busybox::find() else {
        return Outcome::Skipped("no static busybox: apt-get install busybox-static".to_owned());
    };
    if Facts::current().user_namespace && !PathBuf::from("/proc/self/uid_map").exists() {
        return Outcome::Skipped("no procfs".to_owned());
    }
    let passed = catch_unwind(|| {
        let world = World::new(&busybox);
        let mounts_before = world::own_mounts();
        case(&world);
        assert_eq!(world::own_mounts(), mounts_before, "something is left mounted");
    });
    if passed.is_ok() { Outcome::Passed } else { Outcome::Failed }
}

/// Runs one test of this program again as a user who has subordinate ids.
fn as_ordinary_user(name: &str) -> Outcome {
    let Some(user) = world::user_with_ranges() else {
        return Outcome::Skipped("no user with subordinate ids: useradd -m lapuser".to_owned());
    };
    // The build folder may be out of the user's reach.
    let folder = lapstrake_fixtures::temp::TempDir::new("runner-user");
    let copy = folder.join("it");
    let own = std::env::current_exe().expect("because /proc is mounted");
    std::fs::copy(own, &copy).expect("because the folder is new");
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--init-groups"]);
    command.args(["--reset-env", "--inh-caps=-all"]);
    let output = command.arg(&copy).args([name, "--exact"]).output();
    let output = output.expect("because util-linux has setpriv");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some((_, reason)) = text.split_once("... skipped: ") {
        return Outcome::Skipped(reason.trim().to_owned());
    }
    if output.status.success() && text.contains("... ok") {
        return Outcome::Passed;
    }
    eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Outcome::Failed
}
