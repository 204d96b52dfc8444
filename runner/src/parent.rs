//! The parent's side of a run: start the child, relay output, wait, cancel.
//!
//! One thread, one poll loop; it ends when the child (pid 1 of the sandbox) has ended, which is
//! after every other process of the sandbox, so what is in the pipes then is all there will be.

use std::ffi::CString;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, memfd_create, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitOptions, WaitStatus, pidfd_send_signal, waitpid};

use crate::bytes::Bytes;
use crate::cancel::Cancel;
use crate::error::RunError;
use crate::foreign::ForeignError;
use crate::host::{Facts, oom_kills};
use crate::limits::{CANCEL_POLL_MILLIS, OUTPUT_CHUNK_BYTES, REPORT_MAX_BYTES};
use crate::ops::plan;
use crate::protocol::{CHILD_NAME, Limit, Message, Program, Report, VERSION, first_report};
use crate::spec::{Exit, Network, Output, Security, Spec, Stdin, Stream};
use crate::sys::clone::{Namespaces, Spawned, spawn};
use crate::{Runner, sys};

/// What shells exit with when their program was ended by SIGKILL: 128 and the signal.
const KILLED_IN_SHELL: i32 = 128 + 9;

/// Runs programs in namespaces of their own.
#[derive(Debug)]
pub struct Sandbox {
    facts: Facts,
    /// The machine's count of processes killed for lack of memory, when last looked at.
    oom_kills: AtomicU64,
}

impl Sandbox {
    /// A sandbox for this process as it is now; make it after [`enter`](crate::enter).
    pub fn new() -> Self {
        Self::with_facts(Facts::current())
    }

    /// A sandbox that takes facts about the machine as given.
    pub fn with_facts(facts: Facts) -> Self {
        Self { facts, oom_kills: AtomicU64::new(oom_kills()) }
    }

    fn exit_of(&self, report: &Report) -> Option<Exit> {
        match *report {
            Report::SetupFailed(_) => None,
            // A shell whose program was killed ends like this, and the kernel tells of no more.
            Report::Exited(code) if code == KILLED_IN_SHELL && self.was_out_of_memory() => {
                Some(Exit::Signal { signal: Signal::KILL.as_raw(), oom: true })
            }
            Report::Exited(code) => Some(Exit::Code(code)),
            Report::Signaled(signal) => {
                let oom = signal == Signal::KILL.as_raw() && self.was_out_of_memory();
                Some(Exit::Signal { signal, oom })
            }
        }
    }

