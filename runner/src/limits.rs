//! Every limit of this crate, with its reason.

/// Default size of `/dev/shm`: what the reference builder gives a step.
pub const SHM_SIZE_DEFAULT_BYTES: u64 = 64 << 20;

/// Size of the `/dev` file system: device nodes and links need nothing, this bounds a program that
/// writes regular files there.
pub(crate) const DEV_SIZE_BYTES: u64 = 64 << 20;

/// Processes and threads of a step, on kernels that count them for each pid namespace. A build on a large
/// machine has some thousands; a program that forks without end stops here, before the machine does.
pub(crate) const STEP_PROCESSES_MAX: u32 = 16_384;

/// Largest set-up message a child accepts: 500 layers of long paths, an environment of 2 MiB (more
/// cannot be executed) and a few secrets (each bounded by the caller) fit many times over.
pub(crate) const MESSAGE_MAX_BYTES: u64 = 64 << 20;

/// Largest report a child may send: one line with a path (at most 4 KiB, escaped) and an errno.
pub(crate) const REPORT_MAX_BYTES: usize = 64 << 10;

/// Bytes read from an output pipe at once: the capacity of a pipe.
pub(crate) const OUTPUT_CHUNK_BYTES: usize = 64 << 10;

/// Longest chain of symbolic links followed when a mount target is made; the kernel's own limit.
pub(crate) const SYMLINKS_MAX: usize = 40;

/// How often a lookup inside the root is tried again when the machine's mounts or names change under
/// it: each attempt takes microseconds, and no machine mounts without a pause.
pub(crate) const LOOKUP_ATTEMPTS_MAX: usize = 10_000;

/// Layers the kernel's overlayfs takes (`OVL_MAX_STACK`).
pub(crate) const LOWERS_MAX: usize = 500;

/// Most mounts stacked on one stub that are taken off before it is removed; more than a caller can
/// ask for in one message, and it ends a loop that the kernel would otherwise have to end.
pub(crate) const UNMOUNTS_MAX: usize = 1000;

/// How often a run looks at its cancel flag when the machine had no descriptor left for an eventfd.
pub(crate) const CANCEL_POLL_MILLIS: i64 = 50;

/// Largest `/etc/subuid`, `/etc/subgid` or `/etc/passwd` that is read: a site with 100,000 users
/// needs a few MiB.
pub(crate) const ID_FILE_MAX_BYTES: u64 = 16 << 20;

/// Most ranges written into one id map; the kernel takes 340.
pub(crate) const ID_RANGES_MAX: usize = 340;
