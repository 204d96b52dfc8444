//! `--output type=local`: the image's files in a directory of this machine.
//!
//! They are written into a hidden directory beside the destination first, and moved into it when
//! all are there, so that an error leaves nothing. What the destination has besides stays; a link
//! or file there is replaced, never followed. Owners are not kept (the files are the caller's), nor
//! are devices; times are, or are the epoch where one is given.

use super::failed;
use crate::error::CommandError;
use crate::session::Session;
use crate::ui::terminal::note;
use lapstrake_layerstore::store::ImageRecord;
use lapstrake_layerstore::toc::{Entry, Kind};
use lapstrake_layerstore::view::{Found, Names, View};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Writes the image's files.
pub(super) fn write(
    session: &Session,
    image: &ImageRecord,
    dest: &Path,
    epoch: Option<i64>,
) -> Result<(), CommandError> {
    let parent =
        dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let staging = tempfile::Builder::new()
        .prefix(".lap-")
        .tempdir_in(parent)
        .map_err(|error| failed(dest, &error))?;
    let view = View::new(session.store.image_layers(image)?)?;
    fetch_contents(session, &view)?;
    let top = staging.path().join("files");
    fs::create_dir(&top).map_err(|error| failed(&top, &error))?;
    let mut names = Names::of(&view);
    let mut skipped = 0;
    let mut directories = Vec::new();
    for mut found in view.iter() {
        found.entry.mtime = epoch.unwrap_or(found.entry.mtime);
        let path = below(&top, &found.entry);
        let first = names.earlier(&found).map(|name| top.join(OsStr::from_bytes(name.as_bytes())));
        let written = write_entry(session, &view, &found, &path, first.as_deref())?;
        skipped += usize::from(!written);
        if found.entry.kind == Kind::Dir {
            directories.push((path, found.entry));
        }
    }
    // Modes and times of directories come last: writing into them needs the one and changes the
    // other.
    for (path, entry) in directories.iter().rev() {
        finish_entry(path, entry).map_err(|error| failed(path, &error))?;
    }
    if skipped > 0 {
        note(&format!("warning: {skipped} devices were left out of {}", dest.display()));
    }
    merge(&top, dest).map_err(|error| failed(dest, &error))
}

fn below(top: &Path, entry: &Entry) -> PathBuf {
    if entry.path.is_root() {
        top.to_owned()
    } else {
        top.join(OsStr::from_bytes(entry.path.as_bytes()))
    }
}

/// Makes the contents of compressed layers present, each layer in one pass.
fn fetch_contents(session: &Session, view: &View) -> Result<(), CommandError> {
    let mut wanted: Vec<Vec<Entry>> = vec![Vec::new(); view.layers().len()];
    for found in view.iter() {
        if let (Some(layer), Kind::File) = (found.layer, found.entry.kind) {
            wanted[layer].push(found.into_stored());
        }
    }
    for (layer, entries) in view.layers().iter().zip(&wanted) {
        session.store.layers().ensure_contents(layer, entries)?;
    }
    Ok(())
}

/// Writes one entry, as a link if the file is there as `first` already; false for what cannot be written
/// without rights.
fn write_entry(
    session: &Session,
    view: &View,
    found: &Found,
    path: &Path,
    first: Option<&Path>,
) -> Result<bool, CommandError> {
    let entry = &found.entry;
    let wrap = |result: io::Result<()>| result.map_err(|error| failed(path, &error));
    match entry.kind {
        Kind::Dir if entry.path.is_root() => {}
        Kind::Dir => wrap(fs::create_dir(path))?,
        Kind::Symlink => {
            wrap(symlink(OsStr::from_bytes(&entry.link), path))?;
            wrap(set_times(path, entry))?;
        }
        Kind::File => {
            // Where links cannot be made, or no more of them, a file of its own does as well.
            if first.is_some_and(|first| fs::hard_link(first, path).is_ok()) {
                return Ok(true);
            }
            write_file(session, view, found, path)?;
            wrap(finish_entry(path, entry))?;
        }
        Kind::Fifo => {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            wrap(
                rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                    .map_err(io::Error::from),
            )?;
            wrap(finish_entry(path, entry))?;
        }
        Kind::CharDevice | Kind::BlockDevice | Kind::Hardlink | Kind::Whiteout | Kind::Opaque => {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_file(
    session: &Session,
    view: &View,
    found: &Found,
    path: &Path,
) -> Result<(), CommandError> {
    let mut file = File::create_new(path).map_err(|error| failed(path, &error))?;
    let Some(layer) = found.layer.filter(|_| found.entry.size > 0) else { return Ok(()) };
    let entry = found.clone().into_stored();
    let mut content = session.store.layers().open_content(&view.layers()[layer], &entry)?;
    io::copy(&mut content, &mut file).map(drop).map_err(|error| failed(path, &error))
}

/// Mode first: times would change with it.
fn finish_entry(path: &Path, entry: &Entry) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(entry.mode))?;
    set_times(path, entry)
}

fn set_times(path: &Path, entry: &Entry) -> io::Result<()> {
    let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Moves what is in `from` to `to`: a directory that is there is gone into, everything else is
/// replaced.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    match fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::rename(from, to),
        Err(error) => return Err(error),
        Ok(there) if there.is_dir() => {}
        // The destination itself may be a link to a directory: the caller named it.
        Ok(_) if to.is_dir() => {}
        Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let there = fs::symlink_metadata(&target).ok();
        let both = entry.file_type()?.is_dir() && there.as_ref().is_some_and(fs::Metadata::is_dir);
        if both {
            merge(&entry.path(), &target)?;
            continue;
        }
        match there {
            Some(there) if there.is_dir() => fs::remove_dir_all(&target)?,
            Some(_) => fs::remove_file(&target)?,
            None => {}
        }
        fs::rename(entry.path(), &target)?;
    }
    let meta = fs::metadata(from)?;
    fs::set_permissions(to, meta.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_kept_or_replaced_but_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, outside) =
            (dir.path().join("from"), dir.path().join("to"), dir.path().join("outside"));
        for path in [&from.join("a"), &to.join("a"), &outside] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(from.join("a/new"), "1").unwrap();
        fs::create_dir(from.join("link")).unwrap();
        fs::write(from.join("link/x"), "1").unwrap();
        fs::write(to.join("a/old"), "0").unwrap();
        symlink(&outside, to.join("link")).unwrap();
        merge(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("a/new")).unwrap(), b"1");
        assert_eq!(fs::read(to.join("a/old")).unwrap(), b"0");
        assert!(fs::symlink_metadata(to.join("link")).unwrap().is_dir());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
