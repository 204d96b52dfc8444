//! Images out: OCI archives and layout directories, docker archives.
//!
//! The members of an archive have a fixed order and fixed headers. An OCI archive is
//! `oci-layout`, `index.json`, then the blobs of each image (manifest, config, layers) in the order
//! of the images; a docker archive is `manifest.json`, then configs and uncompressed layers.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{IMAGE_NAME, NamedImages, REF_NAME, TransferError, members::BLOBS, unwritable};
use crate::{
    DiffId, Digest, StoreError,
    archive::TarWriter,
    digest::Sha256,
    limits::MANIFEST_BYTES_MAX,
    oci::{Descriptor, Index, Manifest},
    path::LayerPath,
    pipe::{ChunkReader, ChunkWriter, channel, join},
    read_once::ReadOnce,
    reference::Reference,
    store::{ImageRecord, ManifestOptions, Store, epoch_of},
    toc::{Entry, Kind},
};

/// How images go out.
pub type SaveOptions = ManifestOptions;

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// What is shorter is copied before a thread has begun.
const READ_AHEAD_BYTES_MIN: u64 = 8 << 20;
/// How much of a blob goes from thread to thread at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The images of an OCI layout, ready to be written.
struct Layout {
    index: Index,
    /// Every blob once, in the order in which they are written.
    blobs: Vec<Digest>,
}

impl Layout {
    fn new(
        store: &Store,
        images: &NamedImages,
        options: &SaveOptions,
    ) -> Result<Layout, TransferError> {
        let (mut blobs, mut seen, mut tops) = (Vec::new(), HashSet::new(), Vec::new());
        for (name, image) in images {
            let published = store.publish(image, options)?;
            let mut all = vec![published.descriptor.digest];
            for (_, bytes) in &published.images {
                let digest = Digest::of(bytes);
                let manifest = Manifest::parse(bytes).map_err(|source| {
                    let name = format!("{BLOBS}{}", digest.hex());
                    TransferError::Document { name, source }
                })?;
                all.extend([digest, manifest.config.digest]);
                all.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
            blobs.extend(all.into_iter().filter(|digest| seen.insert(*digest)));
            tops.push(named(published.descriptor, name.as_ref()));
        }
        Ok(Layout { index: Index::new(tops), blobs })
    }
}

/// The descriptor with the annotations that give an image its name.
fn named(descriptor: Descriptor, name: Option<&Reference>) -> Descriptor {
    let Some(name) = name else { return descriptor };
    let descriptor = match name.tag() {
        Some(tag) => descriptor.with_annotation(REF_NAME, tag),
        None => descriptor,
    };
    descriptor.with_annotation(IMAGE_NAME, name.to_string())
}

/// Writes an OCI archive.
pub fn save_oci(
    store: &Store,
    images: &NamedImages,
    out: &mut dyn Write,
    options: &SaveOptions,
) -> Result<(), TransferError> {
    let layout = Layout::new(store, images, options)?;
    let mut archive = Archive::new(out);
    archive.file(LAYOUT_FILE, LAYOUT)?;
    archive.file(INDEX_FILE, &layout.index.to_json())?;
    archive.directory("blobs")?;
    archive.directory(BLOBS.trim_end_matches('/'))?;
    for digest in &layout.blobs {
        let blob = store.blobs().open_blob(digest)?;
        let size = size_of(store, digest)?;
        archive.blob(&format!("{BLOBS}{}", digest.hex()), size, blob)?;
    }
    archive.finish()
}

/// Writes into a directory in OCI layout, beside the images that are in it; one of the same name is
/// replaced. The index comes last, so that a reader sees the old images or the new; after an error
/// nothing is left that was not there before.
pub fn save_oci_dir(
    store: &Store,
    images: &NamedImages,
    directory: &Path,
    options: &SaveOptions,
) -> Result<(), TransferError> {
    let layout = Layout::new(store, images, options)?;
    let is_new = !directory.exists();
    let mut made = Vec::new();
    let written = write_layout(store, layout, directory, &mut made);
    if written.is_err() {
        // The first error counts; what cannot be removed now is in no index.
        for path in &made {
            fs::remove_file(path).unwrap_or_default();
        }
        if is_new {
            fs::remove_dir_all(directory).unwrap_or_default();
        }
    }
    written
}

/// Writes what is not there yet, and notes it in `made`.
fn write_layout(
    store: &Store,
    layout: Layout,
    directory: &Path,
    made: &mut Vec<PathBuf>,
) -> Result<(), TransferError> {
    let blobs = directory.join(BLOBS);
    fs::create_dir_all(&blobs).map_err(cannot("create", &blobs))?;
    let path = directory.join(LAYOUT_FILE);
    if !path.exists() {
        write_file(&path, |out| out.write_all(LAYOUT).map_err(unwritable))?;
        made.push(path);
    }
    for digest in &layout.blobs {
        let path = blobs.join(digest.hex());
        let size = size_of(store, digest)?;
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == size) {
            continue;
        }
        let mut blob = store.blobs().open_blob(digest)?;
        // From file to file: by the kernel, and shared where the file system can.
        write_aside(&path, |file| io::copy(&mut blob, file).map(drop).map_err(unwritable))?;
        made.push(path);
    }
    let path = directory.join(INDEX_FILE);
    let index = merged(&path, layout.index)?;
    write_file(&path, |out| out.write_all(&index.to_json()).map_err(unwritable))
}

