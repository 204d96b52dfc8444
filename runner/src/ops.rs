//! The plan: what the sandbox child does before the program starts, as a list of operations.
//!
//! [`plan`] is pure; everything that depends on the machine comes in as [`Facts`]. The child in
//! `child/` interprets the list in order:
//!
//! ```text
//! namespaces   PrivateMounts, Hostname, Loopback
//! sources      OpenRoot, OpenSource…     host paths are looked up here and nowhere later
//! stage        Stage                     a private tmpfs; the root and small files live on it
//! defaults     /proc, /dev, /sys, masks
//! mounts       Attach, File, Filesystem  as the caller ordered them
//! finish       WorkingDirectory, ReadOnlyRoot, ChangeRoot
//! ```
//!
//! Root in a step may make device nodes, as the reference lets it, and a node for the host's disk is
//! the host's disk. So no file system that a step can write to lets nodes be opened, `/dev` included:
//! the six nodes there are mounts of their own.

use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::host::Facts;
use crate::limits::{DEV_SIZE_BYTES, STEP_PROCESSES_MAX};
use crate::spec::{Mount, MountKind, Network, Root, Security, Spec};

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SetupOp {
    /// Keep mounts from spreading to the host.
    PrivateMounts,
    /// Set the host name.
    Hostname(Bytes),
    /// Bring the loopback interface up.
    Loopback,
    /// Open what becomes the root.
    OpenRoot {
        /// What it is.
        tree: Tree,
        /// Whether what is mounted below it is made read-only.
        read_only_below: bool,
        /// Whether device nodes in it can be opened.
        devices: bool,
    },
    /// Open a mount source; the first one is number 0.
    OpenSource(Tree),
    /// Make the stage, on top of a host directory that is not needed by its name any more.
    Stage {
        /// That directory.
        over: Bytes,
    },
    /// Mount a source.
    Attach {
        /// Its number.
        source: usize,
        /// The path inside it, if not all of it.
        subpath: Option<Bytes>,
        /// Where.
        target: Bytes,
        /// Whether writes are refused, also below it.
        read_only: bool,
        /// Whether device nodes in it can be opened.
        devices: bool,
    },
    /// Mount a small file.
    File(SmallFile),
    /// Mount a file system of the kernel's.
    Filesystem(Filesystem),
    /// Make a device node and mount it in `/dev`.
    DeviceNode {
        /// Its name there.
        name: Bytes,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// Mount a device node of the host in `/dev`.
    DeviceBind {
        /// Its name there.
        name: Bytes,
        /// The number of the source.
        source: usize,
    },
    /// Make a symbolic link in `/dev`.
    DeviceLink {
        /// Its name there.
        name: Bytes,
        /// Where it leads.
        to: Bytes,
    },
    /// Make a directory in `/dev`.
    DeviceDirectory {
        /// Its name there.
        name: Bytes,
    },
    /// Let there be no more processes than this.
    ProcessLimit(u32),
    /// Hide a path if it exists.
    Mask(Bytes),
    /// Make a path read-only if it exists.
    ReadOnly(Bytes),
    /// Make the working directory if it is missing.
    WorkingDirectory {
        /// Its path.
        path: Bytes,
        /// Owner of what is made.
        uid: u32,
        /// Group of what is made.
        gid: u32,
    },
    /// Make the root itself read-only.
    ReadOnlyRoot,
    /// Make the new root `/` and let go of the old one.
    ChangeRoot,
}

/// Something on the host that can be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Tree {
    /// A file or directory with what is mounted below it.
    Bind(Bytes),
    /// Merged layers.
    Overlay(Overlay),
    /// An empty directory that nobody can write to.
    Empty,
}

/// Merged layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overlay {
    /// The layers, the topmost first.
    pub(crate) lowers: Vec<Bytes>,
    /// Where writes go, and the work directory; without them the view is read-only.
    pub(crate) writes: Option<(Bytes, Bytes)>,
    /// Whether overlayfs keeps its own attributes in `user.` names, as it must in a user namespace.
    pub(crate) user_xattrs: bool,
    /// Whether the kernel takes layers one by one (`lowerdir+`, Linux 6.5) or only as one string.
    pub(crate) append: bool,
}

/// A small file that exists only in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SmallFile {
    /// Where it is mounted.
    pub(crate) target: Bytes,
    /// What is in it.
    pub(crate) content: Bytes,
    /// Its mode.
    pub(crate) mode: u32,
    /// Its owner.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
}

