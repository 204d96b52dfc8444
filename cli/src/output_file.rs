//! Files that `lap` writes for the user: complete under their name, or not there at all.
//!
//! The bytes go to an unnamed file in the same directory (`O_TMPFILE`), which gets its name when it
//! is complete; so nothing is left even after `kill -9`. File systems that know no unnamed files
//! get a hidden named one, removed on every error.

use crate::error::{CommandError, Kind};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How much is collected before it is written.
const BUFFER_BYTES: usize = 256 * 1024;

/// A file on its way to `dest`.
#[derive(Debug)]
pub(crate) struct OutputFile {
    dest: PathBuf,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Unnamed(BufWriter<File>),
    Named(BufWriter<tempfile::NamedTempFile>),
    /// What exists and is not a regular file (`/dev/stdout`, a pipe) cannot be replaced.
    InPlace(BufWriter<File>),
}

impl OutputFile {
    /// Begins a file that will be called `dest`; its directory must be there.
    pub(crate) fn create(dest: &Path) -> Result<Self, CommandError> {
        let sink = open_sink(dest).map_err(|error| failed(dest, &error))?;
        Ok(Self { dest: dest.to_owned(), sink })
    }

    /// Gives the complete file its name.
    pub(crate) fn finish(self) -> Result<(), CommandError> {
        let Self { dest, sink } = self;
        let result = match sink {
            Sink::Unnamed(file) => {
                file.into_inner().map_err(io::Error::from).and_then(|file| link(&file, &dest))
            }
            Sink::Named(file) => file
                .into_inner()
                .map_err(io::Error::from)
                .and_then(|file| file.persist(&dest).map_err(io::Error::from).map(drop)),
            Sink::InPlace(mut file) => file.flush(),
        };
        result.map_err(|error| failed(&dest, &error))
    }

    /// Replaces a file by these bytes; mode and, where this user may give files away, owner stay.
    pub(crate) fn replace(dest: &Path, bytes: &[u8]) -> Result<(), CommandError> {
        let there = dest.metadata().map_err(|error| failed(dest, &error))?;
        let mut new = Self::create(dest)?;
        new.write_all(bytes).map_err(|error| failed(dest, &error))?;
        let file = match &new.sink {
            Sink::Unnamed(file) | Sink::InPlace(file) => file.get_ref(),
            Sink::Named(file) => file.get_ref().as_file(),
        };
        // Only root may give a file to someone else; the new file is then the user's own.
        drop(std::os::unix::fs::fchown(file, Some(there.uid()), Some(there.gid())));
        file.set_permissions(there.permissions()).map_err(|error| failed(dest, &error))?;
        new.finish()
    }

    /// Writes a small file in one go.
    pub(crate) fn write(dest: &Path, bytes: &[u8]) -> Result<(), CommandError> {
        let mut file = Self::create(dest)?;
        file.write_all(bytes).map_err(|error| failed(dest, &error))?;
        file.finish()
    }
}

impl Write for OutputFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::Unnamed(file) | Sink::InPlace(file) => file.write(buf),
            Sink::Named(file) => file.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::Unnamed(file) | Sink::InPlace(file) => file.flush(),
            Sink::Named(file) => file.flush(),
        }
    }
}

fn failed(dest: &Path, error: &io::Error) -> CommandError {
    CommandError::io(Kind::Host, format!("cannot write {}", dest.display()), error)
}

fn directory_of(dest: &Path) -> &Path {
    dest.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open_sink(dest: &Path) -> io::Result<Sink> {
    match dest.metadata() {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => {
            let file = File::options().write(true).open(dest)?;
            return Ok(Sink::InPlace(BufWriter::with_capacity(BUFFER_BYTES, file)));
        }
        _ => {}
    }
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(directory_of(dest), flags, Mode::from_raw_mode(0o666)) {
        Ok(file) => Ok(Sink::Unnamed(BufWriter::with_capacity(BUFFER_BYTES, file.into()))),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
            let file = tempfile::Builder::new().prefix(".lap-").tempfile_in(directory_of(dest))?;
            Ok(Sink::Named(BufWriter::with_capacity(BUFFER_BYTES, file)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Names the unnamed file. A name that is taken can only be replaced by a rename, which needs a
/// name of its own for a moment.
fn link(file: &File, dest: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link_to =
        |path: &Path| rustix::fs::linkat(CWD, &source, CWD, path, AtFlags::SYMLINK_FOLLOW);
    match link_to(dest) {
        Err(rustix::io::Errno::EXIST) => {}
        other => return other.map_err(io::Error::from),
    }
    let hold = tempfile::Builder::new().prefix(".lap-").tempdir_in(directory_of(dest))?;
    let aside = hold.path().join("new");
    link_to(&aside)?;
    std::fs::rename(&aside, dest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_seen_before_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("out");
        let mut file = OutputFile::create(&dest).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        OutputFile::write(&dest, b"one").unwrap();
        OutputFile::write(&dest, b"two").unwrap();
        assert_eq!(std::fs::read(&dest).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OutputFile::create(&dir.path().join("no/out")).is_err());
        assert!(OutputFile::create(dir.path()).is_err());
    }
}
