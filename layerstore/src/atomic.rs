//! How everything enters the store: written aside, then renamed. One place for all writes.
//!
//! *Invariant:* a reader sees the old or the new, never half. What is in progress lies in a
//! [`Staging`] directory under `work/`, whose descriptor is flock'd by its owner; a process that
//! dies leaves a directory without lock, which [`sweep`] removes. Nothing here waits for the disk: the
//! store does one `syncfs` at the end of a build (design, principle 6), and large files are sent ahead of it.

use std::{
    ffi::{CStr, OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, OFlags, flock, unlinkat};

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

/// Removes a tree of ours even where its directories deny writing to their owner.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    remove_while(path, &|| true).map(drop)
}

/// As [`remove_tree`], entry by entry while `go_on` says so; says whether it is gone.
///
/// However deep it is: a directory whose path gets long is moved to the top first, so that neither
/// paths nor open descriptors nor the stack grow with the depth.
fn remove_while(top: &Path, go_on: &dyn Fn() -> bool) -> io::Result<bool> {
    let mut moved = 0;
    // Directories, and whether they were emptied; what is in one stands behind it.
    let mut pending = vec![(top.to_owned(), false)];
    while let Some((path, is_empty)) = pending.pop() {
        if is_empty {
            match fs::remove_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => continue,
            }
        }
        let below = match empty(&path, go_on) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            below => below?,
        };
        pending.push((path.clone(), true));
        let Some(below) = below else { return Ok(false) };
        for name in below {
            let mut child = path.join(name);
            if child.as_os_str().len() > top.as_os_str().len() + FAR_BYTES {
                child = move_up(&child, top, &mut moved)?;
            }
            pending.push((child, false));
        }
    }
    Ok(true)
}

/// A directory so far below the top of what is removed is moved up.
const FAR_BYTES: usize = 1024;

/// Removes the files in a directory, and says which directories are in it; nothing if it was to stop.
fn empty(path: &Path, go_on: &dyn Fn() -> bool) -> io::Result<Option<Vec<OsString>>> {
    let directory = match open_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            open_directory(path)?
        }
        opened => opened?,
    };
    let mut below = Vec::new();
    for entry in Dir::read_from(&directory)? {
        if !go_on() {
            return Ok(None);
        }
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_dir = entry.file_type() == FileType::Directory;
        if is_dir || unlink(&directory, path, name)? {
            below.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    if !below.is_empty() {
        // They can be moved out of it and removed.
        fs::metadata(path).and_then(|meta| match meta.mode() & 0o700 {
            0o700 => Ok(()),
            _ => open_up(path),
        })?;
    }
    Ok(Some(below))
}

/// Removes a file; says if it is a directory.
fn unlink(directory: &File, path: &Path, name: &CStr) -> io::Result<bool> {
    use rustix::io::Errno;
    let unlink = || unlinkat(directory, name, AtFlags::empty());
    let removed = match unlink() {
        Err(Errno::ACCESS | Errno::PERM) => open_up(path).and_then(|()| Ok(unlink()?)),
        removed => removed.map_err(io::Error::from),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(true),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(false),
    }
}

fn move_up(child: &Path, top: &Path, moved: &mut u64) -> io::Result<PathBuf> {
    // Its `..` changes.
    open_up(child)?;
    loop {
        *moved += 1;
        let place = top.join(format!("far-{moved}"));
        // The tree may have something of that name.
        if fs::symlink_metadata(&place).is_err() {
            return fs::rename(child, &place).map(|()| place);
        }
    }
}

fn open_up(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
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
    fn a_tree_goes_however_deep_it_is_and_whoever_may_write_in_it() {
        use rustix::fs::{Mode, chmodat, mkdirat, openat, symlinkat};
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        let top = root.path().join("top");
        fs::create_dir_all(top.join("far-1/x")).unwrap();
        fs::create_dir(top.join("far-2")).unwrap();
        let mut at = open_directory(&top).unwrap();
        let name = "n".repeat(40);
        for depth in 0..2000 {
            mkdirat(&at, &name, Mode::RWXU).unwrap();
            let below = openat(&at, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
            symlinkat("/", &at, "link").unwrap();
            mkdirat(&at, "side", Mode::RWXU).unwrap();
            if depth % 7 == 0 {
                chmodat(&at, "side", Mode::empty(), AtFlags::empty()).unwrap();
                rustix::fs::fchmod(&at, Mode::RUSR | Mode::XUSR).unwrap();
            }
            at = below.into();
        }
        drop(at);
        assert!(!remove_while(&top, &|| false).unwrap());
        assert!(crate::store::usage::disk_bytes(root.path()).unwrap() >= 2000 * 512);
        remove_tree(&top).unwrap();
        assert!(!top.exists() && kept.exists());
        remove_tree(&top).unwrap();
        std::os::unix::fs::symlink(root.path(), &top).unwrap();
        remove_tree(&top).unwrap_err();
        assert!(kept.exists());
    }

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