/// The index that is there, with ours instead of those of the same names.
fn merged(path: &Path, ours: Index) -> Result<Index, TransferError> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => {
            let mut file = file.take(MANIFEST_BYTES_MAX + 1);
            file.read_to_end(&mut bytes).map_err(cannot("read", path))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ours),
        Err(error) => return Err(cannot("open", path)(error)),
    }
    let document = |source| TransferError::Document { name: INDEX_FILE.into(), source };
    let mut index = Index::parse(&bytes).map_err(document)?;
    let name = |top: &Descriptor| {
        let name = top.annotations.get(IMAGE_NAME).or(top.annotations.get(REF_NAME));
        name.cloned()
    };
    index.manifests.retain(|old| {
        let replaced = |new: &Descriptor| {
            new.digest == old.digest || (name(new).is_some() && name(new) == name(old))
        };
        !ours.manifests.iter().any(replaced)
    });
    index.manifests.extend(ours.manifests);
    Ok(index)
}

/// One image in docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes a docker archive, as `docker load` reads it.
pub fn save_docker(
    store: &Store,
    images: &NamedImages,
    out: &mut dyn Write,
) -> Result<(), TransferError> {
    let mut entries: Vec<DockerEntry> = Vec::new();
    // Sorted by name, and each once, however many images share it.
    let mut configs: BTreeMap<String, &ImageRecord> = BTreeMap::new();
    for (name, image) in images {
        let config = format!("{}.json", image.config.hex());
        let tag = name.as_ref().filter(|name| name.tag().is_some());
        let tag =
            tag.map(|name| format!("{}:{}", name.familiar_name(), name.tag().unwrap_or_default()));
        if let Some(entry) = entries.iter_mut().find(|entry| entry.config == config) {
            entry.repo_tags.extend(tag);
            continue;
        }
        let diff_ids = store.image_config(image)?.rootfs.diff_ids;
        let layers = diff_ids.iter().map(layer_name).collect();
        entries.push(DockerEntry {
            config: config.clone(),
            repo_tags: tag.into_iter().collect(),
            layers,
        });
        configs.insert(config, image);
    }
    let mut archive = Archive::new(out);
    archive.file("manifest.json", &crate::oci::json::compact(&entries))?;
    let mut written = HashSet::new();
    for (name, image) in &configs {
        archive.file(name, &store.config_bytes(image)?)?;
        docker_layers(store, image, &mut archive, &mut written)?;
    }
    archive.finish()
}

fn layer_name(diff_id: &DiffId) -> String {
    format!("{}.tar", diff_id.hex())
}

