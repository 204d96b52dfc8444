//! `--fix` and `--diff`: repairs that keep what the file means.

use crate::error::CommandError;
use crate::output_file::OutputFile;
use crate::ui::format::count;
use crate::ui::terminal::{note, print};
use lapstrake_builder::BuildOptions;
use lapstrake_builder::check::fix;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Repairs the file in place, whole or not at all; one from standard input goes to standard output.
pub(super) fn apply(options: &mut BuildOptions, path: Option<&Path>) -> Result<(), CommandError> {
    let fixed = fix(options)?;
    let Some(path) = path else {
        options.dockerfile.clone_from(&fixed.bytes);
        return print(&String::from_utf8_lossy(&fixed.bytes));
    };
    if fixed.rules.is_empty() {
        return Ok(());
    }
    // A link stays one: what it points to is repaired.
    let failed = |error| CommandError::from_open(path, &error);
    let target = fs::canonicalize(path).map_err(failed)?;
    let permissions = fs::metadata(&target).map_err(failed)?.permissions();
    OutputFile::write(&target, &fixed.bytes)?;
    fs::set_permissions(&target, permissions).map_err(failed)?;
    note(&format!("{}: {} repaired", options.dockerfile_name, count(fixed.rules.len(), "finding")));
    options.dockerfile = fixed.bytes;
    Ok(())
}

/// Prints what would change as a patch; whether anything would.
pub(super) fn show(options: &BuildOptions) -> Result<bool, CommandError> {
    let fixed = fix(options)?;
    if fixed.rules.is_empty() {
        return Ok(false);
    }
    let lines = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).split('\n').map(str::to_owned).collect()
    };
    let patch = patch(&lines(&options.dockerfile), &lines(&fixed.bytes));
    let name = &options.dockerfile_name;
    print(&crate::error::printable(&format!("--- {name}\n+++ {name}\n{patch}")))?;
    Ok(true)
}

/// A patch without context. Repairs change lines where they stand and take blank ones out, and do
/// nothing else, so lines are paired as they come.
fn patch(old: &[String], new: &[String]) -> String {
    let mut text = String::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() {
        if j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
        } else if old[i].trim().is_empty() {
            let _infallible = writeln!(text, "@@ -{},1 +{},0 @@\n-{}", i + 1, j, old[i]);
            i += 1;
        } else {
            let line = new.get(j).map_or("", String::as_str);
            let _infallible = writeln!(text, "@@ -{} +{} @@\n-{}\n+{line}", i + 1, j + 1, old[i]);
            (i, j) = (i + 1, j + 1);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_pair_lines() {
        let lines = |text: &str| -> Vec<String> { text.split('\n').map(str::to_owned).collect() };
        let text = patch(&lines("FROM a\nrun x \\\n\n y\n"), &lines("FROM a\nRUN x \\\n y\n"));
        assert_eq!(text, "@@ -2 +2 @@\n-run x \\\n+RUN x \\\n@@ -3,1 +2,0 @@\n-\n");
    }
}
