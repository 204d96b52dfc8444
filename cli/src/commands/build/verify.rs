//! `--verify`: two builds of one Dockerfile beside each other.

use crate::error::{CommandError, Kind};
use crate::ui::{changes, format};
use lapstrake_builder::BuildOptions;
use lapstrake_builder::exec::BuildOutcome;
use lapstrake_builder::verify::{BytesDifference, Difference, first_difference};
use lapstrake_layerstore::store::Store;

/// Files that are shown of those that differ.
const SHOWN_MAX: usize = 10;

/// What the second build says of the first: in words, or as an error.
pub(super) fn compare(
    store: &Store,
    options: &BuildOptions,
    first: &BuildOutcome,
    second: &BuildOutcome,
) -> Result<String, CommandError> {
    let (old, new) = (&first.report.report, &second.report.report);
    if let Some(found) = first_difference(old, new, store.layers(), options.epoch)? {
        return Err(different(&options.dockerfile_name, &found, options.epoch.is_some()));
    }
    let same = format!("{} gave the same files again", format::count(second.steps, "step"));
    if options.epoch.is_none() {
        return Ok(format!(
            "{same}; times of steps were not compared, since no SOURCE_DATE_EPOCH fixes them"
        ));
    }
    if first.image.config != second.image.config {
        return Err(CommandError::new(
            Kind::Step,
            format!(
                "the second build gave the same files and another image: {} and {}",
                first.image.config, second.image.config
            ),
        ));
    }
    Ok(format!("{same}, and the same image"))
}

fn different(file: &str, found: &Difference, has_epoch: bool) -> CommandError {
    let Difference { stage, line, instruction, changes, bytes, later } = found;
    let mut error = CommandError::new(
        Kind::Step,
        format!("{file}:{line}: `{instruction}` (stage {stage}) made other files the second time"),
    );
    for change in changes.iter().take(SHOWN_MAX) {
        error = error.cause(changes::line(change).trim_end());
    }
    if changes.len() > SHOWN_MAX {
        error = error.cause(format!("and {} more", changes.len() - SHOWN_MAX));
    }
    if let Some(BytesDifference { path, offset, old, new }) = bytes {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (old, new) = (text(old), text(new));
        error =
            error.cause(format!("/{path} differs from byte {offset} on: `{old}`, then `{new}`"));
    }
    if *later > 0 {
        let steps = format::count(*later, "later step");
        error = error.cause(format!("{steps} came out otherwise, too"));
    }
    if has_epoch {
        return error.hint("the image has no name and was not sent; without --verify it is built");
    }
    error.hint("with SOURCE_DATE_EPOCH set, programs that know it write that time instead of now")
}
