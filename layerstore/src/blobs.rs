//! Whole blobs by their digest: `blobs/sha256/<hex>`, exact bytes, immutable.
//!
//! *Invariant:* a file under its digest's name has that digest: it is hashed while it is written
//! aside, and renamed into place only when complete and, where something was promised, verified.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Digest, StoreError,
    atomic::{Staging, open_file, publish, read_bounded},
    digest::Sha256,
    early_sync::LargeFile,
};

/// Bytes moved at once between streams.
const COPY_BYTES: usize = 1 << 18;

/// The blobs of a store.
#[derive(Debug, Clone)]
pub struct Blobs {
    directory: PathBuf,
    staging: Arc<Staging>,
}

impl Blobs {
    /// The blobs below `root`; what is in progress goes to `staging`.
    pub fn open(root: &Path, staging: Arc<Staging>) -> Result<Blobs, StoreError> {
        let directory = root.join("blobs/sha256");
        fs::create_dir_all(&directory).map_err(StoreError::io("create", &directory))?;
        Ok(Blobs { directory, staging })
    }

    /// Where the blob is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    /// Is the blob here?
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Size of the blob, if it is here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|meta| meta.len())
    }

    /// Opens the blob; its bytes are not verified again.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.path(digest);
        open_file(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::BlobMissing { digest: *digest },
            _ => StoreError::Io { action: "open", path, source },
        })
    }

    /// The bytes of a blob of at most `limit` bytes, verified.
    pub fn get(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(digest);
        let bytes =
            read_bounded(&path, limit)?.ok_or(StoreError::BlobMissing { digest: *digest })?;
        let actual = Digest::of(&bytes);
        if actual != *digest {
            let what = format!("its digest is {actual}");
            return Err(StoreError::Damaged { path, what });
        }
        Ok(bytes)
    }

    /// Keeps `bytes`.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<(Digest, u64), StoreError> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            self.staging.write(&self.path(&digest), bytes)?;
        }
        Ok((digest, bytes.len() as u64))
    }

    /// Keeps all of `reader`, which must be what `expected` says.
    pub fn put_reader(
        &self,
        reader: &mut dyn Read,
        expected: Option<(Digest, u64)>,
    ) -> Result<(Digest, u64), StoreError> {
        let mut writer = self.writer()?;
        let mut buffer = vec![0; COPY_BYTES];
        let limit = expected.map_or(u64::MAX, |(_, size)| size);
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(StoreError::Stream { action: "read the blob", source }),
            };
            writer.append(&buffer[..count])?;
            if writer.size > limit {
                break;
            }
        }
        writer.finish(expected)
    }

    /// A blob that is written piece by piece.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        let (path, file) = self.staging.new_large_file()?;
        let blobs = self.clone();
        Ok(BlobWriter { blobs, path, file: Some(file), hasher: Sha256::new(), size: 0 })
    }

    /// Takes a file that the caller wrote in the staging directory and hashed.
    pub(crate) fn adopt(&self, file: &Path, digest: &Digest) -> Result<(), StoreError> {
        publish(file, &self.path(digest))
    }

    /// Every blob, in no order.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, StoreError> {
        let error = |error: io::Error| StoreError::io("read", &self.directory)(error);
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(error)? {
            let entry = entry.map_err(error)?;
            let name = format!("sha256:{}", entry.file_name().to_string_lossy());
            if let (Ok(digest), Ok(meta)) = (name.parse(), entry.metadata()) {
                blobs.push((digest, meta.len()));
            }
        }
        Ok(blobs)
    }

    /// Removes the blob; one that is not here is no error.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// A blob in the making; dropped before [`finish`](BlobWriter::finish), it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    path: PathBuf,
    file: Option<LargeFile>,
    hasher: Sha256,
    size: u64,
}

impl BlobWriter {
    /// Adds `bytes`.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.write_all(bytes).map_err(StoreError::io("write", &self.path))
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Publishes the blob if it is what `expected` says.
    pub fn finish(mut self, expected: Option<(Digest, u64)>) -> Result<(Digest, u64), StoreError> {
        let (actual, actual_size) = (std::mem::take(&mut self.hasher).finish(), self.size);
        if let Some((expected, expected_size)) = expected
            && (expected, expected_size) != (actual, actual_size)
        {
            return Err(StoreError::Mismatch { expected, expected_size, actual, actual_size });
        }
        self.blobs.adopt(&self.path, &actual)?;
        self.file = None;
        Ok((actual, actual_size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().expect("because only finish takes it, and consumes self");
        let count = file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Nobody is told: the staging directory is swept as a whole.
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}
