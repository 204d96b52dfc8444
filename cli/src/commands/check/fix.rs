//! `--fix` and `--diff`: repairs that keep what the file means.

use crate::error::CommandError;
use crate::output_file::OutputFile;
use crate::ui::difference::unified;
use crate::ui::format::count;
use crate::ui::terminal::{note, print};
use lapstrake_builder::BuildOptions;
use lapstrake_builder::check::fix;
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
    OutputFile::replace(&fs::canonicalize(path).map_err(failed)?, &fixed.bytes)?;
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
    print(&unified(&options.dockerfile_name, &options.dockerfile, &fixed.bytes))?;
    Ok(true)
}
