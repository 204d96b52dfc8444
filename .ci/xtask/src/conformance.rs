//! `cargo xtask conformance`: the recorded cases, twice, and a ratchet.
//!
//! Once all cases share one store; once each has a fresh one, so that no order of cases can make
//! a result right. Both counts of both runs may only go up: `.ci/conformance.ratchet` holds what
//! was reached. A refusal counts only when it says what is wrong: `.ci/lap-under-test` turns "not
//! supported yet" into a crash in the eyes of the check.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use lapstrake_fixtures::case::workspace_dir;

use crate::shell;

mod checkout;

/// What one run counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    images: u32,
    refused: u32,
}

/// Runs the check where `../shared/conformance` is there; arguments go on to it.
pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    let folder = env::var_os("LAPSTRAKE_CONFORMANCE")
        .map_or_else(|| workspace_dir().join("../shared/conformance"), Into::into);
    if !folder.join("check").exists() {
        println!("conformance: no cases at {}; skipped", folder.display());
        return Ok(true);
    }
    let lap = shell::release_lap()?;
    let check = checkout::repaired_copy(&folder)?.join("check");
    let ratchet_file = workspace_dir().join(".ci/conformance.ratchet");
    let ratchet = fs::read_to_string(&ratchet_file).context("read .ci/conformance.ratchet")?;
    let mut good = true;
    for mode in ["one-store", "fresh-store"] {
        println!("== conformance, {mode}");
        let counts = one_run(&check, &lap, mode, arguments)?;
        println!("{mode}: {} images equal, {} refused", counts.images, counts.refused);
        if arguments.is_empty() {
            good &= hold(mode, counts, &ratchet)?;
        }
    }
    Ok(good)
}

/// One run of the check; its failing cases are in the log, its closing lines are shown.
fn one_run(check: &Path, lap: &Path, mode: &str, arguments: &[String]) -> Result<Counts> {
    let log = shell::scratch("conformance")?.join(format!("{mode}.log"));
    let output = Command::new(check)
        .args(arguments)
        .env("LAP", workspace_dir().join(".ci/lap-under-test"))
        .env("LAP_REAL", lap)
        .env("LAP_STORE", mode)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", check.display()))?;
    fs::write(&log, &output.stdout).with_context(|| format!("write {}", log.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let closing: Vec<&str> = text.lines().rev().take(3).collect();
    for line in closing.iter().rev().filter(|line| !line.starts_with("conformance:")) {
        println!("{line}");
    }
    println!("every failing case: {}", log.display());
    let Some(counts) = text.lines().find_map(counts) else {
        bail!("the check printed no counts: see {}", log.display());
    };
    Ok(counts)
}

/// Reads `images equal: 10 of 20; refused as they should be: 3 of 4`.
fn counts(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("images equal: ")?;
    let (images, rest) = rest.split_once(" of ")?;
    let (_, refused) = rest.split_once("refused as they should be: ")?;
    let (refused, _) = refused.split_once(" of ")?;
    Some(Counts { images: images.parse().ok()?, refused: refused.parse().ok()? })
}

/// Compares with the recorded counts: fewer fails, more says what to write.
fn hold(mode: &str, got: Counts, ratchet: &str) -> Result<bool> {
    let Some(want) = recorded(mode, ratchet) else {
        bail!(".ci/conformance.ratchet has no line `{mode} images N refused N`");
    };
    if got.images < want.images || got.refused < want.refused {
        println!(
            "{mode}: FEWER than the {} images and {} refusals of .ci/conformance.ratchet",
            want.images, want.refused
        );
        return Ok(false);
    }
    if got != want {
        println!(
            "{mode}: more than recorded; write into .ci/conformance.ratchet:\n\
             {mode} images {} refused {}",
            got.images, got.refused
        );
    }
    Ok(true)
}

fn recorded(mode: &str, ratchet: &str) -> Option<Counts> {
    ratchet.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [name, "images", images, "refused", refused] if *name == mode => {
                Some(Counts { images: images.parse().ok()?, refused: refused.parse().ok()? })
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Counts, counts, hold};

    const RATCHET: &str = "# comment\none-store images 10 refused 3\n";

    #[test]
    fn the_closing_line_is_read() {
        let line = "images equal: 10 of 600; refused as they should be: 3 of 200";
        assert_eq!(counts(line), Some(Counts { images: 10, refused: 3 }));
        assert_eq!(counts("conformance: 1 passed, 2 failed"), None);
    }

    #[test]
    fn neither_count_may_go_down() {
        let hold = |images, refused| hold("one-store", Counts { images, refused }, RATCHET);
        assert!(hold(10, 3).unwrap());
        assert!(hold(11, 3).unwrap());
        assert!(!hold(9, 30).unwrap());
        assert!(!hold(100, 2).unwrap());
    }

    #[test]
    fn a_missing_line_is_an_error() {
        assert!(hold("fresh-store", Counts { images: 1, refused: 1 }, RATCHET).is_err());
    }
}
