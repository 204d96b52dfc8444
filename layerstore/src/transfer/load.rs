//! Images in: OCI archives, docker archives, OCI layout directories.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use super::{
    NamedImages, TransferError,
    file::ArchiveFile,
    members::{Directory, Members},
    resolve::{self, Family, Planned, PlannedLayer},
    spool::Spool,
};
use crate::{
    Digest,
    layers::{Layer, Purpose, Verified},
    limits::LAYERS_AT_ONCE,
    oci::Platform,
    reference::Reference,
    source::Seen,
    store::{ImageRecord, Lease, Store},
};

/// Which images of an archive to take.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// For this platform; none means this machine's, or the only one that is there.
    pub platform: Option<Platform>,
    /// Every platform; those of one name become one image.
    pub all_platforms: bool,
    /// Only the image of this name (or, where names are only tags, of its tag).
    pub select: Option<Reference>,
    /// Only the image with this tag in an OCI index, or with this digest.
    pub choose: Option<String>,
    /// What the layers come for; those of an archive that comes as a stream are only kept.
    pub purpose: Purpose,
}

/// Takes the images of an archive: OCI or docker, plain or compressed. Nothing is tagged.
pub fn load(
    store: &Store,
    lease: &Lease,
    reader: &mut (dyn Read + Send),
    options: &LoadOptions,
) -> Result<NamedImages, TransferError> {
    let spool = Spool::read(store, reader)?;
    take(store, lease, &spool, options)
}

/// As [`load`], from an archive that is a file: what is not needed is not read, where it is plain.
pub fn load_file(
    store: &Store,
    lease: &Lease,
    mut file: &File,
    options: &LoadOptions,
) -> Result<NamedImages, TransferError> {
    match ArchiveFile::open(file)? {
        Some(archive) => take(store, lease, &archive, options),
        None => load(store, lease, &mut file, options),
    }
}

/// Takes the images of a directory in OCI layout. Nothing is tagged.
pub fn load_dir(
    store: &Store,
    lease: &Lease,
    directory: &Path,
    options: &LoadOptions,
) -> Result<NamedImages, TransferError> {
    take(store, lease, &Directory::new(directory), options)
}

/// What [`load_dir`] would take first, without taking it: nothing is stored.
pub fn look_dir(directory: &Path, options: &LoadOptions) -> Result<Option<Seen>, TransferError> {
    let planned = resolve::plan(&Directory::new(directory), options)?.into_iter().next();
    Ok(planned.and_then(|image| {
        let (manifest, _) = image.manifest?;
        let config = Digest::of(&image.config);
        Some(Seen { manifest: manifest.digest, config, config_bytes: image.config })
    }))
}

fn take(
    store: &Store,
    lease: &Lease,
    members: &dyn Members,
    options: &LoadOptions,
) -> Result<NamedImages, TransferError> {
    let planned = resolve::plan(members, options)?;
    let loader = Loader { store, lease, members, purpose: options.purpose };
    let layers = loader.layers(&planned)?;
    let mut images = NamedImages::new();
    let mut families: BTreeMap<usize, Relatives> = BTreeMap::new();
    for image in planned {
        let family = image.family.clone();
        let (name, record) = loader.image(image, &layers)?;
        match family {
            None => images.push((name, record)),
            Some(family) => {
                let relatives = families.entry(family.number);
                relatives.or_insert_with(|| (name, family, Vec::new())).2.push(record);
            }
        }
    }
    for (name, family, records) in families.into_values() {
        images.push((name, loader.joined(&family, records)?));
    }
    Ok(images)
}

/// Images of several platforms, their name, and what joins them.
type Relatives = (Option<Reference>, Family, Vec<ImageRecord>);

/// Layers by what the plan says of them.
type Loaded = HashMap<PlannedLayer, Arc<Layer>>;

/// What becomes of a planned layer.
enum Found {
    /// It is here already.
    Here(Arc<Layer>),
    /// It came, and is what it should be: where it lies, and what it is.
    Came(PathBuf, Verified),
}

