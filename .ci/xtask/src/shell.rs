//! Starting programs, and where things lie.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The folder that cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => lapstrake_fixtures::case::workspace_dir().join("target"),
    }
}

/// The cargo that started us, or the one on the `PATH`.
///
/// What `cargo run` tells us about our own package is taken out of the environment: build scripts
/// (ring's) name these variables as inputs, and half of the program would be built again.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(lapstrake_fixtures::case::workspace_dir());
    let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if ours.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs a program to its end and fails with its whole command line if it did.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| words(command))?;
    if !status.success() {
        bail!("{}: {status}", words(command));
    }
    Ok(())
}

/// Runs a program and returns what it printed; its stderr goes to ours.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| words(command))?;
    if !output.status.success() {
        bail!("{}: {}", words(command), output.status);
    }
    Ok(output.stdout)
}

/// `lap` as built for release; `LAP` names another.
pub(crate) fn release_lap() -> Result<PathBuf> {
    if let Some(lap) = std::env::var_os("LAP") {
        let lap = PathBuf::from(lap);
        return lap.canonicalize().with_context(|| format!("LAP={}", lap.display()));
    }
    run(cargo().args(["build", "--quiet", "--release", "--package", "lapstrake-cli"]))?;
    Ok(target_dir().join("release/lap"))
}

/// A folder for the task's own files: under the target folder, or, where that is somebody
/// else's, under the temporary folder.
pub(crate) fn scratch(name: &str) -> Result<PathBuf> {
    let ours = target_dir().join(name);
    if std::fs::create_dir_all(&ours).is_ok() && is_writable(&ours) {
        return Ok(ours);
    }
    let user = std::env::var("USER").unwrap_or_else(|_| "user".to_owned());
    let other = std::env::temp_dir().join(format!("lapstrake-{name}-{user}"));
    std::fs::create_dir_all(&other).with_context(|| format!("create {}", other.display()))?;
    Ok(other)
}

fn is_writable(folder: &Path) -> bool {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).is_ok()
}

fn words(command: &Command) -> String {
    let mut words = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        words.push(' ');
        words.push_str(&argument.to_string_lossy());
    }
    words
}
