//! Paths inside the new root: finding them without leaving it, and making what is missing to mount
//! on.
//!
//! The root's content is hostile: a link in it may point anywhere. Every lookup is an `openat2` that
//! takes the root for `/` and refuses the magic links of procfs; what is opened is a descriptor,
//! which later operations use instead of the path.
//!
//! A [`Stub`] is an empty file or directory that exists only to be mounted on. Its parent's mtime is
//! the moment when it was made, unless the program changes the directory later; taking the stub away
//! is no such change. That is the reference's rule (S-69), and it can be seen in an image only where
//! the program changed something below the parent: a directory's time alone is no change.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
    Uid, chownat, fstat, mkdirat, mknodat, openat2, readlinkat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::fchdir;

use crate::error::{Action, SetupError};
use crate::limits::{LOOKUP_ATTEMPTS_MAX, SYMLINKS_MAX, UNMOUNTS_MAX};

/// What a missing path becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// Something that was made.
#[derive(Debug)]
pub(super) struct Stub {
    parent: OwnedFd,
    name: CString,
    kind: Kind,
}

/// Opens an existing path inside the root.
pub(super) fn find(root: BorrowedFd<'_>, unsafe_path: &Path) -> Result<OwnedFd, Errno> {
    let inner = unsafe_path.strip_prefix("/").unwrap_or(unsafe_path);
    let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    for _ in 0..LOOKUP_ATTEMPTS_MAX {
        match openat2(root, inner, flags, Mode::empty(), how) {
            // Somebody on this machine renamed or mounted something while `..` was looked at, and
            // the kernel cannot be sure that the way stayed inside.
            Err(Errno::AGAIN) => rustix::thread::sched_yield(),
            outcome => return outcome,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a path inside the root and makes what is missing of it; links are followed, also ones that
/// lead nowhere yet. What was made is added to `stubs`, outermost first, also if a later part fails.
pub(super) fn find_or_make(
    root: BorrowedFd<'_>,
    unsafe_path: &Path,
    kind: Kind,
    stubs: &mut Vec<Stub>,
) -> Result<OwnedFd, SetupError> {
    let error = |action, errno| SetupError::at(action, unsafe_path.as_os_str().as_bytes(), errno);
    match find(root, unsafe_path) {
        Ok(found) => return Ok(found),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(error(Action::Resolve, errno)),
    }
    let made = Walk::new(root, unsafe_path).make(kind, stubs);
    let resolved = made.map_err(|errno| error(Action::MakeStub, errno))?;
    find(root, &resolved).map_err(|errno| error(Action::Resolve, errno))
}

/// A path being resolved one component after the other.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// What is resolved so far: absolute, free of links.
    done: PathBuf,
    rest: VecDeque<OsString>,
    links_left: usize,
}

impl<'a> Walk<'a> {
    fn new(root: BorrowedFd<'a>, path: &Path) -> Self {
        let mut walk = Self {
            root,
            done: PathBuf::from("/"),
            rest: VecDeque::new(),
            links_left: SYMLINKS_MAX,
        };
        walk.put_before(path);
        walk
    }

    /// Puts the components of a path in front of what is left.
    fn put_before(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.rest.push_front(name.to_owned()),
                Component::ParentDir => self.rest.push_front(OsString::from("..")),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn make(mut self, kind: Kind, stubs: &mut Vec<Stub>) -> Result<PathBuf, Errno> {
        while let Some(name) = self.rest.pop_front() {
            if name == ".." {
                self.done.pop();
                continue;
            }
            let parent = find(self.root, &self.done)?;
            let name = CString::new(name.into_vec()).map_err(|_nul| Errno::INVAL)?;
            match statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    self.follow(parent.as_fd(), &name)?;
                    continue;
                }
                Ok(_exists) => {}
                Err(Errno::NOENT) => {
                    let kind = if self.rest.is_empty() { kind } else { Kind::Directory };
                    stubs.push(make_stub(parent, name.clone(), kind)?);
                }
                Err(errno) => return Err(errno),
            }
            self.done.push(OsString::from_vec(name.into_bytes()));
        }
        Ok(self.done)
    }

    fn follow(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        self.links_left = self.links_left.checked_sub(1).ok_or(Errno::LOOP)?;
        let link = readlinkat(parent, name, Vec::new())?;
        let link = PathBuf::from(OsString::from_vec(link.into_bytes()));
        if link.is_absolute() {
            self.done = PathBuf::from("/");
        }
        self.put_before(&link);
        Ok(())
    }
}

fn make_stub(parent: OwnedFd, name: CString, kind: Kind) -> Result<Stub, Errno> {
    match kind {
        Kind::Directory => mkdirat(&parent, &name, Mode::from(0o755))?,
        Kind::File => mknodat(&parent, &name, FileType::RegularFile, Mode::from(0o644), 0)?,
    }
    Ok(Stub { parent, name, kind })
}

impl Stub {
    /// Gives it to an owner.
    pub(super) fn give_to(&self, uid: u32, gid: u32) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(&self.parent, &self.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Takes off what is mounted on it and removes it, if it is still what it was: empty.
    pub(super) fn remove(&self) -> Result<(), Errno> {
        // There is no unmount by descriptor; a name in the working directory comes closest.
        fchdir(&self.parent)?;
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        for _ in 0..UNMOUNTS_MAX {
            if unmount(&self.name, flags).is_err() {
                break;
            }
        }
        let before = fstat(&self.parent)?;
        match self.unlink() {
            Ok(()) => restore_mtime(self.parent.as_fd(), &before),
            // The program used it, moved it or removed it, or its directory.
            Err(Errno::NOTEMPTY | Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn unlink(&self) -> Result<(), Errno> {
        if self.kind == Kind::Directory {
            return unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR);
        }
        let stat = statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW)?;
        let file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if file && stat.st_size == 0 {
            return unlinkat(&self.parent, &self.name, AtFlags::empty());
        }
        Err(Errno::NOTEMPTY)
    }
}

fn restore_mtime(directory: BorrowedFd<'_>, before: &Stat) -> Result<(), Errno> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: before.st_mtime,
            tv_nsec: before.st_mtime_nsec.try_into().unwrap_or(0),
        },
    };
    utimensat(directory, c".", &times, AtFlags::empty())
}
