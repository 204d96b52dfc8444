//! The two output streams. Standard output carries data and nothing else; standard error is for
//! people.

use crate::error::CommandError;
use indicatif::MultiProgress;
use std::io::{self, IsTerminal, Write};
use std::sync::{PoisonError, RwLock};

/// The part of the terminal that is redrawn, while there is one: lines for people go above it.
static LIVE: RwLock<Option<MultiProgress>> = RwLock::new(None);

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
    match &*LIVE.read().unwrap_or_else(PoisonError::into_inner) {
        Some(live) => drop(live.println(line)),
        None => drop(writeln!(io::stderr().lock(), "{line}")),
    }
}

/// Says which part of the terminal is redrawn from now on.
pub(crate) fn set_live(live: Option<MultiProgress>) {
    *LIVE.write().unwrap_or_else(PoisonError::into_inner) = live;
}

/// Whether there is a person who could watch, on something that can be redrawn.
pub(crate) fn is_terminal() -> bool {
    io::stderr().is_terminal() && console::Term::stderr().features().is_attended()
}
