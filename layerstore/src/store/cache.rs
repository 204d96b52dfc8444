//! The build cache: what a step made, by the key of everything that went into it.
//!
//! ```text
//! cache/keys/<2 hex>/<hex of key>   CacheRecord: the result of a step
//! cache/builds/<id>                 what a build did, for `lap explain`              (builds.rs)
//! cache/slots/<hash of slot>        the newest build of a Dockerfile, to compare with (builds.rs)
//! cache/memos/<hash of name>        whatever the builder wants to remember (hashes of files)
//! ```
//! Every file is `lapcache 1 <BLAKE3 of the rest>\n` and the rest. Nothing here is ever needed: a
//! file that is damaged, cut short, or of another version is as if it were not there, so nothing is
//! synced. A record counts only while its layer is there; using one makes its file young, which is
//! what pruning by age looks at.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Lease, Store, checked, hashed_name, image::touch};
use crate::{LayerId, StoreError, atomic::read_bounded};

/// The version of the cache's files.
pub const CACHE_VERSION: u32 = 1;
const HEADER: &str = "lapcache 1 ";
/// Largest file of the cache: hashes of a million files.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// A record used more often than this is not touched each time: a build that does nothing writes
/// nothing.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);

/// The key of a build step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey(pub [u8; 32]);

/// What a step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// The layer; none if the step changes only the config.
    pub layer: Option<LayerId>,
    /// When, in seconds since 1970.
    pub created_unix: i64,
    /// The step in words.
    pub step: String,
    /// What went into the key, readable, to explain a miss.
    pub inputs: serde_json::Value,
}

impl CacheKey {
    /// The 64 hexadecimal characters.
    pub fn hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

impl fmt::Display for CacheKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.hex())
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for CacheKey {
    type Err = crate::digest::DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<LayerId>().map(|id| Self(*id.as_bytes()))
    }
}

impl Store {
    /// The result for this key, whose layer the lease holds from now on.
    ///
    /// None if there is none, if it is damaged, or if its layer is gone.
    pub fn cache_get(&self, key: &CacheKey, lease: &Lease) -> Option<CacheRecord> {
        let path = self.cache_path(key);
        let record: CacheRecord = read_checked(&path)?;
        if let Some(id) = &record.layer {
            self.layers().ready(self.layers().by_id(id).ok()?).ok()??;
            lease.hold(&id.short()).ok()?;
        }
        let young = |modified: SystemTime| modified.elapsed().is_ok_and(|age| age < TOUCH_INTERVAL);
        if !fs::metadata(&path).and_then(|meta| meta.modified()).is_ok_and(young) {
            // A cache that cannot be written (read-only root) is still a cache.
            touch(&path).unwrap_or_default();
        }
        Some(record)
    }

    /// The record of a key as it stands, whether its layer is there or not: to explain, not to use.
    pub fn cache_peek(&self, key: &CacheKey) -> Option<CacheRecord> {
        read_checked(&self.cache_path(key))
    }

    /// Is no result remembered at all? A cache that cannot be read is not known to be empty.
    pub fn cache_is_empty(&self) -> bool {
        let is_empty =
            |directory: &Path| super::gc::list(directory).is_ok_and(|all| all.is_empty());
        super::gc::list(&self.cache_dir("keys"))
            .is_ok_and(|all| all.iter().all(|directory| is_empty(directory)))
    }

    /// Remembers a result.
    pub fn cache_put(&self, key: &CacheKey, record: &CacheRecord) -> Result<(), StoreError> {
        self.write_checked(&self.cache_path(key), record)
    }

    /// Remembers a result unless there is one for this key; whether it was remembered. Of several builds
    /// that make the same key at once, one's result counts.
    pub fn cache_add(&self, key: &CacheKey, record: &CacheRecord) -> Result<bool, StoreError> {
        let json = serde_json::to_vec(record).expect("because the keys are plain strings");
        self.staging().write_new(&self.cache_path(key), &checked::wrap(HEADER, &json))
    }

    /// What was remembered under this name.
    pub fn memo_get(&self, name: &str) -> Option<Vec<u8>> {
        read_bytes(&self.cache_dir("memos").join(hashed_name(name)))
    }

    /// Remembers bytes under this name.
    pub fn memo_put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_checked_bytes(&self.cache_dir("memos").join(hashed_name(name)), bytes)
    }

    fn cache_path(&self, key: &CacheKey) -> PathBuf {
        let hex = key.hex();
        self.cache_dir("keys").join(&hex[..2]).join(hex)
    }

    pub(super) fn cache_dir(&self, part: &str) -> PathBuf {
        self.root().join("cache").join(part)
    }

    pub(super) fn write_checked<T: Serialize>(
        &self,
        path: &Path,
        value: &T,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_vec(value).expect("because the keys are plain strings");
        self.write_checked_bytes(path, &json)
    }

    pub(super) fn write_checked_bytes(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        self.staging().write(path, &checked::wrap(HEADER, bytes))
    }
}

/// A record of the cache on disk, for gc and fsck.
#[derive(Debug)]
pub(super) struct RecordFile {
    pub path: PathBuf,
    /// None if the file is damaged.
    pub record: Option<CacheRecord>,
    /// When it was last used.
    pub used: SystemTime,
    pub size: u64,
}

/// Every record of the cache.
pub(super) fn records(store: &Store) -> Result<Vec<RecordFile>, StoreError> {
    let mut records = Vec::new();
    for directory in super::gc::list(&store.cache_dir("keys"))? {
        for path in super::gc::list(&directory)? {
            // One that is gone was pruned by another process.
            let Ok(meta) = fs::metadata(&path) else { continue };
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let record = read_checked(&path).filter(|_| named_well(&path));
            records.push(RecordFile { path, record, used, size: meta.len() });
        }
    }
    Ok(records)
}

fn named_well(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.parse::<CacheKey>().is_ok())
}

/// Whether a build, a slot or a memo is whole.
pub(super) fn is_whole(path: &Path) -> bool {
    read_bytes(path).is_some()
}

pub(super) fn read_checked<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&read_bytes(path)?).ok()
}

/// What stands below a file's header, if the file is whole.
pub(super) fn read_bytes(path: &Path) -> Option<Vec<u8>> {
    checked::unwrap(HEADER, read_bounded(path, FILE_BYTES_MAX).ok()??)
}
