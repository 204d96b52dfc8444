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
//!
//! Packs go when nothing needs them, and those of which little is needed are written anew, while
//! other processes work. So whoever is told that a content is here gets a promise: its pack is made
//! young, as a prune sees it, for as long as the lease lives under which this was asked. Whoever
//! reads what a held layer needs looks again if the pack has gone meanwhile: it is in another one.

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

pub use crate::pipe::Piece;
pub use pack::{PACK_VERSION, PackId, PackRecord};
pub use writer::{ContentWriter, TakePiece};

use crate::{
    ContentHash, StoreError,
    atomic::{Staging, open_stored, publish},
};

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
    /// The packs that were made young since the last lease began.
    promised: HashSet<PackId>,
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

/// A pack that is complete and has no name yet.
#[derive(Debug)]
pub(crate) struct PackCopy {
    pub(crate) path: PathBuf,
    pub(crate) id: PackId,
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

    /// Is this content here? If so, it stays while a lease lives that was taken before.
    pub fn has(&self, hash: &ContentHash) -> bool {
        self.promise(hash).is_ok_and(|length| length.is_some())
    }

    /// Length of the content, if it is here.
    pub fn length(&self, hash: &ContentHash) -> Result<Option<u64>, StoreError> {
        Ok(self.place(hash)?.map(|place| place.length))
    }

    /// Length of the content, if it is here; then it stays while a lease lives that was taken
    /// before.
    pub(crate) fn promise(&self, hash: &ContentHash) -> Result<Option<u64>, StoreError> {
        while let Some(place) = self.place(hash)? {
            if self.make_young(place.pack)? {
                return Ok(Some(place.length));
            }
            self.forget();
        }
        Ok(None)
    }

    /// The content's bytes; not hashed again.
    pub fn open(&self, hash: &ContentHash) -> Result<Option<Box<dyn Read + Send>>, StoreError> {
        let located = self.locate(hash)?;
        Ok(located.map(|located| Box::new(ContentReader::new(located)) as Box<dyn Read + Send>))
    }

    /// Where the content lies, if it is here.
    pub fn locate(&self, hash: &ContentHash) -> Result<Option<Located>, StoreError> {
        while let Some(place) = self.place(hash)? {
            match self.pack_file(place.pack) {
                Ok(file) => {
                    let Place { offset, length, .. } = place;
                    return Ok(Some(Located { file, offset, length }));
                }
                // Another process wrote the pack anew: what is needed of it is in another one.
                Err(error) if error.is_not_found() => self.forget(),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// No pack that is here now goes while a lease lives that was taken before.
    pub(crate) fn promise_packs(&self) -> Result<(), StoreError> {
        for (id, _) in self.list_packs()? {
            self.make_young(id)?;
        }
        Ok(())
    }

    /// Makes the pack young, once for each lease; false if it is gone.
    fn make_young(&self, id: PackId) -> Result<bool, StoreError> {
        if self.read_index().promised.contains(&id) {
            return Ok(true);
        }
        let root = self.directory.parent().unwrap_or(&self.directory);
        if !crate::store::make_young(root, &self.pack_path(id))? {
            return Ok(false);
        }
        self.index.write().unwrap_or_else(PoisonError::into_inner).promised.insert(id);
        Ok(true)
    }

    /// Nothing is known any more: the next question reads the packs' indexes again.
    pub(crate) fn forget(&self) {
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Index::default();
    }

    /// A writer with a pack of its own; one for each thread.
    ///
    /// What other processes publish meanwhile may be kept twice.
    pub fn writer(self: &Arc<Self>) -> ContentWriter {
        // If the packs cannot be listed now, publishing a new one will say so.
        self.refresh().unwrap_or_default();
        ContentWriter::new(Arc::clone(self))
    }

    /// Is this content here, as far as is known without reading other packs' indexes? If so, it
    /// stays while a lease lives that was taken before.
    pub(crate) fn is_known(&self, hash: &ContentHash) -> bool {
        let place = self.read_index().places.get(hash).copied();
        // One whose pack is gone or cannot be touched is kept once more.
        place.is_some_and(|place| self.make_young(place.pack).unwrap_or(false))
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
                    Err(error) if error.is_not_found() => {}
                    // As if it were not there: what is needed of it is missed by whoever needs it,
                    // and fsck says why.
                    Err(StoreError::Damaged { .. }) => {}
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

    /// Forgets the packs that other processes pruned, and what was promised to leases of before. A
    /// lease does this when it begins.
    pub(crate) fn revalidate(&self) -> Result<(), StoreError> {
        self.index.write().unwrap_or_else(PoisonError::into_inner).promised.clear();
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
        self.forget();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Copies the contents of a pack that `keep` says into a pack aside, in the order in which they
    /// lie; its path and id, none if there is nothing to keep. It is to be given its name by
    /// [`publish_copy`](Self::publish_copy).
    pub(crate) fn copy_of(
        &self,
        id: PackId,
        keep: &dyn Fn(&ContentHash) -> bool,
    ) -> Result<Option<PackCopy>, StoreError> {
        let mut records = self.pack_records(id)?;
        records.retain(|record| keep(&record.hash));
        if records.is_empty() {
            return Ok(None);
        }
        let (path, file) = self.staging.new_file()?;
        let from = self.pack_path(id);
        let id = pack::copy(&from, records, &path, file)?;
        Ok(Some(PackCopy { path, id }))
    }

    /// Length of a pack's file; 0 if it is not there.
    pub(crate) fn pack_size(&self, id: PackId) -> u64 {
        fs::metadata(self.pack_path(id)).map_or(0, |meta| meta.len())
    }

    /// Gives a copy its name.
    pub(crate) fn publish_copy(&self, copy: &PackCopy) -> Result<(), StoreError> {
        publish(&copy.path, &self.pack_path(copy.id))
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
        let file = Arc::new(open_stored(&path)?);
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
