//! Why a build could not be done.

use crate::diagnostic::Diagnostic;
use crate::remote::RemoteError;
use crate::source::SourceFile;
use lapstrake_layerstore::path::PathError;
use lapstrake_runner::{Exit, RunError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The Dockerfile, the context or an option has to change.
    Input,
    /// The Dockerfile is not valid.
    Dockerfile,
    /// A command of the Dockerfile failed.
    Step,
    /// This machine cannot do it.
    Host,
    /// A registry or server could not be used.
    Remote,
    /// The store is damaged.
    Corrupt,
    /// The caller stopped the build.
    Cancelled,
}

/// Why a build could not be done; each variant names what could not be done to what.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile has errors; all of them are here.
    #[error("the Dockerfile has {} error(s)", .diagnostics.len())]
    Dockerfile {
        /// The file, for excerpts.
        file: Arc<SourceFile>,
        /// What is wrong, in order of position.
        diagnostics: Vec<Diagnostic>,
    },
    /// An error in one instruction that showed only with its surroundings known.
    #[error("{cause}")]
    AtInstruction {
        /// The file, for excerpts.
        file: Arc<SourceFile>,
        /// Where the instruction is.
        span: crate::source::Span,
        /// The step, as progress shows it.
        step: String,
        /// What went wrong.
        #[source]
        cause: Box<BuildError>,
    },
    /// Several steps failed before the first failure could stop the others.
    #[error("{} steps failed", .errors.len())]
    Several {
        /// Their errors, in file order; at least two.
        errors: Vec<BuildError>,
    },
    /// A rule of the language was broken in a way that only planning shows.
    #[error("{message}")]
    Plan {
        /// One sentence.
        message: String,
        /// What to try.
        help: Option<String>,
    },
    /// A COPY or ADD source is not there.
    #[error("\"{path}\": not found")]
    SourceNotFound {
        /// The path from the root of its tree.
        path: String,
    },
    /// The context file exists and the ignore file hides it.
    #[error("\"{path}\": not found: it is there, but the ignore file excludes it")]
    SourceIgnored {
        /// The path from the root of the context.
        path: String,
    },
    /// A wildcard that is not one.
    #[error("syntax error in pattern `{pattern}`")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// A path that cannot stand in an image.
    #[error("path `{path}` cannot be used")]
    BadPath {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: PathError,
    },
    /// Links that lead in a circle.
    #[error("too many levels of symbolic links at `{path}`")]
    SymlinkLoop {
        /// The path as asked for.
        path: String,
    },
    /// A directory is needed where something else is.
    #[error("cannot copy to non-directory: {path} is not a directory")]
    NotADirectory {
        /// The path in the image.
        path: String,
    },
    /// A file would replace a directory.
    #[error("cannot replace to directory {path} with file")]
    FileOverDirectory {
        /// The path in the image.
        path: String,
    },
    /// A context file changed while it was read.
    #[error("{path} changed while it was being read")]
    ContextChanged {
        /// The file.
        path: String,
    },
    /// The context could not be read.
    #[error("cannot {verb} {}", .path.display())]
    Context {
        /// What was tried.
        verb: &'static str,
        /// The path on this machine.
        path: PathBuf,
        /// The error number, for those who look for "not there".
        errno: i32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The ignore file is not valid.
    #[error("{name} is not valid: {message}")]
    IgnoreFile {
        /// Its name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A user or group that the image does not know.
    #[error("unable to find {kind} {name}: no matching entries in the image's /etc/{file} file")]
    UnknownName {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// `passwd` or `group`.
        file: &'static str,
    },
    /// An archive given to ADD cannot be unpacked.
    #[error("cannot unpack {name}: {message}")]
    Archive {
        /// The archive's path.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A base image is neither in the store nor in its registry.
    #[error("cannot find the image {reference}")]
    BaseNotFound {
        /// The reference.
        reference: String,
    },
    /// A base image could not be fetched.
    #[error("cannot get the image {reference}")]
    Base {
        /// The reference.
        reference: String,
        /// Why.
        #[source]
        source: Box<lapstrake_layerstore::source::SourceError>,
    },
    /// A directory in OCI layout could not be read.
    #[error("cannot take the image {reference}")]
    Layout {
        /// Directory and image.
        reference: String,
        /// Why.
        #[source]
        source: Box<lapstrake_layerstore::transfer::TransferError>,
    },
    /// The command of a RUN failed.
    #[error("process \"{command}\" did not complete successfully: {}", exit_text(*.exit))]
    Step {
        /// The command, as its arguments joined.
        command: String,
        /// How it ended.
        exit: Exit,
        /// The image that has its files, if they were to be kept.
        kept: Option<String>,
        /// Where the store is, if its file system had no room left when the command ended.
        full: Option<PathBuf>,
    },
    /// The sandbox for a RUN could not be made.
    #[error("cannot run the step")]
    Run(#[source] RunError),
    /// The step's programs are for a platform that cannot be run here.
    #[error(transparent)]
    Foreign(#[from] lapstrake_runner::ForeignError),
    /// A secret or socket that a step requires was not given.
    #[error("{kind} `{id}` is required by the step and was not given")]
    MissingInput {
        /// `secret` or `ssh`.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// Something at a URL or in a repository could not be had.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] lapstrake_layerstore::StoreError),
    /// The caller stopped the build.
    #[error("the build was stopped")]
    Cancelled,
}

impl BuildError {
    /// A problem of the context at `path`.
    pub(crate) fn context(verb: &'static str, path: &Path, errno: rustix::io::Errno) -> Self {
        let errno_raw = errno.raw_os_error();
        Self::Context { verb, path: path.to_owned(), errno: errno_raw, source: errno.into() }
    }

    /// A rule of planning that was broken.
    pub(crate) fn plan(message: impl Into<String>) -> Self {
        Self::Plan { message: message.into(), help: None }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Dockerfile { .. } | Self::Plan { .. } => ErrorKind::Dockerfile,
            Self::AtInstruction { cause, .. } => cause.kind(),
            Self::Several { errors } => errors.first().map_or(ErrorKind::Input, Self::kind),
            Self::Step { .. } => ErrorKind::Step,
            Self::Cancelled | Self::Remote(RemoteError::Cancelled) => ErrorKind::Cancelled,
            Self::Run(_) | Self::Foreign(_) => ErrorKind::Host,
            Self::Store(error) => match error.kind() {
                lapstrake_layerstore::ErrorKind::Input => ErrorKind::Input,
                lapstrake_layerstore::ErrorKind::Corrupt => ErrorKind::Corrupt,
                _ => ErrorKind::Host,
            },
            Self::Remote(RemoteError::NoGit { .. } | RemoteError::Unavailable { .. }) => {
                ErrorKind::Host
            }
            Self::Remote(
                RemoteError::Checksum { .. }
                | RemoteError::NoRef { .. }
                | RemoteError::NoDirectory { .. }
                | RemoteError::NoContext { .. },
            ) => ErrorKind::Input,
            Self::Remote(_) | Self::Base { .. } | Self::BaseNotFound { .. } => ErrorKind::Remote,
            _ => ErrorKind::Input,
        }
    }

    /// The error without the place it happened at.
    pub fn root(&self) -> &Self {
        match self {
            Self::AtInstruction { cause, .. } => cause.root(),
            other => other,
        }
    }
}

/// How a program ended, in words.
fn exit_text(exit: Exit) -> String {
    match exit {
        // What a shell says of a program that SIGKILL ended.
        Exit::Code(137) => format!("exit code: 137, which is {}", signal_text(SIGKILL)),
        Exit::Code(code) => format!("exit code: {code}"),
        Exit::Signal { oom: true, .. } => {
            "killed by the kernel for memory (signal 9, SIGKILL)".to_owned()
        }
        Exit::Signal { signal, .. } => format!("killed by {}", signal_text(signal)),
    }
}

const SIGKILL: i32 = 9;

/// A signal with its name, where steps meet it.
fn signal_text(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        SIGKILL => {
            return "signal 9 (SIGKILL); if nobody sent it, a limit of memory was reached"
                .to_owned();
        }
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}
