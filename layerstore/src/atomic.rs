//! How everything enters the store: written aside, then renamed. One place for all writes.
//!
//! *Invariant:* a reader sees the old or the new, never half. What is in progress lies in a
//! [`Staging`] directory under `work/`, whose descriptor is flock'd by its owner; a process that
//! dies leaves a directory without lock, which [`sweep`] removes. Nothing here waits for the disk: the
//! store does one `syncfs` at the end of a build (design, principle 6), and large files are sent ahead of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::{
    StoreError,
    early_sync::{EarlySync, LargeFile},
    limits::RECORD_BYTES_MAX,
};

/// A directory for work in progress, removed on drop, swept if its process dies.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// Holds the lock that says the owner lives.
    _lock: File,
    next: AtomicU64,
    early: Arc<EarlySync>,
    is_left: bool,
}

/// How the name of a directory begins that was left to be swept, not lost by a process that died.
pub(crate) const LEFT_PREFIX: &str = "old-";
/// How often a directory is tried again that a sweeper took between its making and its locking.
const CREATE_ATTEMPTS: u32 = 100;
/// How often a directory is removed again in which a file appeared meanwhile.
const CLOSE_ATTEMPTS: u32 = 10;

impl Staging {
    /// A new directory in `work`, which is made if missing.
    pub fn create(work: &Path) -> Result<Staging, StoreError> {
        fs::create_dir_all(work).map_err(StoreError::io("create", work))?;
        for _ in 0..CREATE_ATTEMPTS {
            let directory = tempfile::Builder::new()
                .prefix("w-")
                .tempdir_in(work)
                .map_err(StoreError::io("create a directory in", work))?;
            let lock =
                open_directory(directory.path()).map_err(StoreError::io("open", directory.path()));
            let Ok(lock) = lock else { continue };
            let locked = flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok();
            if locked && is_still(&lock, directory.path()) {
                let path = directory.keep();
                return Ok(Staging {
                    path,
                    _lock: lock,
                    next: AtomicU64::new(0),
                    early: Arc::default(),
                    is_left: false,
                });
            }
        }
        let source = io::Error::from(io::ErrorKind::WouldBlock);
        Err(StoreError::Io { action: "lock a new directory in", path: work.to_owned(), source })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name in the directory that was not given before.
    pub fn new_name(&self) -> PathBuf {
        self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// A new empty file in the directory, open for reading and writing.
    pub fn new_file(&self) -> Result<(PathBuf, File), StoreError> {
        let path = self.new_name();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
            .map_err(StoreError::io("create", &path))?;
        Ok((path, file))
    }

    /// A new empty file for much, which goes to the disk while it is written.
    pub(crate) fn new_large_file(&self) -> Result<(PathBuf, LargeFile), StoreError> {
        let (path, file) = self.new_file()?;
        Ok((path, LargeFile::new(file, Arc::clone(&self.early))))
    }

    /// The way of large files to the disk.
    pub(crate) fn early(&self) -> &Arc<EarlySync> {
        &self.early
    }

    /// What became of large files on their way to the disk since this was asked last.
    pub(crate) fn early_sync(&self) -> io::Result<()> {
        self.early.result()
    }

    /// A new empty directory in the directory.
    pub fn new_dir(&self) -> Result<PathBuf, StoreError> {
        let path = self.new_name();
        fs::create_dir(&path).map_err(StoreError::io("create", &path))?;
        Ok(path)
    }

    /// Writes `bytes` to `target` so that readers see all or nothing of them.
    pub fn write(&self, target: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let (path, mut file) = self.new_file()?;
        file.write_all(bytes).map_err(StoreError::io("write", &path))?;
        drop(file);
        publish(&path, target)
    }

    /// Writes `bytes` to `target` unless something is there; whether it was written. Of several that write
    /// at once, one does.
    pub fn write_new(&self, target: &Path, bytes: &[u8]) -> Result<bool, StoreError> {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
        }
        let (path, mut file) = self.new_file()?;
        file.write_all(bytes).map_err(StoreError::io("write", &path))?;
        drop(file);
        // Unlike a rename, a link takes nobody's place.
        let linked = match fs::hard_link(&path, target) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            // Where there are no links, the last of them counts.
            Err(_) => return publish(&path, target).map(|()| true),
        };
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        Ok(linked)
    }
}

impl Staging {
    /// Removes everything that is being written, and the directory, so that nothing more can be.
    pub(crate) fn close(&self) {
        // Somebody may make a file between the last look and the removal of the directory.
        for _ in 0..CLOSE_ATTEMPTS {
            if remove_tree(&self.path).is_ok() || !self.path.exists() {
                break;
            }
        }
    }

