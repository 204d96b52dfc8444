//! What can go wrong around a program. A program that fails is not an error, it is an
//! [`Exit`](crate::Exit).

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;

/// Why a run did not come to an end of its own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The specification cannot be run anywhere.
    #[error("cannot run this: {reason}")]
    Spec {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A descriptor, pipe or buffer that the run needs could not be made.
    #[error("cannot prepare the sandbox: {what}")]
    Prepare {
        /// What was being made.
        what: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The sandbox process could not be started.
    #[error("cannot start the sandbox process in its own namespaces")]
    Start {
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The sandbox process could not set up the surroundings of the program.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The sandbox process ended without a report: killed from outside, or a bug.
    #[error("the sandbox process ended without a report ({how})")]
    Lost {
        /// How it ended.
        how: String,
    },
    /// The run was ended through its [`Cancel`](crate::Cancel).
    #[error("cancelled")]
    Cancelled,
}

/// What the sandbox process could not do, as it travels from there to here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupError {
    /// What was being done.
    pub action: Action,
    /// The path it was done to, if any, as raw bytes.
    path: Option<Bytes>,
    /// The system's error number.
    pub errno: i32,
    /// A circumstance that a hint may build on.
    pub note: Option<Note>,
}

/// The actions that can fail while a sandbox is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Action {
    /// Read the message that says what to do.
    ReadMessage,
    /// Cut the mount namespace off the host's.
    PrivateMounts,
    /// Set the host name.
    Hostname,
    /// Bring the loopback interface up.
    Loopback,
    /// Open a host path.
    OpenSource,
    /// Mount an overlay.
    Overlay,
    /// Find or make a path inside the root.
    Resolve,
    /// Make an empty file or directory to mount on.
    MakeStub,
    /// Mount something at a path inside the root.
    Mount,
    /// Make a file system read-only.
    ReadOnly,
    /// Make a device node or link.
    Device,
    /// Put a file's content in place.
    WriteFile,
    /// Make the new root `/`.
    ChangeRoot,
    /// Make or enter the working directory.
    WorkingDirectory,
    /// Start a process.
    Fork,
    /// Set a resource limit.
    Ulimit,
    /// Install the system call filter.
    Filter,
    /// Give up capabilities.
    Capabilities,
    /// Become the user.
    Identity,
    /// Connect standard input and output.
    Stdio,
    /// Remove what was made only to mount on.
    Cleanup,
}

impl Action {
    /// The action as words that can follow "cannot".
    pub fn words(self) -> &'static str {
        match self {
            Self::ReadMessage => "read the set-up message",
            Self::PrivateMounts => "make mounts private",
            Self::Hostname => "set the host name",
            Self::Loopback => "bring up the loopback interface",
            Self::OpenSource => "open mount source",
            Self::Overlay => "mount overlay on",
            Self::Resolve => "find mount target",
            Self::MakeStub => "make mount target",
            Self::Mount => "mount on",
            Self::ReadOnly => "make read-only:",
            Self::Device => "make device",
            Self::WriteFile => "write file for",
            Self::ChangeRoot => "change the root",
            Self::WorkingDirectory => "enter working directory",
            Self::Fork => "start the program's process",
            Self::Ulimit => "set resource limit",
            Self::Filter => "install the system call filter",
            Self::Capabilities => "give up capabilities",
            Self::Identity => "become user",
            Self::Stdio => "connect standard input and output",
            Self::Cleanup => "remove mount target",
        }
    }
}

/// A circumstance of a [`SetupError`] that tells a person what to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Note {
    /// Set up inside a user namespace, so the kernel's rules for unprivileged mounts hold.
    UserNamespace,
    /// The id does not exist in the user namespace.
    UnmappedId,
    /// The hard limit is above the one this process has.
    HardLimit,
}

impl SetupError {
    /// An error without a path.
    pub(crate) fn new(action: Action, errno: rustix::io::Errno) -> Self {
        Self { action, path: None, errno: errno.raw_os_error(), note: None }
    }

    /// An error about a path.
    pub(crate) fn at(action: Action, path: &[u8], errno: rustix::io::Errno) -> Self {
        let path = Some(Bytes::from(path));
        Self { action, path, errno: errno.raw_os_error(), note: None }
    }

    /// The same error with a circumstance.
    pub(crate) fn with_note(mut self, note: Note) -> Self {
        self.note = Some(note);
        self
    }

    /// The path it is about.
    pub fn path(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.as_path().to_owned())
    }

    /// The system's error as a value.
    pub fn io(&self) -> io::Error {
        io::Error::from_raw_os_error(self.errno)
    }

    /// What a person could try.
    pub fn hint(&self) -> Option<&'static str> {
        let denied = self.errno == libc::EPERM || self.errno == libc::EACCES;
        match (self.action, self.note) {
            (Action::Identity, Some(Note::UnmappedId)) => Some(
                "the id is not among those of this user: add ranges to /etc/subuid and /etc/subgid \
                 and install newuidmap (package uidmap or shadow-utils)",
            ),
            (Action::Ulimit, Some(Note::HardLimit)) => {
                Some("raise the hard limit of the calling process first")
            }
            (Action::Overlay, Some(Note::UserNamespace)) if denied => {
                Some("overlayfs for ordinary users needs Linux 5.11 or newer")
            }
            (Action::Mount, Some(Note::UserNamespace)) if denied => Some(
                "inside a container whose /proc is masked, start that container with \
                 unmasked paths",
            ),
            (Action::Overlay, _) if self.errno == libc::EINVAL => Some(
                "the kernel refuses a work directory that was used before, and an upper \
                 directory on a file system that cannot hold one (overlayfs, NFS)",
            ),
            (_, _) if self.errno == libc::ENOSYS => Some("the runner needs Linux 5.12 or newer"),
            _ => None,
        }
    }
}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}", self.action.words())?;
        if let Some(path) = &self.path {
            write!(f, " {}", path.as_path().display())?;
        }
        let reason = self.io().to_string();
        // The standard library adds the number; the words are enough for a person.
        let reason = reason.split(" (os error").next().unwrap_or_default();
        write!(f, ": {}", reason.to_lowercase())
    }
}

impl std::error::Error for SetupError {}

/// Why [`enter`](crate::enter) left the process unusable or unsure. That this machine does not
/// allow user namespaces is not one of them, it is [`Entered::None`](crate::Entered::None).
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The process has more than one thread; the kernel moves only single-threaded ones.
    #[error("cannot enter a user namespace: the process already has several threads")]
    Threads,
    /// The helper process that writes the id maps could not be used.
    #[error("cannot enter a user namespace: {what}")]
    Helper {
        /// What failed.
        what: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The process is in a new user namespace, but could not become its root.
    #[error("cannot become root of the user namespace")]
    Become {
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file that says which ids belong to whom could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}
