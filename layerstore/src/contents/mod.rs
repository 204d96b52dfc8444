//! The contents of files, each stored once, in append-only packs.
//!
//! A [`ContentWriter`] appends what the store does not have yet to a pack of its own and publishes
//! it as one file when done, so taking 50,000 files in is one sequential write. Contents are named
//! by BLAKE3; where one lies is found through the packs' indexes, which are read when first needed.
//!
//! ```text
//! packs/<id>.pack = data, (hash:32 offset:u64 length:u64)* sorted by hash,
//!                   count:u64, data length:u64, BLAKE3 of the index:32, "LAPPACK" version:u8
//! ```
//! Numbers are little-endian. A content above 4 MiB has a pack of its own and starts at offset 0,
//! so that it can be reflinked. *Invariant:* packs never change after their rename into place.

mod pack;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    hash::{BuildHasherDefault, Hasher},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

pub use pack::{PACK_VERSION, PackId, PackRecord};
pub use writer::ContentWriter;

use crate::{ContentHash, StoreError, atomic::Staging};

/// Packs kept open for reading at once: far below the usual limit of 1024 descriptors.
const OPEN_PACKS: usize = 128;
/// A directory's time is believed only if it is older than any file system's clock is coarse.
const RACY_TIME: Duration = Duration::from_secs(2);

/// The contents of a store.
#[derive(Debug)]
pub struct Contents {
    directory: PathBuf,
    staging: Arc<Staging>,
    index: RwLock<Index>,
    open: Mutex<HashMap<PackId, Arc<File>>>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    pack: PackId,
    offset: u64,
    length: u64,
}

#[derive(Debug, Default)]
struct Index {
    places: HashMap<ContentHash, Place, BuildHasherDefault<PrefixHasher>>,
    packs: HashSet<PackId>,
    /// The directory's time when it was last listed; a newer one means another process published.
    listed: Option<SystemTime>,
}

/// Takes the first bytes of what is a hash already.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct PrefixHasher(u64);

impl Hasher for PrefixHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(prefix) = bytes.first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*prefix);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Where a content lies.
#[derive(Debug, Clone)]
pub struct Located {
    /// The pack, open for reading.
    pub file: Arc<File>,
    /// Where the content starts in it.
    pub offset: u64,
    /// Its length.
    pub length: u64,
}

impl Contents {
    /// The contents below `root`; what is in progress goes to `staging`.
    pub fn open_store(root: &Path, staging: Arc<Staging>) -> Result<Contents, StoreError> {
        let directory = root.join("packs");
        fs::create_dir_all(&directory).map_err(StoreError::io("create", &directory))?;
        Ok(Contents { directory, staging, index: RwLock::default(), open: Mutex::default() })
    }

    /// Is this content here?
    pub fn has(&self, hash: &ContentHash) -> bool {
        self.place(hash).is_ok_and(|place| place.is_some())
    }

    /// Length of the content, if it is here.
    pub fn length(&self, hash: &ContentHash) -> Result<Option<u64>, StoreError> {
        Ok(self.place(hash)?.map(|place| place.length))
    }

