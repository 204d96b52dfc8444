//! The last steps of the forked process: from the sandbox's root with every right to the program
//! with the rights of the specification.
//!
//! The order matters. The filter is installed while the process may still do so without
//! `no_new_privs` (which would break `sudo` in a step); resource limits and the working directory
//! are set with root's rights; ids are given up last, and the search for the program runs as the
//! user, who must be able to execute it.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, open, stat};
use rustix::io::Errno;
use rustix::process::{chdir, umask};
use rustix::thread::{Gid, Uid};

use crate::bytes::Bytes;
use crate::caps;
use crate::error::{Action, Note, SetupError};
use crate::protocol::Program;
use crate::rlimit;
use crate::seccomp;
use crate::sys;

/// Why the process did not become the program.
#[derive(Debug)]
pub(super) enum Failed {
    /// The sandbox could not do its part.
    Setup(SetupError),
    /// The program cannot be executed; standard error says why, this is the exit code for it.
    Exec(i32),
}

/// The highest signal number of the kernel.
const SIGNALS: i32 = 64;

/// Exit code for a program that does not exist, as shells use it.
const NOT_FOUND: i32 = 127;

/// Exit code for a program that exists and cannot be executed.
const NOT_EXECUTABLE: i32 = 126;

/// Becomes the program; returns only if that fails.
pub(super) fn become_program(program: &Program, output: Option<(OwnedFd, OwnedFd)>) -> Failed {
    match prepare(program, output) {
        Ok(()) => execute(program),
        Err(error) => Failed::Setup(error),
    }
}

fn prepare(program: &Program, output: Option<(OwnedFd, OwnedFd)>) -> Result<(), SetupError> {
    connect(program, output).map_err(|errno| SetupError::new(Action::Stdio, errno))?;
    umask(Mode::from(0o022));
    rlimit::apply(&program.limits)?;
    chdir(program.cwd.as_path())
        .map_err(|errno| SetupError::at(Action::WorkingDirectory, program.cwd.as_slice(), errno))?;
    if program.confined {
        seccomp::install().map_err(|errno| SetupError::new(Action::Filter, errno))?;
        caps::confine().map_err(|errno| SetupError::new(Action::Capabilities, errno))?;
        take_identity(program)?;
    } else {
        let kept = caps::keep_over_identity_change();
        kept.map_err(|errno| SetupError::new(Action::Capabilities, errno))?;
        take_identity(program)?;
        caps::raise_all().map_err(|errno| SetupError::new(Action::Capabilities, errno))?;
    }
    reset_signals();
    sys::close_from_at_exec(3).map_err(|errno| SetupError::new(Action::Stdio, errno))
}

/// Puts descriptors 0, 1 and 2 in place. A captured program also gets a session of its own, so that
/// the terminal of whoever started the build is out of its reach; an interactive one gets the
/// terminal's foreground.
fn connect(program: &Program, output: Option<(OwnedFd, OwnedFd)>) -> Result<(), Errno> {
    if program.null_stdin {
        let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(null)?;
    }
    if let Some((stdout, stderr)) = output {
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        rustix::process::setsid()?;
        return Ok(());
    }
    let terminal = rustix::stdio::stdin();
    if !program.null_stdin && rustix::termios::isatty(terminal) {
        rustix::process::setpgid(None, None)?;
        // Refused if this is not the controlling terminal; the program then runs without it.
        let _foreground = rustix::termios::tcsetpgrp(terminal, rustix::process::getpid());
    }
    Ok(())
}