/// The uncompressed layers that were not written yet. Each goes through a file aside first: its
/// header needs the size, and its digest is verified before the member begins.
fn docker_layers(
    store: &Store,
    image: &ImageRecord,
    archive: &mut Archive<'_>,
    written: &mut HashSet<DiffId>,
) -> Result<(), TransferError> {
    let area = store.work_dir()?;
    let diff_ids = store.image_config(image)?.rootfs.diff_ids;
    for (layer, expected) in store.image_layers(image)?.iter().zip(diff_ids) {
        if !written.insert(expected) {
            continue;
        }
        let (path, file) = area.new_file()?;
        let mut hashing =
            HashingWriter { out: BufWriter::new(file), hasher: Sha256::new(), size: 0 };
        let epoch = epoch_of(layer, &expected)?.and_then(|made| made.0);
        store.layers().write_tar(layer, &mut hashing, epoch)?;
        hashing.flush().map_err(StoreError::io("write", &path))?;
        let (actual, size) = (DiffId::from_digest(hashing.hasher.finish()), hashing.size);
        if actual != expected {
            return Err(StoreError::DiffIdMismatch { expected, actual }.into());
        }
        let mut file = File::open(&path).map_err(StoreError::io("open", &path))?;
        archive.stream(&layer_name(&expected), size, &mut file)?;
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
    }
    Ok(())
}

/// Writes a file so that readers see all of it or what was there before.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    write_aside(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 18, file);
        write(&mut out)?;
        out.flush().map_err(cannot("write", path))
    })
}

/// Has a file written, and gives it its name when it is complete.
fn write_aside(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    let permissions = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(FILE_MODE);
    let mut file = builder
        .prefix(".lap-")
        .permissions(permissions)
        .tempfile_in(parent)
        .map_err(cannot("create a file in", parent))?;
    write(file.as_file_mut())?;
    file.persist(path).map(drop).map_err(|error| cannot("write", path)(error.error))
}

fn cannot(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::File { action, path, source }
}

fn size_of(store: &Store, digest: &Digest) -> Result<u64, TransferError> {
    let missing = StoreError::BlobMissing { digest: *digest };
    store.blobs().size(digest).ok_or(TransferError::Store(missing))
}

/// A tar with fixed headers.
struct Archive<'a> {
    tar: TarWriter<BufWriter<&'a mut dyn Write>>,
}

impl<'a> Archive<'a> {
    fn new(out: &'a mut dyn Write) -> Archive<'a> {
        Archive { tar: TarWriter::new(BufWriter::with_capacity(1 << 18, out), None) }
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), TransferError> {
        self.stream(name, bytes.len() as u64, &mut &bytes[..])
    }

    fn stream(&mut self, name: &str, size: u64, data: &mut dyn Read) -> Result<(), TransferError> {
        let entry = Entry { size, ..file_entry(name) };
        self.tar.append(&entry, data).map_err(unwritable)
    }

    /// A file that may be large is read by a thread of its own.
    fn blob(&mut self, name: &str, size: u64, mut file: File) -> Result<(), TransferError> {
        if size <= READ_AHEAD_BYTES_MIN {
            return self.stream(name, size, &mut file);
        }
        let (to_archive, chunks) = channel();
        std::thread::scope(|scope| {
            let read = scope.spawn(move || {
                let mut chunks = ChunkWriter::new(CHUNK_BYTES, vec![Box::new(to_archive)]);
                chunks.copy_from(&mut ReadOnce::new(file))?;
                chunks.finish()
            });
            let entry = Entry { size, ..file_entry(name) };
            let written = self.tar.append_pieces(&entry, &mut ChunkReader::new(chunks));
            match (join(read), written) {
                // What could not be written ends the reading, too, and what could not be read the writing.
                (Err(error), _) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(TransferError::Store(StoreError::Stream {
                        action: "read the blob",
                        source: error,
                    }))
                }
                (_, written) => written.map_err(unwritable),
            }
        })
    }

    fn directory(&mut self, name: &str) -> Result<(), TransferError> {
        let entry = Entry::directory(fixed_path(name), DIRECTORY_MODE, 0);
        self.tar.append_bytes(&entry, &[]).map_err(unwritable)
    }

    fn finish(self) -> Result<(), TransferError> {
        let mut out = self.tar.finish().map_err(unwritable)?;
        out.flush().map_err(unwritable)
    }
}

fn file_entry(name: &str) -> Entry {
    Entry { mode: FILE_MODE, ..Entry::new(fixed_path(name), Kind::File) }
}

fn fixed_path(name: &str) -> LayerPath {
    LayerPath::parse(name).expect("because our own member names are short and plain")
}

/// Counts and hashes what passes.
struct HashingWriter<W> {
    out: W,
    hasher: Sha256,
    size: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
