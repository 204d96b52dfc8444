//! What this machine lets the runner do: a few cheap facts for every run, and a thorough probe for
//! `lap doctor`.
//!
//! The probe tries things instead of reading settings, since policies that forbid them have many
//! names: a child is started in new namespaces, as a run would start it, and mounts an overlay.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    fsconfig_create, fsmount, fsopen, mount_change, move_mount,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, geteuid, waitpid};
use rustix::thread::{CapabilitySet, capabilities};
use serde::Serialize;

use crate::bytes::Bytes;
use crate::child::{PROBE_ARGUMENT, open_tree_for_probe};
use crate::enter::{EnterOptions, Entered, enter, has_mount_rights};
use crate::idmap::{IdMaps, SubRange, find_program, sub_ranges_of};
use crate::ops::{Overlay, Tree};
use crate::protocol::CHILD_NAME;
use crate::sys::clone::{Namespaces, spawn};

/// The facts that a plan depends on; cheap to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each used on its own")]
pub struct Facts {
    /// Whether this process is in a user namespace of its own.
    pub user_namespace: bool,
    /// Whether device nodes can be made.
    pub device_nodes: bool,
    /// Whether overlayfs takes layers one by one (Linux 6.5).
    pub overlay_append: bool,
    /// Whether the group of terminals (gid 5) exists.
    pub terminal_group: bool,
    /// Whether supplementary groups can be set. Where a single id is mapped the kernel refuses that, lest a
    /// user drops a group that denies access.
    pub sets_groups: bool,
    /// Whether `/sys/fs/cgroup` is the unified hierarchy.
    pub unified_cgroup: bool,
    /// Whether a pid namespace has a limit of its own (Linux 6.14); before, there was one for the machine.
    pub own_pid_limit: bool,
}

impl Facts {
    /// The facts about this process.
    pub fn current() -> Self {
        let maps = IdMaps::current();
        Self {
            user_namespace: !maps.is_identity(),
            device_nodes: maps.is_identity() && effective().contains(CapabilitySet::MKNOD),
            overlay_append: kernel_version() >= (6, 5),
            terminal_group: maps.groups.contains(5),
            sets_groups: std::fs::read_to_string("/proc/self/setgroups")
                .map_or(true, |text| text.trim_end() != "deny"),
            unified_cgroup: is_cgroup2("/sys/fs/cgroup"),
            own_pid_limit: kernel_version() >= (6, 14),
        }
    }
}

/// What the thorough probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Release of the running kernel.
    pub kernel: String,
    /// Effective user id.
    pub euid: u32,
    /// Effective capabilities, as the kernel's bit mask.
    pub capabilities: u64,
    /// What plans depend on.
    pub facts: Facts,
    /// Whether a child can have the namespaces of a step (with a user namespace of its own, if this
    /// process may not mount itself).
    pub namespaces: Check,
    /// Whether such a child can mount an overlay.
    pub overlay: Check,
    /// Whether a step, which needs a user namespace here, would get no /proc: the kernel gives none that
    /// shows more than what there is, and container engines hide parts of theirs.
    pub proc_masked: bool,
    /// Where `newuidmap` is.
    pub newuidmap: Option<PathBuf>,
    /// Where `newgidmap` is.
    pub newgidmap: Option<PathBuf>,
    /// The user ids that this user may map.
    pub subuids: Vec<SubRange>,
    /// The group ids that this user may map.
    pub subgids: Vec<SubRange>,
    /// Whether the kernel has system call filters.
    pub seccomp: bool,
    /// How programs can be run here.
    pub rung: Rung,
    /// What keeps this process from the rungs above.
    pub missing: Vec<Missing>,
}

/// Whether something that was tried works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Check {
    /// It does.
    Works,
    /// It does not, with this error number.
    Fails(i32),
    /// It could not be tried, since what it needs does not work.
    Untried,
}

/// How programs can be run, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Rung {
    /// Not at all.
    None,
    /// In a user namespace with a single id.
    SingleId,
    /// In a user namespace with the user's subordinate ids.
    Rootless,
    /// As root.
    Root,
}

/// What keeps a process from a rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The rung.
    pub rung: Rung,
    /// What is missing, as a sentence.
    pub what: String,
    /// What to do about it, as a sentence.
    pub fix: String,
}

