//! Opening what is to be mounted: host trees and merged layers, as mounts that are attached nowhere
//! yet.
//!
//! Layers are given to overlayfs by descriptor number, with `/proc/self/fd` as the working
//! directory: names of a few bytes need no escaping, fit the 256 bytes that fsconfig(2) takes, and
//! 500 of them fit the page of options that mount(2) takes on kernels before 6.5.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, open_tree,
    unmount,
};
use rustix::process::fchdir;

use crate::bytes::Bytes;
use crate::error::{Action, SetupError};
use crate::limits::LOWERS_MAX;
use crate::ops::{Overlay, Tree};

/// Opens a tree; the result can be attached once.
pub(super) fn open(tree: &Tree) -> Result<OwnedFd, SetupError> {
    match tree {
        Tree::Bind(source) => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            open_tree(CWD, source.as_path(), flags)
                .map_err(|errno| SetupError::at(Action::OpenSource, source.as_slice(), errno))
        }
        Tree::Overlay(overlay) => merge(overlay),
        Tree::Empty => {
            let error = |errno| SetupError::new(Action::OpenSource, errno);
            let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(error)?;
            fsconfig_set_string(&context, "mode", "0755").map_err(error)?;
            fsconfig_create(&context).map_err(error)?;
            let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
            fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(error)
        }
    }
}

/// The layers of an overlay, opened; the descriptors must live until the mount is made.
struct Layers {
    lowers: Vec<OwnedFd>,
    writes: Option<(OwnedFd, OwnedFd)>,
}

fn merge(overlay: &Overlay) -> Result<OwnedFd, SetupError> {
    if overlay.lowers.len() > LOWERS_MAX {
        return Err(SetupError::new(Action::Overlay, Errno::TOOBIG));
    }
    let open = |path: &Bytes| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path.as_path(), flags, Mode::empty())
            .map_err(|errno| SetupError::at(Action::OpenSource, path.as_slice(), errno))
    };
    let lowers = overlay.lowers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let writes = match &overlay.writes {
        Some((upper, work)) => Some((open(upper)?, open(work)?)),
        None => None,
    };
    let layers = Layers { lowers, writes };
    let before = open(&Bytes::from("."))?;
    let numbers = Bytes::from("/proc/self/fd");
    let by_number = open(&numbers)?;
    let error = |errno| SetupError::at(Action::Overlay, b"/", errno);
    fchdir(&by_number).map_err(error)?;
    let merged = if overlay.append {
        merge_one_by_one(&layers, overlay.user_xattrs)
    } else {
        merge_in_one_string(&layers, overlay)
    };
    fchdir(&before).map_err(error)?;
    merged.map_err(error)
}

/// Options for every overlay: nothing that a later mount of the same directories would have to
/// understand is written into them, and nothing of that kind in them is believed.
const OPTIONS: [(&str, &str); 3] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off")];

fn merge_one_by_one(layers: &Layers, user_xattrs: bool) -> Result<OwnedFd, Errno> {
    let name = |fd: &OwnedFd| fd.as_raw_fd().to_string();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for lower in &layers.lowers {
        fsconfig_set_string(&context, "lowerdir+", name(lower))?;
    }
    if let Some((upper, work)) = &layers.writes {
        fsconfig_set_string(&context, "upperdir", name(upper))?;
        fsconfig_set_string(&context, "workdir", name(work))?;
        // Without it the end of the mount would sync the whole host file system.
        fsconfig_set_flag(&context, "volatile")?;
    }
    for (key, value) in OPTIONS {
        fsconfig_set_string(&context, key, value)?;
    }
    if user_xattrs {
        fsconfig_set_flag(&context, "userxattr")?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// The way of kernels before 6.5: mount(2) wants a place, so the top layer's directory serves until
/// the mount has been taken off it again.
fn merge_in_one_string(layers: &Layers, overlay: &Overlay) -> Result<OwnedFd, Errno> {
    let name = |fd: &OwnedFd| fd.as_raw_fd().to_string();
    let lowers: Vec<String> = layers.lowers.iter().map(name).collect();
    let mut options = vec![format!("lowerdir={}", lowers.join(":"))];
    if let Some((upper, work)) = &layers.writes {
        options.push(format!("upperdir={},workdir={},volatile", name(upper), name(work)));
    }
    options.extend(OPTIONS.map(|(key, value)| format!("{key}={value}")));
    if overlay.user_xattrs {
        options.push("userxattr".to_owned());
    }
    let place = overlay.lowers.first().ok_or(Errno::INVAL)?.as_path();
    let options = CString::new(options.join(",")).map_err(|_nul| Errno::INVAL)?;
    mount("overlay", place, "overlay", MountFlags::empty(), options.as_c_str())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let merged = open_tree(CWD, place, flags);
    unmount(place, UnmountFlags::DETACH)?;
    merged
}
