//! One name for images of several platforms, and what is said about images outside of them.
//!
//! ```text
//! tag ─▶ record of the image that suits this machine best
//!          └ index: records of all of them ─▶ manifests ─▶ index (made when someone asks for it)
//! ```
//! Commands that work on one image work on the record that a name resolves to; what goes out, and what
//! garbage collection and fsck look at, are all of them.

use serde::{Deserialize, Serialize};

use super::{ImageRecord, ManifestOptions, Store};
use crate::{
    Digest, StoreError,
    limits::MANIFEST_BYTES_MAX,
    oci::{Descriptor, Index, Platform, StringMap, media_type},
};

/// Images of several platforms that share a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// One for each platform, in the order in which they were asked for.
    pub images: Vec<ImageRecord>,
    /// The index that they came in or were last exported with; its bytes are a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Descriptor>,
}

/// What an annotation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Annotated {
    /// The manifest of an image.
    Manifest,
    /// Where that manifest is named: the entry in an index.
    ManifestDescriptor,
    /// The index over several platforms.
    Index,
    /// Where the index is named.
    IndexDescriptor,
}

/// An annotation for all platforms, or for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// What it is about.
    pub about: Annotated,
    /// The platform whose image it is about.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Annotations; of two with one key, the later counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(pub Vec<Annotation>);

impl Annotations {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those about something of this platform.
    pub(crate) fn of(&self, about: Annotated, platform: Option<&Platform>) -> StringMap {
        let fits = |wanted: &Platform| platform.is_some_and(|own| own.matches(wanted));
        let own = self.0.iter().filter(|each| each.about == about);
        own.filter(|each| each.platform.as_ref().is_none_or(fits))
            .map(|each| (each.key.clone(), each.value.clone()))
            .collect()
    }
}

/// A manifest or index as it goes out.
#[derive(Debug, Clone)]
pub struct Published {
    /// The bytes of the manifest, or of the index.
    pub bytes: Vec<u8>,
    /// Where they are named.
    pub descriptor: Descriptor,
    /// Of each image, its record and the bytes of its manifest.
    pub images: Vec<(ImageRecord, Vec<u8>)>,
}

impl Published {
    /// Whether this is an index.
    pub fn is_index(&self) -> bool {
        media_type::is_index(&self.descriptor.media_type)
    }

    /// The image, with the manifests that it went out with.
    pub fn record(&self, of: &ImageRecord) -> ImageRecord {
        let find = |old: &ImageRecord| {
            let new = self.images.iter().find(|(new, _)| new.config == old.config);
            new.map(|(new, _)| new.clone())
        };
        let mut record = find(of).unwrap_or_else(|| of.clone());
        if self.is_index() {
            let images = self.images.iter().map(|(image, _)| image.clone()).collect();
            let manifest = Some(self.descriptor.clone());
            record.index = Some(Box::new(IndexRecord { images, manifest }));
        }
        record
    }
}

impl ImageRecord {
    /// This image alone, or those of all platforms that it stands for.
    pub fn every(&self) -> &[ImageRecord] {
        match &self.index {
            Some(index) => &index.images,
            None => std::slice::from_ref(self),
        }
    }

    /// The digests of all manifests that were recorded for it.
    pub fn manifests(&self) -> impl Iterator<Item = &Descriptor> {
        let index = self.index.as_ref().and_then(|index| index.manifest.as_ref());
        index.into_iter().chain(self.every().iter().filter_map(|image| image.manifest.as_ref()))
    }

    /// This image alone if it is for the platform, or the one of those it stands for that is.
    pub fn for_platform(&self, platform: &Platform) -> Option<ImageRecord> {
        let mut fitting = self.every().iter().filter(|image| platform.matches(&image.platform));
        fitting.next().map(|image| ImageRecord { index: None, ..image.clone() })
    }

    /// The digest of its config; for several platforms that of the index, once there is one.
    pub fn id(&self) -> Digest {
        let index = self.index.as_ref().and_then(|index| index.manifest.as_ref());
        index.map_or(self.config, |index| index.digest)
    }

    /// The images of several platforms as one, whose own is that which suits this machine best.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn joined(images: Vec<ImageRecord>) -> ImageRecord {
        let platforms: Vec<Platform> = images.iter().map(|image| image.platform.clone()).collect();
        let best = Platform::host().choose(&platforms).unwrap_or(0);
        let mut record = images[best].clone();
        record.index = Some(Box::new(IndexRecord { images, manifest: None }));
        record
    }

    /// The same image for several platforms with the index that it came with.
    #[must_use]
    pub fn with_index(mut self, manifest: Descriptor) -> Self {
        if let Some(index) = &mut self.index {
            index.manifest = Some(manifest);
        }
        self
    }
}

impl Store {
    /// Makes an image ready to go out: the manifest of each platform, and the index over them if there
    /// are several. All of these bytes are blobs afterwards.
    pub fn publish(
        &self,
        image: &ImageRecord,
        options: &ManifestOptions,
    ) -> Result<Published, StoreError> {
        let mut images = Vec::new();
        let mut entries = Vec::new();
        for image in image.every() {
            let (bytes, mut descriptor) = self.manifest(image, options)?;
            let mut record = image.clone().with_manifest(descriptor.clone());
            record.index = None;
            images.push((record, bytes));
            let about = Annotated::ManifestDescriptor;
            descriptor.annotations = options.annotations.of(about, Some(&image.platform));
            entries.push(descriptor);
        }
        let Some(index) = &image.index else {
            let (descriptor, bytes) = (entries.remove(0), images[0].1.clone());
            return Ok(Published { bytes, descriptor, images });
        };
        let known = index.manifest.as_ref().filter(|_| options.annotations.is_empty());
        let known = known.and_then(|known| self.known_index(known, &entries));
        let (bytes, mut descriptor) = match known {
            Some(known) => known,
            None => self.new_index(entries, options)?,
        };
        descriptor.annotations = options.annotations.of(Annotated::IndexDescriptor, None);
        Ok(Published { bytes, descriptor, images })
    }

    /// The recorded index, if it names these manifests and no others.
    fn known_index(
        &self,
        known: &Descriptor,
        entries: &[Descriptor],
    ) -> Option<(Vec<u8>, Descriptor)> {
        let bytes = self.blobs().get(&known.digest, MANIFEST_BYTES_MAX).ok()?;
        let index = Index::parse(&bytes).ok()?;
        let (old, new) = (index.manifests.iter(), entries.iter());
        old.map(|entry| entry.digest).eq(new.map(|entry| entry.digest)).then(|| {
            let known = Descriptor::new(known.media_type.clone(), known.digest, known.size);
            (bytes, known)
        })
    }

    fn new_index(
        &self,
        entries: Vec<Descriptor>,
        options: &ManifestOptions,
    ) -> Result<(Vec<u8>, Descriptor), StoreError> {
        let mut index = Index::new(entries);
        if options.docker_types {
            media_type::DOCKER_MANIFEST_LIST.clone_into(&mut index.media_type);
        }
        index.annotations = options.annotations.of(Annotated::Index, None);
        let bytes = index.to_json();
        let digest = self.put_touched(&bytes)?;
        let descriptor = Descriptor::new(index.media_type, digest, bytes.len() as u64);
        Ok((bytes, descriptor))
    }
}
