//! Moving the current process into a user namespace in which it is root.
//!
//! ```text
//! this process                        helper (a fork, stays outside)
//!   fork ────────────────────────────▶ waits
//!   unshare(NEWUSER, NEWNS)
//!   "go" ────────────────────────────▶ newuidmap PID …, newgidmap PID … side by side
//!   waits ◀──────────────────────────── exit code
//!   without maps: writes the single-id map itself
//!   becomes uid 0, gid 0
//! ```
//!
//! The process keeps its pid. The helper has to stay outside since only there `newuidmap` has the
//! privileges its set-user-id bit gives.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, getegid, geteuid, getpid, waitpid};
use rustix::thread::{CapabilitySet, Gid, Uid, capabilities};

use crate::error::EnterError;
use crate::idmap::{IdMap, IdMaps, find_program, sub_ranges_of};
use crate::sys;

/// How to enter.
#[derive(Debug, Clone)]
pub struct EnterOptions {
    /// Where `newuidmap` and `newgidmap` are looked for.
    pub helper_directories: Vec<PathBuf>,
}

impl Default for EnterOptions {
    fn default() -> Self {
        let directories = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];
        Self { helper_directories: directories.map(PathBuf::from).to_vec() }
    }
}

/// What [`enter`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// The process has root's rights over mounts already; nothing was changed. The maps are the
    /// identity unless the machine is a container with its own user namespace.
    Root(IdMaps),
    /// The process is root of a new user namespace that has other ids, too.
    Mapped(IdMaps),
    /// The process is root of a new user namespace that has no other id; COPY works, programs can
    /// run as root, but `chown` to other ids and other users do not.
    Single {
        /// The maps.
        maps: IdMaps,
        /// Why there are no other ids.
        reason: NoRanges,
    },
    /// This machine does not let the process have a user namespace; nothing was changed.
    None(Refusal),
}

impl Entered {
    /// The maps in force now.
    pub fn maps(&self) -> IdMaps {
        match self {
            Self::Root(maps) | Self::Mapped(maps) | Self::Single { maps, .. } => maps.clone(),
            Self::None(_) => IdMaps::current(),
        }
    }
}

/// Why a user namespace has a single id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRanges {
    /// `/etc/subuid` or `/etc/subgid` gives the user nothing.
    #[error("uid {uid} has no range in {file}")]
    NotGranted {
        /// The user.
        uid: u32,
        /// The file that has no line for them.
        file: &'static str,
    },
    /// `newuidmap` or `newgidmap` is not installed.
    #[error("{program} is not installed")]
    NoHelper {
        /// The program that was not found.
        program: &'static str,
    },
    /// The helper programs refused the map.
    #[error("newuidmap or newgidmap refused the map")]
    Refused,
}

/// Why there is no user namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("user namespaces are refused: {}", io::Error::from_raw_os_error(*errno))]
pub struct Refusal {
    /// The error number of unshare(2): EPERM (a policy forbids it), ENOSPC (the limit
    /// `user.max_user_namespaces` is 0 or reached), EINVAL (not in this kernel).
    pub errno: i32,
}

/// Makes the process able to mount: it is root already, or becomes root of a user namespace of its
/// own (with a mount namespace of its own, too). Call it first in `main`, before any thread exists.
pub fn enter(how: &EnterOptions) -> Result<Entered, EnterError> {
    if has_mount_rights() {
        return Ok(Entered::Root(IdMaps::current()));
    }
    if thread_count() > 1 {
        return Err(EnterError::Threads);
    }
    if !may_map_itself() {
        return Ok(Entered::None(Refusal { errno: Errno::PERM.raw_os_error() }));
    }
    match plan_maps(how)? {
        Ok(plan) => enter_mapped(&plan),
        Err(reason) => enter_single(reason),
    }
}

/// Whether the process may mount file systems: effective uid 0 with CAP_SYS_ADMIN.
pub(crate) fn has_mount_rights() -> bool {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    geteuid().is_root() && held.contains(CapabilitySet::SYS_ADMIN)
}

/// Root whose capabilities were taken may make a user namespace and may not map itself into it: since Linux
/// 5.12 that takes CAP_SETFCAP. It has to be known before, since a process cannot leave a namespace again.
fn may_map_itself() -> bool {
    let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    !geteuid().is_root() || held.contains(CapabilitySet::SETFCAP)
}

