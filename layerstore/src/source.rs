//! Where images come from that the store does not have: a trait, so that who needs an image does not
//! know of registries; and the driver for directories in OCI layout.

use std::{error::Error, path::PathBuf};

use crate::{
    digest::Digest,
    layers::Purpose,
    oci::Platform,
    reference::Reference,
    store::{ImageRecord, Lease, Store},
    transfer::{self, LoadOptions, TransferError},
};

/// Fetches images into a store.
pub trait ImageSource: Send + Sync {
    /// Brings the image into `store`, kept by `lease`; `None` if there is none of that name. Nothing is
    /// tagged. Where its layers' trees are needed, they are made while the layers arrive.
    fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        lease: &Lease,
        purpose: Purpose,
    ) -> Result<Option<ImageRecord>, SourceError>;

    /// Says what an image is without bringing it: nothing is stored. `None` if there is none of that
    /// name, or if this source cannot say.
    fn look(
        &self,
        _reference: &Reference,
        _platform: &Platform,
    ) -> Result<Option<Seen>, SourceError> {
        Ok(None)
    }
}

/// For builds that have only the images of the store.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoImages;

impl ImageSource for NoImages {
    fn fetch(
        &self,
        _reference: &Reference,
        _platform: &Platform,
        _store: &Store,
        _lease: &Lease,
        _purpose: Purpose,
    ) -> Result<Option<ImageRecord>, SourceError> {
        Ok(None)
    }
}

/// An image that was looked at and not fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The digest of the manifest for the platform.
    pub manifest: Digest,
    /// The digest of the config, which is the image's id.
    pub config: Digest,
    /// The config's exact bytes; their digest was checked.
    pub config_bytes: Vec<u8>,
}

/// Why a source could not bring an image.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source failed.
    #[error("cannot fetch {}", reference.familiar())]
    Fetch {
        /// The image.
        reference: Box<Reference>,
        /// The source's own error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A layout directory could not be read.
    #[error("cannot take {} from `{}`", reference.familiar(), directory.display())]
    Layout {
        /// The image.
        reference: Box<Reference>,
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: Box<TransferError>,
    },
}

/// A directory in OCI layout as a source.
#[derive(Debug, Clone)]
pub struct LayoutSource {
    directory: PathBuf,
}

impl LayoutSource {
    /// The images of this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Brings one image of the layout by the tag in its index, or by the digest of a manifest or index;
    /// `None` if there is none. Nothing is tagged.
    pub fn fetch_named(
        &self,
        image: &str,
        platform: &Platform,
        store: &Store,
        lease: &Lease,
        purpose: Purpose,
    ) -> Result<Option<ImageRecord>, TransferError> {
        let options = LoadOptions { purpose, ..named(image, platform) };
        match transfer::load_dir(store, lease, &self.directory, &options) {
            Ok(images) => Ok(images.into_iter().next().map(|(_, image)| image)),
            Err(TransferError::NotChosen { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says what [`Self::fetch_named`] would bring; nothing is stored.
    pub fn look_named(
        &self,
        image: &str,
        platform: &Platform,
    ) -> Result<Option<Seen>, TransferError> {
        match transfer::look_dir(&self.directory, &named(image, platform)) {
            Err(TransferError::NotChosen { .. }) => Ok(None),
            seen => seen,
        }
    }
}

/// The image of this tag or digest.
fn named(image: &str, platform: &Platform) -> LoadOptions {
    let (platform, choose) = (Some(platform.clone()), Some(image.to_owned()));
    LoadOptions { platform, choose, ..LoadOptions::default() }
}

impl ImageSource for LayoutSource {
    fn fetch(
        &self,
        reference: &Reference,
        platform: &Platform,
        store: &Store,
        lease: &Lease,
        purpose: Purpose,
    ) -> Result<Option<ImageRecord>, SourceError> {
        let options = LoadOptions {
            platform: Some(platform.clone()),
            all_platforms: false,
            select: Some(reference.clone()),
            choose: None,
            purpose,
        };
        match transfer::load_dir(store, lease, &self.directory, &options) {
            Ok(images) => Ok(images.into_iter().next().map(|(_, image)| image)),
            Err(TransferError::NotSelected { .. }) => Ok(None),
            Err(source) => {
                let (reference, source) = (Box::new(reference.clone()), Box::new(source));
                let directory = self.directory.clone();
                Err(SourceError::Layout { reference, directory, source })
            }
        }
    }
}