    /// Whether the kernel killed something for lack of memory since this was last asked.
    fn was_out_of_memory(&self) -> bool {
        let now = oom_kills();
        now > self.oom_kills.swap(now, Ordering::Relaxed)
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner for Sandbox {
    fn run(
        &self,
        spec: &Spec,
        output: &mut dyn FnMut(Stream, &[u8]),
        cancel: &Cancel,
    ) -> Result<Exit, RunError> {
        check(spec)?;
        if cancel.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        let (mut tree, mut streams) = start(spec, self.facts)?;
        let cancelled = relay(&mut tree, &mut streams, output, cancel)?;
        let status = tree.wait();
        streams.drain(output).map_err(prepare("read the rest of the output"))?;
        if spec.output == Output::Inherit && spec.stdin == Stdin::Inherit {
            take_terminal_back();
        }
        if cancelled {
            return Err(RunError::Cancelled);
        }
        match first_report(&streams.report_bytes) {
            Some(Report::SetupFailed(error)) => Err(RunError::Setup(error)),
            Some(report) => Ok(self.exit_of(&report).expect("because it is no failure")),
            None => Err(RunError::Lost { how: describe(status) }),
        }
    }

    fn can_run(&self, os: &str, architecture: &str, scratch: &Path) -> Result<(), ForeignError> {
        crate::foreign::can_run(os, architecture, scratch)
    }
}

/// What no sandbox could run.
fn check(spec: &Spec) -> Result<(), RunError> {
    let reason = |reason| Err(RunError::Spec { reason });
    if spec.process.argv.is_empty() {
        return reason("there is no program");
    }
    let has_nul = |text: &std::ffi::OsStr| text.as_bytes().contains(&0);
    if spec.process.argv.iter().any(|argument| has_nul(argument)) {
        return reason("an argument has a NUL byte");
    }
    if spec.process.env.iter().any(|(key, value)| has_nul(key) || has_nul(value)) {
        return reason("an environment variable has a NUL byte");
    }
    if spec.process.cwd.is_relative() {
        return reason("the working directory is not absolute");
    }
    if spec.mounts.iter().any(|mount| mount.target.is_relative()) {
        return reason("a mount target is not absolute");
    }
    if spec.mounts.iter().any(|mount| mount.target.file_name().is_none()) {
        return reason("a mount target is the root or ends in `..`");
    }
    Ok(())
}

fn prepare(what: &'static str) -> impl Fn(Errno) -> RunError {
    move |errno| RunError::Prepare { what, source: errno.into() }
}

fn message(spec: &Spec, facts: Facts) -> Message {
    let pair = |(key, value): &(std::ffi::OsString, std::ffi::OsString)| {
        Bytes::from([key.as_bytes(), b"=", value.as_bytes()].concat().as_slice())
    };
    let limit = |limit: &crate::spec::Ulimit| Limit {
        resource: limit.resource,
        soft: limit.soft,
        hard: limit.hard,
    };
    Message {
        version: VERSION,
        user_namespace: facts.user_namespace,
        ops: plan(spec, facts),
        program: Program {
            argv: spec.process.argv.iter().map(Bytes::from).collect(),
            env: spec.process.env.iter().map(pair).collect(),
            cwd: Bytes::from(&spec.process.cwd),
            uid: spec.identity.uid,
            gid: spec.identity.gid,
            // With one id there are no files of another group either.
            groups: if facts.sets_groups { spec.identity.groups.clone() } else { Vec::new() },
            limits: spec.ulimits.iter().map(limit).collect(),
            confined: spec.security == Security::Sandbox,
            null_stdin: spec.stdin == Stdin::Null,
        },
    }
}

/// A message as a descriptor to read it from.
fn written(message: &Message) -> Result<OwnedFd, RunError> {
    let error = |source| RunError::Prepare { what: "write the set-up message", source };
    let bytes = serde_json::to_vec(message).map_err(|rubbish| error(rubbish.into()))?;
    let fd = memfd_create("lap-message", MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(fd.map_err(|errno| error(errno.into()))?);
    file.write_all(&bytes).map_err(error)?;
    file.rewind().map_err(error)?;
    Ok(file.into())
}

fn start(spec: &Spec, facts: Facts) -> Result<(ProcessTree, Streams), RunError> {
    let message = written(&message(spec, facts))?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(prepare("make a pipe"));
    let (report, report_end) = pipe()?;
    let mut streams = Streams::reporting(report);
    let mut keep = vec![message, report_end];
    if spec.output == Output::Capture {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (read_end, write_end) = pipe()?;
            streams.outputs.push((stream, read_end));
            keep.push(write_end);
        }
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let program = openat(CWD, "/proc/self/exe", flags, Mode::empty())
        .map_err(prepare("open this program's own file"))?;
    let mut arguments = vec![CString::from(CHILD_NAME)];
    for fd in &keep {
        let number = fd.as_raw_fd().to_string();
        arguments.push(CString::new(number).expect("because digits have no NUL"));
    }
    let namespaces = match spec.network {
        Network::Host => Namespaces::STEP,
        Network::None => Namespaces::STEP.and_network(),
    };
    let keep: Vec<BorrowedFd<'_>> = keep.iter().map(AsFd::as_fd).collect();
    let spawned = spawn(program.as_fd(), &arguments, &keep, namespaces)
        .map_err(|errno| RunError::Start { source: errno.into() })?;
    Ok((ProcessTree { spawned, ended: None }, streams))
}

/// The child, and with it everything in its pid namespace. Dropping it kills all of it, so that a
/// panic in an output callback leaves no process behind.
struct ProcessTree {
    spawned: Spawned,
    ended: Option<WaitStatus>,
}

impl ProcessTree {
    fn kill(&self) {
        // The pid namespace dies with its pid 1. That it has already is the only possible error.
        let _dead = pidfd_send_signal(&self.spawned.pidfd, Signal::KILL);
    }

    /// How it ended; `None` if somebody else collected it.
    fn wait(&mut self) -> Option<WaitStatus> {
        if self.ended.is_none() {
            let pid = Some(self.spawned.pid);
            let ended = rustix::io::retry_on_intr(|| waitpid(pid, WaitOptions::empty()));
            self.ended = ended.ok().flatten().map(|(_pid, status)| status);
        }
        self.ended
    }
}

impl Drop for ProcessTree {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.kill();
            self.wait();
        }
    }
}

/// The ends of pipes that are read here.
struct Streams {
    outputs: Vec<(Stream, OwnedFd)>,
    report: Option<OwnedFd>,
    report_bytes: Vec<u8>,
    buffer: Vec<u8>,
}

impl Streams {
    fn reporting(report: OwnedFd) -> Self {
        Self {
            outputs: Vec::with_capacity(2),
            report: Some(report),
            report_bytes: Vec::new(),
            buffer: vec![0; OUTPUT_CHUNK_BYTES],
        }
    }

