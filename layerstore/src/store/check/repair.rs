//! Repairing: what a check found is moved aside under the exclusive lock, then deleted.

use std::{collections::HashSet, fs, io, path::Path};

use super::{Fix, FsckReport, Object};
use crate::{
    ContentHash, StoreError, atomic,
    contents::PackId,
    store::{Store, WorkArea, gc, lock},
};

/// Makes every problem go away, and says so in the report.
pub(super) fn repair(store: &Store, report: &mut FsckReport) -> Result<(), StoreError> {
    let aside = store.work_dir()?;
    {
        let _lock = lock::exclusive(store.root())?;
        for problem in &mut report.problems {
            // Work areas are swept below, where the lock of each is looked at again.
            if !matches!(problem.object, Object::Work(_)) {
                apply(store, &aside, &problem.fix)?;
            }
            problem.repaired = !matches!(problem.fix, Fix::Leave);
        }
        dangling_index(store, &aside)?;
    }
    atomic::sweep(&store.root().join("work"))?;
    let path = aside.path();
    atomic::remove_tree(path).map_err(StoreError::io("remove", path))
}

fn apply(store: &Store, aside: &WorkArea, fix: &Fix) -> Result<(), StoreError> {
    match fix {
        Fix::Leave => Ok(()),
        Fix::Remove(path) => move_aside(path, aside),
        Fix::Rewrite(id, damaged) => rewrite_pack(store, *id, damaged),
        Fix::Retag(reference, image) => store.write_tag(reference, image),
    }
}

fn move_aside(path: &Path, aside: &WorkArea) -> Result<(), StoreError> {
    match fs::rename(path, aside.new_name()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("move aside", path)(error))
        }
        _ => Ok(()),
    }
}

/// A new pack with the sound contents is there before the old one goes.
fn rewrite_pack(
    store: &Store,
    id: PackId,
    damaged: &HashSet<ContentHash>,
) -> Result<(), StoreError> {
    match store.contents().copy_of(id, &|content| !damaged.contains(content)) {
        Ok(Some(copy)) => store.contents().publish_copy(&copy)?,
        Ok(None) => {}
        // Somebody else removed it.
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    }
    store.contents().remove_pack(id)
}

/// Entries for layers that were just removed.
fn dangling_index(store: &Store, aside: &WorkArea) -> Result<(), StoreError> {
    for path in gc::list(&store.root().join("index/diff"))? {
        let Some(bytes) = atomic::read_hint(&path)? else { continue };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !store.root().join("layers").join(text.trim_end()).is_dir() {
            move_aside(&path, aside)?;
        }
    }
    Ok(())
}
