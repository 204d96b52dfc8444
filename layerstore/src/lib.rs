//! A content-addressed store of image layers: every byte once, nothing lost, everything explained.
//!
//! Layers are known by their [tables of contents](toc); what several of them show together is a
//! [`view::View`], computed from those alone. [`layers::Layers`] makes layers (from files, from an
//! overlay's upper directory, from a tar), and derives what they can become: a tree to mount, a
//! canonical tar, a compressed blob. [`contents::Contents`] holds the bytes of files,
//! [`blobs::Blobs`] whole blobs by their digest. `docs/formats/` draws every file of the store.
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

mod pipe;
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
