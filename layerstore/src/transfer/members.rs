//! The files of an image, by name, wherever they are: in a stream, in an archive that is a file, or in
//! a directory. Each is verified before anything of it is in the store.

use std::{
    collections::HashMap,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{TransferError, unreadable};
use crate::{
    DiffId, Digest, StoreError,
    archive::{ArchiveError, Member, MemberKind},
    atomic::open_file,
    digest::HashingReader,
    layers::{Expected, Purpose, Verified},
    limits::SYMLINKS_MAX,
    path::LayerPath,
    store::Store,
};

/// Where blobs are in an OCI layout.
pub(super) const BLOBS: &str = "blobs/sha256/";

/// The files of an image.
pub(super) trait Members: Sync {
    /// A file to be read; none if it is not there.
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, TransferError>;

    /// The layer that a file turned out to be when it came, and where it lies.
    fn examined(&self, _name: &str) -> Option<(PathBuf, Verified)> {
        None
    }
}

/// A file that can be read.
pub(super) struct Opened<'a> {
    pub(super) reader: Box<dyn Read + Send + 'a>,
    pub(super) size: u64,
    /// Where it is, if it is a file of its own.
    pub(super) path: Option<PathBuf>,
}

impl dyn Members + '_ {
    /// A small file whole, which must be what its name says; none if it is not there.
    pub(super) fn bytes(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, TransferError> {
        let Some(Opened { reader, path, .. }) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut reader = HashingReader::new(reader.take(limit + 1));
        reader.read_to_end(&mut bytes).map_err(|source| match path {
            Some(path) => TransferError::File { action: "read", path, source },
            None => unreadable(source),
        })?;
        let (digest, size) = reader.finish();
        if size > limit {
            return Err(TransferError::Limit { what: "bytes in one document", limit });
        }
        check_digest(name, &digest)?;
        Ok(Some(bytes))
    }

    /// The size of a file; none if it is not there.
    pub(super) fn size(&self, name: &str) -> Result<Option<u64>, TransferError> {
        Ok(self.open(name)?.map(|opened| opened.size))
    }

    /// Reads a file as a layer, which must be what its name says; it stays aside until it is adopted.
    pub(super) fn verify(
        &self,
        name: &str,
        store: &Store,
        diff_id: DiffId,
        purpose: Purpose,
    ) -> Result<(PathBuf, Verified), TransferError> {
        if let Some((path, known)) = self.examined(name) {
            return Ok((path, known.checked(Some(diff_id))?));
        }
        let missing = || TransferError::Missing { name: name.into(), by: "its image".into() };
        let mut opened = self.open(name)?.ok_or_else(missing)?;
        let hex = name.strip_prefix(BLOBS);
        let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        let blob = digest.map(|digest| (digest, opened.size));
        let expected = Expected { blob, diff_id: Some(diff_id) };
        let (layers, source) = (store.layers(), opened.path.as_deref());
        match layers.verify_copy(&mut *opened.reader, source, expected, purpose) {
            Err(StoreError::Mismatch { actual, .. }) => {
                Err(TransferError::Lying { name: name.into(), actual })
            }
            other => Ok(other?),
        }
    }
}

/// What the names in an archive stand for.
#[derive(Debug)]
pub(super) struct Names<T> {
    files: HashMap<String, T>,
    /// Links: docker's old archives have them where two images share a layer.
    aliases: HashMap<String, String>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Names { files: HashMap::new(), aliases: HashMap::new() }
    }
}

impl<T> Names<T> {
    /// Adds a member; what a file is, `file` says, which is given its name.
    pub(super) fn add(
        &mut self,
        member: &Member,
        file: impl FnOnce(&str) -> Result<T, TransferError>,
    ) -> Result<(), TransferError> {
        let at = member.header_at;
        let bad_name = |source| StoreError::Archive(ArchiveError::Name { at, source });
        let name = LayerPath::parse(&member.name).map_err(bad_name)?.to_string();
        match member.kind {
            MemberKind::File => {
                let file = file(&name)?;
                self.aliases.remove(&name);
                self.files.insert(name, file);
            }
            MemberKind::Hardlink => {
                self.aliases.insert(name, String::from_utf8_lossy(&member.link).into_owned());
            }
            MemberKind::Symlink => {
                let link = String::from_utf8_lossy(&member.link).into_owned();
                self.aliases.insert(name.clone(), beside(&name, &link));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn find(&self, name: &str) -> Option<&T> {
        let mut name = name;
        for _ in 0..SYMLINKS_MAX {
            if let Some(file) = self.files.get(name) {
                return Some(file);
            }
            name = self.aliases.get(name)?;
        }
        None
    }
}

/// The files of an OCI layout directory.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(super) fn new(root: &Path) -> Directory {
        Directory { root: root.to_owned() }
    }
}

impl Members for Directory {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, TransferError> {
        use io::ErrorKind::{NotADirectory, NotFound};
        let path = self.root.join(name);
        let failed = |action, source| TransferError::File { action, path: path.clone(), source };
        let file = match open_file(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(source) => return Err(failed("open", source)),
        };
        let size = file.metadata().map_err(|source| failed("stat", source))?.len();
        Ok(Some(Opened { reader: Box::new(file), size, path: Some(path) }))
    }
}

/// A file in the blobs directory must have the digest that is its name.
pub(super) fn check_digest(name: &str, actual: &Digest) -> Result<(), TransferError> {
    match name.strip_prefix(BLOBS) {
        Some(hex) if hex != actual.hex() => {
            Err(TransferError::Lying { name: name.into(), actual: *actual })
        }
        _ => Ok(()),
    }
}

/// Where a symbolic link beside `name` leads, by its text alone.
fn beside(name: &str, link: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
