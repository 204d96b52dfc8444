//! `cargo xtask test`: doc tests, then the whole suite; as root also as an ordinary user.
//!
//! The last thing printed is the runner's own closing line of the run as the caller: CI reads it.
//! The rootless run comes before it, and a failure there stops with its own closing line.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use lapstrake_fixtures::host::{find_tool, is_root};
use serde_json::Value;

use crate::user::TestUser;
use crate::{packages, shell};

/// What an ordinary user cannot run: these ask cargo about the workspace.
const NEED_CARGO: [&str; 2] = ["lapstrake-tidy", "lapstrake-xtask"];

/// Random tests draw the same cases in every run of this command, so that what passed once passes again;
/// plain `cargo nextest run` draws others each time.
const SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "20261121");

/// Runs everything; arguments are handed on to the runner (`cargo xtask test -- name`).
pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let filter: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| *word != "--").collect();
    if is_root() {
        packages::install()?;
    } else {
        packages::report_missing();
        if let Some(command) = packages::lacks_for_rootless() {
            println!("missing: subordinate ids for rootless builds: {command}");
        }
    }
    println!("== doc tests");
    shell::run(shell::cargo().args(["test", "--quiet", "--workspace", "--doc"]))?;
    let nextest = find_tool("cargo-nextest");
    let variables = variables()?;
    if is_root() {
        println!("== the tests as an ordinary user");
        let mut user = TestUser::ensure()?;
        user.variables.clone_from(&variables);
        let passed = match &nextest {
            Some(nextest) => nextest_as(&user, nextest, &filter)?,
            None => binaries_as(&user, &filter)?,
        };
        if !passed {
            return Ok(false);
        }
        println!("== the tests as root");
    } else {
        println!("== the tests");
    }
    let mut command = shell::cargo();
    match nextest {
        Some(_) => command.args(["nextest", "run", "--workspace", "--no-fail-fast"]),
        None => command.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]),
    };
    command.envs(variables);
    Ok(command.args(&filter).stdin(Stdio::null()).status()?.success())
}

/// What the tests are told besides: the seed of the random ones, and where a Debian is.
fn variables() -> Result<Vec<(&'static str, String)>> {
    let (name, usual) = SEED;
    let seed = std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    println!("== random tests: seed {seed} ({name} chooses another)");
    let mut variables = vec![(name, seed)];
    if is_root()
        && let Some(rootfs) = debian()?
    {
        variables.push(("LAPSTRAKE_ROOTFS", rootfs.display().to_string()));
    }
    Ok(variables)
}

/// A minimal Debian for the test of real input, made once for both runs and for later ones.
fn debian() -> Result<Option<PathBuf>> {
    let tar = shell::scratch("rootfs")?.join("bookworm.tar");
    if tar.exists() {
        return Ok(Some(tar));
    }
    if find_tool("mmdebstrap").is_none() {
        return Ok(None);
    }
    println!("== a Debian root file system, by mmdebstrap");
    let new = tar.with_extension("new.tar");
    let mut mmdebstrap = Command::new("mmdebstrap");
    shell::run(mmdebstrap.args(["--quiet", "--variant=minbase", "bookworm"]).arg(&new))?;
    fs::rename(&new, &tar)?;
    Ok(Some(tar))
}

/// nextest as the user: it is told what cargo would tell it, since the user may have no cargo.
fn nextest_as(user: &TestUser, nextest: &Path, filter: &[&str]) -> Result<bool> {
    let folder = shell::scratch("xtask")?;
    let (binaries, metadata) = (folder.join("binaries.json"), folder.join("metadata.json"));
    let mut list = shell::cargo();
    list.args(["nextest", "list", "--workspace", "--list-type", "binaries-only"]);
    fs::write(&binaries, shell::output(list.args(["--message-format", "json"]))?)?;
    let mut cargo = shell::cargo();
    // Without the platform, cargo would fetch what only other systems need.
    cargo.args(["metadata", "--format-version", "1", "--filter-platform", &host_platform()?]);
    fs::write(&metadata, shell::output(&mut cargo)?)?;
    let excluded = NEED_CARGO.map(|name| format!("package({name})")).join(" | ");
    let mut words: Vec<String> = vec![nextest.display().to_string()];
    words.extend(["nextest", "run", "--no-fail-fast", "--binaries-metadata"].map(String::from));
    words.extend([binaries.display().to_string(), "--cargo-metadata".into()]);
    words.extend([metadata.display().to_string(), "-E".into(), format!("not ({excluded})")]);
    words.extend(filter.iter().map(ToString::to_string));
    Ok(user.command(&words)?.stdin(Stdio::null()).status()?.success())
}

/// The platform that rustc builds for, such as `x86_64-unknown-linux-gnu`.
fn host_platform() -> Result<String> {
    let version = shell::output(Command::new("rustc").arg("-vV"))?;
    let version = String::from_utf8_lossy(&version);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Without nextest: every test program by itself, in its package's folder as cargo does it.
fn binaries_as(user: &TestUser, filter: &[&str]) -> Result<bool> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--workspace", "--no-run", "--message-format", "json"]);
    let messages = shell::output(&mut cargo)?;
    let mut passed = true;
    for (executable, folder) in test_programs(&messages)? {
        let mut words = vec![executable.clone()];
        words.extend(filter.iter().map(ToString::to_string));
        let mut command: Command = user.command(&words)?;
        println!("-- {executable}");
        passed &= command.current_dir(folder).stdin(Stdio::null()).status()?.success();
    }
    Ok(passed)
}

/// Executable and package folder of every test that cargo built.
fn test_programs(messages: &[u8]) -> Result<BTreeSet<(String, PathBuf)>> {
    let mut programs = BTreeSet::new();
    for line in messages.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("cargo's messages")?;
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        let skipped =
            NEED_CARGO.iter().any(|name| manifest.contains(&name.replace("lapstrake-", ".ci/")));
        let executable = message["executable"].as_str();
        if let (Some(true), Some(executable), false) =
            (message["profile"]["test"].as_bool(), executable, skipped)
        {
            let folder = PathBuf::from(manifest).parent().map(PathBuf::from).unwrap_or_default();
            programs.insert((executable.to_owned(), folder));
        }
    }
    Ok(programs)
}
