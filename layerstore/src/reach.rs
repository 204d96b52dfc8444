//! [`Reach`]: paths longer than the kernel takes in one piece.
//!
//! A step may make directories in directories until their names together are longer than any path may
//! be (`PATH_MAX`, 4096 bytes), and a layer's paths alone may be nearly as long before the store's own
//! path stands before them. Such a place is reached in pieces: where a path gets long, its directory is
//! opened, and the rest goes on from there.
//!
//! ```text
//! /store/layers/01…ef/tree/a/a/a/ …  /a/a/a/b
//! └────────── opened: fd 7 ─────────┘└─ /proc/self/fd/7/a/a/b
//! ```

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};

use crate::path::LayerPath;

/// From this length on a directory is opened; with a name of 255 bytes behind it, it is short enough.
const LONG: usize = 3072;

/// A place in the file system, however deep.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    path: PathBuf,
    /// Keeps the descriptor open that `path` begins with.
    anchor: Option<Arc<File>>,
}

impl Reach {
    pub(crate) fn new(path: PathBuf) -> Reach {
        Reach { path, anchor: None }
    }

    /// `path` below the directory `root`.
    pub(crate) fn below(root: &Path, path: &LayerPath) -> io::Result<Reach> {
        let whole = root.join(path.as_path());
        if whole.as_os_str().len() < LONG {
            return Ok(Reach::new(whole));
        }
        let mut place = Reach::new(root.to_owned());
        for name in path.as_path() {
            place = place.short()?.join(name);
        }
        Ok(place)
    }

    /// A path that the kernel takes, as long as this lives.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What is called `name` in this directory, which is [short](Self::short).
    pub(crate) fn join(&self, name: &OsStr) -> Reach {
        Reach { path: self.path.join(name), anchor: self.anchor.clone() }
    }

    /// The same directory by a path that has room for one more name.
    pub(crate) fn short(self) -> io::Result<Reach> {
        if self.path.as_os_str().len() < LONG {
            return Ok(self);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = File::from(rustix::fs::open(&self.path, flags, Mode::empty())?);
        let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        Ok(Reach { path, anchor: Some(Arc::new(opened)) })
    }
}
