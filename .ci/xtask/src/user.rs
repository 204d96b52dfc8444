//! The ordinary user that rootless tests run as when root runs the tests.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use lapstrake_fixtures::host::is_root;

use crate::shell;

const NAME: &str = "lapstrake-test";
/// How many ids a rootless store needs: every 16-bit id, as images use them.
const ID_COUNT: u64 = 65_536;
/// What the user's environment takes over from ours.
const PASSED_ON: [&str; 7] =
    ["CI", "LAP", "LANG", "TERM", "RUST_BACKTRACE", "LAPSTRAKE_CI_STRICT", "LAPSTRAKE_BUSYBOX"];
/// Below this, distributions hand out ids of their own.
const FIRST_ID: u64 = 200_000;

/// An account with subordinate ids.
#[derive(Debug)]
pub(crate) struct TestUser {
    home: PathBuf,
    /// What else its environment holds.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl TestUser {
    /// Makes the account if it is not there; safe to repeat.
    pub(crate) fn ensure() -> Result<Self> {
        if !is_root() {
            bail!("only root can make the test user");
        }
        let home = PathBuf::from("/home").join(NAME);
        if !mentions("/etc/passwd") {
            let mut useradd = Command::new("useradd");
            shell::run(useradd.args(["--create-home", "--shell", "/bin/sh", NAME]))?;
        }
        for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
            if !mentions(file) {
                let first = first_free(&fs::read_to_string(file).unwrap_or_default());
                let range = format!("{first}-{}", first + ID_COUNT - 1);
                shell::run(Command::new("usermod").args([option, &range, NAME]))?;
            }
        }
        Ok(Self { home, variables: Vec::new() })
    }

    /// A command that this user runs, in our working folder and with a clean environment.
    ///
    /// When the checkout lies below a folder that others may not enter (`/root`, a private
    /// temporary folder), it runs in a mount namespace where that folder is an empty one and the
    /// checkout is mounted at its usual path: tests know paths from when they were compiled.
    pub(crate) fn command(&self, words: &[String]) -> Result<Command> {
        let Some((program, arguments)) = words.split_first() else { bail!("no command to run") };
        let mut command = match blocked(&target_and_checkout()?) {
            None => Command::new("runuser"),
            Some(folder) => uncovered(&folder)?,
        };
        command.args(["-u", NAME, "--", "env", "-i"]);
        command.arg(format!("HOME={}", self.home.display()));
        command.arg(format!("USER={NAME}"));
        command.arg("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        // insta would ask a cargo that this user may not have.
        let checkout = lapstrake_fixtures::case::workspace_dir();
        command.arg(format!("INSTA_WORKSPACE_ROOT={}", checkout.display()));
        command.arg("INSTA_UPDATE=no");
        for name in PASSED_ON {
            if let Some(value) = env::var_os(name) {
                command.arg(format!("{name}={}", value.to_string_lossy()));
            }
        }
        command.args(self.variables.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(program).args(arguments);
        Ok(command)
    }
}

fn mentions(file: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| line.split(':').next() == Some(NAME))
}

/// The first id above all ranges that /etc/subuid gives away.
fn first_free(ranges: &str) -> u64 {
    let ends = ranges.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(1);
        let first: u64 = fields.next()?.parse().ok()?;
        let count: u64 = fields.next()?.parse().ok()?;
        Some(first + count)
    });
    ends.fold(FIRST_ID, u64::max)
}

/// The folders that a test must reach.
fn target_and_checkout() -> Result<[PathBuf; 2]> {
    let checkout = lapstrake_fixtures::case::workspace_dir();
    let target = shell::target_dir();
    let full =
        |path: &Path| path.canonicalize().with_context(|| format!("no folder {}", path.display()));
    Ok([full(&checkout)?, full(&target)?])
}

/// The topmost folder on the way to any of the paths that others may not enter.
fn blocked(paths: &[PathBuf]) -> Option<PathBuf> {
    let closed = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0)
    };
    let ways = paths.iter().flat_map(|path| path.ancestors());
    ways.filter(|folder| closed(folder))
        .min_by_key(|folder| folder.as_os_str().len())
        .map(Path::to_path_buf)
}

/// `runuser` in a mount namespace in which `folder` no longer hides the checkout.
fn uncovered(folder: &Path) -> Result<Command> {
    const SCRIPT: &str = "set -e
        covered=$1; shift
        stash=$(mktemp -d); mount -t tmpfs -o mode=755 tmpfs $stash
        number=0
        for path in $1 $2; do
            number=$((number + 1)); mkdir $stash/$number; mount --bind $path $stash/$number
        done
        here=$PWD
        mount -t tmpfs -o mode=755 tmpfs $covered
        number=0
        for path in $1 $2; do
            number=$((number + 1)); mkdir -p $path; mount --bind $stash/$number $path
        done
        umount -R $stash; rmdir $stash
        shift 2; cd $here; exec runuser \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT, "sh"]).arg(folder).args(target_and_checkout()?);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::first_free;

    #[test]
    fn a_range_begins_after_the_last_one() {
        assert_eq!(first_free(""), 200_000);
        assert_eq!(first_free("a:100000:65536\n"), 200_000);
        assert_eq!(first_free("a:100000:65536\nb:300000:65536\nbroken\n"), 365_536);
    }
}
