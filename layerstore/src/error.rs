//! [`StoreError`]: what could not be done, with which object.

use std::{io, path::PathBuf};

use crate::{
    archive::ArchiveError,
    digest::{ContentHash, DiffId, Digest, LayerId, ShortId},
    path::{LayerPath, PathError},
    toc::TocError,
};

/// What an error asks of whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The file or name that was given is wrong.
    Input,
    /// This machine cannot do it: no space, no permission, missing feature.
    Host,
    /// The store holds something damaged; fsck names it.
    Corrupt,
    /// A mistake in this program.
    Bug,
}

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused an operation on a path.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// The verb, as in "open".
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream that was given could not be read or written.
    #[error("cannot {action}")]
    Stream {
        /// What was being done, as in "read the archive".
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An archive is malformed, hostile, or over a limit.
    #[error("cannot take the archive")]
    Archive(#[from] ArchiveError),
    /// A table of contents is unusable.
    #[error("cannot use the table of contents of layer {layer}")]
    Toc {
        /// The layer.
        layer: ShortId,
        /// Why.
        #[source]
        source: TocError,
    },
    /// Entries do not make a layer.
    #[error("cannot make a layer of these entries")]
    Entries(#[from] TocError),
    /// A path is not one inside a layer.
    #[error("cannot use the path")]
    Path(#[from] PathError),
    /// Bytes are not those that were promised.
    #[error("expected {expected} of {expected_size} bytes, got {actual} of {actual_size} bytes")]
    Mismatch {
        /// The promised digest.
        expected: Digest,
        /// The promised size.
        expected_size: u64,
        /// The digest of what came.
        actual: Digest,
        /// Its size.
        actual_size: u64,
    },
    /// A layer's uncompressed bytes are not those that its diffID names.
    #[error("expected diffID {expected}, got {actual}")]
    DiffIdMismatch {
        /// What the image's config says.
        expected: DiffId,
        /// What came.
        actual: DiffId,
    },
    /// A file changed or rotted: its content is not the one that the layer records.
    #[error("content of `{path}` in layer {layer} is not the recorded one")]
    ContentChanged {
        /// The layer.
        layer: ShortId,
        /// The file.
        path: LayerPath,
    },
    /// A content that a layer names is not in the packs.
    #[error("content {content} of `{path}` is not in the store")]
    ContentMissing {
        /// The content.
        content: ContentHash,
        /// A file that has it.
        path: LayerPath,
    },
    /// A blob is not in the store.
    #[error("blob {digest} is not in the store")]
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// A layer is not in the store.
    #[error("layer {layer} is not in the store")]
    LayerMissing {
        /// The layer.
        layer: ShortId,
    },
    /// A layer of another store is not the one that it is called.
    #[error("it is another layer, {actual} and not {expected}")]
    OtherLayer {
        /// What it is called.
        expected: LayerId,
        /// What its files come to.
        actual: LayerId,
    },
    /// Two layers have the same short id.
    #[error("layer directory of {found} is wanted for layer {wanted}, too")]
    ShortIdTaken {
        /// Whose directory it is.
        found: LayerId,
        /// Who wants it.
        wanted: LayerId,
    },
    /// A file of the store does not have the form that this program writes.
    #[error("`{}` is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A record was written by a later version of this program.
    #[error("`{}` is a record of version {version}; a newer lap wrote it", path.display())]
    NewerRecord {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// An overlay feature that layers cannot express.
    #[error(
        "`{path}` in the step's tree has the overlay attribute {attribute}, which is not supported"
    )]
    OverlayAttribute {
        /// The entry.
        path: LayerPath,
        /// The attribute.
        attribute: String,
    },
    /// A name that begins like a whiteout cannot be put into a layer.
    #[error("`{path}` cannot be in a layer: names that begin with `.wh.` are whiteouts there")]
    WhiteoutName {
        /// The entry.
        path: LayerPath,
    },
    /// A path's symbolic links lead nowhere.
    #[error("cannot resolve the path")]
    Resolve(#[from] crate::view::ResolveError),
    /// There is no store, and none was to be made.
    #[error("there is no store at `{}`", root.display())]
    NoStore {
        /// Where it should be.
        root: PathBuf,
    },
    /// A store was to be made in a directory that holds something else.
    #[error("cannot make a store in `{}`: it holds `{found}`", root.display())]
    NotEmpty {
        /// The directory.
        root: PathBuf,
        /// Something that is in it.
        found: String,
    },
    /// The store was written by another version of this program.
    #[error("store `{}` has format version {found}, this program knows {known}", root.display())]
    StoreVersion {
        /// The store.
        root: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The store needs something that this version of the program does not have.
    #[error("store `{}` uses the feature `{feature}`, which this program does not know", root.display())]
    StoreFeature {
        /// The store.
        root: PathBuf,
        /// The feature.
        feature: String,
    },
    /// The owners of files in the store's trees are those of somebody else.
    #[error("store `{}` belongs to {recorded}, and was opened as {given}; open it as {recorded}, or use another --root", root.display())]
    OtherOwner {
        /// The store.
        root: PathBuf,
        /// Who made it.
        recorded: String,
        /// Who opens it.
        given: String,
    },
    /// The store's trees have their overlay marks elsewhere.
    #[error("store `{}` keeps overlay marks in `{recorded}.overlay`, and was opened for `{given}.overlay`; use another --root", root.display())]
    OtherOverlay {
        /// The store.
        root: PathBuf,
        /// The recorded namespace.
        recorded: &'static str,
        /// The one that was asked for.
        given: &'static str,
    },
    /// A JSON document of an image is unusable.
    #[error("cannot use {what}")]
    Document {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: crate::oci::DocumentError,
    },
    /// An image's config names another number of layers than the image has.
    #[error("image config {config} names {named} layers, but the image has {given}")]
    LayerCount {
        /// The config.
        config: Digest,
        /// Layers in the config.
        named: usize,
        /// Layers that came with it.
        given: usize,
    },
    /// More than one image has an id that begins so.
    #[error("`{text}` is the beginning of more than one image id")]
    AmbiguousId {
        /// What was given.
        text: String,
    },
}

/// In [`StoreError::Stream`]: a layer that comes is read.
const DECOMPRESS: &str = "decompress the layer";
/// In [`StoreError::Stream`]: a layer that came, and was whole then, is read again.
pub(crate) const DECOMPRESS_STORED: &str = "decompress a layer of the store";

/// Whether a decoder says so of bytes, and not the machine of a file.
fn are_wrong_bytes(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    error.raw_os_error().is_none()
        && matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

impl StoreError {
    /// What this asks of the reader.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Toc { .. }
            | StoreError::ContentChanged { .. }
            | StoreError::ContentMissing { .. }
            | StoreError::BlobMissing { .. }
            | StoreError::LayerMissing { .. }
            | StoreError::Damaged { .. } => ErrorKind::Corrupt,
            StoreError::Stream { action: DECOMPRESS, source } if are_wrong_bytes(source) => {
                ErrorKind::Input
            }
            StoreError::Stream { action: DECOMPRESS_STORED, source } if are_wrong_bytes(source) => {
                ErrorKind::Corrupt
            }
            StoreError::Io { .. }
            | StoreError::Stream { .. }
            | StoreError::StoreVersion { .. }
            | StoreError::NewerRecord { .. }
            | StoreError::StoreFeature { .. }
            | StoreError::OtherOwner { .. }
            | StoreError::OtherOverlay { .. } => ErrorKind::Host,
            StoreError::ShortIdTaken { .. } => ErrorKind::Bug,
            _ => ErrorKind::Input,
        }
    }

    /// Whether a file or directory was not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// For `map_err`: the operation `action` on `path` went wrong.
    pub fn io<E: Into<io::Error>>(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> StoreError {
        let path = path.into();
        move |source| StoreError::Io { action, path, source: source.into() }
    }
}
