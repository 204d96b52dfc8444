//! What this machine lets the runner do: a few cheap facts for every run, and a thorough probe for
//! `lap doctor`.

use crate::idmap::IdMaps;

/// The facts that a plan depends on; cheap to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether this process is in a user namespace of its own.
    pub user_namespace: bool,
    /// Whether the group of terminals (gid 5) exists.
    pub terminal_group: bool,
    /// Whether `/sys/fs/cgroup` is the unified hierarchy.
    pub unified_cgroup: bool,
}

impl Facts {
    /// The facts about this process.
    pub fn current() -> Self {
        let maps = IdMaps::current();
        Self {
            user_namespace: !maps.is_identity(),
            terminal_group: maps.groups.contains(5),
            unified_cgroup: is_cgroup2("/sys/fs/cgroup"),
        }
    }
}

/// Type number of the cgroup2 file system, from `linux/magic.h`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

fn is_cgroup2(path: &str) -> bool {
    rustix::fs::statfs(path).is_ok_and(|about| about.f_type as u64 == CGROUP2_MAGIC)
}
