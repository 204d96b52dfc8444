//! What parent and sandbox child say to each other.
//!
//! ```text
//! parent ─▶ child   one Message: JSON in a memfd, complete before the child starts
//! child  ─▶ parent  Reports: JSON lines through a pipe; the first final one counts
//! ```
//!
//! Both ends are the same program file, but it may be replaced on disk while it runs, so the message
//! names its version. Bytes from the child are hostile (a program that broke out of its confinement
//! could write them): bounded, and anything that is not a report is an error.

use std::ffi::CStr;

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::error::SetupError;
use crate::ops::SetupOp;
use crate::spec::Resource;

/// Changes whenever the meaning of a message changes.
pub(crate) const VERSION: u32 = 1;

/// `argv[0]` of a sandbox child; [`init`](crate::init) knows it by this.
pub(crate) const CHILD_NAME: &CStr = c"lapstrake-sandbox";

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    /// [`VERSION`] of the writer.
    pub(crate) version: u32,
    /// Whether the namespaces belong to a user namespace that is not the machine's.
    pub(crate) user_namespace: bool,
    /// How to prepare.
    pub(crate) ops: Vec<SetupOp>,
    /// What to run then.
    pub(crate) program: Program,
}

/// What to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    /// Program and arguments; never empty.
    pub(crate) argv: Vec<Bytes>,
    /// The environment as `KEY=value`.
    pub(crate) env: Vec<Bytes>,
    /// The working directory, absolute.
    pub(crate) cwd: Bytes,
    /// User id.
    pub(crate) uid: u32,
    /// Group id.
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// Resource limits.
    pub(crate) limits: Vec<Limit>,
    /// Whether to confine it with capabilities and a filter.
    pub(crate) confined: bool,
    /// Whether descriptor 0 is `/dev/null`.
    pub(crate) null_stdin: bool,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Of what.
    pub(crate) resource: Resource,
    /// Soft limit; `None` is unlimited.
    pub(crate) soft: Option<u64>,
    /// Hard limit; `None` is unlimited.
    pub(crate) hard: Option<u64>,
}

/// What a child tells.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The program was not started.
    SetupFailed(SetupError),
    /// The program ended by itself.
    Exited(i32),
    /// A signal ended the program.
    Signaled(i32),
}

/// The report a child's bytes hold: the first line that is whole.
pub(crate) fn first_report(bytes: &[u8]) -> Option<Report> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    serde_json::from_slice(&bytes[..end]).ok()
}

/// A report as bytes.
pub(crate) fn encode_report(report: &Report) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(report).expect("because a report has only string keys");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Action;
    use rustix::io::Errno;

    #[test]
    fn first_whole_line_counts() {
        let failed = Report::SetupFailed(SetupError::at(Action::Mount, b"/\xff\n", Errno::PERM));
        let mut bytes = encode_report(&failed);
        assert_eq!(first_report(&bytes[..bytes.len() - 1]), None);
        bytes.extend(encode_report(&Report::Exited(127)));
        assert_eq!(first_report(&bytes), Some(failed));
    }

    #[test]
    fn rubbish_is_no_report() {
        assert_eq!(first_report(b"{}\n"), None);
        assert_eq!(first_report(b"\xff\n"), None);
        assert_eq!(first_report(b""), None);
    }
}
