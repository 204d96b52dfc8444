//! The kernel calls that `rustix` and `nix` do not wrap safely. The only unsafe code of the project:
//! each block is one call, under a comment that says why it is sound.
#![allow(unsafe_code, reason = "this module exists to hold it; see its doc")]

pub(crate) mod clone;
pub(crate) mod mount;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Splits the process; `None` is the child. Callers are single-threaded, so that the child may do
/// everything, not only what is safe after a fork of many threads.
pub(crate) fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: both callers (`enter`, checked by its thread count, and the sandbox child, which never
    // starts a thread) are single-threaded, so no lock can be held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() } {
        Ok(nix::unistd::ForkResult::Parent { child }) => Ok(Pid::from_raw(child.as_raw())),
        Ok(nix::unistd::ForkResult::Child) => Ok(None),
        Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
    }
}

/// Ends the process at once, without running what was registered for a normal exit: a forked child
/// must not flush or remove what belongs to its parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Moves the process into a new user namespace and a new mount namespace.
pub(crate) fn unshare_user_and_mounts() -> Result<(), Errno> {
    // SAFETY: the flags do not include FILES, the one that could surprise other threads.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }
}

/// Makes an empty anonymous keyring the session keyring, so that keys of the caller's session are
/// out of reach. Kernels without keyrings have nothing to hide.
pub(crate) fn join_new_session_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let no_name: libc::c_long = 0;
    // SAFETY: this operation takes a name or null and touches no memory of ours.
    let _serial = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) };
}

/// Sets one signal's disposition to the default; signals that cannot be caught are left alone.
pub(crate) fn reset_signal(signal: i32) {
    // SAFETY: SIG_DFL is not a function of ours, so no handler can run in a bad state.
    let _previous = unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Marks every descriptor from `first` on as closed at the next exec.
pub(crate) fn close_from_at_exec(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 1 << 2;
    let (first, last, flags) =
        (libc::c_long::from(first), libc::c_long::from(u32::MAX), CLOSE_RANGE_CLOEXEC);
    // SAFETY: with this flag nothing is closed now, so no owned descriptor becomes invalid before
    // the process image is replaced.
    result(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(|_zero| ())
}

/// Turns the return value of a raw system call into a result.
fn result(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned >= 0 {
        return Ok(returned);
    }
    let errno = std::io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EINVAL)))
}