    /// The content's bytes; not hashed again.
    pub fn open(&self, hash: &ContentHash) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let located = self.locate(hash)?;
        Ok(located.map(|located| Box::new(ContentReader::new(located)) as Box<dyn Read + Send>))
    }

    /// Where the content lies, if it is here.
    pub fn locate(&self, hash: &ContentHash) -> Result<Option<Located>, StoreError> {
        let Some(place) = self.place(hash)? else { return Ok(None) };
        let file = self.pack_file(place.pack)?;
        Ok(Some(Located { file, offset: place.offset, length: place.length }))
    }

    /// A writer with a pack of its own; one for each thread.
    ///
    /// What other processes publish meanwhile may be kept twice.
    pub fn writer(self: &Arc<Self>) -> ContentWriter {
        // If the packs cannot be listed now, publishing a new one will say so.
        self.refresh().unwrap_or_default();
        ContentWriter::new(Arc::clone(self))
    }

    /// Is this content here, as far as is known without asking the file system?
    pub(crate) fn is_known(&self, hash: &ContentHash) -> bool {
        self.read_index().places.contains_key(hash)
    }

    fn place(&self, hash: &ContentHash) -> Result<Option<Place>, StoreError> {
        if let Some(place) = self.read_index().places.get(hash) {
            return Ok(Some(*place));
        }
        // Looked up again even if nothing was new: another thread may have read it just now.
        self.refresh()?;
        Ok(self.read_index().places.get(hash).copied())
    }

    fn read_index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the indexes of packs that others published.
    fn refresh(&self) -> Result<(), StoreError> {
        let listed = fs::metadata(&self.directory)
            .and_then(|meta| meta.modified())
            .map_err(StoreError::io("stat", &self.directory))?;
        if self.read_index().listed == Some(listed) {
            return Ok(());
        }
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let packs = self.list_packs()?;
        let still: HashSet<PackId> = packs.iter().map(|(id, _)| *id).collect();
        if !index.packs.is_subset(&still) {
            // Another process pruned: what is known of those packs must not be believed.
            *index = Index::default();
        }
        for (id, path) in packs {
            if !index.packs.contains(&id) {
                match pack::read_index(&path) {
                    Ok(records) => index.add(id, &records),
                    // Pruned by another process between listing and reading.
                    Err(StoreError::Io { source, .. })
                        if source.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        // A pack that comes within the same tick of the clock leaves the directory's time as it is.
        index.listed = Some(listed).filter(|listed| {
            SystemTime::now().duration_since(*listed).is_ok_and(|age| age > RACY_TIME)
        });
        Ok(())
    }

    /// Forgets the packs that other processes pruned. A lease does this when it begins: from then on
    /// no pack goes.
    pub(crate) fn revalidate(&self) -> Result<(), StoreError> {
        self.refresh()
    }

    /// Every pack with its file, in order of their ids.
    pub fn list_packs(&self) -> Result<Vec<(PackId, PathBuf)>, StoreError> {
        let error = |error: io::Error| StoreError::io("read", &self.directory)(error);
        let mut packs = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(error)? {
            let entry = entry.map_err(error)?;
            if let Some(id) = PackId::of_file_name(&entry.file_name()) {
                packs.push((id, entry.path()));
            }
        }
        packs.sort();
        Ok(packs)
    }

    /// What a pack holds, sorted by hash.
    pub fn pack_records(&self, id: PackId) -> Result<Vec<PackRecord>, StoreError> {
        pack::read_index(&self.pack_path(id))
    }

    /// Reads a pack whole and compares every content with its hash; the damaged ones are returned.
    pub fn verify_pack(&self, id: PackId) -> Result<Vec<ContentHash>, StoreError> {
        pack::verify(&self.pack_path(id))
    }

    /// Removes a pack and forgets what it held.
    pub fn remove_pack(&self, id: PackId) -> Result<(), StoreError> {
        let path = self.pack_path(id);
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        *index = Index::default();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    fn pack_path(&self, id: PackId) -> PathBuf {
        self.directory.join(id.file_name())
    }

    fn pack_file(&self, id: PackId) -> Result<Arc<File>, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&id) {
            return Ok(Arc::clone(file));
        }
        let path = self.pack_path(id);
        let file = Arc::new(File::open(&path).map_err(StoreError::io("open", &path))?);
        if open.len() >= OPEN_PACKS {
            open.clear();
        }
        open.insert(id, Arc::clone(&file));
        Ok(file)
    }

    /// Makes a pack that a writer of this process just published known.
    fn published(&self, id: PackId, records: &[PackRecord]) {
        self.index.write().unwrap_or_else(PoisonError::into_inner).add(id, records);
    }
}

impl Index {
    fn add(&mut self, pack: PackId, records: &[PackRecord]) {
        self.packs.insert(pack);
        self.places.reserve(records.len());
        for record in records {
            let place = Place { pack, offset: record.offset, length: record.length };
            self.places.entry(record.hash).or_insert(place);
        }
    }
}

/// Reads one content out of its pack.
#[derive(Debug)]
pub struct ContentReader {
    located: Located,
    at: u64,
}

impl ContentReader {
    /// A reader from the content's beginning.
    pub fn new(located: Located) -> ContentReader {
        ContentReader { located, at: 0 }
    }
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.located.length - self.at;
        let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let count =
            self.located.file.read_at(&mut buffer[..want], self.located.offset + self.at)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(count)
    }
}
