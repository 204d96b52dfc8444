//! Byte streams between threads: cut into chunks once, shared with every consumer, never copied.
//!
//! *Invariant:* memory is bounded, as every channel is; a consumer that is gone stops the producer
//! with a broken pipe, a producer that is gone ends the consumers' streams. Whoever starts the
//! threads asks the producer's result first, since a short stream is only its consequence.

use std::{
    collections::VecDeque,
    io::{self, BufRead, Read, Write},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::ScopedJoinHandle,
};

/// Chunks waiting in one channel: enough that nobody starves, few megabytes in all.
const CHANNEL_CHUNKS: usize = 8;
/// Chunks of one megabyte or more waiting in one channel.
const LARGE_CHUNKS: usize = 2;

/// A piece of a stream.
pub(crate) type Chunk = Arc<Vec<u8>>;

/// A bounded channel of chunks.
pub(crate) fn channel() -> (SyncSender<Chunk>, Receiver<Chunk>) {
    sync_channel(CHANNEL_CHUNKS)
}

/// A bounded channel of chunks of some megabytes.
pub(crate) fn channel_of_large() -> (SyncSender<Chunk>, Receiver<Chunk>) {
    sync_channel(LARGE_CHUNKS)
}

/// Cuts what is written into chunks of one size (but the last) and sends each to every consumer.
#[derive(Debug)]
pub(crate) struct ChunkWriter {
    consumers: Vec<SyncSender<Chunk>>,
    chunk_bytes: usize,
    /// The chunk in the making, and how much of it there is.
    buffer: Vec<u8>,
    filled: usize,
    /// Chunks that were sent last: the first is used again when every consumer is done with it.
    sent: VecDeque<Chunk>,
    written: u64,
    /// Whether the others go on when a consumer is gone.
    may_leave: bool,
}

impl ChunkWriter {
    pub(crate) fn new(chunk_bytes: usize, consumers: Vec<SyncSender<Chunk>>) -> ChunkWriter {
        let (buffer, sent) = (vec![0; chunk_bytes], VecDeque::new());
        let (filled, written, may_leave) = (0, 0, false);
        ChunkWriter { consumers, chunk_bytes, buffer, filled, sent, written, may_leave }
    }

    /// A consumer that is gone does not stop the producer as long as there is another one.
    pub(crate) fn consumers_may_leave(self) -> ChunkWriter {
        ChunkWriter { may_leave: true, ..self }
    }

    /// Sends the rest, ends the streams, says how many bytes there were.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        if self.filled > 0 {
            self.buffer.truncate(self.filled);
            self.send()?;
        }
        Ok(self.written)
    }

    fn send(&mut self) -> io::Result<()> {
        let next = self.next_buffer();
        let chunk = Arc::new(std::mem::replace(&mut self.buffer, next));
        self.filled = 0;
        self.sent.push_back(Arc::clone(&chunk));
        let before = self.consumers.len();
        self.consumers.retain(|consumer| consumer.send(Arc::clone(&chunk)).is_ok());
        let left = self.consumers.len();
        if left == before || (self.may_leave && left > 0) {
            return Ok(());
        }
        Err(io::ErrorKind::BrokenPipe.into())
    }

    /// A buffer that nobody needs any more, or a new one. Clearing new ones costs as much as copying.
    fn next_buffer(&mut self) -> Vec<u8> {
        let fresh = || vec![0; self.chunk_bytes];
        let kept = if self.chunk_bytes < 1 << 20 { CHANNEL_CHUNKS } else { LARGE_CHUNKS };
        if self.sent.len() <= kept
            && self.sent.front().is_none_or(|chunk| Arc::strong_count(chunk) > 1)
        {
            return fresh();
        }
        // With more than these a consumer keeps what it got: it is left to it.
        self.sent.pop_front().and_then(|chunk| Arc::try_unwrap(chunk).ok()).unwrap_or_else(fresh)
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
            if self.filled == self.chunk_bytes {
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
