//! The data of members where it lies in a buffer, not copied.

use std::io::{self, BufRead};

use super::{Piece, TarReader};
use crate::archive::ArchiveError;

/// What holes are made of.
static ZEROS: [u8; 1 << 14] = [0; 1 << 14];

impl<R: BufRead> TarReader<R> {
    /// Hands what is left of the current member's data to `each`, piece by piece.
    pub fn each_piece(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), ArchiveError> {
        while let Some(piece) = self.pieces.front_mut() {
            match piece {
                Piece::Zeros(0) | Piece::Data(0) => drop(self.pieces.pop_front()),
                Piece::Zeros(left) => {
                    let count = (*left).min(ZEROS.len() as u64);
                    each(&ZEROS[..count as usize]);
                    *left -= count;
                }
                Piece::Data(left) => {
                    let data = match self.inner.fill_buf() {
                        Ok([]) => return Err(ArchiveError::Truncated { at: self.at }),
                        Ok(data) => data,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                            return Err(ArchiveError::Truncated { at: self.at });
                        }
                        Err(source) => return Err(ArchiveError::Read { at: self.at, source }),
                    };
                    let count = (*left).min(data.len() as u64);
                    each(&data[..count as usize]);
                    self.inner.consume(count as usize);
                    *left -= count;
                    self.stored -= count;
                    self.at += count;
                }
            }
        }
        Ok(())
    }
}
