//! Repairing: what a check found is moved aside under the exclusive lock, then deleted.

use std::{collections::HashSet, fs, io, path::Path, sync::Arc};

use super::{Fix, FsckReport, Object};
use crate::{
    ContentHash, StoreError, atomic,
    contents::{ContentReader, Contents, Located, PackId},
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
    let area = Arc::new(store.work_dir()?);
    let fresh = Arc::new(Contents::open_store(area.path(), Arc::clone(&area))?);
    let packs = store.contents().list_packs()?;
    let Some((_, path)) = packs.into_iter().find(|(other, _)| *other == id) else {
        return Ok(());
    };
    let file = Arc::new(fs::File::open(&path).map_err(StoreError::io("open", &path))?);
    let mut writer = fresh.writer();
    for record in store.contents().pack_records(id)? {
        if !damaged.contains(&record.hash) {
            let (offset, length) = (record.offset, record.length);
            let located = Located { file: Arc::clone(&file), offset, length };
            writer.put(&mut ContentReader::new(located))?;
        }
    }
    writer.finish()?;
    for (_, made) in fresh.list_packs()? {
        let name = made.file_name().unwrap_or_default();
        let place = path.with_file_name(name);
        fs::rename(&made, &place).map_err(StoreError::io("publish", place))?;
    }
    store.contents().remove_pack(id)
}

/// Entries for layers that were just removed.
fn dangling_index(store: &Store, aside: &WorkArea) -> Result<(), StoreError> {
    for path in gc::list(&store.root().join("index/diff"))? {
        let Some(bytes) = atomic::read_record(&path)? else { continue };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !store.root().join("layers").join(text.trim_end()).is_dir() {
            move_aside(&path, aside)?;
        }
    }
    Ok(())
}
