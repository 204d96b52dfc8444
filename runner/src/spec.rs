//! What to run and in what surroundings: plain data, no behaviour.
//!
//! A [`Spec`] is complete: nothing of the embedding program's own environment (variables, working
//! directory, descriptors, signal dispositions) reaches the program unless a field here says so.
//! Paths are of two kinds. *Host* paths (`lowers`, `upper`, `work`, `source`) are looked up by the
//! kernel as the embedding program sees them. *Inner* paths (`target`, `subpath`, `cwd`) are looked
//! up inside the new root, and symbolic links in them cannot leave it.

use std::ffi::OsString;
use std::path::PathBuf;

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The file system that becomes `/`.
    pub root: Root,
    /// What is mounted into it, beside the default `/proc`, `/dev` and `/sys`. They are mounted in
    /// this order, so outer targets come first; a later mount hides an earlier one of its target.
    pub mounts: Vec<Mount>,
    /// The program.
    pub process: Process,
    /// The ids it runs with.
    pub identity: Identity,
    /// Which network it sees.
    pub network: Network,
    /// The host name it sees.
    pub hostname: String,
    /// How much of the machine it may touch.
    pub security: Security,
    /// Size limit of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// Resource limits; the ones that are not named here are inherited.
    pub ulimits: Vec<Ulimit>,
    /// What the program reads on descriptor 0.
    pub stdin: Stdin,
    /// Where its descriptors 1 and 2 go.
    pub output: Output,
}

impl Spec {
    /// A run of `argv` in `root` with the defaults a build step has: root's identity, the host's
    /// network, working directory `/`, an empty environment and captured output.
    pub fn new(root: Root, argv: Vec<OsString>) -> Self {
        Self {
            root,
            mounts: Vec::new(),
            process: Process { argv, env: Vec::new(), cwd: PathBuf::from("/") },
            identity: Identity { uid: 0, gid: 0, groups: Vec::new() },
            network: Network::Host,
            hostname: "buildkitsandbox".to_owned(),
            security: Security::Sandbox,
            shm_size: crate::limits::SHM_SIZE_DEFAULT_BYTES,
            ulimits: Vec::new(),
            stdin: Stdin::Null,
            output: Output::Capture,
        }
    }
}

/// The file system that becomes `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// Layers, with everything that is written going to `upper`.
    Overlay {
        /// Host directories of the layers, the topmost first. May be empty.
        lowers: Vec<PathBuf>,
        /// Host directory that takes the changes.
        upper: PathBuf,
        /// Empty host directory on the same file system as `upper`. The kernel refuses one that
        /// was used before (the mounts are `volatile`).
        work: PathBuf,
    },
    /// One host directory as it is.
    Directory {
        /// The host directory.
        path: PathBuf,
        /// Whether the program may change it.
        read_only: bool,
    },
}

/// One mount inside the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Inner path; what is missing of it is made for the run and removed afterwards if still empty.
    pub target: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
}

/// What a [`Mount`] shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A host file or directory, with everything mounted below it.
    Bind {
        /// The host path.
        source: PathBuf,
    },
    /// A path inside a stack of layers.
    Layers {
        /// Host directories of the layers, the topmost first. May be empty.
        lowers: Vec<PathBuf>,
        /// The path in the merged view; links in it cannot leave the view.
        subpath: PathBuf,
        /// Where writes go; without it nothing can be written.
        scratch: Option<Scratch>,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Its size limit in bytes; without it the kernel's default (half of the memory).
        size: Option<u64>,
        /// Mode of its top directory.
        mode: u32,
    },
    /// A small file that exists only in memory (a secret, `/etc/hosts`, a script). It can be
    /// executed only if its mode has an x bit.
    File {
        /// What is in it.
        content: Vec<u8>,
        /// Its mode.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// Directories that take what a program writes into a [`MountKind::Layers`] view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scratch {
    /// Host directory that takes the changes; the caller throws it away.
    pub upper: PathBuf,
    /// Empty host directory on the same file system as `upper`.
    pub work: PathBuf,
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments. A program without a slash is looked up through `PATH` of `env`.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Inner path of its working directory; made (0755, owned by the identity) if missing.
    pub cwd: PathBuf,
}

/// The ids a program runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Which network a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The one of the embedding program.
    Host,
    /// A loopback interface and nothing else.
    None,
}

/// How much of the machine a program may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// 14 capabilities, masked paths, system call filter.
    Sandbox,
    /// Every capability that the embedding program holds, nothing masked, no filter.
    Insecure,
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// Which one.
    pub resource: Resource,
    /// The soft limit; `None` means unlimited.
    pub soft: Option<u64>,
    /// The hard limit; `None` means unlimited.
    pub hard: Option<u64>,
}

/// The resources that can be limited, named as `--ulimit` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Resource {
    /// Size of core files, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// Size of the data segment, in bytes.
    Data,
    /// Size of written files, in bytes.
    Fsize,
    /// Number of file locks.
    Locks,
    /// Locked memory, in bytes.
    Memlock,
    /// Bytes in POSIX message queues.
    Msgqueue,
    /// Niceness ceiling.
    Nice,
    /// Open descriptors.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Resident set, in bytes.
    Rss,
    /// Real-time priority.
    Rtprio,
    /// Real-time processor time, in microseconds.
    Rttime,
    /// Queued signals.
    Sigpending,
    /// Stack size, in bytes.
    Stack,
}

impl Resource {
    /// The resource that `--ulimit NAME=…` means.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "core" => Self::Core,
            "cpu" => Self::Cpu,
            "data" => Self::Data,
            "fsize" => Self::Fsize,
            "locks" => Self::Locks,
            "memlock" => Self::Memlock,
            "msgqueue" => Self::Msgqueue,
            "nice" => Self::Nice,
            "nofile" => Self::Nofile,
            "nproc" => Self::Nproc,
            "rss" => Self::Rss,
            "rtprio" => Self::Rtprio,
            "rttime" => Self::Rttime,
            "sigpending" => Self::Sigpending,
            "stack" => Self::Stack,
            _ => return None,
        })
    }
}

/// What a program reads on descriptor 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Null,
    /// The embedding program's own descriptor 0.
    Inherit,
}

/// Where descriptors 1 and 2 of a program go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Through pipes to the `output` callback.
    Capture,
    /// To the embedding program's own descriptors; if descriptor 0 is inherited, too, and is a
    /// terminal, the program gets the terminal's foreground for the time of the run.
    Inherit,
}

/// Which of the two output descriptors a chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code; 127 and 126 also mean that it could not be found or executed, a
    /// line on its standard error then says so.
    Code(i32),
    /// A signal killed it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel killed something for lack of memory during the run.
        oom: bool,
    },
}

impl Exit {
    /// Whether the program ended with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}
