//! Byte streams between threads: cut into chunks once, shared with every consumer, never copied.
//!
//! *Invariant:* memory is bounded, as every channel is; a consumer that is gone stops the producer
//! with a broken pipe, a producer that is gone ends the consumers' streams. Whoever starts the
//! threads asks the producer's result first, since a short stream is only its consequence.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io::{self, BufRead, Read, Write},
    ops::Deref,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::ScopedJoinHandle,
};

/// Chunks waiting in one channel: enough that nobody starves, few megabytes in all.
pub(crate) const CHANNEL_CHUNKS: usize = 8;
/// Chunks of one megabyte or more waiting in one channel.
pub(crate) const LARGE_CHUNKS: usize = 2;

/// Streams are cut by their content only where a block of a tar begins.
const BLOCK_BYTES: usize = 512;
/// An odd number without pattern: what multiplication mixes with.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a stream is cut by its content, so that after a change it is cut at the same places again.
///
/// A chunk ends before the first block behind `min` bytes whose hash begins with `zero_bits` zeros, and
/// at `max` bytes at the latest. It depends on nothing but the bytes: part of the formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cuts {
    pub(crate) min: usize,
    pub(crate) max: usize,
    pub(crate) zero_bits: u32,
}

impl Cuts {
    /// Where the first chunk of `bytes` ends, of which there are at most `max`.
    fn first_in(self, bytes: &[u8]) -> usize {
        let Some(rest) = bytes.get(self.min..) else { return bytes.len() };
        let found = rest.chunks_exact(BLOCK_BYTES).position(|block| self.is_cut(block));
        found.map_or(bytes.len(), |block| self.min + block * BLOCK_BYTES)
    }

    fn is_cut(self, block: &[u8]) -> bool {
        // Not zero, so that blocks of zeros are no cuts.
        let mut hash = MIXER;
        for word in block.chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().expect("because it has eight bytes"));
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(MIXER);
        }
        hash.leading_zeros() >= self.zero_bits
    }
}

/// Chunks that are kept to be used again, and of a megabyte or more: as many as the slowest consumer can
/// have in its channel and at work.
const KEPT_CHUNKS: usize = 2 * CHANNEL_CHUNKS;
const KEPT_LARGE_CHUNKS: usize = 4 * LARGE_CHUNKS;
/// How much of a stream a consumer may keep for longer, in small chunks.
pub(crate) const HELD_BYTES: usize = 4 << 20;

/// A piece of a stream.
pub(crate) type Chunk = Arc<Piece>;

/// Bytes at the beginning of a buffer that is to be used again: what is behind them is left as it was.
#[derive(Debug, Default)]
pub struct Piece {
    buffer: Vec<u8>,
    length: usize,
}

impl From<Vec<u8>> for Piece {
    fn from(buffer: Vec<u8>) -> Piece {
        Piece { length: buffer.len(), buffer }
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// A bounded channel of chunks.
pub(crate) fn channel() -> (SyncSender<Chunk>, Receiver<Chunk>) {
    sync_channel(CHANNEL_CHUNKS)
}

/// A bounded channel of chunks of some megabytes.
pub(crate) fn channel_of_large() -> (SyncSender<Chunk>, Receiver<Chunk>) {
    sync_channel(LARGE_CHUNKS)
}

/// What chunks are sent to.
pub(crate) trait Consumer: Debug + Send {
    /// Takes a chunk, waiting until there is room; false when nobody is there any more.
    fn take(&self, chunk: Chunk) -> bool;
}

impl Consumer for SyncSender<Chunk> {
    fn take(&self, chunk: Chunk) -> bool {
        self.send(chunk).is_ok()
    }
}

/// All who get each chunk.
pub(crate) type Consumers = Vec<Box<dyn Consumer>>;

/// Cuts what is written into chunks of one size (but the last), or where the content says so, and sends
/// each to every consumer.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    consumers: Consumers,
    chunk_bytes: usize,
    cuts: Option<Cuts>,
    /// The chunk in the making, and how much of it there is.
    buffer: Vec<u8>,
    filled: usize,
    /// Chunks that were sent last: the first is used again when every consumer is done with it.
    sent: VecDeque<Chunk>,
    written: u64,
    /// A chunk with less room than this is sent.
    room: usize,
    /// Whether the others go on when a consumer is gone.
    may_leave: bool,
}

impl ChunkWriter {
    pub(crate) fn new(chunk_bytes: usize, consumers: Consumers) -> ChunkWriter {
        let (buffer, sent) = (vec![0; chunk_bytes], VecDeque::new());
        let (filled, written, room, may_leave) = (0, 0, 1, false);
        let cuts = None;
        ChunkWriter { consumers, chunk_bytes, cuts, buffer, filled, sent, written, room, may_leave }
    }

    /// One that cuts by content.
    pub(crate) fn cutting(cuts: Cuts, consumers: Consumers) -> ChunkWriter {
        ChunkWriter { cuts: Some(cuts), ..ChunkWriter::new(cuts.max, consumers) }
    }

    /// Every reading has room for so many bytes: a chunk may be that much shorter.
    pub(crate) fn with_room(self, room: usize) -> ChunkWriter {
        ChunkWriter { room, ..self }
    }