/// A file system of the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "mount attributes, each set on its own")]
pub(crate) struct Filesystem {
    /// Its type.
    pub(crate) kind: Bytes,
    /// Where.
    pub(crate) target: Bytes,
    /// Its options.
    pub(crate) options: Vec<(Bytes, Bytes)>,
    /// Whether devices in it work.
    pub(crate) devices: bool,
    /// Whether programs in it can be executed.
    pub(crate) executable: bool,
    /// Whether set-user-id bits in it count.
    pub(crate) set_ids: bool,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
    /// Whether the program can do without.
    pub(crate) optional: bool,
}

/// Device nodes of `/dev` with their numbers.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links of `/dev`.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Paths that show more of the machine than a step may see.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths through which root could change the machine.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the child does for a specification on a machine.
pub(crate) fn plan(spec: &Spec, facts: Facts) -> Vec<SetupOp> {
    let devices = spec.security == Security::Insecure;
    let mut planner = Planner { facts, devices, sources: Vec::new(), mounts: Vec::new() };
    planner.default_mounts(spec);
    for mount in &spec.mounts {
        planner.mount(mount);
    }
    let mut ops = vec![SetupOp::PrivateMounts];
    ops.push(SetupOp::Hostname(Bytes::from(spec.hostname.as_str())));
    if spec.network == Network::None {
        ops.push(SetupOp::Loopback);
    }
    ops.push(open_root(spec, facts));
    ops.extend(planner.sources.into_iter().map(SetupOp::OpenSource));
    ops.push(stage(&spec.root));
    ops.extend(planner.mounts);
    let (uid, gid) = (spec.identity.uid, spec.identity.gid);
    let path = Bytes::from(&spec.process.cwd);
    ops.push(SetupOp::WorkingDirectory { path, uid, gid });
    if matches!(spec.root, Root::Directory { read_only: true, .. }) {
        ops.push(SetupOp::ReadOnlyRoot);
    }
    ops.push(SetupOp::ChangeRoot);
    ops
}

fn open_root(spec: &Spec, facts: Facts) -> SetupOp {
    let devices = spec.security == Security::Insecure;
    match &spec.root {
        Root::Overlay { lowers, upper, work } => {
            let writes = Some((Bytes::from(upper), Bytes::from(work)));
            let tree = layers(lowers.iter().map(Bytes::from).collect(), writes, facts);
            SetupOp::OpenRoot { tree, read_only_below: false, devices }
        }
        Root::Directory { path, read_only } => {
            let tree = Tree::Bind(Bytes::from(path));
            SetupOp::OpenRoot { tree, read_only_below: *read_only, devices }
        }
    }
}

fn stage(root: &Root) -> SetupOp {
    let over = match root {
        Root::Overlay { upper, .. } => upper,
        Root::Directory { path, .. } => path,
    };
    SetupOp::Stage { over: Bytes::from(over) }
}

/// The cheapest tree that shows the layers: overlayfs only where something must be merged.
fn layers(lowers: Vec<Bytes>, writes: Option<(Bytes, Bytes)>, facts: Facts) -> Tree {
    match (lowers.as_slice(), &writes) {
        ([], Some((upper, _work))) => Tree::Bind(upper.clone()),
        ([], None) => Tree::Empty,
        ([only], None) => Tree::Bind(only.clone()),
        _ => Tree::Overlay(Overlay {
            lowers,
            writes,
            user_xattrs: facts.user_namespace,
            append: facts.overlay_append,
        }),
    }
}

/// Collects mounts and the host sources that they need.
struct Planner {
    facts: Facts,
    /// Whether device nodes outside of `/dev` can be opened.
    devices: bool,
    sources: Vec<Tree>,
    mounts: Vec<SetupOp>,
}

impl Planner {
    fn source(&mut self, tree: Tree) -> usize {
        self.sources.push(tree);
        self.sources.len() - 1
    }

    fn mount(&mut self, mount: &Mount) {
        let target = Bytes::from(&mount.target);
        let (read_only, devices) = (mount.read_only, self.devices);
        let op = match &mount.kind {
            MountKind::Bind { source } => {
                let source = self.source(Tree::Bind(Bytes::from(source)));
                SetupOp::Attach { source, subpath: None, target, read_only, devices }
            }
            MountKind::Layers { lowers, subpath, scratch } => {
                let writes = scratch
                    .as_ref()
                    .map(|scratch| (Bytes::from(&scratch.upper), Bytes::from(&scratch.work)));
                // Nothing may ever be written into a layer itself.
                let read_only = read_only || writes.is_none();
                let lowers = lowers.iter().map(Bytes::from).collect();
                let source = self.source(layers(lowers, writes, self.facts));
                let subpath = Some(Bytes::from(subpath));
                SetupOp::Attach { source, subpath, target, read_only, devices }
            }
            MountKind::Tmpfs { size, mode } => {
                SetupOp::Filesystem(Filesystem { target, read_only, ..tmpfs(*size, *mode) })
            }
            MountKind::File { content, mode, uid, gid } => SetupOp::File(SmallFile {
                target,
                content: Bytes::from(content.as_slice()),
                mode: *mode,
                uid: *uid,
                gid: *gid,
                read_only,
            }),
        };
        self.mounts.push(op);
    }

