//! A layer's tree against its table of contents, both ways.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs::{self, Metadata},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use crate::{
    LayerPath,
    layers::Layer,
    reach::Reach,
    store::Store,
    toc::{Entry, Kind, Toc},
};

/// What is wrong with the tree, in words: the first thing.
pub(super) fn check(store: &Store, layer: &Layer, toc: &Toc, deep: bool) -> Result<(), String> {
    compare(&layer.tree_path(), toc, &|uid, gid| store.can_own(uid, gid), deep)
}

/// Is the directory `root` the tree of `toc`, contents included? Owners are not looked at.
pub(crate) fn is(root: &Path, toc: &Toc) -> bool {
    compare(root, toc, &|_, _| false, true).is_ok()
}

fn compare(root: &Path, toc: &Toc, can_own: CanOwn<'_>, deep: bool) -> Result<(), String> {
    let mut listed: HashSet<&[u8]> = HashSet::with_capacity(toc.len());
    for entry in toc {
        listed.insert(entry.path.as_bytes());
        let failed = |error: io::Error| format!("`{}`: {error}", entry.path);
        let place = Reach::below(root, &entry.path).map_err(failed)?;
        let meta = fs::symlink_metadata(place.path()).map_err(failed)?;
        let compare = Comparison { can_own, root, path: place.path(), entry, meta: &meta, deep };
        compare.run().map_err(|what| format!("`{}` {what}", entry.path))?;
    }
    let mut pending = vec![LayerPath::default()];
    while let Some(directory) = pending.pop() {
        unlisted(root, &directory, toc, &listed, &mut pending)?;
    }
    Ok(())
}

/// Nothing may be in a directory that the table does not list (or imply).
fn unlisted(
    root: &Path,
    directory: &LayerPath,
    toc: &Toc,
    listed: &HashSet<&[u8]>,
    pending: &mut Vec<LayerPath>,
) -> Result<(), String> {
    let read = |error: io::Error| format!("`{directory}` cannot be read: {error}");
    let place = Reach::below(root, directory).map_err(read)?;
    for entry in fs::read_dir(place.path()).map_err(read)? {
        let entry = entry.map_err(read)?;
        let name = entry.file_name();
        let path = directory.join(name.as_bytes()).map_err(|error| error.to_string())?;
        let is_dir = entry.file_type().map_err(read)?.is_dir();
        let implied = is_dir && !toc.below(&path).is_empty();
        if !listed.contains(path.as_bytes()) && !implied {
            return Err(format!("`{path}` is not in the table of contents"));
        }
        if is_dir {
            pending.push(path);
        }
    }
    Ok(())
}

/// Can files in the tree belong to these ids?
type CanOwn<'a> = &'a dyn Fn(u32, u32) -> bool;

struct Comparison<'a> {
    can_own: CanOwn<'a>,
    root: &'a Path,
    path: &'a Path,
    entry: &'a Entry,
    meta: &'a Metadata,
    deep: bool,
}

