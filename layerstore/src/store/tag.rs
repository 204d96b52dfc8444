//! Tags: full reference → image record, one small file each, replaced by rename.
//!
//! `tags/<BLAKE3 of the canonical reference>` is `lapstrake-tag 1 <BLAKE3 of the rest>\n` and the rest,
//! `{reference, image}` in JSON; the reference inside counts, and a file under another's name is damaged.
//! One that stands for several platforms is of version 2, so that an earlier lap, which would not see
//! what it needs, leaves it alone. Moving a tag is the last thing that a build does; a tag that already
//! says the same is not touched.

use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ImageRecord, Store, checked, hashed_name, lock};
use crate::{
    Digest, StoreError,
    atomic::{read_hint, read_record},
    limits::CONFIG_BYTES_MAX,
    oci::ImageConfig,
    reference::Reference,
};

/// How a tag file begins: of an image for one platform, and of one for several.
const HEADERS: [&str; 2] = ["lapstrake-tag 1 ", "lapstrake-tag 2 "];
/// How a tag file of any version begins, a number and a space following.
const ANY_HEADER: &str = "lapstrake-tag ";
/// A prefix of an id shorter than this could be anything.
const ID_PREFIX_MIN: usize = 4;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct TagFile {
    reference: Reference,
    image: ImageRecord,
}

/// What a name or id stands for.
pub type ResolvedImage = (Option<Reference>, ImageRecord);

impl Store {
    /// Gives the image this name; whatever had it before loses it.
    pub fn tag(&self, reference: &Reference, image: &ImageRecord) -> Result<(), StoreError> {
        let _lock = lock::shared(self.root())?;
        self.check_complete(image)?;
        self.write_tag(reference, image)
    }

    /// Writes the tag's file, if it says something else; needs the lock.
    pub(super) fn write_tag(
        &self,
        reference: &Reference,
        image: &ImageRecord,
    ) -> Result<(), StoreError> {
        let file = TagFile { reference: reference.clone(), image: image.clone() };
        let path = self.tag_path(reference);
        let mut bytes =
            serde_json::to_vec_pretty(&file).expect("because the keys are plain strings");
        bytes.push(b'\n');
        let bytes = checked::wrap(HEADERS[usize::from(image.index.is_some())], &bytes);
        if read_hint(&path)?.as_deref() == Some(&bytes) {
            return Ok(());
        }
        self.staging().write(&path, &bytes)
    }

