//! Tar archives: read as hostile input, written canonically.
//!
//! [`read::TarReader`] understands v7, ustar, PAX and GNU headers, sparse files of both kinds, and
//! bounds everything; it never touches a file system. [`write::TarWriter`] writes the one canonical
//! form that layers of ours have (`docs/formats/layer-bytes.md`).

mod assemble;
mod header;
mod pax;
pub mod read;
#[cfg(test)]
mod tests;
pub mod write;

use crate::path::PathError;

pub use assemble::Assembler;
pub(crate) use header::BLOCK;
pub use read::{Member, MemberKind, ReadLimits, TarReader};
pub use write::{Epoch, TarWriter};

/// Why an archive cannot be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The stream could not be read or decompressed.
    #[error("cannot read the archive after {at} bytes")]
    Read {
        /// Position in the uncompressed archive.
        at: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The archive ends in the middle of something.
    #[error("archive ends too early, after {at} bytes")]
    Truncated {
        /// Position in the uncompressed archive.
        at: u64,
    },
    /// A header is not one.
    #[error("archive has a bad header at byte {at}: {what}")]
    Header {
        /// Position of the header.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A name would lead outside, or is none.
    #[error("archive has a bad name at byte {at}")]
    Name {
        /// Position of the header.
        at: u64,
        /// Why.
        #[source]
        source: PathError,
    },
    /// An entry cannot stand where it does.
    #[error("archive entry `{name}` is refused: {what}")]
    Entry {
        /// Its name, lossily shown.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Larger than this program is willing to read.
    #[error("archive is over the limit of {limit} {what}")]
    Limit {
        /// The limit.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// A sparse file of a form that is not supported.
    #[error("archive entry `{name}` is a sparse file whose map is damaged")]
    Sparse {
        /// Its name, lossily shown.
        name: String,
    },
}

/// Do these bytes begin an archive?
pub(crate) fn is_header(start: &[u8]) -> bool {
    start
        .first_chunk::<BLOCK>()
        .is_some_and(|block| header::Block::is_zero(block) || header::Block(block).checksum_fits())
}