/// Tries what this machine can do. Takes some milliseconds and starts a child.
pub fn probe() -> Host {
    let privileged = has_mount_rights();
    let (namespaces, overlay) = match try_in_child(privileged) {
        Ok(overlay) => (Check::Works, overlay),
        Err(errno) => (Check::Fails(errno.raw_os_error()), Check::Untried),
    };
    let euid = geteuid().as_raw();
    let (subuids, subgids) = sub_ranges_of(euid).unwrap_or_default();
    let directories = EnterOptions::default().helper_directories;
    let mut host = Host {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        euid,
        capabilities: effective().bits(),
        facts: Facts::current(),
        namespaces,
        overlay,
        proc_masked: proc_is_masked(privileged),
        newuidmap: find_program(&directories, "newuidmap"),
        newgidmap: find_program(&directories, "newgidmap"),
        subuids,
        subgids,
        seccomp: std::fs::exists("/proc/sys/kernel/seccomp").unwrap_or(false),
        rung: Rung::None,
        missing: Vec::new(),
    };
    host.rung = rung(&host, privileged);
    host.missing = missing(&host);
    host
}

fn proc_is_masked(privileged: bool) -> bool {
    let needs_user_namespace = !privileged || Facts::current().user_namespace;
    // Where nothing can be read, what the other checks say has to do.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo");
    needs_user_namespace && mounts.is_ok_and(|mounts| !shows_all_of_proc(&mounts))
}

/// Whether one of these mounts (`/proc/self/mountinfo`) is a /proc with nothing over it.
fn shows_all_of_proc(mounts: &str) -> bool {
    // An empty directory of /proc, made to be mounted on, hides nothing.
    const MADE_FOR_A_MOUNT: &str = "sys/fs/binfmt_misc";
    let point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    let points: Vec<String> = mounts.lines().filter_map(point).collect();
    let is_proc = |line: &&str| {
        let root = line.split(' ').nth(3);
        let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next());
        root == Some("/") && kind == Some("proc")
    };
    mounts.lines().filter(is_proc).filter_map(point).any(|at| {
        let covers = |other: &String| {
            let below = other.strip_prefix(&at).and_then(|rest| rest.strip_prefix('/'));
            below.is_some_and(|below| below != MADE_FOR_A_MOUNT)
        };
        !points.iter().any(covers)
    })
}

fn rung(host: &Host, privileged: bool) -> Rung {
    if host.overlay != Check::Works || host.proc_masked {
        return Rung::None;
    }
    if privileged && !host.facts.user_namespace {
        return Rung::Root;
    }
    let maps = IdMaps::current();
    let mapped = privileged && maps.users.contains(1) && maps.groups.contains(1);
    let mappable = host.newuidmap.is_some()
        && host.newgidmap.is_some()
        && !host.subuids.is_empty()
        && !host.subgids.is_empty();
    if mapped || (!privileged && mappable) { Rung::Rootless } else { Rung::SingleId }
}

/// What keeps the process from each rung above its own.
fn missing(host: &Host) -> Vec<Missing> {
    let mut found = Vec::new();
    let mut add = |rung, what: &str, fix: &str| {
        found.push(Missing { rung, what: what.to_owned(), fix: fix.to_owned() });
    };
    if kernel_version() < (5, 12) {
        add(Rung::SingleId, "The kernel is older than 5.12.", "Update it.");
    }
    if let Check::Fails(errno) = host.namespaces {
        let (what, fix) = namespace_advice(errno);
        add(Rung::SingleId, what, fix);
    }
    if let Check::Fails(errno) = host.overlay {
        let reason = std::io::Error::from_raw_os_error(errno);
        let fix = "Load the module (modprobe overlay); for ordinary users the kernel must be 5.11 \
                   or newer.";
        add(Rung::SingleId, &format!("An overlay cannot be mounted: {reason}."), fix);
    }
    if host.proc_masked {
        let fix = "Start the container with all of it: docker run --security-opt systempaths=unconfined, \
                   podman run --security-opt unmask=ALL, in Kubernetes procMount: Unmasked.";
        add(
            Rung::SingleId,
            "Parts of /proc are hidden, so a step could not be given its own.",
            fix,
        );
    }
    if host.rung < Rung::Rootless {
        if host.newuidmap.is_none() || host.newgidmap.is_none() {
            let fix = "Install the package uidmap (Debian, Alpine: shadow-uidmap) or shadow-utils.";
            add(Rung::Rootless, "newuidmap or newgidmap is not installed.", fix);
        }
        if host.subuids.is_empty() || host.subgids.is_empty() {
            let fix = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER";
            add(Rung::Rootless, "The user has no range in /etc/subuid and /etc/subgid.", fix);
        }
    }
    if host.rung < Rung::Root {
        let what = "The process is not root of the machine with CAP_SYS_ADMIN.";
        add(Rung::Root, what, "Run as root; the images are the same either way.");
    }
    found
}

