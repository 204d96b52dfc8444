//! Archives that are files: what nobody wants to read is passed over.

use std::io::{Read, Seek};

use super::{Piece, TarReader};
use crate::archive::ArchiveError;

impl<R: Read + Seek> TarReader<R> {
    /// Goes past the data of the current member without reading it, in an archive of `length` bytes.
    pub fn pass_data(&mut self, length: u64) -> Result<(), ArchiveError> {
        let left = self.stored + self.padding;
        let truncated = ArchiveError::Truncated { at: length };
        if left > length.saturating_sub(self.at) {
            return Err(truncated);
        }
        let offset = i64::try_from(left).map_err(|_| truncated)?;
        let passed = self.inner.seek_relative(offset);
        passed.map_err(|source| ArchiveError::Read { at: self.at, source })?;
        self.at += left;
        self.pieces.clear();
        (self.stored, self.padding) = (0, 0);
        Ok(())
    }

    /// Where the data of the current member begins, and its length; none for one that has holes.
    ///
    /// To be asked before any of the data is read.
    pub fn extent(&self) -> Option<(u64, u64)> {
        match self.pieces.iter().collect::<Vec<_>>().as_slice() {
            [Piece::Data(length)] => Some((self.at, *length)),
            _ => None,
        }
    }
}
