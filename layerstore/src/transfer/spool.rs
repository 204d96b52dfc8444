//! The members of an archive that comes as a stream.
//!
//! They come in any order and the file that explains them often comes last, so all of them are put
//! aside first, hashed on the way; a blob under a digest's name that has another digest is refused at
//! once. What looks like a layer is read as one in the same pass. Putting it into the store is then
//! a rename.

use std::{
    fs::File,
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::{
    TransferError,
    members::{Members, Names, Opened, check_digest},
    unreadable,
};
use crate::{
    Digest, StoreError,
    archive::{self, ArchiveError, ReadLimits, TarReader},
    compress::{self, Codec},
    digest::Sha256,
    layers::{Examined, Verified, examine},
    limits::{ARCHIVE_MEMBERS_MAX, LAYER_BYTES_MAX},
    store::{Store, WorkArea},
};

/// Bytes moved at once.
const COPY_BYTES: usize = 1 << 18;

/// The members of an archive that was read from a stream.
#[derive(Debug)]
pub(super) struct Spool {
    /// What is put aside lies here as long as it is needed.
    _area: WorkArea,
    names: Names<Spooled>,
}

#[derive(Debug)]
struct Spooled {
    path: PathBuf,
    digest: Digest,
    size: u64,
    /// The layer that it is, until somebody takes it.
    layer: Mutex<Option<Verified>>,
}

impl Spool {
    /// Reads the whole archive, which may be compressed.
    pub(super) fn read(
        store: &Store,
        reader: &mut (dyn Read + Send),
    ) -> Result<Spool, TransferError> {
        let (area, mut names) = (store.work_dir()?, Names::default());
        let (_, decoder) = compress::decoder(reader).map_err(unreadable)?;
        let limits = ReadLimits { members: ARCHIVE_MEMBERS_MAX, bytes: LAYER_BYTES_MAX };
        let mut tar = TarReader::new(decoder, limits);
        while let Some(member) = tar.next_member().map_err(StoreError::from)? {
            names.add(&member, |name| {
                let spooled = spool(&area, &mut tar)?;
                check_digest(name, &spooled.digest)?;
                Ok(spooled)
            })?;
        }
        if names.is_empty() {
            return Err(TransferError::NotAnImage);
        }
        // What follows the archive is read, too, so that whoever writes the pipe can finish.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(unreadable)?;
        Ok(Spool { _area: area, names })
    }
}

/// Puts a member aside.
fn spool(area: &WorkArea, tar: &mut TarReader<impl Read + Send>) -> Result<Spooled, TransferError> {
    let (path, file) = area.new_large_file()?;
    let mut start = Vec::new();
    let read = tar.by_ref().take(archive::BLOCK as u64).read_to_end(&mut start);
    read.map_err(broken)?;
    let is_layer = Codec::detect(&start) != Codec::None || archive::is_header(&start);
    let mut reader = Cursor::new(start).chain(tar);
    if !is_layer {
        let (digest, size) = copy(&mut reader, file, &path)?;
        return Ok(Spooled { path, digest, size, layer: Mutex::default() });
    }
    let examined = examine(&mut reader, true, Some((path.clone(), file)));
    let Examined { blob: (digest, size), layer } = examined.map_err(|error| match error {
        StoreError::Stream { source, .. } => broken(source),
        other => other.into(),
    })?;
    // What is no layer may be something else; if it should be one, it is read again, and said why.
    Ok(Spooled { path, digest, size, layer: Mutex::new(layer.ok()) })
}

/// What the archive's reader said, as it said it.
fn broken(error: io::Error) -> TransferError {
    match error.downcast::<ArchiveError>() {
        Ok(error) => StoreError::Archive(error).into(),
        Err(error) => unreadable(error),
    }
}

fn copy(
    reader: &mut impl Read,
    mut file: impl Write,
    path: &Path,
) -> Result<(Digest, u64), TransferError> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(StoreError::io("write", path))?;
        size += count as u64;
    }
}

impl Members for Spool {
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, TransferError> {
        let Some(spooled) = self.names.find(name) else { return Ok(None) };
        let path = spooled.path.clone();
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        Ok(Some(Opened { reader: Box::new(file), size: spooled.size, path: Some(path) }))
    }

    fn examined(&self, name: &str) -> Option<(PathBuf, Verified)> {
        let spooled = self.names.find(name)?;
        let known = spooled.layer.lock().unwrap_or_else(PoisonError::into_inner).take();
        known.map(|known| (spooled.path.clone(), known))
    }
}