impl Comparison<'_> {
    fn run(&self) -> Result<(), String> {
        match self.entry.kind {
            Kind::Dir => expect(self.meta.is_dir(), "a directory")?,
            Kind::File => self.file()?,
            Kind::Symlink => self.symlink()?,
            Kind::Hardlink => return self.hardlink(),
            Kind::CharDevice => self.device(self.meta.file_type().is_char_device())?,
            Kind::BlockDevice => self.device(self.meta.file_type().is_block_device())?,
            Kind::Fifo => expect(self.meta.file_type().is_fifo(), "a named pipe")?,
            Kind::Whiteout => {
                let is = self.meta.file_type().is_char_device() && self.meta.rdev() == 0;
                return expect(is, "a whiteout");
            }
            Kind::Opaque => return expect(self.meta.is_dir(), "a directory"),
        }
        self.attributes()
    }

    fn file(&self) -> Result<(), String> {
        expect(self.meta.is_file(), "a regular file")?;
        if self.meta.len() != self.entry.size {
            return Err(format!("has {} bytes, not {}", self.meta.len(), self.entry.size));
        }
        let Some(expected) = self.entry.content.filter(|_| self.deep && self.entry.size > 0) else {
            return Ok(());
        };
        let hash = || -> io::Result<blake3::Hash> {
            let mut hasher = blake3::Hasher::new();
            io::copy(&mut fs::File::open(self.path)?, &mut hasher)?;
            Ok(hasher.finalize())
        };
        let actual = hash().map_err(|error| format!("cannot be read: {error}"))?;
        expect(actual.as_bytes() == expected.as_bytes(), "what it was: its content changed")
    }

    fn symlink(&self) -> Result<(), String> {
        expect(self.meta.is_symlink(), "a symbolic link")?;
        let target = fs::read_link(self.path).map_err(|error| error.to_string())?;
        let expected = OsStr::from_bytes(&self.entry.link);
        expect(target.as_os_str() == expected, "a link to where it should lead")
    }

    /// The other name of a file of this tree; where that one is in another layer, any file.
    fn hardlink(&self) -> Result<(), String> {
        let target = LayerPath::parse(&self.entry.link).map_err(|error| error.to_string())?;
        let target = Reach::below(self.root, &target);
        match target.and_then(|target| fs::symlink_metadata(target.path())) {
            Ok(target) => {
                let same = target.ino() == self.meta.ino() && target.dev() == self.meta.dev();
                expect(same, "the same file as the one that it links to")
            }
            Err(_) => expect(!self.meta.is_dir(), "a file"),
        }
    }

    /// Without the right to make devices, an empty file stands for one.
    fn device(&self, is_device: bool) -> Result<(), String> {
        let placeholder = self.meta.is_file() && self.meta.len() == 0;
        if placeholder {
            return Ok(());
        }
        // The kernel keeps so many bits.
        let (major, minor) = (self.entry.device.0 & 0xfff, self.entry.device.1 & 0xf_ffff);
        let same = self.meta.rdev() == rustix::fs::makedev(major, minor);
        expect(is_device && same, "the device that it should be")
    }

    fn attributes(&self) -> Result<(), String> {
        let (entry, meta) = (self.entry, self.meta);
        if entry.kind != Kind::Symlink && meta.mode() & 0o7777 != entry.mode {
            return Err(format!("has mode {:o}, not {:o}", meta.mode() & 0o7777, entry.mode));
        }
        if !is_time(meta.mtime(), entry.mtime) {
            return Err(format!("has the time {}, not {}", meta.mtime(), entry.mtime));
        }
        let owners = (meta.uid(), meta.gid());
        if (self.can_own)(entry.uid, entry.gid) && owners != (entry.uid, entry.gid) {
            return Err(format!("belongs to {owners:?}, not {:?}", (entry.uid, entry.gid)));
        }
        Ok(())
    }
}

/// Is `found` what a file system keeps of `wanted`? Beyond 32 bits, some stop the clock.
fn is_time(found: i64, wanted: i64) -> bool {
    let stopped = |first: i64| {
        found.unsigned_abs() >= first.unsigned_abs() && found.unsigned_abs() < wanted.unsigned_abs()
    };
    found == wanted
        || (wanted > i64::from(i32::MAX) && found > 0 && stopped(i64::from(i32::MAX)))
        || (wanted < i64::from(i32::MIN) && found < 0 && stopped(i64::from(i32::MIN)))
}

fn expect(is: bool, what: &str) -> Result<(), String> {
    if is { Ok(()) } else { Err(format!("is not {what}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_stop_where_file_systems_do() {
        for (found, wanted, is) in [
            (7, 7, true),
            (7, 8, false),
            (15_032_385_535, 99_999_999_999, true),
            (i64::from(i32::MAX), 99_999_999_999, true),
            (7, 99_999_999_999, false),
            (i64::from(i32::MIN), -99_999_999_999, true),
            (i64::from(i32::MAX), -99_999_999_999, false),
            (99_999_999_999, 15_032_385_535, false),
        ] {
            assert_eq!(is_time(found, wanted), is, "{found} for {wanted}");
        }
    }
}
