//! The kernel calls that `rustix` and `nix` do not wrap safely. The only unsafe code of the project:
//! each block is one call, under a comment that says why it is sound.
#![allow(unsafe_code, reason = "this module exists to hold it; see its doc")]

pub(crate) mod clone;
pub(crate) mod extents;
pub(crate) mod mount;
pub(crate) mod seccomp;

use std::os::fd::{FromRawFd, OwnedFd};

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

/// Sets one signal's disposition to the default. The C library's call leaves out two signals that it
/// uses itself and that a caller may have left ignored, so this asks the kernel.
pub(crate) fn reset_signal(signal: i32) {
    /// Handler, flags, restorer and mask: all zero is the default action.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    let (action, no_old) = (DEFAULT.as_ptr(), std::ptr::null_mut::<u64>());
    // SAFETY: the kernel reads its `struct sigaction`, at most 32 bytes here; the default action is
    // no function of ours. The signals that cannot be changed give an error that changes nothing.
    let _unchanged =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action, no_old, MASK_BYTES) };
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

/// Takes ownership of a descriptor that this process inherited under a known number.
pub(crate) fn take_descriptor(number: u32) -> Result<OwnedFd, Errno> {
    let number = i32::try_from(number).map_err(|_large| Errno::BADF)?;
    // SAFETY: only asks whether the number is open.
    result(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, and `init` calls this once per number, first thing in `main`, when
    // nothing else in the process can own it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Kills every process in the pid namespace except the calling one, which is its pid 1.
pub(crate) fn kill_everyone_else() {
    const EVERYONE: libc::pid_t = -1;
    // SAFETY: takes numbers, touches no memory. That there was nobody to kill is no error.
    let _nobody = unsafe { libc::kill(EVERYONE, libc::SIGKILL) };
}

/// Sets the interface's flags word to up; see `net`.
pub(crate) fn interface_up(
    socket: std::os::fd::BorrowedFd<'_>,
    name: &std::ffi::CStr,
) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: libc::IFF_UP as libc::c_short },
    };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.to_bytes()).take(libc::IFNAMSIZ - 1) {
        *slot = byte.cast_signed();
    }
    let request: *const libc::ifreq = &raw const request;
    // SAFETY: this request reads one `ifreq`, which `request` points to.
    result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, request) }.into())
        .map(|_zero| ())
}

/// Calls `act` with SIGTTOU blocked in this thread: taking a terminal from the background raises it.
pub(crate) fn with_terminal_stops_blocked(act: impl FnOnce()) {
    use nix::sys::signal::{SigSet, Signal};
    let stops = SigSet::from_iter([Signal::SIGTTOU]);
    let before = SigSet::thread_get_mask();
    let _blocked = stops.thread_block();
    act();
    if let Ok(before) = before {
        let _restored = before.thread_set_mask();
    }
}

/// Turns the return value of a raw system call into a result.
fn result(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned >= 0 {
        return Ok(returned);
    }
    let errno = std::io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(errno.unwrap_or(libc::EINVAL)))
}
