//! Mount attributes: the one mount call that `rustix` lacks.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::result;

/// Nothing can be written through the mount.
pub(crate) const MOUNT_ATTR_RDONLY: u64 = 1;
/// Set-user-id bits have no effect.
pub(crate) const MOUNT_ATTR_NOSUID: u64 = 2;
/// Device nodes cannot be opened.
pub(crate) const MOUNT_ATTR_NODEV: u64 = 4;
/// Nothing can be executed.
pub(crate) const MOUNT_ATTR_NOEXEC: u64 = 8;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

impl MountAttr {
    /// Sets the attributes and leaves the others.
    pub(crate) fn setting(set: u64) -> Self {
        Self { set, ..Self::default() }
    }

    /// Clears the attributes and leaves the others.
    pub(crate) fn clearing(clear: u64) -> Self {
        Self { clear, ..Self::default() }
    }
}

/// How far a change of attributes reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The mount itself.
    Mount,
    /// The mount and everything mounted below it.
    Tree,
}

/// Changes the attributes of the mount that `fd` is the top of.
pub(crate) fn set_attr(fd: BorrowedFd<'_>, attr: &MountAttr, reach: Reach) -> Result<(), Errno> {
    const AT_RECURSIVE: libc::c_int = 0x8000;
    let flags = match reach {
        Reach::Mount => libc::AT_EMPTY_PATH,
        Reach::Tree => libc::AT_EMPTY_PATH | AT_RECURSIVE,
    };
    result(set_attr_raw(fd.as_raw_fd(), attr, flags)).map(|_zero| ())
}

/// The bare call, for the moment between clone and exec where nothing may be allocated.
pub(super) fn set_attr_raw(fd: libc::c_int, attr: &MountAttr, flags: libc::c_int) -> libc::c_long {
    let attr: *const MountAttr = attr;
    let size = size_of::<MountAttr>();
    // SAFETY: the path is a constant C string, `attr` points to `size` readable bytes in the
    // layout of the kernel's structure.
    unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, attr, size) }
}