    /// A consumer that is gone does not stop the producer as long as there is another one.
    pub(crate) fn consumers_may_leave(self) -> ChunkWriter {
        ChunkWriter { may_leave: true, ..self }
    }

    /// Sends the rest, ends the streams, says how many bytes there were.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        while self.filled > 0 {
            self.send()?;
        }
        Ok(self.written)
    }

    fn send(&mut self) -> io::Result<()> {
        let cut = self.cuts.map_or(self.filled, |cuts| cuts.first_in(&self.buffer[..self.filled]));
        let mut next = self.next_buffer();
        // What is behind the cut begins the next chunk.
        let rest = cut..self.filled;
        self.filled = rest.len();
        next[..self.filled].copy_from_slice(&self.buffer[rest]);
        let buffer = std::mem::replace(&mut self.buffer, next);
        let chunk = Arc::new(Piece { buffer, length: cut });
        self.sent.push_back(Arc::clone(&chunk));
        let before = self.consumers.len();
        self.consumers.retain(|consumer| consumer.take(Arc::clone(&chunk)));
        let left = self.consumers.len();
        if left == before || (self.may_leave && left > 0) {
            return Ok(());
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }

    /// A buffer that nobody needs any more, or a new one. Clearing new ones costs as much as copying.
    fn next_buffer(&mut self) -> Vec<u8> {
        let fresh = || vec![0; self.chunk_bytes];
        let kept = match self.chunk_bytes {
            0..0x10_0000 => KEPT_CHUNKS + HELD_BYTES / self.chunk_bytes.max(1),
            _ => KEPT_LARGE_CHUNKS,
        };
        if self.sent.len() <= kept
            && self.sent.front().is_none_or(|chunk| Arc::strong_count(chunk) > 1)
        {
            return fresh();
        }
        // With more than these a consumer keeps what it got: it is left to it.
        let done = self.sent.pop_front().and_then(|chunk| Arc::try_unwrap(chunk).ok());
        done.map_or_else(fresh, |piece| piece.buffer)
    }

    /// Sends all of `reader`, read straight into the chunks.
    pub(crate) fn copy_from(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        loop {
            match reader.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.filled += count;
                    self.written += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.chunk_bytes - self.filled < self.room {
                self.send()?;
            }
        }
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.chunk_bytes - self.filled);
        self.buffer[self.filled..self.filled + count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        self.written += count as u64;
        if self.filled == self.chunk_bytes {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the chunks of a channel as one stream.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    chunks: Receiver<Chunk>,
    current: Chunk,
    at: usize,
}

impl ChunkReader {
    pub(crate) fn new(chunks: Receiver<Chunk>) -> ChunkReader {
        ChunkReader { chunks, current: Chunk::default(), at: 0 }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill_buf()?;
        let count = buffer.len().min(chunk.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.current.len() {
            match self.chunks.recv() {
                Ok(next) => (self.current, self.at) = (next, 0),
                Err(_) => break,
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

/// The result of a thread; its panic goes on here.
pub(crate) fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUTS: Cuts = Cuts { min: 16 << 10, max: 32 << 10, zero_bits: 5 };

    fn noise(length: usize) -> Vec<u8> {
        let mut noise = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    }

    /// The chunks of `bytes`, written in pieces of this size.
    fn chunks(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        std::thread::scope(|scope| {
            let (sender, chunks) = channel();
            let taken = scope.spawn(move || chunks.iter().map(|chunk| chunk.to_vec()).collect());
            let mut writer = ChunkWriter::cutting(CUTS, vec![Box::new(sender)]);
            bytes.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
            assert_eq!(writer.finish().unwrap(), bytes.len() as u64);
            join(taken)
        })
    }

    #[test]
    fn content_says_where_a_stream_is_cut() {
        let bytes = noise(3_000_123);
        let all = chunks(&bytes, 1 << 20);
        assert!(all.concat() == bytes && all == chunks(&bytes, 777));
        let (last, others) = all.split_last().unwrap();
        assert!(last.len() <= CUTS.max, "{}", last.len());
        assert!(others.iter().all(|chunk| (CUTS.min..=CUTS.max).contains(&chunk.len())));
        assert!(others.iter().any(|chunk| chunk.len() < CUTS.max));
        assert_eq!(chunks(b"", 1), Vec::<Vec<u8>>::new());
        let zeros = chunks(&vec![0; 100 << 10], 1 << 20);
        assert_eq!(
            zeros.iter().map(Vec::len).collect::<Vec<_>>(),
            [32, 32, 32, 4].map(|k| k << 10)
        );
    }

    #[test]
    fn what_is_far_behind_a_change_is_cut_as_before() {
        let before = noise(4 << 20);
        let known = chunks(&before, 1 << 20);
        for more in [512, 5 * 512, 77 * 512] {
            let mut after = before.clone();
            after.splice(1 << 20..1 << 20, vec![b'x'; more]);
            let same = chunks(&after, 1 << 20).iter().filter(|chunk| known.contains(chunk)).count();
            assert!(same * 10 >= known.len() * 8, "{same} of {}", known.len());
        }
    }
}
