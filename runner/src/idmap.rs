//! Which ids inside a user namespace are which outside: reading the files that say what a user may
//! map, and planning the map.
//!
//! ```text
//! /etc/subuid            lapuser:100000:65536          name or uid : first outside id : how many
//! /proc/PID/uid_map      0 1000 1                      inside : outside : how many
//!                        1 100000 65536
//! ```

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::EnterError;
use crate::limits::{ID_FILE_MAX_BYTES, ID_RANGES_MAX};

/// A run of consecutive ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IdRange {
    /// The first id inside the namespace.
    pub inside: u32,
    /// The first id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The whole map of one kind of id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdMap(pub Vec<IdRange>);

/// The maps of users and groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdMaps {
    /// Of user ids.
    pub users: IdMap,
    /// Of group ids.
    pub groups: IdMap,
}

impl IdMap {
    /// Every id is itself.
    pub fn identity() -> Self {
        Self(vec![IdRange { inside: 0, outside: 0, count: u32::MAX }])
    }

    /// Only root exists, and is `outside`.
    pub fn single(outside: u32) -> Self {
        Self(vec![IdRange { inside: 0, outside, count: 1 }])
    }

    /// Root is `own`, ids from 1 on are the ranges given, in their order.
    pub(crate) fn with_ranges(own: u32, ranges: &[SubRange]) -> Self {
        let mut map = Self::single(own);
        let mut inside = 1_u32;
        for range in ranges.iter().take(ID_RANGES_MAX - 1) {
            let Some(next) = inside.checked_add(range.count) else { break };
            map.0.push(IdRange { inside, outside: range.first, count: range.count });
            inside = next;
        }
        map
    }

    /// Whether the id exists inside.
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|range| id >= range.inside && id - range.inside < range.count)
    }

    /// The outside id of an inside one.
    pub fn to_outside(&self, id: u32) -> Option<u32> {
        let range =
            self.0.iter().find(|range| id >= range.inside && id - range.inside < range.count)?;
        range.outside.checked_add(id - range.inside)
    }

    /// Whether every id is itself, as in the first user namespace of a machine.
    pub fn is_identity(&self) -> bool {
        *self == Self::identity()
    }

    /// The map as `/proc/PID/uid_map` takes and shows it.
    pub(crate) fn parse(text: &str) -> Self {
        let range = |line: &str| {
            let mut words = line.split_ascii_whitespace().map(str::parse::<u32>);
            let mut next = || words.next().and_then(Result::ok);
            Some(IdRange { inside: next()?, outside: next()?, count: next()? })
        };
        Self(text.lines().filter_map(range).collect())
    }

    /// The map as arguments of `newuidmap`.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .flat_map(|range| [range.inside, range.outside, range.count])
            .map(|id| id.to_string())
    }
}

impl IdMaps {
    /// The maps of this process. A kernel without user namespaces has none, so identity.
    pub fn current() -> Self {
        let read = |path: &str| {
            let text = std::fs::read_to_string(path);
            text.map_or_else(|_absent| IdMap::identity(), |text| IdMap::parse(&text))
        };
        Self { users: read("/proc/self/uid_map"), groups: read("/proc/self/gid_map") }
    }

    /// Whether ids are those of the machine.
    pub fn is_identity(&self) -> bool {
        self.users.is_identity() && self.groups.is_identity()
    }
}

/// A range of ids that a user may map, from `/etc/subuid` or `/etc/subgid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SubRange {
    /// The first outside id.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The ranges that belong to a user, in the file's order; lines that make no sense are skipped, as
/// `newuidmap` does.
pub(crate) fn sub_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<SubRange> {
    let uid = uid.to_string();
    let range = |line: &str| {
        let mut words = line.trim().split(':');
        let owner = words.next()?;
        if Some(owner) != name && owner != uid {
            return None;
        }
        let first = words.next()?.parse().ok()?;
        let count = words.next()?.parse().ok().filter(|count| *count > 0)?;
        u32::checked_add(first, count).map(|_end| SubRange { first, count })
    };
    text.lines().filter_map(range).collect()
}

/// The login name of a uid in the text of `/etc/passwd`.
pub(crate) fn login_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut words = line.split(':');
        let name = words.next()?;
        let id: u32 = words.nth(1)?.parse().ok()?;
        (id == uid).then_some(name)
    })
}

/// The ranges of users and groups that the machine's files give to a user.
pub(crate) fn sub_ranges_of(uid: u32) -> Result<(Vec<SubRange>, Vec<SubRange>), EnterError> {
    let passwd = read_bounded(Path::new("/etc/passwd"))?;
    let name = login_name(&passwd, uid).map(str::to_owned).or_else(|| {
        // A user of a directory service is not in the file.
        nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name)
    });
    let name = name.as_deref();
    let users = sub_ranges(&read_bounded(Path::new("/etc/subuid"))?, name, uid);
    let groups = sub_ranges(&read_bounded(Path::new("/etc/subgid"))?, name, uid);
    Ok((users, groups))
}

/// A text file, empty if it does not exist; bytes that are no text cannot name an ASCII user.
fn read_bounded(path: &Path) -> Result<String, EnterError> {
    let error = |source| EnterError::Read { path: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(other) => return Err(error(other)),
    };
    let mut bytes = Vec::new();
    file.take(ID_FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > ID_FILE_MAX_BYTES {
        return Err(error(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds a program in the directories given, in their order.
pub(crate) fn find_program(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBUID: &str = "root:1:2\nalice:100000:65536\n1000:300000:10\nbroken:1\nalice:x:1\n\
                          alice:400000:0\nalice:4294967295:5\nalice:500000:5\n";

    #[test]
    fn ranges_by_name_and_by_uid() {
        let ranges = sub_ranges(SUBUID, Some("alice"), 1000);
        let pairs: Vec<_> = ranges.iter().map(|range| (range.first, range.count)).collect();
        assert_eq!(pairs, [(100_000, 65_536), (300_000, 10), (500_000, 5)]);
        assert_eq!(sub_ranges(SUBUID, None, 1000).len(), 1);
        assert_eq!(sub_ranges(SUBUID, Some("bob"), 1001), []);
    }

    #[test]
    fn map_puts_ranges_one_after_another() {
        let map = IdMap::with_ranges(1000, &sub_ranges(SUBUID, Some("alice"), 1000));
        let words: Vec<_> = map.arguments().collect();
        assert_eq!(words.join(" "), "0 1000 1 1 100000 65536 65537 300000 10 65547 500000 5");
        assert_eq!(map.to_outside(0), Some(1000));
        assert_eq!(map.to_outside(5), Some(100_004));
        assert_eq!(map.to_outside(65_538), Some(300_001));
        assert!(!map.contains(65_552));
    }

    #[test]
    fn kernel_form_is_read() {
        let map = IdMap::parse("         0          0 4294967295\n");
        assert!(map.is_identity());
        assert!(!IdMap::parse("0 1000 1\n").is_identity());
    }

    #[test]
    fn login_names() {
        let passwd = "root:x:0:0::/:/bin/sh\nbad\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(login_name(passwd, 1000), Some("alice"));
        assert_eq!(login_name(passwd, 7), None);
    }
}
