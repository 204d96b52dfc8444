//! The sandbox child: pid 1 of the new namespaces.
//!
//! It is this program, executed again by `parent`; [`init`] takes over before anything else of the
//! program has run, so it never has a second thread. It interprets the plan, forks the program,
//! collects every process that ends, and when the program has ended kills what is left, removes
//! what was made only to mount on, and reports.

mod program;
mod setup;
mod target;
mod tree;

use std::ffi::CStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, umask, wait};

use crate::error::{Action, Note, SetupError};
use crate::host;
use crate::limits::MESSAGE_MAX_BYTES;
use crate::ops::Tree;
use crate::protocol::{CHILD_NAME, Message, Report, VERSION, encode_report};
use crate::sys;

use setup::Setup;

/// Descriptors of a child, as numbers in its arguments.
#[derive(Debug)]
struct Pipes {
    message: OwnedFd,
    report: OwnedFd,
    /// Standard output and error of the program; absent if they are inherited.
    output: Option<(OwnedFd, OwnedFd)>,
}

/// First argument of a child that only tries what the machine can do; see `host`.
pub(crate) const PROBE_ARGUMENT: &CStr = c"probe";

/// Takes the process over if it is a sandbox child, and then does not return. Call it first in
/// `main`: it looks at the arguments only, unless they say that this is a child.
pub fn init() {
    let mut arguments = std::env::args_os();
    if arguments.next().is_none_or(|name| name.as_bytes() != CHILD_NAME.to_bytes()) {
        return;
    }
    let mut arguments = arguments.peekable();
    let probe = arguments.next_if(|first| first.as_bytes() == PROBE_ARGUMENT.to_bytes());
    let numbers: Option<Vec<u32>> =
        arguments.map(|number| number.to_str().and_then(|text| text.parse().ok())).collect();
    // A person may have typed the name: without the descriptors there is nothing to do.
    let Some(numbers) = numbers else { sys::exit_now(2) };
    if probe.is_some() {
        sys::exit_now(probe_life(&numbers));
    }
    let Some(pipes) = Pipes::take(&numbers) else { sys::exit_now(2) };
    sys::exit_now(live(pipes))
}

fn probe_life(numbers: &[u32]) -> i32 {
    let [report] = *numbers else { return 2 };
    let Ok(report) = sys::take_descriptor(report) else { return 2 };
    host::answer_probe(report.as_fd());
    0
}

/// Tries to open a tree, for the probe.
pub(crate) fn open_tree_for_probe(tree: &Tree) -> Result<(), Errno> {
    let opened = tree::open(tree);
    opened.map(drop).map_err(|error| Errno::from_raw_os_error(error.errno))
}

impl Pipes {
    fn take(numbers: &[u32]) -> Option<Self> {
        let take = |number| sys::take_descriptor(number).ok();
        match *numbers {
            [message, report] => {
                Some(Self { message: take(message)?, report: take(report)?, output: None })
            }
            [message, report, stdout, stderr] => {
                let output = Some((take(stdout)?, take(stderr)?));
                Some(Self { message: take(message)?, report: take(report)?, output })
            }
            _ => None,
        }
    }
}

/// Everything up to the exit code of the child itself, which says only whether a report was sent.
fn live(pipes: Pipes) -> i32 {
    // The parent may have died before the kernel was told to kill us with it.
    if parent_is_gone(pipes.report.as_fd()) {
        return 1;
    }
    // A name to see in a process list; without it the list shows a descriptor number.
    let _named = rustix::thread::set_name(c"lap-sandbox");
    umask(Mode::empty());
    let Pipes { message, report, output } = pipes;
    let outcome = match read_message(message) {
        Ok(message) => run(&message, report.as_fd(), output),
        Err(error) => Report::SetupFailed(error),
    };
    i32::from(send(report.as_fd(), &outcome).is_err())
}

fn parent_is_gone(report: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&report, PollFlags::empty())];
    let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ready = poll(&mut fds, Some(&no_wait));
    fds[0].revents().contains(PollFlags::ERR)
}

fn read_message(fd: OwnedFd) -> Result<Message, SetupError> {
    let error = |errno| SetupError::new(Action::ReadMessage, errno);
    let mut bytes = Vec::new();
    let file = std::fs::File::from(fd);
    file.take(MESSAGE_MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|source| error(Errno::from_io_error(&source).unwrap_or(Errno::IO)))?;
    let message: Message =
        serde_json::from_slice(&bytes).map_err(|_rubbish| error(Errno::BADMSG))?;
    if message.version != VERSION {
        return Err(error(Errno::PROTO));
    }
    Ok(message)
}

/// Prepares, runs and cleans up; the report is what the parent is to know.
fn run(message: &Message, report: BorrowedFd<'_>, output: Option<(OwnedFd, OwnedFd)>) -> Report {
    let mut setup = Setup::default();
    let note = |error: SetupError| {
        let plain = error.note.is_none() && message.user_namespace;
        if plain { error.with_note(Note::UserNamespace) } else { error }
    };
    let prepared = setup.interpret(&message.ops);
    let outcome = prepared.and_then(|()| start(message, report, output)).map(await_end);
    let cleaned = setup.clean_up();
    match (outcome, cleaned) {
        (Err(error), _) | (Ok(_), Err(error)) => Report::SetupFailed(note(error)),
        (Ok(ended), Ok(())) => ended,
    }
}

/// Forks the program. The output descriptors are gone from here when it returns.
fn start(
    message: &Message,
    report: BorrowedFd<'_>,
    output: Option<(OwnedFd, OwnedFd)>,
) -> Result<Pid, SetupError> {
    sys::join_new_session_keyring();
    // From here on no process in the sandbox can look into this one, whose memory holds secrets.
    let _hidden =
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let forked = sys::fork().map_err(|errno| SetupError::new(Action::Fork, errno))?;
    if let Some(pid) = forked {
        return Ok(pid);
    }
    let code = match program::become_program(&message.program, output) {
        program::Failed::Setup(error) => {
            // If the report cannot be sent, the exit code below is all there is.
            let _sent = send(report, &Report::SetupFailed(error));
            127
        }
        program::Failed::Exec(code) => code,
    };
    sys::exit_now(code)
}

/// Collects children until the program has ended, then ends and collects the rest.
fn await_end(program: Pid) -> Report {
    let ended = loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == program => break status,
            Ok(_) | Err(Errno::INTR) => {}
            // It cannot have vanished; but waiting for ever would be worse than a wrong code.
            Err(_) => return Report::Exited(127),
        }
    };
    sys::kill_everyone_else();
    while !matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
    report_of(ended)
}

fn report_of(status: WaitStatus) -> Report {
    match status.terminating_signal() {
        Some(signal) => Report::Signaled(signal),
        None => Report::Exited(status.exit_status().unwrap_or(127)),
    }
}

fn send(report: BorrowedFd<'_>, outcome: &Report) -> Result<(), Errno> {
    let bytes = encode_report(outcome);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(report, rest))?;
        rest = &rest[written..];
    }
    Ok(())
}
