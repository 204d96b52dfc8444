//! Starting the sandbox child: this program again, in new namespaces.
//!
//! A `fork` of a large program with many threads copies page tables for milliseconds; here the child
//! borrows the caller's memory (`CLONE_VM`) while the calling thread is suspended (`CLONE_VFORK`),
//! does five system calls on data made beforehand, and execs. It runs on a stack of its own, with
//! every signal blocked, allocates nothing and takes no lock.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use rustix::io::Errno;
use rustix::process::Pid;

use super::mount::{MOUNT_ATTR_RDONLY, MountAttr};
use super::result;

/// The namespaces a child gets, as flags of clone(2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Namespaces(c_int);

impl Namespaces {
    /// Everything a step gets except a network.
    pub(crate) const STEP: Self = Self(
        libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP,
    );

    /// The same and a network namespace, too.
    pub(crate) fn and_network(self) -> Self {
        Self(self.0 | libc::CLONE_NEWNET)
    }

    /// Those the caller is in.
    pub(crate) const SAME: Self = Self(0);
}

/// A child that has been started. Its pid stays its own until it is waited for.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its pid as this process sees it.
    pub(crate) pid: Pid,
    /// Becomes readable when it ends.
    pub(crate) pidfd: OwnedFd,
}

/// What the child needs between clone and exec; all of it lives in the suspended caller.
struct Launch {
    program: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    keep: *const c_int,
    keep_count: usize,
    errno: c_int,
}

/// Stack of the child between clone and exec; a few frames of system call wrappers fit in a page.
const STACK_BYTES: usize = 64 << 10;

/// Executes `program` (an `O_PATH` descriptor) with `arguments` and an empty environment in new
/// namespaces. The descriptors in `keep` stay open in it, under their numbers; others stay open
/// only if they are not marked close-on-exec. The child dies with the calling thread.
pub(crate) fn spawn(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    keep: &[BorrowedFd<'_>],
    namespaces: Namespaces,
) -> Result<Spawned, Errno> {
    let mut pointers: Vec<*const c_char> = arguments.iter().map(|text| text.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment: [*const c_char; 1] = [std::ptr::null()];
    let keep: Vec<c_int> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    let mut launch = Launch {
        program: program.as_raw_fd(),
        arguments: pointers.as_ptr(),
        environment: environment.as_ptr(),
        keep: keep.as_ptr(),
        keep_count: keep.len(),
        errno: 0,
    };
    let before = block_signals()?;
    let spawned = clone_child(&mut launch, namespaces);
    let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    restored.expect("because a mask that the kernel gave out is valid");
    let spawned = spawned?;
    if launch.errno != 0 {
        // It ended without exec; what is left of it is collected here.
        let _ended =
            rustix::process::waitpid(Some(spawned.pid), rustix::process::WaitOptions::empty());
        return Err(Errno::from_raw_os_error(launch.errno));
    }
    Ok(spawned)
}

fn block_signals() -> Result<SigSet, Errno> {
    let mut before = SigSet::empty();
    let all = SigSet::all();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&all), Some(&mut before))
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    Ok(before)
}

fn clone_child(launch: &mut Launch, namespaces: Namespaces) -> Result<Spawned, Errno> {
    let flags =
        libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | namespaces.0;
    let mut stack = vec![0_u8; STACK_BYTES];
    let top: *mut c_void = stack.as_mut_ptr_range().end.cast();
    let argument: *mut c_void = std::ptr::from_mut(launch).cast();
    let mut pidfd: c_int = -1;
    let pidfd_slot: *mut c_int = &raw mut pidfd;
    // SAFETY: the calling thread sleeps until the child has exec'd or ended, so `stack`, `launch` and
    // `pidfd_slot` outlive its use of them; `child` meets what running in borrowed memory demands
    // (see the module's doc); the stack grows down from `top`, which `clone` aligns.
    let pid = unsafe { libc::clone(child, top, flags, argument, pidfd_slot) };
    let pid = result(pid.into())?;
    let pid = Pid::from_raw(pid as i32).expect("because clone returned the parent's side, a pid");
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Spawned { pid, pidfd })
}

/// The child's life before exec. Returns, which ends it, only if exec fails.
extern "C" fn child(argument: *mut c_void) -> c_int {
    let launch: *mut Launch = argument.cast();
    // SAFETY: `clone_child` passed a valid pointer, and its thread does not touch it meanwhile.
    let launch = unsafe { &mut *launch };
    die_with_parent();
    // SAFETY: pointer and length are those of a vector in the suspended caller.
    let keep = unsafe { std::slice::from_raw_parts(launch.keep, launch.keep_count) };
    for fd in keep {
        keep_open(*fd);
    }
    if let Some(copy) = read_only_copy(launch.program) {
        execute(copy, launch);
    }
    // Kernels and policies that do not let us make the copy run the program as it is.
    execute(launch.program, launch);
    launch.errno = last_errno();
    127
}

fn die_with_parent() {
    let signal = libc::SIGKILL as libc::c_ulong;
    // SAFETY: takes a number, touches no memory.
    let _always_zero = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

fn keep_open(fd: c_int) {
    // SAFETY: changes a flag in the child's own copy of the descriptor table.
    let _zero = unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
}

/// A private mount of the program's file through which nobody can write it: a program running as
/// root finds it as `/proc/PID/exe` and would otherwise be able to change the host's file.
fn read_only_copy(program: c_int) -> Option<c_int> {
    const EMPTY: &CStr = c"";
    const OPEN_TREE_CLONE: c_int = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a constant C string; the result is a new descriptor or an error.
    let copy = unsafe { libc::syscall(libc::SYS_open_tree, program, EMPTY.as_ptr(), flags) };
    let copy = c_int::try_from(copy).ok().filter(|copy| *copy >= 0)?;
    let attr = MountAttr::setting(MOUNT_ATTR_RDONLY);
    (super::mount::set_attr_raw(copy, &attr, libc::AT_EMPTY_PATH) == 0).then_some(copy)
}

fn execute(program: c_int, launch: &Launch) {
    const EMPTY: &CStr = c"";
    let (arguments, environment) = (launch.arguments, launch.environment);
    // SAFETY: both arrays end with null and hold C strings of the suspended caller.
    let _only_errors = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            EMPTY.as_ptr(),
            arguments,
            environment,
            libc::AT_EMPTY_PATH,
        )
    };
}

fn last_errno() -> c_int {
    // SAFETY: always points to the calling thread's errno, here the suspended caller's.
    let errno = unsafe { *libc::__errno_location() };
    if errno == 0 { libc::EIO } else { errno }
}
