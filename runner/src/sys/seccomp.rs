//! Handing a filter to the kernel. (The crate `seccompiler` does so only together with
//! `no_new_privs`, which a build step must not have: `sudo` works in it.)

use rustix::io::Errno;

use super::result;

/// Installs a filter for this thread and everything it becomes. Needs CAP_SYS_ADMIN in the thread's
/// user namespace.
pub(crate) fn install(program: &[libc::sock_filter]) -> Result<(), Errno> {
    const SET_MODE_FILTER: libc::c_ulong = 1;
    const ALLOW_SPECULATION: libc::c_ulong = 1 << 2;
    let length = u16::try_from(program.len()).map_err(|_long| Errno::TOOBIG)?;
    let header = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let header: *const libc::sock_fprog = &raw const header;
    // SAFETY: `header` and the `length` instructions it points to live until the call returns; the
    // kernel copies and checks them, and does not write to them.
    result(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, ALLOW_SPECULATION, header) })
        .map(|_zero| ())
}
