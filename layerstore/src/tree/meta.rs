//! Metadata of files in trees, set in the one right order.

use std::{io, os::fd::AsFd};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod,
        fchown, fsetxattr, futimens, utimensat,
    },
    io::Errno,
};

use crate::{
    toc::{Entry, Kind},
    upper::Owners,
};

/// Where overlayfs looks for its marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverlayXattr {
    /// `trusted.overlay.*`: mounts made with CAP_SYS_ADMIN in the first user namespace.
    Trusted,
    /// `user.overlay.*`: mounts made with `userxattr` in a user namespace.
    User,
}

/// Is this extended attribute overlayfs's own, which no layer may carry in or out?
pub(crate) fn is_overlay_name(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Sets what `entry` says on an open file or directory.
pub(crate) fn apply_fd(file: &impl AsFd, entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    forgive_owner(fchown(file, Some(uid), Some(gid)), entry)?;
    forgive(fchmod(file, Mode::from_raw_mode(entry.mode)))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| !is_overlay_name(name)) {
        forgive(fsetxattr(file, name.as_slice(), value, XattrFlags::empty()))?;
    }
    futimens(file, &times(entry))?;
    Ok(())
}

/// Sets what `entry` says on a name that cannot be opened: a link, device or pipe.
pub(crate) fn apply_link(directory: &impl AsFd, name: &[u8], entry: &Entry) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let owned = chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
    forgive_owner(owned, entry)?;
    if entry.kind != Kind::Symlink {
        // The name is one that was just made in a directory of ours: it is no link.
        let mode = Mode::from_raw_mode(entry.mode);
        forgive(rustix::fs::chmodat(directory, name, mode, AtFlags::empty()))?;
    }
    utimensat(directory, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Sets only the time that `entry` says.
pub(crate) fn set_mtime(directory: &impl AsFd, name: &[u8], entry: &Entry) -> io::Result<()> {
    Ok(utimensat(directory, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Marks a directory as hiding what is below it.
pub(super) fn set_opaque(directory: &impl AsFd, overlay: OverlayXattr) -> io::Result<()> {
    let name = match overlay {
        OverlayXattr::Trusted => "trusted.overlay.opaque",
        OverlayXattr::User => "user.overlay.opaque",
    };
    Ok(fsetxattr(directory, name, b"y", XattrFlags::empty())?)
}

fn times(entry: &Entry) -> Timestamps {
    let modified = Timespec { tv_sec: entry.mtime, tv_nsec: i64::from(entry.mtime_nanos) };
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: modified,
    }
}

/// Ids that do not exist in this user namespace are left: the TOC has the truth, and `upper` knows of it.
/// Root that may not give files away although all ids exist (no CAP_CHOWN) would make trees that lie; who
/// is not root and has not entered a namespace has trees for themselves.
fn forgive_owner(result: rustix::io::Result<()>, entry: &Entry) -> io::Result<()> {
    let lies = result == Err(Errno::PERM)
        && rustix::process::geteuid().is_root()
        && Owners::are_here(entry.uid, entry.gid);
    if lies {
        return Err(io::Error::other(
            "this process may not give files to their owners, which takes root's rights or a user \
             namespace: `lap doctor` says what RUN needs",
        ));
    }
    forgive(result)
}

/// What this process may not do (other owners, kinds of attributes) is left: the TOC has the truth.
fn forgive(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Err(Errno::PERM | Errno::INVAL | Errno::NOTSUP) => Ok(()),
        other => Ok(other?),
    }
}
