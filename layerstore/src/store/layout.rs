//! `store.json`: what kind of store this is, and who may open it.
//!
//! ```json
//! {"version": 1, "features": [], "owner": {"uids": [...], "gids": [...]}, "overlay": "trusted"}
//! ```
//! Trees hold the ids and the overlay marks of whoever made them: a store is opened only with the
//! owner mapping and the overlay namespace that it was made with. A process that never touches
//! trees gives no mapping; then neither is compared, and the first one that gives one settles both.
//! An unknown feature is refused as an unknown version is: it says that old programs would do harm.

use std::{fmt, fs, io, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use super::lock;
use crate::{
    StoreError,
    atomic::{Staging, read_record, remove_tree},
    layers::OverlayXattr,
};

/// The version of the store's directory.
pub const STORE_VERSION: u32 = 1;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Make it if it is not there.
    pub create: bool,
    /// Where overlayfs will look for its marks.
    pub overlay_xattr: OverlayXattr,
    /// How the ids in trees map to those of the machine; none if no tree will be touched.
    pub owner_map: Option<OwnerMap>,
}

/// How the user and group ids of trees map to those of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerMap {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

/// One line of an id mapping, as in `/proc/self/uid_map`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdRange {
    /// The first id in the image.
    pub inside: u32,
    /// The first id on the machine.
    pub outside: u32,
    /// How many ids follow each other.
    pub length: u32,
}

impl OwnerMap {
    /// Real root: every id is itself.
    pub fn root() -> Self {
        let all = IdRange { inside: 0, outside: 0, length: u32::MAX };
        Self { uids: vec![all], gids: vec![all] }
    }
}

impl fmt::Display for OwnerMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::root() {
            return formatter.write_str("root");
        }
        let owner = self.uids.iter().find(|range| range.inside == 0);
        match owner {
            Some(range) => write!(formatter, "user {}", range.outside)?,
            None => formatter.write_str("nobody")?,
        }
        let ids: u64 = self.uids.iter().map(|range| u64::from(range.length)).sum();
        write!(formatter, " with {ids} ids")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Format {
    version: u32,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerMap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overlay: Option<OverlayName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OverlayName {
    Trusted,
    User,
}

/// Makes or checks the directory; the staging directory of this process is in it afterwards.
pub(super) fn prepare(root: &Path, options: &OpenOptions) -> Result<Arc<Staging>, StoreError> {
    let path = root.join("store.json");
    let known = read_record(&path)?;
    if known.is_none() {
        if !options.create {
            return Err(StoreError::NoStore { root: root.to_owned() });
        }
        make(root)?;
    }
    make_directories(root)?;
    let staging = Arc::new(Staging::create(&root.join("work"))?);
    let settled = match known {
        Some(bytes) => check(root, &decode(&path, &bytes)?, options)?,
        None => false,
    };
    if !settled {
        settle(root, options, &staging)?;
    }
    Ok(staging)
}

/// Takes away a `store.json` that cannot be read, and what stands where a directory should, so that
/// opening the store makes them anew; says which, and what was wrong. A `store.json` that can be read
/// stays, whatever it says; so does one of somebody else, whose ids the new one would not have.
pub(super) fn take_away_damaged(root: &Path) -> Result<Vec<(&'static str, String)>, StoreError> {
    let mark = root.join("store.json");
    let Ok(meta) = fs::symlink_metadata(&mark) else { return Ok(Vec::new()) };
    refuse_foreign(root)?;
    let mut taken = Vec::new();
    let mut take = |part: &'static str, what: String| {
        let path = root.join(part);
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        let removed = if is_dir { remove_tree(&path) } else { fs::remove_file(&path) };
        taken.push((part, what));
        removed.map_err(StoreError::io("remove", path))
    };
    if fs::symlink_metadata(root.join("lock")).is_ok_and(|meta| !meta.is_file()) {
        take("lock", "it is not a plain file".into())?;
    }
    let _lock = lock::exclusive(root)?;
    let known = read_record(&mark).and_then(|bytes| match bytes {
        Some(bytes) => decode(&mark, &bytes).map(drop),
        None => Ok(()),
    });
    match known {
        Err(StoreError::Damaged { what, .. }) if meta.uid() == geteuid().as_raw() => {
            take("store.json", what)?;
        }
        known => known?,
    }
    for part in DIRECTORIES {
        if fs::symlink_metadata(root.join(part)).is_ok_and(|meta| !meta.is_dir()) {
            take(part, NO_DIRECTORY.into())?;
        }
    }
    Ok(taken)
}

