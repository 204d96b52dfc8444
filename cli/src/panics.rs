//! What a panic looks like from outside: one error in the form of the others, and its exit code.
//!
//! A panic is a bug in `lap`, with one exception: the standard library panics where the system refuses a
//! thread, and that is the machine's limit. Neither is shown as a trace of our functions, unless
//! `RUST_BACKTRACE` asks for one.

use crate::error::{CommandError, Kind};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::OnceLock;

/// What the standard library says when it could not make a thread.
const NO_THREAD: &str = "failed to spawn thread";

/// The first panic; those of threads that waited for the first tell nothing new.
static FIRST: OnceLock<String> = OnceLock::new();

/// Notes panics from now on, instead of printing them.
pub(crate) fn tell() {
    panic::set_hook(Box::new(|info| {
        let text = text_of(info);
        let is_bug = !text.starts_with(NO_THREAD);
        if FIRST.set(text).is_ok() && is_bug {
            let trace = Backtrace::capture();
            if trace.status() == BacktraceStatus::Captured {
                drop(writeln!(std::io::stderr().lock(), "{trace}"));
            }
        }
    }));
}

/// Runs the command; a panic becomes an error.
pub(crate) fn caught<T>(run: impl FnOnce() -> Result<T, CommandError>) -> Result<T, CommandError> {
    // Nothing that the command had is looked at again.
    match (panic::catch_unwind(AssertUnwindSafe(run)), FIRST.get()) {
        (Err(_), first) => Err(error_of(first.map_or("a panic without a word", String::as_str))),
        // A thread that nothing hung on.
        (Ok(Ok(done)), Some(first)) => {
            drop(std::io::stderr().lock().write_all(error_of(first).render().as_bytes()));
            Ok(done)
        }
        (Ok(ended), _) => ended,
    }
}

fn text_of(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let said = payload.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or_default();
    match info.location() {
        Some(at) if !said.starts_with(NO_THREAD) => format!("{said} (at {at})"),
        _ => said.to_owned(),
    }
}

fn error_of(text: &str) -> CommandError {
    if text.starts_with(NO_THREAD) {
        return CommandError::new(Kind::Host, "cannot start a thread: this machine allows no more")
            .hint("raise the limit on processes: ulimit -u, and pids.max of the control group");
    }
    CommandError::new(
        Kind::Bug,
        format!("lap came into a state that it thought impossible: {text}"),
    )
}

#[cfg(test)]
mod tests {
    use super::error_of;
    use crate::error::Kind;

    #[test]
    fn a_refused_thread_is_no_bug() {
        let refused = error_of("failed to spawn thread: Os { code: 11, kind: WouldBlock }");
        assert_eq!(refused.kind(), Kind::Host);
        assert!(refused.render().contains("ulimit -u"), "{}", refused.render());
        let bug = error_of("index out of bounds (at x.rs:1:2)");
        assert_eq!(bug.kind(), Kind::Bug);
        assert!(bug.render().contains("x.rs:1:2") && bug.render().contains("report it"));
    }
}