fn thread_count() -> usize {
    fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

struct MapPlan {
    maps: IdMaps,
    newuidmap: PathBuf,
    newgidmap: PathBuf,
}

/// The maps this user is allowed, or why only the single-id one.
fn plan_maps(how: &EnterOptions) -> Result<Result<MapPlan, NoRanges>, EnterError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let (users, groups) = sub_ranges_of(uid)?;
    for (ranges, file) in [(&users, "/etc/subuid"), (&groups, "/etc/subgid")] {
        if ranges.is_empty() {
            return Ok(Err(NoRanges::NotGranted { uid, file }));
        }
    }
    let Some(newuidmap) = find_program(&how.helper_directories, "newuidmap") else {
        return Ok(Err(NoRanges::NoHelper { program: "newuidmap" }));
    };
    let Some(newgidmap) = find_program(&how.helper_directories, "newgidmap") else {
        return Ok(Err(NoRanges::NoHelper { program: "newgidmap" }));
    };
    let maps =
        IdMaps { users: IdMap::with_ranges(uid, &users), groups: IdMap::with_ranges(gid, &groups) };
    Ok(Ok(MapPlan { maps, newuidmap, newgidmap }))
}

fn enter_mapped(plan: &MapPlan) -> Result<Entered, EnterError> {
    let helper_error = |what| move |errno: Errno| EnterError::Helper { what, source: errno.into() };
    let (wait_end, go_end) =
        pipe_with(PipeFlags::CLOEXEC).map_err(helper_error("make its pipe"))?;
    let target = getpid();
    let Some(helper) = sys::fork().map_err(helper_error("fork its helper"))? else {
        drop(go_end);
        sys::exit_now(run_helper(plan, target, &wait_end))
    };
    drop(wait_end);
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let unshared = sys::unshare_user_and_mounts();
    if unshared.is_ok() {
        // A helper that died is noticed by its exit code.
        let _told = rustix::io::write(&go_end, b"g");
    }
    drop(go_end);
    let code = wait_for(helper).map_err(helper_error("wait for its helper"))?;
    if let Err(errno) = unshared {
        return Ok(Entered::None(Refusal { errno: errno.raw_os_error() }));
    }
    if code != Some(0) {
        write_single_maps(uid, gid)?;
        become_root()?;
        return Ok(Entered::Single { maps: IdMaps::current(), reason: NoRanges::Refused });
    }
    become_root()?;
    Ok(Entered::Mapped(plan.maps.clone()))
}

fn enter_single(reason: NoRanges) -> Result<Entered, EnterError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    if let Err(errno) = sys::unshare_user_and_mounts() {
        return Ok(Entered::None(Refusal { errno: errno.raw_os_error() }));
    }
    write_single_maps(uid, gid)?;
    become_root()?;
    let maps = IdMaps { users: IdMap::single(uid), groups: IdMap::single(gid) };
    Ok(Entered::Single { maps, reason })
}

/// The helper's life: wait until the namespace exists, have both maps written, report by exit code.
fn run_helper(plan: &MapPlan, target: Pid, wait_end: &OwnedFd) -> i32 {
    let mut go = [0_u8; 1];
    // End of file means that there is no namespace to map.
    if !matches!(rustix::io::retry_on_intr(|| rustix::io::read(wait_end, &mut go)), Ok(1)) {
        return 1;
    }
    let start = |program: &PathBuf, map: &IdMap| {
        let target = OsString::from(target.as_raw_nonzero().to_string());
        Command::new(program).arg(target).args(map.arguments()).spawn()
    };
    let users = start(&plan.newuidmap, &plan.maps.users);
    let groups = start(&plan.newgidmap, &plan.maps.groups);
    let succeeded = |child: io::Result<std::process::Child>| {
        child.and_then(|mut child| child.wait()).is_ok_and(|status| status.success())
    };
    let (users, groups) = (succeeded(users), succeeded(groups));
    i32::from(!(users && groups))
}

fn wait_for(helper: Pid) -> Result<Option<i32>, Errno> {
    let ended = rustix::io::retry_on_intr(|| waitpid(Some(helper), WaitOptions::empty()))?;
    Ok(ended.and_then(|(_pid, status)| status.exit_status()))
}

/// Maps root to the user itself; what a helper has already written stays.
fn write_single_maps(uid: u32, gid: u32) -> Result<(), EnterError> {
    let become_error = |source| EnterError::Become { source };
    let empty = |path: &str| fs::read_to_string(path).is_ok_and(|map| map.trim().is_empty());
    if empty("/proc/self/uid_map") {
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(become_error)?;
    }
    if empty("/proc/self/gid_map") {
        // The kernel wants this first, lest a user drops a group that denies access.
        fs::write("/proc/self/setgroups", "deny").map_err(become_error)?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(become_error)?;
    }
    Ok(())
}

fn become_root() -> Result<(), EnterError> {
    let become_error = |errno: Errno| EnterError::Become { source: errno.into() };
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(become_error)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(become_error)
}