fn take_identity(program: &Program) -> Result<(), SetupError> {
    let error = |errno| {
        let who = format!("{}:{}", program.uid, program.gid);
        let error = SetupError::at(Action::Identity, who.as_bytes(), errno);
        if errno == Errno::INVAL { error.with_note(Note::UnmappedId) } else { error }
    };
    let groups: Vec<Gid> = program.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match rustix::thread::set_thread_groups(&groups) {
        Ok(()) => {}
        // Where groups cannot be set, the ones from outside stay: they may be what denies access to a
        // file, so the kernel lets nobody drop them.
        Err(Errno::PERM) if groups.is_empty() => {}
        Err(errno) => return Err(error(errno)),
    }
    let (uid, gid) = (Uid::from_raw(program.uid), Gid::from_raw(program.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(error)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(error)
}

/// Ignored signals and the signal mask outlive an exec; a program expects neither.
fn reset_signals() {
    for signal in 1..=SIGNALS {
        sys::reset_signal(signal);
    }
    let none = nix::sys::signal::SigSet::empty();
    none.thread_set_mask().expect("because the empty mask is valid");
}

fn execute(program: &Program) -> Failed {
    let strings =
        |list: &[Bytes]| -> Option<Vec<CString>> { list.iter().map(Bytes::to_c).collect() };
    let (Some(argv), Some(env)) = (strings(&program.argv), strings(&program.env)) else {
        return Failed::Setup(SetupError::new(Action::ReadMessage, Errno::INVAL));
    };
    let name = program.argv[0].as_slice();
    let path = match look_up(name, &program.env) {
        Ok(path) => path,
        Err(failed) => return failed.say(name),
    };
    let Err(errno) = nix::unistd::execve(&path, &argv, &env);
    let errno = Errno::from_raw_os_error(errno as i32);
    Unusable::Refused(errno).say(path.as_bytes())
}

/// Why a name leads to no program.
enum Unusable {
    /// No directory of `PATH` has it.
    NotInPath,
    /// The path given does not exist, or cannot be looked at.
    Stat(Errno),
    /// It exists and is not executable.
    Permission,
    /// The kernel refused to execute it.
    Refused(Errno),
}

/// The path to execute: the name itself if it has a slash, else the first executable of that name in
/// the directories of `PATH`. Relative directories there are not used.
fn look_up(name: &[u8], env: &[Bytes]) -> Result<CString, Unusable> {
    if name.contains(&b'/') {
        let path = CString::new(name).map_err(|_nul| Unusable::NotInPath)?;
        return check(&path).map(|()| path);
    }
    let path = env.iter().rev().find_map(|pair| pair.as_slice().strip_prefix(b"PATH="));
    let mut denied = false;
    for directory in path.unwrap_or_default().split(|byte| *byte == b':') {
        if !directory.starts_with(b"/") || name.is_empty() {
            continue;
        }
        let candidate = [directory, b"/", name].concat();
        let Ok(candidate) = CString::new(candidate) else { continue };
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Unusable::Permission) => denied = true,
            Err(_) => {}
        }
    }
    Err(if denied { Unusable::Permission } else { Unusable::NotInPath })
}

fn check(path: &CString) -> Result<(), Unusable> {
    let about = stat(path).map_err(Unusable::Stat)?;
    let directory = FileType::from_raw_mode(about.st_mode) == FileType::Directory;
    let allowed = accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS);
    // Filters of containers that are older than the call refuse it so; whether it may be executed is then
    // found out by doing it.
    if directory || allowed.is_err_and(|errno| errno != Errno::PERM) {
        return Err(Unusable::Permission);
    }
    Ok(())
}

impl Unusable {
    /// Writes one line to standard error, in the words that container runtimes use.
    fn say(&self, name: &[u8]) -> Failed {
        let name = OsStr::from_bytes(name).display();
        // As runtimes quote it.
        let quoted = format!("\"{name}\"");
        let (line, code) = match self {
            Self::NotInPath => {
                (format!("exec: {quoted}: executable file not found in $PATH"), NOT_FOUND)
            }
            Self::Stat(errno) => {
                let code = if *errno == Errno::ACCESS { NOT_EXECUTABLE } else { NOT_FOUND };
                (format!("exec: {quoted}: stat {name}: {}", words(*errno)), code)
            }
            Self::Permission => (format!("exec: {quoted}: permission denied"), NOT_EXECUTABLE),
            Self::Refused(errno) => {
                let code = if *errno == Errno::NOENT { NOT_FOUND } else { NOT_EXECUTABLE };
                (format!("exec {name}: {}", words(*errno)), code)
            }
        };
        let line = format!("{line}\n");
        // If nobody listens, the exit code still tells.
        let _written = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
        Failed::Exec(code)
    }
}

fn words(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