    /// Ends the ownership and removes nothing: what is in it is for the next [`sweep`].
    pub fn leave(mut self) {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let left = self.path.with_file_name(format!("{LEFT_PREFIX}{name}"));
        // Under the old name it would be taken for what a dead process left, and be swept as well.
        fs::rename(&self.path, left).unwrap_or_default();
        self.is_left = true;
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_left {
            // Nobody is told: what stays is swept later.
            remove_tree(&self.path).unwrap_or_default();
        }
    }
}

/// Renames a finished file to its place.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).or_else(|error| {
        let Some(parent) = to.parent().filter(|_| error.kind() == io::ErrorKind::NotFound) else {
            return Err(StoreError::Io { action: "publish", path: to.to_owned(), source: error });
        };
        fs::create_dir_all(parent).map_err(StoreError::io("create", parent))?;
        fs::rename(from, to).map_err(StoreError::io("publish", to))
    })
}

/// Removes the directories under `work` whose owners are gone; says how many.
pub fn sweep(work: &Path) -> Result<usize, StoreError> {
    sweep_while(work, &|| true)
}

/// As [`sweep`], and stops soon after `go_on` says no.
pub(crate) fn sweep_while(work: &Path, go_on: &dyn Fn() -> bool) -> Result<usize, StoreError> {
    let mut swept = 0;
    let entries = match fs::read_dir(work) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StoreError::io("read", work)(error)),
    };
    for entry in entries {
        let path = entry.map_err(StoreError::io("read", work))?.path();
        let directory = match open_directory(&path) {
            Ok(directory) => directory,
            // Whoever works here has a directory.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                swept += usize::from(fs::remove_file(&path).is_ok());
                continue;
            }
            Err(_) => continue,
        };
        if flock(directory.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_still(&directory, &path)
        {
            if !remove_while(&path, go_on).map_err(StoreError::io("remove", &path))? {
                break;
            }
            swept += 1;
        }
    }
    Ok(swept)
}

/// Removes a tree of ours, entry by entry, while `go_on` says so; says whether it is gone.
fn remove_while(directory: &Path, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(directory)?;
            fs::read_dir(directory)?
        }
        other => other?,
    };
    for entry in entries {
        if !go_on() {
            return Ok(false);
        }
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if !remove_while(&entry.path(), go_on)? {
                return Ok(false);
            }
        } else if fs::remove_file(entry.path()).is_err() {
            remove_tree(directory)?;
            return Ok(true);
        }
    }
    remove_tree(directory)?;
    Ok(true)
}

/// Removes a tree of ours even where its directories deny writing to their owner.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open_up(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

pub(crate) fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Is the open directory still the one at `path`?
fn is_still(directory: &File, path: &Path) -> bool {
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    let there = fs::symlink_metadata(path);
    matches!((directory.metadata(), there), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

/// Opens what must be a plain file. A named pipe in its place would be waited for, and a device have no
/// end; both are invalid input.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"))
}

/// As [`open_file`]; what is no plain file is damage.
pub(crate) fn open_stored(path: &Path) -> Result<File, StoreError> {
    open_file(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => {
            StoreError::Damaged { path: path.to_owned(), what: error.to_string() }
        }
        _ => StoreError::io("open", path)(error),
    })
}

/// Reads a small file whole; `None` if there is none, an error if it is too large to be ours.
pub(crate) fn read_record(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    read_bounded(path, RECORD_BYTES_MAX)
}

/// As [`read_record`], of what is made again where it is damaged: then it is empty.
pub(crate) fn read_hint(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match read_record(path) {
        Err(StoreError::Damaged { .. }) => Ok(Some(Vec::new())),
        read => read,
    }
}

/// As [`read_record`], up to `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match open_stored(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let size = file.metadata().map_err(StoreError::io("stat", path))?.len();
    let mut bytes = Vec::with_capacity(size.min(limit) as usize);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > limit {
        let what = format!("it is over the limit of {limit} bytes");
        return Err(StoreError::Damaged { path: path.to_owned(), what });
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_owner_is_not_swept() {
        let root = tempfile::tempdir().unwrap();
        let staging = Staging::create(root.path()).unwrap();
        let dead = root.path().join("w-dead");
        fs::create_dir_all(dead.join("sub")).unwrap();
        assert_eq!(sweep(root.path()).unwrap(), 1);
        assert!(staging.path().exists() && !dead.exists());
        staging.write(&root.path().join("new/name"), b"bytes").unwrap();
        assert_eq!(fs::read(root.path().join("new/name")).unwrap(), b"bytes");
        let path = staging.path().to_owned();
        drop(staging);
        assert!(!path.exists());
    }
}
