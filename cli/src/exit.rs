//! The exit codes of `lap`, documented in `docs/cli.md`; scripts rely on them.
//!
//! `lap run` alone passes on the exit code of the program that it ran, and `lap diff`
//! and `lap fmt --check` use [`Exit::DIFFERENT`] for what is not an error.

use std::process::ExitCode;

/// A process exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(u8);

impl Exit {
    /// Done; also when whoever reads standard output went away.
    pub(crate) const OK: Self = Self(0);
    /// `lap diff`: the two sides are not equal. `lap fmt --check`: a file would change.
    pub(crate) const DIFFERENT: Self = Self(1);
    /// A build step's own command failed.
    pub(crate) const STEP: Self = Self(1);
    /// The command line makes no sense.
    pub(crate) const USAGE: Self = Self(2);
    /// The Dockerfile, or another thing that was named, is wrong or not there.
    pub(crate) const INPUT: Self = Self(3);
    /// This machine cannot do it.
    pub(crate) const HOST: Self = Self(4);
    /// A registry or another server could not, or would not.
    pub(crate) const REMOTE: Self = Self(5);
    /// Something in the store is damaged.
    pub(crate) const CORRUPT: Self = Self(6);
    /// A bug in `lap`.
    pub(crate) const BUG: Self = Self(70);

    /// What a shell reports for a program that a signal ended; used after ^C and SIGTERM.
    pub(crate) fn signal(number: i32) -> Self {
        Self::program(128 + number)
    }

    /// The exit code of a program that `lap run` ran.
    pub(crate) fn program(code: i32) -> Self {
        Self(u8::try_from(code).unwrap_or(u8::MAX))
    }

    /// The number.
    pub(crate) fn code(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}
