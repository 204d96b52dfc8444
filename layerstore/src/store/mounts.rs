//! Directories for `RUN --mount=type=cache`: they outlive builds and are in no image.
//!
//! ```text
//! mounts/<hash of id>/id        the id in words
//!                     <n>/      a directory: 0 is the one that is shared or locked
//!                     <n>.lock  flock'd by whoever uses the directory
//! ```
//! `shared` takes directory 0 with a shared lock, `locked` waits for 0 alone, `private` takes the
//! first directory that nobody else uses. A directory appears complete, by rename, with what its
//! first user puts in. Pruning removes only what nobody uses.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{Store, hashed_name, image::touch};
use crate::StoreError;

/// Most private copies of one cache mount: as many RUN steps never run at once.
const PRIVATE_COPIES_MAX: usize = 1024;

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Each has one of its own.
    Private,
    /// One after the other.
    Locked,
}

/// A cache mount in use; free again on drop.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    _lock: File,
}

impl CacheMount {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Store {
    /// The directory of the cache mount `id`.
    ///
    /// `fill` is given the empty directory if it is new. `waiting` is called once if somebody else
    /// has to finish first.
    pub fn cache_mount(
        &self,
        id: &str,
        sharing: Sharing,
        fill: &mut dyn FnMut(&Path) -> io::Result<()>,
        waiting: &mut dyn FnMut(),
    ) -> Result<CacheMount, StoreError> {
        let home = self.root().join("mounts").join(hashed_name(id));
        fs::create_dir_all(&home).map_err(StoreError::io("create", &home))?;
        let name = home.join("id");
        if !name.exists() {
            self.staging().write(&name, id.as_bytes())?;
        }
        let (number, lock) = match sharing {
            Sharing::Shared => (0, lock_waiting(&home, FlockOperation::LockShared, waiting)?),
            Sharing::Locked => (0, lock_waiting(&home, FlockOperation::LockExclusive, waiting)?),
            Sharing::Private => lock_free(&home)?,
        };
        // The lock's file says when the mount was last used.
        touch(&home.join(format!("{number}.lock")))?;
        let path = home.join(number.to_string());
        if !path.is_dir() {
            self.make_mount(&path, fill)?;
        }
        Ok(CacheMount { path, _lock: lock })
    }

    /// Makes the directory; where two shared users race, the first one's counts.
    fn make_mount(
        &self,
        path: &Path,
        fill: &mut dyn FnMut(&Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let made = self.staging().new_dir()?;
        fill(&made).map_err(StoreError::io("fill the cache mount", path))?;
        match fs::rename(&made, path) {
            Err(_) if path.is_dir() => {
                crate::atomic::remove_tree(&made).map_err(StoreError::io("remove", made))
            }
            result => result.map_err(StoreError::io("publish", path)),
        }
    }
}

fn lock_file(home: &Path, number: usize) -> Result<(File, PathBuf), StoreError> {
    let path = home.join(format!("{number}.lock"));
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    Ok((file, path))
}

fn lock_waiting(
    home: &Path,
    operation: FlockOperation,
    waiting: &mut dyn FnMut(),
) -> Result<File, StoreError> {
    let (file, path) = lock_file(home, 0)?;
    let at_once = match operation {
        FlockOperation::LockShared => FlockOperation::NonBlockingLockShared,
        _ => FlockOperation::NonBlockingLockExclusive,
    };
    if flock(file.as_fd(), at_once).is_ok() {
        return Ok(file);
    }
    waiting();
    loop {
        match flock(file.as_fd(), operation) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(StoreError::io("lock", path)(error)),
        }
    }
}

fn lock_free(home: &Path) -> Result<(usize, File), StoreError> {
    for number in 0..PRIVATE_COPIES_MAX {
        let (file, _) = lock_file(home, number)?;
        if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok((number, file));
        }
    }
    let source = io::Error::from(io::ErrorKind::WouldBlock);
    Err(StoreError::Io { action: "find a free directory in", path: home.to_owned(), source })
}

/// One directory of a cache mount, for gc and usage.
#[derive(Debug)]
pub(super) struct MountDirectory {
    pub id: String,
    pub path: PathBuf,
}

/// Every directory of every cache mount.
pub(super) fn directories(store: &Store) -> Result<Vec<MountDirectory>, StoreError> {
    let mut found = Vec::new();
    for home in super::gc::list(&store.root().join("mounts"))? {
        let id = fs::read(home.join("id")).unwrap_or_default();
        let id = String::from_utf8_lossy(&id).into_owned();
        for path in super::gc::list(&home)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.parse::<usize>().is_ok() {
                found.push(MountDirectory { id: id.clone(), path });
            }
        }
    }
    Ok(found)
}

/// The file whose time says when a mount was last used.
pub(super) fn lock_of(mount: &Path) -> PathBuf {
    mount.with_extension("lock")
}

/// Renames the directory to `aside` if nobody uses it; says whether it did.
pub(super) fn take_away(directory: &Path, aside: &Path) -> Result<bool, StoreError> {
    let (Some(home), Some(number)) = (directory.parent(), directory.file_name()) else {
        return Ok(false);
    };
    let Ok(number) = number.to_string_lossy().parse() else { return Ok(false) };
    let (file, _) = lock_file(home, number)?;
    if flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    fs::rename(directory, aside).map_err(StoreError::io("move aside", directory))?;
    Ok(true)
}
