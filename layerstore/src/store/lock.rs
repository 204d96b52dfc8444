//! The store's one lock, held for moments: shared while something is named (a lease, a tag),
//! exclusive while what is not named is moved aside. Never upgraded, never held while waiting.

use std::{
    fs::{File, OpenOptions},
    os::fd::AsFd,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

use crate::StoreError;

/// The lock, released on drop.
#[derive(Debug)]
pub(crate) struct Guard {
    _file: File,
}

/// Waits until nobody deletes.
pub(super) fn shared(root: &Path) -> Result<Guard, StoreError> {
    lock(root, FlockOperation::LockShared)
}

/// Waits until nobody names or deletes anything.
pub(crate) fn exclusive(root: &Path) -> Result<Guard, StoreError> {
    lock(root, FlockOperation::LockExclusive)
}

fn lock(root: &Path, operation: FlockOperation) -> Result<Guard, StoreError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    loop {
        match flock(file.as_fd(), operation) {
            Ok(()) => return Ok(Guard { _file: file }),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(StoreError::io("lock", path)(error)),
        }
    }
}
