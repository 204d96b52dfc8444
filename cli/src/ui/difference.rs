//! Differences between two texts, as `diff -u` shows them.

use crate::error::printable;
use std::io::{self, IsTerminal};

/// Text that a program may read as it is; only a terminal gets it made harmless.
pub(crate) fn for_terminal(text: String) -> String {
    if io::stdout().is_terminal() { printable(&text) } else { text }
}

/// What changes in a file, fit to be applied.
pub(crate) fn unified(name: &str, before: &[u8], after: &[u8]) -> String {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let difference = similar::TextDiff::from_lines(&before, &after);
    for_terminal(difference.unified_diff().header(name, name).to_string())
}
