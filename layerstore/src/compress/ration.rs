//! A decompressor that stops at a bomb: what comes out is measured against what went in.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::limits::{BOMB_FREE_BYTES, BOMB_RATIO_MAX};

/// Bytes that a decoder has read so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Count(Arc<AtomicU64>);

/// Counts what is read.
#[derive(Debug)]
pub(super) struct Counting<R> {
    inner: R,
    count: Count,
}

impl<R> Counting<R> {
    pub(super) fn new(inner: R) -> (Counting<R>, Count) {
        let count = Count::default();
        (Counting { inner, count: count.clone() }, count)
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Gives what `inner` gives, until that is out of all proportion.
#[derive(Debug)]
pub(super) struct Rationed<R> {
    inner: R,
    taken: Count,
    given: u64,
    /// What needs no excuse.
    free: u64,
}

impl<R> Rationed<R> {
    pub(super) fn new(inner: R, taken: Count) -> Rationed<R> {
        Rationed { inner, taken, given: 0, free: BOMB_FREE_BYTES }
    }
}

impl<R: Read> Read for Rationed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.given += count as u64;
        let taken = self.taken.0.load(Ordering::Relaxed);
        if self.given > self.free && self.given / BOMB_RATIO_MAX > taken {
            let given = self.given;
            let what = format!(
                "{taken} compressed bytes are more than {given}: over the limit of {BOMB_RATIO_MAX} times"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_ends_and_zeros_do_not() {
        let zeros = zstd::encode_all(io::repeat(0).take(64 << 20), 3).unwrap();
        let unpack = |free: u64| {
            let (counting, taken) = Counting::new(zeros.as_slice());
            let decoder = zstd::Decoder::new(counting).unwrap();
            let mut rationed = Rationed { free, ..Rationed::new(decoder, taken) };
            io::copy(&mut rationed, &mut io::sink())
        };
        assert!((64 << 20) / zeros.len() as u64 > BOMB_RATIO_MAX, "{} bytes", zeros.len());
        assert_eq!(unpack(64 << 20).unwrap(), 64 << 20);
        let error = unpack(32 << 20).unwrap_err();
        assert!(error.to_string().contains("over the limit of 2048 times"), "{error}");
    }
}
