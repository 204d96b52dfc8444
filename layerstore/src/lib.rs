//! A content-addressed store of image layers: every byte once, nothing lost, everything explained.
//!
//! Layers are known by their [tables of contents](toc); what several of them show together is a
//! [`view::View`], computed from those alone. [`layers::Layers`] makes layers (from files, from an
//! overlay's upper directory, from a tar), and derives what they can become: a tree to mount, a
//! canonical tar, a compressed blob. [`contents::Contents`] holds the bytes of files,
//! [`blobs::Blobs`] whole blobs by their digest. `docs/formats/` draws every file of the store.
//!
//! Two versions of a layer go in as tars; what changed comes from their tables of contents, and one
//! goes out compressed:
//!
//! ```
//! use lapstrake_layerstore::{
//!     LayerPath, OpenOptions, Store,
//!     archive::TarWriter,
//!     compress::{Codec, Compression},
//!     layers::{Expected, OverlayXattr},
//!     toc::{self, Entry, Kind},
//! };
//!
//! fn tar_of(content: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
//!     let size = content.len() as u64;
//!     let entry = Entry { mode: 0o644, size, ..Entry::new(LayerPath::parse("motd")?, Kind::File) };
//!     let mut tar = TarWriter::new(Vec::new(), None);
//!     tar.append_bytes(&entry, content)?;
//!     Ok(tar.finish()?)
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let root = tempfile::tempdir()?;
//!     let overlay_xattr = OverlayXattr::User;
//!     let store =
//!         Store::open(root.path(), &OpenOptions { create: true, overlay_xattr, owner_map: None })?;
//!     let layers = store.layers();
//!     let old = layers.import_tar(&mut tar_of(b"ahoy\n")?.as_slice(), Expected::default())?;
//!     let new = layers.import_tar(&mut tar_of(b"land ho\n")?.as_slice(), Expected::default())?;
//!
//!     let changes = toc::compare(old.toc()?, new.toc()?);
//!     assert_eq!(changes.len(), 1);
//!     assert_eq!(changes[0].path.to_string(), "motd");
//!
//!     let zstd = Compression { force: true, ..Compression::new(Codec::Zstd) };
//!     let descriptor = layers.compressed(&new, &zstd, None)?;
//!     assert!(store.blobs().has(&descriptor.digest));
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

pub mod archive;
pub mod atomic;
pub mod blobs;
pub mod compress;
pub mod contents;
pub mod digest;
pub mod error;
pub mod layers;
pub mod limits;
pub mod path;
pub mod toc;
pub mod view;

mod early_sync;
mod pipe;
mod reach;
mod read_once;
mod tree;
mod upper;

pub mod oci;
pub mod reference;
pub mod source;
pub mod store;
pub mod transfer;

pub use digest::{ContentHash, ContentId, DiffId, Digest, LayerId, ShortId};
pub use error::{ErrorKind, StoreError};
pub use path::LayerPath;
pub use reference::Reference;
pub use source::{ImageSource, SourceError};
pub use store::{CacheKey, CacheRecord, ImageRecord, Lease, OpenOptions, Store};