    fn default_mounts(&mut self, spec: &Spec) {
        let insecure = spec.security == Security::Insecure;
        self.filesystem(Filesystem { optional: false, ..plain("proc", "/proc") });
        if self.facts.own_pid_limit {
            self.mounts.push(SetupOp::ProcessLimit(STEP_PROCESSES_MAX));
        }
        self.devices(spec.shm_size);
        self.sys(spec.network, insecure);
        if insecure {
            return;
        }
        self.mounts.extend(MASKED.map(|path| SetupOp::Mask(Bytes::from(path))));
        self.mounts.extend(READ_ONLY.map(|path| SetupOp::ReadOnly(Bytes::from(path))));
    }

    fn filesystem(&mut self, filesystem: Filesystem) {
        self.mounts.push(SetupOp::Filesystem(filesystem));
    }

    fn devices(&mut self, shm_size: u64) {
        let dev = Filesystem { target: Bytes::from("/dev"), ..tmpfs(Some(DEV_SIZE_BYTES), 0o755) };
        self.filesystem(Filesystem { set_ids: false, ..dev });
        for (name, major, minor) in DEVICES {
            let op = if self.facts.device_nodes {
                SetupOp::DeviceNode { name: Bytes::from(name), major, minor }
            } else {
                let source = self.source(Tree::Bind(Bytes::from(format!("/dev/{name}"))));
                SetupOp::DeviceBind { name: Bytes::from(name), source }
            };
            self.mounts.push(op);
        }
        for (name, to) in LINKS {
            self.mounts.push(SetupOp::DeviceLink { name: Bytes::from(name), to: Bytes::from(to) });
        }
        for name in ["pts", "shm", "mqueue"] {
            self.mounts.push(SetupOp::DeviceDirectory { name: Bytes::from(name) });
        }
        let mut terminals = plain("devpts", "/dev/pts");
        terminals.devices = true;
        terminals.options = options(&[("mode", "0620"), ("ptmxmode", "0666")]);
        if self.facts.terminal_group {
            terminals.options.push((Bytes::from("gid"), Bytes::from("5")));
        }
        self.filesystem(terminals);
        let shm = tmpfs(Some(shm_size), 0o1777);
        let shm = Filesystem { target: Bytes::from("/dev/shm"), set_ids: false, ..shm };
        self.filesystem(Filesystem { executable: false, ..shm });
        self.filesystem(Filesystem { optional: true, ..plain("mqueue", "/dev/mqueue") });
    }

    /// The kernel lets a new sysfs be mounted only by who owns the network namespace it shows.
    fn sys(&mut self, network: Network, insecure: bool) {
        let read_only = !insecure;
        if self.facts.user_namespace && network == Network::Host {
            let source = self.source(Tree::Bind(Bytes::from("/sys")));
            let target = Bytes::from("/sys");
            let (read_only, devices) = (true, false);
            let op = SetupOp::Attach { source, subpath: None, target, read_only, devices };
            self.mounts.push(op);
            return;
        }
        self.filesystem(Filesystem { read_only, optional: true, ..plain("sysfs", "/sys") });
        if self.facts.unified_cgroup {
            let cgroup = plain("cgroup2", "/sys/fs/cgroup");
            self.filesystem(Filesystem { read_only, optional: true, ..cgroup });
        }
    }
}

/// A kernel file system in which nothing can be executed and no device works.
fn plain(kind: &str, target: &str) -> Filesystem {
    Filesystem {
        kind: Bytes::from(kind),
        target: Bytes::from(target),
        options: Vec::new(),
        devices: false,
        executable: false,
        set_ids: false,
        read_only: false,
        optional: false,
    }
}

/// Memory that behaves as a directory of the root would.
fn tmpfs(size: Option<u64>, mode: u32) -> Filesystem {
    let mut filesystem = plain("tmpfs", "");
    filesystem.executable = true;
    filesystem.set_ids = true;
    filesystem.options.push((Bytes::from("mode"), Bytes::from(format!("{mode:o}"))));
    if let Some(size) = size {
        filesystem.options.push((Bytes::from("size"), Bytes::from(size.to_string())));
    }
    filesystem
}

fn options(pairs: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
    pairs.iter().map(|(key, value)| (Bytes::from(*key), Bytes::from(*value))).collect()
}

#[cfg(test)]
mod tests;
