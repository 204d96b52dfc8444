//! A large file that is read once, from the front to the end, and then not for a while.
//!
//! What was copied into an archive would stay in memory twice, and in a virtual machine memory that was
//! not used for long is slow to get: so what was read makes room for what is written.

use std::{
    fs::File,
    io::{self, Read},
    num::NonZeroU64,
};

use rustix::fs::{Advice, fadvise};

/// How much is read before it is given up: a kernel does it for whole pages, and not for nothing.
const PART_BYTES: u64 = 8 << 20;

/// The reader of such a file.
#[derive(Debug)]
pub(crate) struct ReadOnce {
    file: File,
    at: u64,
    /// How much was given up.
    done: u64,
}

impl ReadOnce {
    /// From its beginning, where it has to stand.
    pub(crate) fn new(file: File) -> ReadOnce {
        ReadOnce { file, at: 0, done: 0 }
    }
}

impl Read for ReadOnce {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.at += count as u64;
        if self.at - self.done >= PART_BYTES {
            let length = NonZeroU64::new(self.at - self.done);
            // Advice, which may be refused.
            fadvise(&self.file, self.done, length, Advice::DontNeed).unwrap_or_default();
            self.done = self.at;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn everything_is_read() {
        let bytes: Vec<u8> =
            (0..PART_BYTES as u32 * 2 + 7).map(|at| (at / 5 % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        file.rewind().unwrap();
        let mut read = Vec::new();
        let mut once = ReadOnce::new(file);
        once.read_to_end(&mut read).unwrap();
        assert!(read == bytes && once.done >= PART_BYTES * 2);
    }
}
