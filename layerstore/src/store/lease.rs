//! Leases: what is in use, in files that their owners hold locked.
//!
//! ```text
//! lapstrake-lease 1 <nanoseconds since 1970 when it began, by the file system's own clock>
//! layer <short id>
//! blob sha256:<hex>
//! ```
//! The owner holds an flock on the file; a file without a lock is of a dead process and is swept.
//! While a lease lives, nothing that it names is deleted, nor anything that was made or touched
//! since it began. Files are made, and lines are added, under the store's shared lock.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::{Store, lock};
use crate::{Digest, ShortId, StoreError, atomic::read_bounded, blobs::Blobs, layers::Layer};

const HEADER: &str = "lapstrake-lease 1 ";
/// Largest lease file that is read: half a million lines.
const LEASE_BYTES_MAX: u64 = 32 << 20;

/// A promise of the store: what it names stays until it is dropped.
#[derive(Debug)]
pub struct Lease {
    root: PathBuf,
    path: PathBuf,
    blobs: Blobs,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    held: HashSet<Held>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Held {
    Layer(ShortId),
    Blob(Digest),
}

/// What a lease file says.
#[derive(Debug)]
pub(super) struct LeaseFile {
    /// When it began, in nanoseconds since 1970.
    pub began: i128,
    pub held: Vec<Held>,
}

impl Store {
    /// Takes a lease; everything that is made or held from now on stays until it is dropped.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        let directory = self.root().join("leases");
        let _lock = lock::shared(self.root())?;
        let file = tempfile::Builder::new()
            .prefix("l-")
            .tempfile_in(&directory)
            .map_err(StoreError::io("create a lease in", &directory))?;
        let (mut file, path) = file
            .keep()
            .map_err(|error| StoreError::io("keep", directory.join("a lease"))(error.error))?;
        flock(file.as_fd(), FlockOperation::LockExclusive)
            .map_err(StoreError::io("lock", &path))?;
        let began =
            file.metadata().map(|meta| modified(&meta)).map_err(StoreError::io("stat", &path))?;
        writeln!(file, "{HEADER}{began}").map_err(StoreError::io("write", &path))?;
        // Packs that went before must not be believed in; those that are used from now on stay.
        self.contents().revalidate()?;
        let state = Mutex::new(State { file, held: HashSet::new() });
        Ok(Lease { root: self.root().to_owned(), path, blobs: self.blobs().clone(), state })
    }
}

impl Lease {
    /// Holds a layer; an error if it is not there (any more).
    pub fn hold(&self, layer: &ShortId) -> Result<(), StoreError> {
        self.add(Held::Layer(layer.clone()))
    }

    /// Holds all of these layers.
    pub fn hold_layers<'a>(
        &self,
        layers: impl IntoIterator<Item = &'a std::sync::Arc<Layer>>,
    ) -> Result<(), StoreError> {
        layers.into_iter().try_for_each(|layer| self.hold(layer.short()))
    }

    /// Holds a blob; an error if it is not there (any more).
    pub fn hold_blob(&self, blob: &Digest) -> Result<(), StoreError> {
        self.add(Held::Blob(*blob))
    }

    fn add(&self, held: Held) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.held.contains(&held) {
            return Ok(());
        }
        let _lock = lock::shared(&self.root)?;
        let line = match &held {
            Held::Layer(layer) => {
                if !self.root.join("layers").join(layer.as_str()).is_dir() {
                    return Err(StoreError::LayerMissing { layer: layer.clone() });
                }
                format!("layer {layer}\n")
            }
            Held::Blob(digest) => {
                if !self.blobs.has(digest) {
                    return Err(StoreError::BlobMissing { digest: *digest });
                }
                format!("blob {digest}\n")
            }
        };
        // One write each, so that a reader never sees half a line that means something else.
        state.file.write_all(line.as_bytes()).map_err(StoreError::io("write", &self.path))?;
        state.held.insert(held);
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Nobody is told: a file that stays is swept, since its lock ends now.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// The live leases; the files of dead owners are removed. Needs the exclusive lock.
pub(super) fn live(root: &Path) -> Result<Vec<LeaseFile>, StoreError> {
    let mut live = Vec::new();
    for path in lease_paths(root)? {
        if is_dead(&path)? {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", path)(error));
                }
                _ => continue,
            }
        }
        live.extend(read(&path)?);
    }
    Ok(live)
}

/// Every lease file, live or dead.
pub(super) fn lease_paths(root: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let directory = root.join("leases");
    let error = |error: io::Error| StoreError::io("read", &directory)(error);
    let entries = fs::read_dir(&directory).map_err(error)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(error)).collect()
}

/// Whether the owner of a lease file is gone.
pub(super) fn is_dead(path: &Path) -> Result<bool, StoreError> {
    // Nobody waits for a pipe that somebody put here.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(StoreError::io("open", path)(error)),
    }
}

/// Reads a lease file; none if its owner just dropped it.
pub(super) fn read(path: &Path) -> Result<Option<LeaseFile>, StoreError> {
    let Some(bytes) = read_bounded(path, LEASE_BYTES_MAX)? else { return Ok(None) };
    let damaged = |what: &str| StoreError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let text = String::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let mut lines = text.split_inclusive('\n');
    let began = lines
        .next()
        .and_then(|line| line.strip_prefix(HEADER))
        .and_then(|number| number.trim_end().parse().ok())
        .ok_or_else(|| damaged("its first line is not that of a lease"))?;
    let mut held = Vec::new();
    for line in lines {
        held.push(parse_line(line).ok_or_else(|| damaged("it has a line of another form"))?);
    }
    Ok(Some(LeaseFile { began, held }))
}

fn parse_line(line: &str) -> Option<Held> {
    let (kind, id) = line.strip_suffix('\n')?.split_once(' ')?;
    match kind {
        "layer" => id.parse().ok().map(Held::Layer),
        "blob" => id.parse().ok().map(Held::Blob),
        _ => None,
    }
}

/// The time of last modification in nanoseconds since 1970.
pub(super) fn modified(meta: &fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}