struct Loader<'a> {
    store: &'a Store,
    lease: &'a Lease,
    members: &'a dyn Members,
    purpose: Purpose,
}

impl Loader<'_> {
    /// Every layer of every image once.
    ///
    /// The first is stored when the last was read: an archive with anything wrong leaves no trace.
    fn layers(&self, planned: &[Planned]) -> Result<Loaded, TransferError> {
        let found = self.find_all(planned)?;
        let keep = |(planned, found)| Ok((planned, self.keep(found)?));
        found.into_iter().map(keep).collect()
    }

    /// Looks at every layer, some at the same time.
    fn find_all(&self, planned: &[Planned]) -> Result<Vec<(PlannedLayer, Found)>, TransferError> {
        let mut wanted: Vec<&PlannedLayer> =
            planned.iter().flat_map(|image| &image.layers).collect();
        let mut seen = std::collections::HashSet::new();
        wanted.retain(|layer| seen.insert(*layer));
        let threads = wanted.len().min(LAYERS_AT_ONCE);
        let queue = Mutex::new(wanted.into_iter().collect::<VecDeque<_>>());
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = || {
            let mut done = Vec::new();
            while let Some(layer) = next() {
                match self.find(layer) {
                    Ok(found) => done.push((layer.clone(), found)),
                    Err(error) => {
                        // The others need not begin another one.
                        queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        return Err(error);
                    }
                }
            }
            Ok(done)
        };
        let mut found = Vec::new();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut result = Ok(());
            for worker in workers {
                match worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                    Ok(done) => found.extend(done),
                    Err(error) => result = Err(error),
                }
            }
            result
        })?;
        Ok(found)
    }

    fn find(&self, planned: &PlannedLayer) -> Result<Found, TransferError> {
        let layers = self.store.layers();
        if let Some(layer) = layers.ready(layers.by_diff_id(&planned.diff_id)?)?
            && self.lease.hold(layer.short()).is_ok()
        {
            return Ok(Found::Here(layer));
        }
        let (name, expected) = (&planned.file, planned.diff_id);
        let (path, verified) = self.members.verify(name, self.store, expected, self.purpose)?;
        Ok(Found::Came(path, verified))
    }

    fn keep(&self, found: Found) -> Result<Arc<Layer>, TransferError> {
        let (path, verified) = match found {
            Found::Here(layer) => return Ok(layer),
            Found::Came(path, verified) => (path, verified),
        };
        let (digest, _) = verified.blob;
        self.store.adopt_touched(&path, &digest)?;
        self.lease.hold_blob(&digest)?;
        let layer = self.store.layers().keep(verified)?;
        self.lease.hold(layer.short())?;
        Ok(layer)
    }

    /// The images of several platforms as one, with the index that they came in.
    fn joined(
        &self,
        family: &Family,
        images: Vec<ImageRecord>,
    ) -> Result<ImageRecord, TransferError> {
        let joined = ImageRecord::joined(images);
        let Some(index) = &family.index else { return Ok(joined) };
        let digest = self.store.put_touched(&index.bytes)?;
        self.lease.hold_blob(&digest)?;
        Ok(joined.with_index(index.descriptor.clone()))
    }

    fn image(
        &self,
        planned: Planned,
        loaded: &Loaded,
    ) -> Result<(Option<Reference>, ImageRecord), TransferError> {
        let layer = |planned: &PlannedLayer| {
            Arc::clone(loaded.get(planned).expect("because every planned layer was loaded"))
        };
        let layers: Vec<_> = planned.layers.iter().map(layer).collect();
        let mut image = self.store.put_image(&planned.config, &layers)?;
        self.lease.hold_blob(&image.config)?;
        if let Some((descriptor, bytes)) = planned.manifest {
            let digest: Digest = self.store.put_touched(&bytes)?;
            self.lease.hold_blob(&digest)?;
            image = image.with_manifest(descriptor);
        }
        Ok((planned.name, image))
    }
}