/// Makes the root; one that holds something else already is refused.
fn make(root: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(root).map_err(StoreError::io("create", root))?;
    refuse_foreign(root)
}

fn refuse_foreign(root: &Path) -> Result<(), StoreError> {
    let mut entries = fs::read_dir(root).map_err(StoreError::io("read", root))?;
    let foreign = entries.find_map(|entry| {
        let name = entry.ok()?.file_name();
        let ours = PARTS.iter().any(|part| name == *part);
        (!ours && name != "lost+found").then_some(name)
    });
    match foreign {
        None => Ok(()),
        Some(name) => {
            let found = name.to_string_lossy().into_owned();
            Err(StoreError::NotEmpty { root: root.to_owned(), found })
        }
    }
}

/// Makes the directories that are missing. A link in place of one is refused: what is deleted in
/// `work` must be the store's.
fn make_directories(root: &Path) -> Result<(), StoreError> {
    for part in DIRECTORIES {
        let path = root.join(part);
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(StoreError::Damaged { path, what: NO_DIRECTORY.into() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::io("create", path)(error));
                }
                _ => {}
            },
            Err(error) => return Err(StoreError::io("stat", path)(error)),
        }
    }
    Ok(())
}

const NO_DIRECTORY: &str = "it is not a directory";

/// The directories, each behind the one that it is in.
const DIRECTORIES: [&str; 11] = [
    "blobs",
    "blobs/sha256",
    "cache",
    "index",
    "index/diff",
    "layers",
    "leases",
    "mounts",
    "packs",
    "tags",
    "work",
];

/// Everything that a store's directory has.
pub(super) const PARTS: [&str; 11] = [
    "store.json",
    "lock",
    "blobs",
    "cache",
    "index",
    "layers",
    "leases",
    "mounts",
    "packs",
    "tags",
    "work",
];

/// Writes what is not settled yet, under the lock: another process may be doing the same.
fn settle(root: &Path, options: &OpenOptions, staging: &Staging) -> Result<(), StoreError> {
    let _lock = lock::exclusive(root)?;
    let path = root.join("store.json");
    if let Some(bytes) = read_record(&path)?
        && check(root, &decode(&path, &bytes)?, options)?
    {
        return Ok(());
    }
    let overlay = options.owner_map.as_ref().map(|_| overlay_name(options.overlay_xattr));
    let format = Format {
        version: STORE_VERSION,
        features: Vec::new(),
        owner: options.owner_map.clone(),
        overlay,
    };
    let mut bytes = serde_json::to_vec_pretty(&format).expect("because the keys are plain strings");
    bytes.push(b'\n');
    staging.write(&path, &bytes)
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Format, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Damaged { path: path.to_owned(), what: error.to_string() })
}

/// Refuses a store that is not for us; says whether everything that was asked for is settled.
fn check(root: &Path, format: &Format, options: &OpenOptions) -> Result<bool, StoreError> {
    let root = root.to_owned();
    if format.version != STORE_VERSION {
        let (found, known) = (format.version, STORE_VERSION);
        return Err(StoreError::StoreVersion { root, found, known });
    }
    if let Some(feature) = format.features.first() {
        return Err(StoreError::StoreFeature { root, feature: feature.clone() });
    }
    let Some(given) = &options.owner_map else { return Ok(true) };
    let Some(recorded) = &format.owner else { return Ok(false) };
    if recorded != given {
        let (recorded, given) = (recorded.to_string(), given.to_string());
        return Err(StoreError::OtherOwner { root, recorded, given });
    }
    let overlay = overlay_name(options.overlay_xattr);
    match format.overlay {
        Some(recorded) if recorded != overlay => {
            let name = |overlay| if overlay == OverlayName::User { "user" } else { "trusted" };
            Err(StoreError::OtherOverlay { root, recorded: name(recorded), given: name(overlay) })
        }
        recorded => Ok(recorded.is_some()),
    }
}

fn overlay_name(overlay: OverlayXattr) -> OverlayName {
    match overlay {
        OverlayXattr::Trusted => OverlayName::Trusted,
        OverlayXattr::User => OverlayName::User,
    }
}
