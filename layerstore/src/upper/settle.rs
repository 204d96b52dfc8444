//! Bringing an upper directory to exactly what its layer's tar says.

use std::{io, os::fd::AsFd, path::Path};

use rayon::prelude::*;
use rustix::{
    fs::{AtFlags, flistxattr, fremovexattr, unlinkat},
    io::Errno,
};

use super::{Changes, KEPT_XATTR, walk::Upper};
use crate::{
    LayerPath, StoreError,
    limits::XATTR_VALUE_MAX,
    toc::{Entry, Kind},
    tree::make_whiteout,
};

/// Removes what the layer does not have, makes the whiteouts that it has, and gives everything
/// its whole-second time and no attribute beyond the kept one.
pub(crate) fn settle(upper: &Path, changes: &Changes) -> Result<(), StoreError> {
    let upper = Upper::open(upper)?;
    // Children sort behind their directories, and the list is in reverse order of that.
    for (path, is_dir) in &changes.dropped {
        let directory = upper.open_directory(&path.parent().unwrap_or_default())?;
        let flags = if *is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(&directory, path.file_name().unwrap_or_default(), flags)
            .map_err(StoreError::io("remove", upper.shown(path)))?;
    }
    for path in &changes.new_whiteouts {
        let directory = upper.open_directory(&path.parent().unwrap_or_default())?;
        make_whiteout(&directory, path.file_name().unwrap_or_default())
            .map_err(StoreError::io("make a whiteout at", upper.shown(path)))?;
    }
    // The root is in no layer, but carries overlayfs's attributes.
    let root = upper.open_directory(&LayerPath::root())?;
    strip(&root, true).map_err(StoreError::io("strip", upper.shown(&LayerPath::root())))?;
    let (directories, others): (Vec<&Entry>, Vec<&Entry>) =
        changes.entries.iter().partition(|entry| entry.kind == Kind::Dir);
    others.par_iter().try_for_each(|entry| settle_entry(&upper, entry))?;
    directories.par_iter().try_for_each(|entry| settle_entry(&upper, entry))
}

fn settle_entry(upper: &Upper, entry: &Entry) -> Result<(), StoreError> {
    let failed = || StoreError::io("settle", upper.shown(&entry.path));
    match entry.kind {
        Kind::Dir => {
            let directory = upper.open_directory(&entry.path)?;
            strip(&directory, false).map_err(failed())?;
        }
        Kind::File => {
            let file = upper.open_file(&entry.path)?;
            strip(&file, false).map_err(failed())?;
        }
        // Marks have no time, and a further link is the same file as the first.
        Kind::Whiteout | Kind::Opaque | Kind::Hardlink => return Ok(()),
        _ => {}
    }
    set_time(upper, entry).map_err(failed())
}

fn set_time(upper: &Upper, entry: &Entry) -> io::Result<()> {
    let parent =
        upper.open_directory(&entry.path.parent().unwrap_or_default()).map_err(io::Error::other)?;
    crate::tree::set_mtime(&parent, entry.path.file_name().unwrap_or_default(), entry)
}

/// Removes every extended attribute but the kept one (from the root: overlayfs's own only).
fn strip(file: &impl AsFd, overlay_only: bool) -> io::Result<()> {
    let mut names: Vec<u8> = Vec::with_capacity(512);
    loop {
        match flistxattr(file, rustix::buffer::spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(Errno::RANGE) if names.capacity() < XATTR_VALUE_MAX => {
                names.reserve(XATTR_VALUE_MAX);
            }
            Err(Errno::NOTSUP) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name == KEPT_XATTR || (overlay_only && !crate::tree::is_overlay_name(name)) {
            continue;
        }
        match fremovexattr(file, name) {
            // A security module's labels are its own; another may have removed it.
            Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::ACCESS | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