    /// Takes the name away, and says what had it. What the image was made of stays until it is
    /// pruned.
    pub fn untag(&self, reference: &Reference) -> Result<Option<ImageRecord>, StoreError> {
        let _lock = lock::shared(self.root())?;
        let Some(image) = self.tagged(reference)? else { return Ok(None) };
        let path = self.tag_path(reference);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", path)(error))
            }
            _ => Ok(Some(image)),
        }
    }

    /// The image that has exactly this name.
    pub fn tagged(&self, reference: &Reference) -> Result<Option<ImageRecord>, StoreError> {
        let file = self.read_tag(&self.tag_path(reference))?;
        Ok(file.map(|file| file.image))
    }

    /// Every tag, sorted by name.
    pub fn tags(&self) -> Result<Vec<(Reference, ImageRecord)>, StoreError> {
        let mut tags = Vec::new();
        for path in self.tag_paths()? {
            // One that is gone was untagged since the directory was read.
            tags.extend(self.read_tag(&path)?.map(|file| (file.reference, file.image)));
        }
        tags.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(tags)
    }

    /// What a person means: a name (full or familiar, with tag, digest, or neither), else an image
    /// id or a prefix of one that only one image has.
    pub fn resolve(&self, text: &str) -> Result<Option<ResolvedImage>, StoreError> {
        if let Ok(reference) = Reference::parse(text) {
            if let Some(image) = self.tagged(&reference)? {
                return Ok(Some((Some(reference), image)));
            }
            if let Some(digest) = reference.digest() {
                return self.with_manifest(&reference, digest);
            }
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex || hex.len() > 64 || hex.len() < ID_PREFIX_MIN {
            return Ok(None);
        }
        self.with_id(text, hex)
    }

    /// `name@digest`: any tag of that repository whose manifest is the one.
    fn with_manifest(
        &self,
        reference: &Reference,
        digest: &Digest,
    ) -> Result<Option<ResolvedImage>, StoreError> {
        let found = self.tags()?.into_iter().find(|(tag, image)| {
            tag.name() == reference.name()
                && image.manifests().any(|manifest| manifest.digest == *digest)
        });
        Ok(found.map(|(tag, image)| (Some(tag), image)))
    }

    fn with_id(&self, text: &str, hex: &str) -> Result<Option<ResolvedImage>, StoreError> {
        let mut found: Option<ResolvedImage> = None;
        for (reference, image) in self.tags()? {
            let index = image.index.as_ref().and_then(|index| index.manifest.as_ref());
            let is_index = index.is_some_and(|index| index.digest.hex().starts_with(hex));
            if !(is_index || image.config.hex().starts_with(hex)) {
                continue;
            }
            match &found {
                Some((_, other)) if other.config != image.config => {
                    return Err(StoreError::AmbiguousId { text: text.to_owned() });
                }
                Some(_) => {}
                None => found = Some((Some(reference), image)),
            }
        }
        if found.is_some() {
            return Ok(found);
        }
        Ok(self.untagged(text, hex)?.map(|image| (None, image)))
    }

    /// An image without a name: its config is among the blobs, and its layers are known.
    fn untagged(&self, text: &str, hex: &str) -> Result<Option<ImageRecord>, StoreError> {
        let mut found = None;
        let directory = self.root().join("blobs/sha256");
        let error = |error: io::Error| StoreError::io("read", &directory)(error);
        for entry in fs::read_dir(&directory).map_err(error)? {
            let name = entry.map_err(error)?.file_name();
            let digest = name.to_str().filter(|name| name.starts_with(hex));
            let Some(digest) = digest.and_then(|name| format!("sha256:{name}").parse().ok()) else {
                continue;
            };
            let Some(image) = self.image_of_config(&digest)? else { continue };
            if found.replace(image).is_some() {
                return Err(StoreError::AmbiguousId { text: text.to_owned() });
            }
        }
        Ok(found)
    }

    /// The image with this config, if the blob is one and all its layers are here.
    pub fn image_of_config(&self, config: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        if self.blobs().size(config).is_none_or(|size| size > CONFIG_BYTES_MAX) {
            return Ok(None);
        }
        let Ok(bytes) = self.blobs().get(config, CONFIG_BYTES_MAX) else { return Ok(None) };
        let Ok(parsed) = ImageConfig::parse(&bytes) else { return Ok(None) };
        let mut layers = Vec::with_capacity(parsed.rootfs.diff_ids.len());
        for diff_id in &parsed.rootfs.diff_ids {
            let Some(layer) = self.layers().by_diff_id(diff_id)? else { return Ok(None) };
            layers.push(layer.short().clone());
        }
        Ok(Some(ImageRecord::new(*config, layers, &parsed)))
    }

    fn tag_path(&self, reference: &Reference) -> PathBuf {
        self.root().join("tags").join(hashed_name(&reference.to_string()))
    }

    pub(super) fn tag_paths(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.root().join("tags");
        let error = |error: io::Error| StoreError::io("read", &directory)(error);
        let entries = fs::read_dir(&directory).map_err(error)?;
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(error)).collect()
    }

    fn read_tag(&self, path: &std::path::Path) -> Result<Option<TagFile>, StoreError> {
        let Some(bytes) = read_record(path)? else { return Ok(None) };
        let damaged = |what: String| StoreError::Damaged { path: path.to_owned(), what };
        let Some(header) = HEADERS.iter().find(|known| bytes.starts_with(known.as_bytes())) else {
            return Err(match newer_version(&bytes) {
                Some(version) => StoreError::NewerRecord { path: path.to_owned(), version },
                None => damaged("it is not a tag".into()),
            });
        };
        let json = checked::unwrap(header, bytes);
        let json = json.ok_or_else(|| damaged("it does not fit its checksum".into()))?;
        let file: TagFile =
            serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if self.tag_path(&file.reference) != path {
            return Err(damaged(format!("it is the tag {}", file.reference)));
        }
        Ok(Some(file))
    }

    /// One tag file, for fsck and gc.
    pub(super) fn tag_at(
        &self,
        path: &std::path::Path,
    ) -> Result<Option<(Reference, ImageRecord)>, StoreError> {
        Ok(self.read_tag(path)?.map(|file| (file.reference, file.image)))
    }
}

/// The version of a tag file that a later program wrote.
fn newer_version(bytes: &[u8]) -> Option<u32> {
    let rest = bytes.strip_prefix(ANY_HEADER.as_bytes())?;
    let number = rest.split(|byte| *byte == b' ').next()?;
    let version = std::str::from_utf8(number).ok()?.parse().ok()?;
    (version as usize > HEADERS.len()).then_some(version)
}
