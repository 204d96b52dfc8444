//! Files that are written from the front to the end, with holes where there are only zeros.

use std::{fs::File, io};

use crate::early_sync::LargeFile;

/// What is not zero is written together; zeros are looked for in parts of this size, at multiples of it.
const PART_BYTES: usize = 128 << 10;
/// Fewer zeros than this, where a piece begins or ends, are no hole: file systems keep whole blocks.
const HOLE_BYTES_MIN: usize = 4096;

/// A new file on its way.
#[derive(Debug)]
pub(crate) struct SparseFile {
    file: LargeFile,
    length: u64,
    /// The first error; nothing is written after it.
    result: io::Result<()>,
}

impl SparseFile {
    pub(super) fn new(file: LargeFile) -> SparseFile {
        SparseFile { file, length: 0, result: Ok(()) }
    }

    /// Takes what comes next. What goes wrong is said at the end.
    pub(crate) fn write(&mut self, piece: &[u8]) {
        if self.result.is_ok() {
            self.result = self.write_parts(piece);
        }
        self.length += piece.len() as u64;
    }

    fn write_parts(&mut self, piece: &[u8]) -> io::Result<()> {
        let (mut from, mut at) = (0, 0);
        while at < piece.len() {
            let into = (self.length + at as u64) % PART_BYTES as u64;
            let end = piece.len().min(at + PART_BYTES - into as usize);
            let part = &piece[at..end];
            if part.len() >= HOLE_BYTES_MIN && part.iter().all(|byte| *byte == 0) {
                self.write_at(&piece[from..at], from)?;
                from = end;
            }
            at = end;
        }
        self.write_at(&piece[from..], from)
    }

    fn write_at(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        self.file.write_all_at(bytes, self.length + at as u64)
    }

    /// The file, if all went well and it has `size` bytes.
    pub(super) fn finish(self, size: u64) -> io::Result<File> {
        self.result?;
        if self.length != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // It may end in a hole.
        let file = self.file.into_file();
        file.set_len(size)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt as _, sync::Arc};

    use proptest::prelude::*;

    use super::*;

    fn sparse(file: File) -> SparseFile {
        SparseFile::new(LargeFile::new(file, Arc::default()))
    }

    fn written(pieces: &[Vec<u8>]) -> (Vec<u8>, u64) {
        let named = tempfile::NamedTempFile::new().unwrap();
        let mut file = sparse(named.reopen().unwrap());
        for piece in pieces {
            file.write(piece);
        }
        let file = file.finish(pieces.iter().map(|piece| piece.len() as u64).sum()).unwrap();
        (std::fs::read(named.path()).unwrap(), file.metadata().unwrap().blocks() * 512)
    }

    #[test]
    fn zeros_take_no_room() {
        let zeros = vec![0; 1 << 20];
        assert_eq!(written(std::slice::from_ref(&zeros)), (zeros.clone(), 0));
        // Pieces that end anywhere leave at most a block at each end.
        let pieces: Vec<Vec<u8>> = zeros.chunks(100_001).map(<[u8]>::to_vec).collect();
        let (read, room) = written(&pieces);
        assert!(read == zeros && room <= 22 * 4096, "{room}");
        let file = sparse(tempfile::tempfile().unwrap());
        assert_eq!(file.finish(1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn nothing_is_written_after_an_error() {
        let mut file = sparse(File::open("/dev/null").unwrap());
        file.write(b"this file is not open for writing");
        assert!(file.result.is_err());
        file.write(b"and this neither");
        assert!(file.finish(49).is_err());
    }

    proptest! {
        #[test]
        fn any_pieces_come_back(
            pieces in proptest::collection::vec((any::<u8>(), 0..300_000_usize), 0..8)
        ) {
            let fill = |(byte, length): (u8, usize)| vec![byte & 1; length];
            let pieces: Vec<Vec<u8>> = pieces.into_iter().map(fill).collect();
            prop_assert!(written(&pieces).0 == pieces.concat());
        }
    }
}
