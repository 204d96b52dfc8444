//! Images in and out: OCI archives, OCI layout directories, docker archives, root file systems.
//!
//! *Invariants:* everything that comes in is verified before it is named: blobs by their digests,
//! layers by their diffIDs. A load that fails has tagged nothing; what it had stored already is
//! garbage for the next prune. What goes out has a fixed order and fixed headers: the same images
//! give the same bytes. Tagging is the caller's, after everything succeeded.

mod file;
mod import;
mod load;
mod members;
mod resolve;
mod save;
mod spool;

use std::{io, path::PathBuf};

pub use import::{ImportOptions, export_rootfs, export_rootfs_at, import_rootfs};
pub use load::{LoadOptions, load, load_dir, load_file, look_dir};
pub use save::{SaveOptions, save_docker, save_oci, save_oci_dir, write_file};

use crate::{
    Digest, StoreError,
    oci::{DocumentError, Platform},
    reference::Reference,
    store::ImageRecord,
};

/// Annotation with the tag, or the whole name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation with the whole name.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// Images with the names that they came with, or are to go with.
pub type NamedImages = Vec<(Option<Reference>, ImageRecord)>;

/// What could not be moved in or out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The store could not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive is not a tar, or ends too early.
    #[error("cannot read the image archive")]
    Archive {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The input is larger than any image.
    #[error("image archive has more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The archive or directory has neither an `index.json` nor a `manifest.json`.
    #[error("no image in it: neither index.json nor manifest.json is there")]
    NotAnImage,
    /// The index that is there names no image.
    #[error("no image in it: its index.json names none")]
    NoneNamed,
    /// The directory of an image layout cannot be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// The verb.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that another one names is not there.
    #[error("`{name}` is missing, though {by} names it")]
    Missing {
        /// The file.
        name: String,
        /// Who names it.
        by: String,
    },
    /// A file is not what its name says.
    #[error("`{name}` is damaged: its sha256 is {}", actual.hex())]
    Lying {
        /// The file.
        name: String,
        /// The digest of its bytes.
        actual: Digest,
    },
    /// A blob has another size than its descriptor says.
    #[error("`{name}` has {actual} bytes, but {by} says {expected}")]
    Size {
        /// The file.
        name: String,
        /// Who describes it.
        by: String,
        /// The promised size.
        expected: u64,
        /// The real one.
        actual: u64,
    },
    /// A document is malformed.
    #[error("cannot use `{name}`")]
    Document {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// `manifest.json` is malformed.
    #[error("cannot use `manifest.json`")]
    DockerManifest {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Indexes name indexes name indexes.
    #[error("`{name}` is nested more than {limit} indexes deep")]
    Nested {
        /// The innermost one that was read.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// There is no image for the platform.
    #[error("no image for {}: there is {offered}", wanted.as_ref().map_or_else(|| "this machine".to_owned(), ToString::to_string))]
    Platform {
        /// What was asked for.
        wanted: Option<Box<Platform>>,
        /// What is there.
        offered: String,
    },
    /// What was asked for is not among the names.
    #[error("no image of the name {}", wanted.familiar())]
    NotSelected {
        /// What was asked for.
        wanted: Box<Reference>,
    },
    /// What was asked for is not in the index.
    #[error("no image with the tag or digest `{wanted}`")]
    NotChosen {
        /// The tag or digest.
        wanted: String,
    },
    /// The output cannot be written.
    #[error("cannot write the image archive")]
    Write {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// For `map_err` on reading an archive.
fn unreadable(source: io::Error) -> TransferError {
    TransferError::Archive { source }
}

/// For `map_err` on writing an archive.
fn unwritable(source: io::Error) -> TransferError {
    TransferError::Write { source }
}
