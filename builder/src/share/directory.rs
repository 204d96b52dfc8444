//! A cache in a directory: `type=local`.
//!
//! ```text
//! DIR/lapstrake-cache          lapstrake-cache 1
//! DIR/keys/<2 hex>/<hex>       lapstrake-shared-step 1 <BLAKE3 of the rest>, newline, SharedStep as JSON
//! DIR/blobs/sha256/<hex>       layers
//! ```
//! Every file enters by rename, so that builds may write at once and one that is stopped leaves nothing
//! half. `docs/formats/shared-cache.md` describes it.

use super::{ShareError, SharedCache, SharedStep};
use crate::limits::MAX_SHARED_STEP_BYTES;
use lapstrake_layerstore::oci::Descriptor;
use lapstrake_layerstore::store::CacheKey;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// The file that says that this is a cache.
const MARKER: &str = "lapstrake-cache";
/// What stands in it; another version is none of ours.
const FORMAT: &str = "lapstrake-cache 1\n";
/// How a record begins.
const HEADER: &str = "lapstrake-shared-step 1 ";

/// A directory as a cache.
#[derive(Debug, Clone)]
pub struct DirectoryCache {
    root: PathBuf,
}

impl DirectoryCache {
    /// The cache in a directory, to read from.
    pub fn open(root: &Path) -> Result<Self, ShareError> {
        let no_cache = |why| ShareError::NoCache { name: root.display().to_string(), why };
        let marker = root.join(MARKER);
        match read(&marker, FORMAT.len() as u64)? {
            Some(text) if text == FORMAT.as_bytes() => Ok(Self { root: root.to_owned() }),
            Some(_) => Err(no_cache("it is one of another version")),
            None if root.is_dir() => Err(no_cache("nothing was written there by --cache-to")),
            None => Err(no_cache("there is no such directory")),
        }
    }

    /// The cache in a directory, which is made where there is none, to write to.
    pub fn create(root: &Path) -> Result<Self, ShareError> {
        fs::create_dir_all(root).map_err(failed("make", root))?;
        let cache = Self { root: root.to_owned() };
        match Self::open(root) {
            Ok(cache) => Ok(cache),
            Err(ShareError::NoCache { .. }) if !root.join(MARKER).exists() => {
                cache.write(&root.join(MARKER), &mut FORMAT.as_bytes())?;
                Ok(cache)
            }
            Err(error) => Err(error),
        }
    }

    fn step_path(&self, key: &CacheKey) -> PathBuf {
        let hex = key.hex();
        self.root.join("keys").join(&hex[..2]).join(hex)
    }

    fn blob_path(&self, blob: &Descriptor) -> PathBuf {
        self.root.join("blobs/sha256").join(blob.digest.hex())
    }

    /// Writes aside and renames.
    fn write(&self, path: &Path, data: &mut dyn Read) -> Result<(), ShareError> {
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(failed("make", parent))?;
        let mut builder = tempfile::Builder::new();
        let readable = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        let file = builder.prefix(".lap-").permissions(readable).tempfile_in(parent);
        let mut file = file.map_err(failed("write into", parent))?;
        io::copy(data, &mut file).map_err(failed("write", path))?;
        file.flush().map_err(failed("write", path))?;
        file.persist(path).map_err(|error| failed("write", path)(error.error))?;
        Ok(())
    }
}

impl SharedCache for DirectoryCache {
    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn get(&self, key: &CacheKey) -> Result<Option<SharedStep>, ShareError> {
        let path = self.step_path(key);
        let Some(bytes) = read(&path, MAX_SHARED_STEP_BYTES)? else { return Ok(None) };
        let step = unwrapped(&bytes).and_then(|json| serde_json::from_slice(json).ok());
        step.map(Some).ok_or(ShareError::Damaged { path })
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>, ShareError> {
        let path = self.blob_path(blob);
        let file = File::open(&path).map_err(failed("open", &path))?;
        Ok(Box::new(BufReader::new(file)))
    }

    fn put_blob(&self, blob: &Descriptor, data: &mut (dyn Read + Send)) -> Result<(), ShareError> {
        let path = self.blob_path(blob);
        if fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() == blob.size) {
            return Ok(());
        }
        self.write(&path, data)
    }

    fn put(&self, key: &CacheKey, step: &SharedStep) -> Result<(), ShareError> {
        let path = self.step_path(key);
        let bytes = wrapped(step);
        // Damaged ones are written anew, equal ones are left alone.
        if read(&path, MAX_SHARED_STEP_BYTES).is_ok_and(|old| old.as_deref() == Some(&*bytes)) {
            return Ok(());
        }
        self.write(&path, &mut &bytes[..])
    }
}

fn wrapped(step: &SharedStep) -> Vec<u8> {
    let json = serde_json::to_vec(step).expect("because the keys are plain strings");
    let mut bytes = format!("{HEADER}{}\n", blake3::hash(&json).to_hex()).into_bytes();
    bytes.extend(json);
    bytes
}

fn unwrapped(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(HEADER.as_bytes())?;
    let end = rest.iter().position(|&byte| byte == b'\n')?;
    let (checksum, json) = (&rest[..end], &rest[end + 1..]);
    (blake3::hash(json).to_hex().as_bytes() == checksum).then_some(json)
}

/// A small file; none if it is not there. One that is too large is cut, which its checksum shows.
fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, ShareError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(Some(bytes))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShareError {
    let path = path.to_owned();
    move |source| ShareError::Io { action, path, source }
}
