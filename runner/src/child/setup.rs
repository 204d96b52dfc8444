//! Interprets the plan, one operation after the other.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    CWD, FileType, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, makedev, mkdirat, mknodat,
    openat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, mount_move, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::target::{Kind, Stub, find, find_or_make};
use super::tree;
use crate::bytes::Bytes;
use crate::error::{Action, SetupError};
use crate::net;
use crate::ops::{Filesystem, SetupOp, SmallFile, Tree};
use crate::sys::mount::{
    MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MountAttr, Reach,
    set_attr,
};

/// What has been set up so far.
#[derive(Debug, Default)]
pub(super) struct Setup {
    root: Option<OwnedFd>,
    stage: Option<OwnedFd>,
    /// Sources by number; a number is taken when it is attached.
    sources: Vec<Option<OwnedFd>>,
    stubs: Vec<Stub>,
    staged: u32,
    root_is_read_only: bool,
}

impl Setup {
    /// Does what the plan says; stops at the first operation that fails.
    pub(super) fn interpret(&mut self, ops: &[SetupOp]) -> Result<(), SetupError> {
        ops.iter().try_for_each(|op| self.apply(op))
    }

    /// Removes what was made only to mount on, innermost first. Everything is tried; the first
    /// error is returned.
    pub(super) fn clean_up(&mut self) -> Result<(), SetupError> {
        if self.root_is_read_only
            && !self.stubs.is_empty()
            && let Some(root) = &self.root
        {
            let writable = MountAttr::clearing(MOUNT_ATTR_RDONLY);
            set_attr(root.as_fd(), &writable, Reach::Mount)
                .map_err(|errno| SetupError::new(Action::Cleanup, errno))?;
        }
        let mut first = Ok(());
        for stub in self.stubs.drain(..).rev() {
            let removed = stub.remove().map_err(|errno| SetupError::new(Action::Cleanup, errno));
            first = first.and(removed);
        }
        first
    }

    fn apply(&mut self, op: &SetupOp) -> Result<(), SetupError> {
        match op {
            SetupOp::PrivateMounts => {
                let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
                mount_change("/", private).map_err(plain(Action::PrivateMounts))
            }
            SetupOp::Hostname(name) => {
                rustix::system::sethostname(name.as_slice()).map_err(at(Action::Hostname, name))
            }
            SetupOp::Loopback => net::loopback_up().map_err(plain(Action::Loopback)),
            SetupOp::OpenRoot { tree, read_only_below, devices } => {
                self.open_root(tree, *read_only_below, *devices)
            }
            SetupOp::OpenSource(tree) => {
                self.sources.push(Some(tree::open(tree)?));
                Ok(())
            }
            SetupOp::Stage { over } => self.make_stage(over),
            SetupOp::Attach { source, subpath, target, read_only, devices } => {
                let mut attributes = if *devices { 0 } else { MOUNT_ATTR_NODEV };
                attributes |= if *read_only { MOUNT_ATTR_RDONLY } else { 0 };
                self.attach(*source, subpath.as_ref(), target, attributes)
            }
            SetupOp::File(file) => self.small_file(file),
            SetupOp::Filesystem(filesystem) => self.filesystem(filesystem),
            SetupOp::DeviceNode { .. }
            | SetupOp::DeviceBind { .. }
            | SetupOp::DeviceLink { .. }
            | SetupOp::DeviceDirectory { .. } => self.device(op),
            SetupOp::ProcessLimit(most) => self.limit_processes(*most),
            SetupOp::Mask(path) => self.mask(path),
            SetupOp::ReadOnly(path) => self.read_only(path),
            SetupOp::WorkingDirectory { path, uid, gid } => {
                self.working_directory(path, *uid, *gid)
            }
            SetupOp::ReadOnlyRoot => {
                self.root_is_read_only = true;
                let attr = MountAttr::setting(MOUNT_ATTR_RDONLY);
                set_attr(self.root()?, &attr, Reach::Mount).map_err(plain(Action::ReadOnly))
            }
            SetupOp::ChangeRoot => self.change_root(),
        }
    }