fn namespace_advice(errno: i32) -> (&'static str, &'static str) {
    match errno {
        libc::EPERM | libc::EACCES => (
            "A policy forbids user namespaces.",
            "Allow them: sysctl kernel.unprivileged_userns_clone=1, \
             kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that \
             allows clone and unshare.",
        ),
        libc::ENOSPC | libc::EUSERS => (
            "The limit of user namespaces is reached or 0.",
            "Raise it: sysctl user.max_user_namespaces=10000.",
        ),
        _ => (
            "The kernel does not make the namespaces of a step.",
            "Use a kernel with user, mount, pid, ipc, uts and cgroup namespaces.",
        ),
    }
}

/// Starts a child which enters the namespaces that a step would be in and mounts an overlay there. An
/// ordinary user's child goes the whole way that a command goes, subordinate ids included.
fn try_in_child(privileged: bool) -> Result<Check, Errno> {
    let (report, report_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let program = openat(CWD, "/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let end = std::ffi::CString::new(report_end.as_raw_fd().to_string());
    let end = end.expect("because digits have no NUL");
    let arguments = [CHILD_NAME.to_owned(), PROBE_ARGUMENT.to_owned(), end];
    let namespaces = if privileged { Namespaces::STEP } else { Namespaces::SAME };
    let child = spawn(program.as_fd(), &arguments, &[report_end.as_fd()], namespaces)?;
    drop(report_end);
    let mut answer = String::new();
    let read = std::fs::File::from(report).read_to_string(&mut answer);
    let _ended = waitpid(Some(child.pid), WaitOptions::empty());
    let mut numbers = answer.split_whitespace().map(str::parse::<i32>);
    match (read, numbers.next(), numbers.next()) {
        (Ok(_), Some(Ok(0)), Some(Ok(0))) => Ok(Check::Works),
        (Ok(_), Some(Ok(0)), Some(Ok(errno))) => Ok(Check::Fails(errno)),
        (Ok(_), Some(Ok(errno)), _) => Err(Errno::from_raw_os_error(errno)),
        // It did not get as far as to answer.
        _ => Ok(Check::Fails(libc::EIO)),
    }
}

/// The child's part of the probe: whether it got its namespaces, and then whether an overlay in memory
/// could be mounted; two error numbers, 0 for none.
pub(crate) fn answer_probe(report: BorrowedFd<'_>) {
    let entered = match enter(&EnterOptions::default()) {
        Ok(Entered::None(refusal)) => refusal.errno,
        Ok(_) => 0,
        Err(_) => libc::EPERM,
    };
    let overlay = try_overlay().map_or_else(Errno::raw_os_error, |()| 0);
    // If nobody listens any more there is nobody to tell.
    let _written = rustix::io::write(report, format!("{entered} {overlay}").as_bytes());
}

fn try_overlay() -> Result<(), Errno> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let memory: OwnedFd =
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    // Overlayfs wants its directories attached; nothing is looked up through this place.
    move_mount(&memory, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    for name in ["lower", "upper", "work"] {
        mkdirat(&memory, name, Mode::from(0o755))?;
    }
    let inside = |name: &str| Bytes::from(format!("/proc/self/fd/{}/{name}", memory.as_raw_fd()));
    let facts = Facts::current();
    open_tree_for_probe(&Tree::Overlay(Overlay {
        lowers: vec![inside("lower")],
        writes: Some((inside("upper"), inside("work"))),
        user_xattrs: facts.user_namespace,
        append: facts.overlay_append,
    }))
}

fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

fn is_cgroup2(path: &str) -> bool {
    /// Type number of the file system, from `linux/magic.h`.
    const CGROUP2_MAGIC: i64 = 0x6367_7270;
    rustix::fs::statfs(path).is_ok_and(|about| about.f_type == CGROUP2_MAGIC)
}

/// Major and minor version of the running kernel; (0, 0) if it does not say.
fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

/// How many processes the kernel has killed for lack of memory since it started; 0 if it does not
/// say.
pub(crate) fn oom_kills() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::shows_all_of_proc;

    #[test]
    fn a_proc_with_something_over_it_is_masked() {
        let mount = |root: &str, at: &str, kind: &str| {
            format!("30 25 0:26 {root} {at} rw,relatime shared:13 - {kind} x rw\n")
        };
        let root = mount("/", "/", "ext4");
        let proc = mount("/", "/proc", "proc");
        let binfmt = mount("/", "/proc/sys/fs/binfmt_misc", "binfmt_misc");
        let masked = mount("/null", "/proc/kcore", "tmpfs");
        let again = mount("/", "/proc2", "proc");
        let part = mount("/sys", "/proc3", "proc");
        assert!(shows_all_of_proc(&format!("{root}{proc}{binfmt}")));
        assert!(!shows_all_of_proc(&format!("{root}{proc}{masked}")));
        assert!(shows_all_of_proc(&format!("{root}{proc}{masked}{again}")));
        assert!(!shows_all_of_proc(&format!("{root}{proc}{masked}{part}")));
        assert!(!shows_all_of_proc(&root));
    }
}
