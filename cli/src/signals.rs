//! ^C, SIGTERM and SIGHUP: the first asks the command to stop, the second does not wait for it.
//!
//! The signals are blocked in every thread and taken by one that waits for nothing else, so no code
//! runs in a signal handler. Commands that cannot be asked end at once: what they write is complete
//! or has no name yet (see `output_file`), and what they left in the store's work area is swept.

use crate::error::{CommandError, Kind};
use lapstrake_runner::Cancel;
use nix::sys::signal::{SigSet, Signal};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// What the watching thread has seen.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    cancel: Cancel,
    seen: Arc<Seen>,
}

/// The first signal that came, 0 before.
#[derive(Debug, Default)]
struct Seen {
    signal: Mutex<i32>,
    changed: Condvar,
}

impl Interrupts {
    /// Begins to watch. Call it in the main thread, before others exist and after the user
    /// namespace is entered.
    pub(crate) fn watch() -> Result<Self, CommandError> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let failed = |error: &dyn std::error::Error| CommandError::chain(Kind::Host, error);
        set.thread_block().map_err(|error| failed(&error))?;
        let watching = Self { cancel: Cancel::new(), seen: Arc::default() };
        let told = watching.clone();
        let thread = thread::Builder::new().name("signals".into());
        thread.spawn(move || told.wait(&set)).map_err(|error| failed(&error)).map(drop)?;
        Ok(watching)
    }

    /// What to cancel running steps with.
    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The error to end with, if a signal came.
    pub(crate) fn error(&self) -> Option<CommandError> {
        match *self.seen.signal.lock().unwrap_or_else(PoisonError::into_inner) {
            0 => None,
            signal => Some(CommandError::new(
                Kind::Cancelled(signal),
                "stopped by a signal; nothing was changed",
            )),
        }
    }

    /// Sleeps until a signal comes.
    pub(crate) fn wait_for_signal(&self) {
        let seen = self.seen.signal.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.seen.changed.wait_while(seen, |signal| *signal == 0));
    }

    fn wait(&self, set: &SigSet) {
        while let Ok(signal) = set.wait() {
            let signal = signal as i32;
            let mut seen = self.seen.signal.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen != 0 {
                exit_now(signal);
            }
            *seen = signal;
            drop(seen);
            self.seen.changed.notify_all();
            self.cancel.cancel();
        }
    }
}

#[expect(
    clippy::exit,
    reason = "the user asked twice; whatever hangs would keep main from returning"
)]
fn exit_now(signal: i32) -> ! {
    std::process::exit(128 + signal)
}