    fn open_root(
        &mut self,
        tree: &Tree,
        read_only_below: bool,
        devices: bool,
    ) -> Result<(), SetupError> {
        let root = tree::open(tree)?;
        if !devices {
            let attr = MountAttr::setting(MOUNT_ATTR_NODEV);
            set_attr(root.as_fd(), &attr, Reach::Tree).map_err(plain(Action::ReadOnly))?;
        }
        if read_only_below {
            let error = plain(Action::ReadOnly);
            let set = MountAttr::setting(MOUNT_ATTR_RDONLY);
            set_attr(root.as_fd(), &set, Reach::Tree).map_err(error)?;
            // The top stays writable until stubs are made. Where the host's mount is read-only
            // itself this is refused, and stubs will be, too, if there must be any.
            let clear = MountAttr::clearing(MOUNT_ATTR_RDONLY);
            let _writable = set_attr(root.as_fd(), &clear, Reach::Mount);
        }
        self.root = Some(root);
        Ok(())
    }

    /// Mounts the stage over a host directory, and the root on the stage.
    fn make_stage(&mut self, over: &Bytes) -> Result<(), SetupError> {
        let error = |errno| SetupError::at(Action::Mount, over.as_slice(), errno);
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(error)?;
        fsconfig_set_string(&context, "mode", "0700").map_err(error)?;
        fsconfig_create(&context).map_err(error)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
        let stage = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(error)?;
        let from_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&stage, c"", CWD, over.as_path(), from_fd).map_err(error)?;
        for name in [c"root", c"empty"] {
            mkdirat(&stage, name, Mode::from(0o755)).map_err(error)?;
        }
        move_mount(self.root()?, c"", &stage, c"root", from_fd)
            .map_err(|errno| SetupError::at(Action::Mount, b"/", errno))?;
        self.stage = Some(stage);
        Ok(())
    }

    fn root(&self) -> Result<BorrowedFd<'_>, SetupError> {
        self.root.as_ref().map(AsFd::as_fd).ok_or(out_of_order())
    }

    fn stage(&self) -> Result<BorrowedFd<'_>, SetupError> {
        self.stage.as_ref().map(AsFd::as_fd).ok_or(out_of_order())
    }

    fn take_source(&mut self, number: usize) -> Result<OwnedFd, SetupError> {
        self.sources.get_mut(number).and_then(Option::take).ok_or(out_of_order())
    }

    fn attach(
        &mut self,
        source: usize,
        subpath: Option<&Bytes>,
        target: &Bytes,
        attributes: u64,
    ) -> Result<(), SetupError> {
        let mut tree = self.take_source(source)?;
        if let Some(subpath) = subpath.filter(|path| !is_top(path)) {
            tree = self.part_of(&tree, subpath)?;
        }
        if attributes != 0 {
            let attr = MountAttr::setting(attributes);
            set_attr(tree.as_fd(), &attr, Reach::Tree).map_err(at(Action::ReadOnly, target))?;
        }
        self.mount_at(tree.as_fd(), target)
    }

    /// A part of a tree as a tree of its own. The whole has to be mounted somewhere for that; it
    /// stays on the stage, which goes away with the old root.
    fn part_of(&mut self, whole: &OwnedFd, subpath: &Bytes) -> Result<OwnedFd, SetupError> {
        let error = at(Action::OpenSource, subpath);
        let place = self.next_staged("view");
        let stage = self.stage()?;
        mkdirat(stage, &place, Mode::from(0o700)).map_err(&error)?;
        let from_fd = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(whole, c"", stage, &place, from_fd).map_err(&error)?;
        let part = find(whole.as_fd(), subpath.as_path()).map_err(&error)?;
        clone_mount(part.as_fd()).map_err(&error)
    }

    fn next_staged(&mut self, what: &str) -> String {
        self.staged += 1;
        format!("{what}{}", self.staged)
    }

    fn small_file(&mut self, file: &SmallFile) -> Result<(), SetupError> {
        let error = at(Action::WriteFile, &file.target);
        let name = self.next_staged("file");
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let staged = openat(self.stage()?, &name, flags, Mode::from(0o600)).map_err(&error)?;
        let mut staged = File::from(staged);
        staged
            .write_all(file.content.as_slice())
            .map_err(|source| error(Errno::from_io_error(&source).unwrap_or(Errno::IO)))?;
        if file.uid != 0 || file.gid != 0 {
            let (uid, gid) = (Uid::from_raw(file.uid), Gid::from_raw(file.gid));
            fchown(&staged, Some(uid), Some(gid)).map_err(&error)?;
        }
        fchmod(&staged, Mode::from(file.mode)).map_err(&error)?;
        drop(staged);
        let path = openat(self.stage()?, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(&error)?;
        let tree = clone_mount(path.as_fd()).map_err(&error)?;
        let mut attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        if file.mode & 0o111 == 0 {
            attributes |= MOUNT_ATTR_NOEXEC;
        }
        if file.read_only {
            attributes |= MOUNT_ATTR_RDONLY;
        }
        set_attr(tree.as_fd(), &MountAttr::setting(attributes), Reach::Mount).map_err(&error)?;
        self.mount_at(tree.as_fd(), &file.target)
    }

    fn filesystem(&mut self, filesystem: &Filesystem) -> Result<(), SetupError> {
        let made = make_filesystem(filesystem).map_err(at(Action::Mount, &filesystem.target));
        match made {
            Ok(tree) => self.mount_at(tree.as_fd(), &filesystem.target),
            Err(_refused) if filesystem.optional => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Attaches a mount to a path inside the root, which is made if it is missing.
    fn mount_at(&mut self, tree: BorrowedFd<'_>, target: &Bytes) -> Result<(), SetupError> {
        let root = self.root.as_ref().ok_or(out_of_order())?;
        let stat = fstat(tree).map_err(at(Action::Mount, target))?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let kind = if directory { Kind::Directory } else { Kind::File };
        let place = find_or_make(root.as_fd(), target.as_path(), kind, &mut self.stubs)?;
        attach_to(tree, place.as_fd()).map_err(at(Action::Mount, target))
    }

    fn device(&mut self, op: &SetupOp) -> Result<(), SetupError> {
        let dev = find(self.root()?, "/dev".as_ref()).map_err(plain(Action::Device))?;
        match op {
            SetupOp::DeviceNode { name, major, minor } => {
                let node = self.device_node(*major, *minor).map_err(at(Action::Device, name))?;
                mount_device(dev.as_fd(), node.as_fd(), name)
            }
            SetupOp::DeviceBind { name, source } => {
                let node = self.take_source(*source)?;
                mount_device(dev.as_fd(), node.as_fd(), name)
            }
            SetupOp::DeviceLink { name, to } => {
                symlinkat(to.as_path(), &dev, name.as_path()).map_err(at(Action::Device, name))
            }
            SetupOp::DeviceDirectory { name } => {
                mkdirat(&dev, name.as_path(), Mode::from(0o755)).map_err(at(Action::Device, name))
            }
            _ => Err(out_of_order()),
        }
    }

    /// A node on the stage, as a mount of its own in which it can be opened.
    fn device_node(&mut self, major: u32, minor: u32) -> Result<OwnedFd, Errno> {
        let name = self.next_staged("node");
        let stage = self.stage.as_ref().ok_or(Errno::PROTO)?;
        let (kind, mode) = (FileType::CharacterDevice, Mode::from(0o666));
        mknodat(stage, &name, kind, mode, makedev(major, minor))?;
        let node = openat(stage, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let tree = clone_mount(node.as_fd())?;
        set_attr(tree.as_fd(), &MountAttr::clearing(MOUNT_ATTR_NODEV), Reach::Mount)?;
        Ok(tree)
    }

    /// The `/proc` that was just mounted is that of the step's own pid namespace.
    fn limit_processes(&self, most: u32) -> Result<(), SetupError> {
        let Some(kernel) = self.find_existing(&Bytes::from("/proc/sys/kernel"))? else {
            return Ok(());
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        if let Ok(file) = openat(&kernel, c"pid_max", flags, Mode::empty()) {
            // A machine that refuses has its own limits.
            let _refused = File::from(file).write_all(most.to_string().as_bytes());
        }
        Ok(())
    }

    fn mask(&mut self, path: &Bytes) -> Result<(), SetupError> {
        let error = at(Action::Mount, path);
        let Some(place) = self.find_existing(path)? else { return Ok(()) };
        let stat = fstat(&place).map_err(&error)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let cover = if directory {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            openat(self.stage()?, c"empty", flags, Mode::empty())
        } else {
            find(self.root()?, "/dev/null".as_ref())
        };
        let tree = clone_mount(cover.map_err(&error)?.as_fd()).map_err(&error)?;
        if directory {
            let attr = MountAttr::setting(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC);
            set_attr(tree.as_fd(), &attr, Reach::Mount).map_err(&error)?;
        }
        attach_to(tree.as_fd(), place.as_fd()).map_err(&error)
    }

    fn read_only(&mut self, path: &Bytes) -> Result<(), SetupError> {
        let error = at(Action::ReadOnly, path);
        let Some(place) = self.find_existing(path)? else { return Ok(()) };
        let tree = clone_mount(place.as_fd()).map_err(&error)?;
        let attr = MountAttr::setting(MOUNT_ATTR_RDONLY);
        set_attr(tree.as_fd(), &attr, Reach::Tree).map_err(&error)?;
        attach_to(tree.as_fd(), place.as_fd()).map_err(&error)
    }

    fn find_existing(&self, path: &Bytes) -> Result<Option<OwnedFd>, SetupError> {
        match find(self.root()?, path.as_path()) {
            Ok(place) => Ok(Some(place)),
            // A path behind something that we may not look through shows nothing either.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
            Err(errno) => Err(SetupError::at(Action::Resolve, path.as_slice(), errno)),
        }
    }

    fn working_directory(&mut self, path: &Bytes, uid: u32, gid: u32) -> Result<(), SetupError> {
        let error = at(Action::WorkingDirectory, path);
        let mut made = Vec::new();
        let found = find_or_make(self.root()?, path.as_path(), Kind::Directory, &mut made);
        // What is made here stays: it is the program's, not a mount's.
        for directory in made {
            directory.give_to(uid, gid).map_err(&error)?;
        }
        let stat = fstat(&found?).map_err(&error)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(error(Errno::NOTDIR));
        }
        Ok(())
    }

    fn change_root(&mut self) -> Result<(), SetupError> {
        let error = plain(Action::ChangeRoot);
        fchdir(self.root()?).map_err(&error)?;
        match pivot_root(c".", c".") {
            // The old root is now stacked on the new one, where `.` finds it.
            Ok(()) => unmount(c".", UnmountFlags::DETACH).map_err(&error)?,
            // An initial ramdisk cannot be pivoted away; the new root covers it instead.
            Err(Errno::INVAL) => {
                mount_move(c".", c"/").map_err(&error)?;
                chroot(c".").map_err(&error)?;
            }
            Err(errno) => return Err(error(errno)),
        }
        // The stage is gone with the old root; its files live on where they are mounted.
        self.stage = None;
        chdir(c"/").map_err(&error)
    }
}

fn mount_device(dev: BorrowedFd<'_>, node: BorrowedFd<'_>, name: &Bytes) -> Result<(), SetupError> {
    let error = at(Action::Device, name);
    let (kind, mode) = (FileType::RegularFile, Mode::from(0o644));
    mknodat(dev, name.as_path(), kind, mode, 0).map_err(&error)?;
    let place = find(dev, name.as_path()).map_err(&error)?;
    attach_to(node, place.as_fd()).map_err(&error)
}

fn make_filesystem(filesystem: &Filesystem) -> Result<OwnedFd, Errno> {
    let context = fsopen(filesystem.kind.as_path(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in &filesystem.options {
        fsconfig_set_string(&context, key.as_path(), value.as_path())?;
    }
    fsconfig_create(&context)?;
    let mut attributes = MountAttrFlags::empty();
    for (unset, attribute) in [
        (filesystem.devices, MountAttrFlags::MOUNT_ATTR_NODEV),
        (filesystem.executable, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (filesystem.set_ids, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (!filesystem.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
    ] {
        attributes.set(attribute, !unset);
    }
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A new mount of what a descriptor is open on, with what is mounted below.
fn clone_mount(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(fd, c"", flags)
}

fn attach_to(tree: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", place, c"", flags)
}

fn is_top(path: &Bytes) -> bool {
    matches!(path.as_slice(), b"" | b"/" | b"." | b"./")
}

fn plain(action: Action) -> impl Fn(Errno) -> SetupError {
    move |errno| SetupError::new(action, errno)
}

fn at(action: Action, path: &Bytes) -> impl Fn(Errno) -> SetupError {
    let path = path.clone();
    move |errno| SetupError::at(action, path.as_slice(), errno)
}

/// The plan uses something before it is made: the parent is not the program we are.
fn out_of_order() -> SetupError {
    SetupError::new(Action::ReadMessage, Errno::PROTO)
}
