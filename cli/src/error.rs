//! What a command ends with when it does not succeed, and how that looks on the screen.
//!
//! ```text
//! error: cannot mount overlay on /            ← message: what could not be done
//! cause: permission denied                    ← the chain below it, one line each
//! hint: unprivileged overlay needs Linux 5.11 ← the next thing to try
//! ```
//!
//! Libraries carry facts; the words for people and the hints are made here and in [`convert`] only.

mod convert;

use crate::exit::Exit;
use crate::ui::table::visible;
use std::error::Error;
use std::fmt::Write as _;
use std::io;

/// What the reader of an error can do about it. A kind exists only where one would act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Call `lap` in another way.
    Usage,
    /// Fix the Dockerfile, or name another file or image.
    Input,
    /// A command in a build step failed: fix that.
    Step,
    /// This machine cannot: change it, or use another.
    Host,
    /// Try again, log in, or ask whoever runs the server.
    Remote,
    /// The store or an archive is damaged: `lap fsck`.
    Corrupt,
    /// Report it.
    Bug,
    /// A signal asked `lap` to stop; the number of the signal.
    Cancelled(i32),
    /// Whoever read standard output went away: not an error at all.
    OutputClosed,
}

impl Kind {
    fn exit(self) -> Exit {
        match self {
            Self::Usage => Exit::USAGE,
            Self::Input => Exit::INPUT,
            Self::Step => Exit::STEP,
            Self::Host => Exit::HOST,
            Self::Remote => Exit::REMOTE,
            Self::Corrupt => Exit::CORRUPT,
            Self::Bug => Exit::BUG,
            Self::Cancelled(signal) => Exit::signal(signal),
            Self::OutputClosed => Exit::OK,
        }
    }
}

/// An error as a command reports it.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    /// Complete excerpts of the user's text, shown in place of the message when there are any.
    excerpts: Vec<String>,
    /// Whether it was said already, in another form.
    said: bool,
}

impl CommandError {
    /// An error without a chain.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            kind,
            message,
            causes: Vec::new(),
            hints: Vec::new(),
            excerpts: Vec::new(),
            said: false,
        }
    }

    /// The command line makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something that the user named is wrong or missing.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// An error of a library, with the chain below it.
    pub(crate) fn chain(kind: Kind, error: &dyn Error) -> Self {
        let mut new = Self::new(kind, error.to_string());
        new.push_causes(error.source());
        new
    }

    /// An input or output error with what was being done.
    pub(crate) fn io(kind: Kind, what: impl Into<String>, error: &io::Error) -> Self {
        let mut new = Self::new(kind, what);
        new.push_causes(Some(error));
        new
    }

    /// Standard output could not be written. That its reader is gone ends `lap` quietly.
    #[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
    pub(crate) fn from_stdout(error: io::Error) -> Self {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        let kind = if closed { Kind::OutputClosed } else { Kind::Host };
        Self::io(kind, "cannot write to standard output", &error)
    }

    /// Whether the file that was asked for is not there decides whose fault it is.
    pub(crate) fn from_open(path: &std::path::Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => Kind::Input,
            _ => Kind::Host,
        };
        Self::io(kind, format!("cannot read {}", path.display()), error)
    }

    fn push_causes(&mut self, mut source: Option<&(dyn Error + 'static)>) {
        while let Some(error) = source {
            let text = error.to_string();
            let said = |before: &String| before.contains(&text);
            if !said(&self.message) && !self.causes.iter().any(said) {
                self.causes.push(text);
            }
            source = error.source();
        }
    }

    /// The same error with one more thing to try.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same error with one more cause.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// The same error shown by these excerpts of the user's text.
    #[must_use]
    pub(crate) fn excerpts(mut self, excerpts: Vec<String>) -> Self {
        self.excerpts = excerpts;
        self
    }

    /// The same error, which was said in another form and is not to be shown again.
    #[must_use]
    pub(crate) fn said(mut self) -> Self {
        self.said = true;
        self
    }

    /// This error and another one that happened beside it; the first decides how `lap` ends.
    #[must_use]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        if self.excerpts.is_empty() {
            self.excerpts.push(format!("error: {}\n", self.message));
        }
        self.excerpts.push(other.render());
        self
    }

    /// What to do about it.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.kind.exit()
    }

    /// The error as text for standard error, control characters made visible; empty when there is
    /// nothing to say.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        if self.said || self.kind == Kind::OutputClosed {
            return text;
        }
        for excerpt in &self.excerpts {
            text.push_str(&printable(excerpt));
        }
        if self.excerpts.is_empty() {
            let _infallible = writeln!(text, "error: {}", printable(&self.message));
        }
        for cause in &self.causes {
            let _infallible = writeln!(text, "cause: {}", printable(cause));
        }
        for hint in &self.hints {
            let _infallible = writeln!(text, "hint: {}", printable(hint));
        }
        if self.kind == Kind::Bug {
            text.push_str(
                "hint: this is a bug in lap; please report it with the command that showed it\n",
            );
        }
        text
    }
}

/// The text without anything that could steer a terminal; newlines and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    let keep = |c: char| c == '\n' || c == '\t';
    text.chars()
        .flat_map(|c| {
            keep(c)
                .then_some(c)
                .into_iter()
                .chain((!keep(c)).then(|| visible(c)).into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_say_nothing_new_are_left_out() {
        let error = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let shown =
            CommandError::io(Kind::Input, "cannot read x: no such file", &error).hint("try y");
        assert_eq!(shown.render(), "error: cannot read x: no such file\nhint: try y\n");
    }

    #[test]
    fn terminals_are_not_steered() {
        let error = CommandError::input("bad \x1b]0;name\x07");
        assert_eq!(error.render(), "error: bad \\u{1b}]0;name\\u{7}\n");
    }

    #[test]
    fn a_closed_pipe_is_not_an_error() {
        let error = CommandError::from_stdout(io::ErrorKind::BrokenPipe.into());
        assert_eq!((error.render().as_str(), error.exit()), ("", Exit::OK));
    }

    #[test]
    fn two_errors_are_both_told() {
        let one = CommandError::new(Kind::Step, "one").and(&CommandError::input("two").hint("h"));
        assert_eq!(one.render(), "error: one\nerror: two\nhint: h\n");
        assert_eq!(one.exit(), Exit::STEP);
    }
}
