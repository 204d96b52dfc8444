//! The two output streams. Standard output carries data and nothing else; standard error is for
//! people.

use crate::error::CommandError;
use std::io::{self, Write};

/// Writes `text` to standard output.
pub(crate) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::from_stdout)
}

/// Writes `value` to standard output as indented JSON.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), CommandError> {
    print(&format!("{value:#}\n"))
}

/// Writes a line for people to standard error. A closed standard error loses the line, which harms
/// nobody: there is nowhere left to say so.
pub(crate) fn note(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}
