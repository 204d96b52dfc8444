//! The files of an image, by name: spooled from a stream, or as they lie in a directory.
//!
//! An archive's members come in any order and the file that explains them often comes last, so all
//! of them are put aside first, hashed on the way; a blob under a digest's name that has another
//! digest is refused at once. Putting one into the store is then a rename.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{TransferError, unreadable};
use crate::{
    DiffId, Digest, StoreError,
    archive::{ArchiveError, Member, MemberKind, ReadLimits, TarReader},
    compress,
    digest::{HashingReader, Sha256},
    layers::{Expected, Verified, verify},
    limits::{ARCHIVE_MEMBERS_MAX, LAYER_BYTES_MAX, SYMLINKS_MAX},
    path::LayerPath,
    store::{Store, WorkArea},
};

/// Bytes moved at once.
const COPY_BYTES: usize = 1 << 18;
/// Where blobs are in an OCI layout.
pub(super) const BLOBS: &str = "blobs/sha256/";

/// The files of an image.
pub(super) trait Members: Sync {
    /// A small file whole; none if it is not there.
    fn bytes(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, TransferError>;

    /// The size of a file; none if it is not there.
    fn size(&self, name: &str) -> Result<Option<u64>, TransferError>;

    /// Reads a file as a layer; it stays aside until it is adopted.
    fn verify(
        &self,
        name: &str,
        store: &Store,
        diff_id: DiffId,
    ) -> Result<(PathBuf, Verified), TransferError>;
}

/// The members of an archive that was read from a stream.
#[derive(Debug)]
pub(super) struct Spool {
    area: WorkArea,
    files: HashMap<String, Spooled>,
    /// Links: docker's old archives have them where two images share a layer.
    aliases: HashMap<String, String>,
}

#[derive(Debug)]
struct Spooled {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl Spool {
    /// Reads the whole archive, which may be compressed.
    pub(super) fn read(
        store: &Store,
        reader: &mut (dyn Read + Send),
    ) -> Result<Spool, TransferError> {
        let (files, aliases) = (HashMap::new(), HashMap::new());
        let mut spool = Spool { area: store.work_dir()?, files, aliases };
        let (_, decoder) = compress::decoder(reader).map_err(unreadable)?;
        let limits = ReadLimits { members: ARCHIVE_MEMBERS_MAX, bytes: LAYER_BYTES_MAX };
        let mut tar = TarReader::new(decoder, limits);
        let mut buffer = vec![0; COPY_BYTES];
        while let Some(member) = tar.next_member().map_err(StoreError::from)? {
            spool.take(&member, &mut tar, &mut buffer)?;
        }
        if spool.files.is_empty() {
            return Err(TransferError::NotAnImage);
        }
        // What follows the archive is read, too, so that whoever writes the pipe can finish.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(unreadable)?;
        Ok(spool)
    }

    fn take<R: Read>(
        &mut self,
        member: &Member,
        tar: &mut TarReader<R>,
        buffer: &mut [u8],
    ) -> Result<(), TransferError> {
        let at = member.header_at;
        let bad_name = |source| StoreError::Archive(ArchiveError::Name { at, source });
        let path = LayerPath::parse(&member.name).map_err(bad_name)?;
        let name = path.to_string();
        match member.kind {
            MemberKind::File => {
                let spooled = self.spool(tar, buffer)?;
                check_name(&name, &spooled)?;
                self.aliases.remove(&name);
                self.files.insert(name, spooled);
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

    fn spool<R: Read>(
        &self,
        tar: &mut TarReader<R>,
        buffer: &mut [u8],
    ) -> Result<Spooled, TransferError> {
        let (path, mut file) = self.area.new_file()?;
        let (mut hasher, mut size) = (Sha256::new(), 0);
        loop {
            let count = tar.read_data(buffer).map_err(StoreError::from)?;
            if count == 0 {
                return Ok(Spooled { path, digest: hasher.finish(), size });
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(StoreError::io("write", &path))?;
            size += count as u64;
        }
    }

    fn find(&self, name: &str) -> Option<&Spooled> {
        let mut name = name;
        for _ in 0..SYMLINKS_MAX {
            if let Some(spooled) = self.files.get(name) {
                return Some(spooled);
            }
            name = self.aliases.get(name)?;
        }
        None
    }
}

impl Members for Spool {
    fn bytes(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, TransferError> {
        let Some(spooled) = self.find(name) else { return Ok(None) };
        if spooled.size > limit {
            return Err(TransferError::Limit { what: "bytes in one document", limit });
        }
        let bytes = fs::read(&spooled.path).map_err(StoreError::io("read", &spooled.path))?;
        Ok(Some(bytes))
    }

    fn size(&self, name: &str) -> Result<Option<u64>, TransferError> {
        Ok(self.find(name).map(|spooled| spooled.size))
    }

    fn verify(
        &self,
        name: &str,
        _: &Store,
        diff_id: DiffId,
    ) -> Result<(PathBuf, Verified), TransferError> {
        let missing = || TransferError::Missing { name: name.into(), by: "the archive".into() };
        let Spooled { path, digest, size } = self.find(name).ok_or_else(missing)?;
        let mut file = File::open(path).map_err(StoreError::io("open", path))?;
        let expected = Expected { blob: Some((*digest, *size)), diff_id: Some(diff_id) };
        Ok((path.clone(), verify(&mut file, expected, None)?))
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

    fn open(&self, name: &str) -> Result<Option<(PathBuf, File)>, TransferError> {
        let path = self.root.join(name);
        match File::open(&path) {
            Ok(file) => Ok(Some((path, file))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(source) => Err(TransferError::File { action: "open", path, source }),
        }
    }
}

impl Members for Directory {
    fn bytes(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, TransferError> {
        let Some((path, file)) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut reader = HashingReader::new(file.take(limit + 1));
        reader.read_to_end(&mut bytes).map_err(|source| TransferError::File {
            action: "read",
            path,
            source,
        })?;
        let (digest, size) = reader.finish();
        if size > limit {
            return Err(TransferError::Limit { what: "bytes in one document", limit });
        }
        check_digest(name, &digest)?;
        Ok(Some(bytes))
    }

    fn size(&self, name: &str) -> Result<Option<u64>, TransferError> {
        let Some((path, file)) = self.open(name)? else { return Ok(None) };
        let stat = |source| TransferError::File { action: "stat", path, source };
        Ok(Some(file.metadata().map_err(stat)?.len()))
    }

    fn verify(
        &self,
        name: &str,
        store: &Store,
        diff_id: DiffId,
    ) -> Result<(PathBuf, Verified), TransferError> {
        let missing = || TransferError::Missing { name: name.into(), by: "the index".into() };
        let (path, mut file) = self.open(name)?.ok_or_else(missing)?;
        let stat = |source| TransferError::File { action: "stat", path, source };
        let size = file.metadata().map_err(stat)?.len();
        let hex = name.strip_prefix(BLOBS);
        let digest = hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        let blob = digest.map(|digest| (digest, size));
        let expected = Expected { blob, diff_id: Some(diff_id) };
        match store.layers().verify_copy(&mut file, expected) {
            Err(StoreError::Mismatch { actual, .. }) => {
                Err(TransferError::Lying { name: name.into(), actual })
            }
            other => Ok(other?),
        }
    }
}

fn check_name(name: &str, spooled: &Spooled) -> Result<(), TransferError> {
    check_digest(name, &spooled.digest)
}

/// A file in the blobs directory must have the digest that is its name.
fn check_digest(name: &str, actual: &Digest) -> Result<(), TransferError> {
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