    /// Reads once from what the polling found ready. A stream that is at its end is dropped.
    fn read_ready(
        &mut self,
        ready: impl Fn(BorrowedFd<'_>) -> bool,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), Errno> {
        let buffer = &mut self.buffer;
        let mut open = Vec::with_capacity(2);
        for (stream, fd) in self.outputs.drain(..) {
            if ready(fd.as_fd()) {
                let count = rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut buffer[..]))?;
                if count == 0 {
                    continue;
                }
                output(stream, &buffer[..count]);
            }
            open.push((stream, fd));
        }
        self.outputs = open;
        if let Some(report) = self.report.take_if(|fd| ready(fd.as_fd())) {
            let count = rustix::io::retry_on_intr(|| rustix::io::read(&report, &mut buffer[..]))?;
            let room = REPORT_MAX_BYTES.saturating_sub(self.report_bytes.len());
            self.report_bytes.extend_from_slice(&buffer[..count.min(room)]);
            if count > 0 {
                self.report = Some(report);
            }
        }
        Ok(())
    }

    /// Reads what is in the pipes now, and waits for nothing.
    fn drain(&mut self, output: &mut dyn FnMut(Stream, &[u8])) -> Result<(), Errno> {
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let ready = self.ready(&[], Some(&no_wait))?;
            if ready.is_empty() {
                return Ok(());
            }
            self.read_ready(|fd| ready.contains(&fd.as_raw_fd()), output)?;
        }
    }

    /// Waits until something can be read from a stream or an extra descriptor; says which.
    fn ready(&self, extra: &[BorrowedFd<'_>], wait: Option<&Timespec>) -> Result<Vec<i32>, Errno> {
        let outputs = self.outputs.iter().map(|(_stream, fd)| fd.as_fd());
        let all = outputs.chain(self.report.as_ref().map(AsFd::as_fd)).chain(extra.iter().copied());
        let mut fds: Vec<PollFd<'_>> =
            all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut fds, wait) {
            Ok(_count) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno),
        }
        let ready = fds.iter().filter(|fd| !fd.revents().is_empty());
        Ok(ready.map(|fd| fd.as_fd().as_raw_fd()).collect())
    }
}

/// Hands output on until the child has ended; returns whether it was cancelled.
fn relay(
    tree: &mut ProcessTree,
    streams: &mut Streams,
    output: &mut dyn FnMut(Stream, &[u8]),
    cancel: &Cancel,
) -> Result<bool, RunError> {
    let often = Timespec { tv_sec: 0, tv_nsec: CANCEL_POLL_MILLIS * 1_000_000 };
    let wait = if cancel.event().is_some() { None } else { Some(&often) };
    let mut cancelled = false;
    loop {
        let pidfd = tree.spawned.pidfd.as_fd();
        let mut extra = vec![pidfd];
        if let Some(event) = cancel.event().filter(|_event| !cancelled) {
            extra.push(event);
        }
        let ready = streams.ready(&extra, wait).map_err(prepare("wait for the program"))?;
        if !cancelled && cancel.is_cancelled() {
            tree.kill();
            cancelled = true;
        }
        if ready.contains(&pidfd.as_raw_fd()) {
            return Ok(cancelled);
        }
        streams
            .read_ready(|fd| ready.contains(&fd.as_raw_fd()), output)
            .map_err(prepare("read the output"))?;
    }
}

/// Makes this process group the terminal's foreground again after an interactive program.
fn take_terminal_back() {
    let terminal = rustix::stdio::stdin();
    if rustix::termios::isatty(terminal) {
        sys::with_terminal_stops_blocked(|| {
            // Refused if the terminal is gone, and then there is nothing to take back.
            let _foreground = rustix::termios::tcsetpgrp(terminal, rustix::process::getpgrp());
        });
    }
}

fn describe(status: Option<WaitStatus>) -> String {
    match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => format!("exit code {code}"),
        Some((None, Some(signal))) => format!("signal {signal}"),
        _ => io::Error::from(Errno::CHILD).to_string(),
    }
}
