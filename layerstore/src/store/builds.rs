//! What past builds did: one report each, and the newest one of each Dockerfile.
//!
//! ```text
//! cache/builds/<id>              the builder's report, as bytes
//! cache/slots/<hash of slot>     the id of the newest build of this slot (a Dockerfile in its context)
//! ```
//! Both have the cache's header and checksum, and are as little needed: see [`super::cache`]. Of the
//! reports the newest [`BUILDS_KEPT`] stay.

use std::{fmt, fs, path::Path, str::FromStr, time::SystemTime};

use super::{
    Store,
    cache::{read_bytes, read_checked},
    gc, hashed_name,
};
use crate::StoreError;

/// How many builds are remembered: a few days of a developer's work, a few megabytes.
pub const BUILDS_KEPT: usize = 200;
/// Old reports go in batches, so that not every build has to look at the age of each.
const BUILDS_SLACK: usize = 50;
/// Characters of an id.
const ID_CHARS: usize = 16;

/// Names a build: the first characters of the hash of its report.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildId(String);

/// No id of a build.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no id of a build: {ID_CHARS} hexadecimal characters")]
pub struct BuildIdError(String);

impl BuildId {
    /// The id of a report.
    pub fn of(report: &[u8]) -> Self {
        Self(blake3::hash(report).to_hex()[..ID_CHARS].to_owned())
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BuildId {
    type Err = BuildIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        if text.len() == ID_CHARS && text.chars().all(is_hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(BuildIdError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for BuildId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Store {
    /// Remembers a report as the newest of its slot; its id.
    pub fn build_put(&self, slot: &str, report: &[u8]) -> Result<BuildId, StoreError> {
        let id = BuildId::of(report);
        self.write_checked_bytes(&self.cache_dir("builds").join(id.as_str()), report)?;
        let slot = self.cache_dir("slots").join(hashed_name(slot));
        self.write_checked(&slot, &id.as_str())?;
        self.forget_old_builds()?;
        Ok(id)
    }

    /// The newest build of this slot.
    pub fn build_newest(&self, slot: &str) -> Option<BuildId> {
        let id: String = read_checked(&self.cache_dir("slots").join(hashed_name(slot)))?;
        id.parse().ok()
    }

    /// Whether a slot's file names a build that is still remembered.
    pub(super) fn leads_to_build(&self, slot: &Path) -> bool {
        let id = read_checked(slot).and_then(|id: String| id.parse::<BuildId>().ok());
        id.is_some_and(|id| self.cache_dir("builds").join(id.as_str()).exists())
    }

    /// The report of a build.
    pub fn build_get(&self, id: &BuildId) -> Option<Vec<u8>> {
        read_bytes(&self.cache_dir("builds").join(id.as_str()))
    }

    /// All builds that are remembered, newest first.
    pub fn builds(&self) -> Result<Vec<(BuildId, SystemTime)>, StoreError> {
        let mut builds = Vec::new();
        for path in gc::list(&self.cache_dir("builds"))? {
            let id = path.file_name().and_then(|name| name.to_str()).map(str::parse);
            // One that is gone was pruned by another process.
            let made = fs::metadata(&path).and_then(|meta| meta.modified());
            if let (Some(Ok(id)), Ok(made)) = (id, made) {
                builds.push((id, made));
            }
        }
        builds.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
        Ok(builds)
    }

    fn forget_old_builds(&self) -> Result<(), StoreError> {
        if gc::list(&self.cache_dir("builds"))?.len() <= BUILDS_KEPT + BUILDS_SLACK {
            return Ok(());
        }
        for (id, _) in self.builds()?.drain(BUILDS_KEPT..) {
            let path = self.cache_dir("builds").join(id.as_str());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
