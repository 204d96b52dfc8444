//! sha256 of two streams that come at the same time: a layer's tar, and what it is compressed to.
//!
//! ```text
//! chunks of A ─┐            ┌ both have some: blocks of both at once
//!              ├▶ queues ───┤
//! chunks of B ─┘            └ one is far behind, or at its end: the other alone
//! ```
//! Where the processor does [two at once](super::pair) faster than one after the other one thread hashes
//! both; else each has a thread. *Invariant:* the thread always takes what comes, so that nobody who
//! sends waits for the other stream.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Scope, ScopedJoinHandle},
};

use super::{Digest, Sha256, pair::Pairs};
use crate::pipe::{Chunk, Consumer, HELD_BYTES, join};

/// The eight words that sha256 carries from block to block.
pub(super) type State = [u32; 8];
/// What is compressed at once.
pub(super) type Block = [u8; BLOCK_BYTES];

const BLOCK_BYTES: usize = 64;
/// Where the length stands in the last block.
const LENGTH_AT: usize = BLOCK_BYTES - 8;
/// What a stream begins with (FIPS 180-4, section 5.3.3).
const BEGIN: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Where the chunks of one stream go; dropped, the stream is at its end.
#[derive(Debug)]
pub(crate) struct ToHash {
    stream: usize,
    sender: SyncSender<Message>,
}

#[derive(Debug)]
struct Message {
    stream: usize,
    /// None at the end.
    chunk: Option<Chunk>,
}

impl Consumer for ToHash {
    fn take(&self, chunk: Chunk) -> bool {
        self.sender.send(Message { stream: self.stream, chunk: Some(chunk) }).is_ok()
    }
}

impl Drop for ToHash {
    fn drop(&mut self) {
        // Who hashes is only gone after a panic, which goes on elsewhere.
        self.sender.send(Message { stream: self.stream, chunk: None }).unwrap_or_default();
    }
}

/// The threads that hash.
#[derive(Debug)]
pub(crate) enum Hashing<'scope> {
    Together(ScopedJoinHandle<'scope, [Digest; 2]>),
    Apart([ScopedJoinHandle<'scope, Digest>; 2]),
}

impl Hashing<'_> {
    /// The digests, when both streams are at their ends.
    pub(crate) fn join(self) -> [Digest; 2] {
        match self {
            Hashing::Together(both) => join(both),
            Hashing::Apart(each) => each.map(join),
        }
    }
}

/// Hashes two streams, of which at most this many chunks are waiting, or of each.
pub(crate) fn hash_two<'scope>(
    scope: &'scope Scope<'scope, '_>,
    waiting: usize,
) -> ([ToHash; 2], Hashing<'scope>) {
    // Without optimisation nothing of it is inlined, and it is a thousand times slower.
    let pairs = if cfg!(debug_assertions) { None } else { Pairs::new() };
    if let Some(pairs) = pairs {
        let (sender, messages) = sync_channel(waiting);
        let ends = [0, 1].map(|stream| ToHash { stream, sender: sender.clone() });
        let both = scope.spawn(move || Both::new(pairs, HELD_BYTES).hash(messages));
        return (ends, Hashing::Together(both));
    }
    let [(first, a), (second, b)] = [0, 1].map(|stream| {
        let (sender, messages) = sync_channel(waiting);
        (ToHash { stream, sender }, scope.spawn(move || hash_one(messages)))
    });
    ([first, second], Hashing::Apart([a, b]))
}

fn hash_one(messages: Receiver<Message>) -> Digest {
    let mut hasher = Sha256::new();
    for chunk in messages.into_iter().map_while(|message| message.chunk) {
        hasher.update(&chunk);
    }
    hasher.finish()
}

/// Two digests in the making.
struct Both {
    pairs: Pairs,
    /// How much of one stream waits for the other one: as much as the longest chunk, so that each chunk
    /// that comes from an encoder finds blocks of the tar to be hashed with.
    held_bytes: usize,
    streams: [Stream; 2],
}

impl Both {
    fn new(pairs: Pairs, held_bytes: usize) -> Both {
        Both { pairs, held_bytes, streams: [Stream::new(), Stream::new()] }
    }

    fn hash(mut self, messages: Receiver<Message>) -> [Digest; 2] {
        for Message { stream, chunk } in messages {
            match chunk {
                Some(chunk) => self.streams[stream].push(chunk),
                None => self.streams[stream].has_ended = true,
            }
            while self.advance() {}
        }
        let Both { pairs, streams, .. } = self;
        streams.map(|stream| stream.finish(pairs))
    }

    /// Compresses some blocks, if there are any that should not wait.
    fn advance(&mut self) -> bool {
        let [a, b] = &mut self.streams;
        a.prepare();
        b.prepare();
        if a.blocks().is_empty() {
            return b.go_ahead(self.pairs, if a.has_ended { 0 } else { self.held_bytes });
        }
        if b.blocks().is_empty() {
            return a.go_ahead(self.pairs, if b.has_ended { 0 } else { self.held_bytes });
        }
        let (mut first, mut second) = (a.state, b.state);
        let count = a.blocks().len().min(b.blocks().len());
        self.pairs.compress([&mut first, &mut second], [a.blocks(), b.blocks()]);
        a.done(first, count);
        b.done(second, count);
        true
    }
}

/// One of the two.
struct Stream {
    state: State,
    queue: VecDeque<Chunk>,
    /// How much of the queue's first chunk is done.
    at: usize,
    /// Bytes in the queue that are not done.
    queued: usize,
    /// The block in the making at the border of two chunks.
    border: Block,
    border_bytes: usize,
    length: u64,
    has_ended: bool,
}

impl Stream {
    fn new() -> Stream {
        let (queue, border, has_ended) = (VecDeque::new(), [0; BLOCK_BYTES], false);
        let (at, queued, border_bytes, length) = (0, 0, 0, 0);
        Stream { state: BEGIN, queue, at, queued, border, border_bytes, length, has_ended }
    }

    fn push(&mut self, chunk: Chunk) {
        self.queued += chunk.len();
        self.length += chunk.len() as u64;
        self.queue.push_back(chunk);
    }

    /// Makes the next blocks lie side by side, if there are any.
    fn prepare(&mut self) {
        while let Some(chunk) = self.queue.front() {
            let left = &chunk[self.at..];
            let is_whole = self.border_bytes == 0 && left.len() >= BLOCK_BYTES;
            if is_whole || self.border_bytes == BLOCK_BYTES {
                return;
            }
            let count = left.len().min(BLOCK_BYTES - self.border_bytes);
            self.border[self.border_bytes..][..count].copy_from_slice(&left[..count]);
            self.border_bytes += count;
            self.skip(count);
        }
    }

    fn skip(&mut self, count: usize) {
        self.at += count;
        self.queued -= count;
        if self.queue.front().is_some_and(|chunk| chunk.len() == self.at) {
            self.queue.pop_front();
            self.at = 0;
        }
    }

    /// The next blocks, as [prepared](Self::prepare).
    fn blocks(&self) -> &[Block] {
        if self.border_bytes == BLOCK_BYTES {
            return std::slice::from_ref(&self.border);
        }
        match self.queue.front() {
            Some(chunk) if self.border_bytes == 0 => chunk[self.at..].as_chunks().0,
            _ => &[],
        }
    }

    fn done(&mut self, state: State, count: usize) {
        self.state = state;
        if self.border_bytes == BLOCK_BYTES {
            self.border_bytes = 0;
        } else {
            self.skip(count * BLOCK_BYTES);
        }
    }

    /// Goes on without the other stream, but for this many bytes that wait for it.
    fn go_ahead(&mut self, pairs: Pairs, held_bytes: usize) -> bool {
        let excess = (self.border_bytes + self.queued).saturating_sub(held_bytes);
        let count = self.blocks().len().min(excess.div_ceil(BLOCK_BYTES));
        if count == 0 {
            return false;
        }
        let mut state = self.state;
        compress_alone(pairs, &mut state, &self.blocks()[..count]);
        self.done(state, count);
        true
    }

    fn finish(mut self, pairs: Pairs) -> Digest {
        let mut rest = self.border;
        rest[self.border_bytes..].fill(0);
        rest[self.border_bytes] = 0x80;
        if self.border_bytes >= LENGTH_AT {
            compress_alone(pairs, &mut self.state, &[rest]);
            rest = [0; BLOCK_BYTES];
        }
        rest[LENGTH_AT..].copy_from_slice(&(self.length * 8).to_be_bytes());
        compress_alone(pairs, &mut self.state, &[rest]);
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        Digest::from_bytes(bytes)
    }
}

/// One stream takes as long as two.
fn compress_alone(pairs: Pairs, state: &mut State, blocks: &[Block]) {
    pairs.compress([state, &mut BEGIN.clone()], [blocks, blocks]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    /// The digests of two streams, whose chunks come in this order.
    fn digests(chunks: &[(usize, Vec<u8>)], held_bytes: usize) -> [Digest; 2] {
        let Some(pairs) = Pairs::new() else {
            println!("skipped: this processor does not hash two streams at once");
            return expected(chunks);
        };
        let (sender, messages) = sync_channel(chunks.len());
        let ends = [0, 1].map(|stream| ToHash { stream, sender: sender.clone() });
        std::thread::scope(|scope| {
            let hashed = scope.spawn(move || Both::new(pairs, held_bytes).hash(messages));
            drop(sender);
            send(chunks, &ends);
            drop(ends);
            join(hashed)
        })
    }

    fn send(chunks: &[(usize, Vec<u8>)], ends: &[ToHash; 2]) {
        for (stream, chunk) in chunks {
            assert!(ends[*stream].take(Arc::new(chunk.clone().into())));
        }
    }

    fn expected(chunks: &[(usize, Vec<u8>)]) -> [Digest; 2] {
        [0, 1].map(|stream| {
            let mut hasher = Sha256::new();
            let of_it = chunks.iter().filter(|(of, _)| *of == stream);
            of_it.for_each(|(_, chunk)| hasher.update(chunk));
            hasher.finish()
        })
    }

    #[test]
    fn two_streams_have_two_digests() {
        let chunks = [(0, vec![1; 70_000]), (1, vec![2; 300]), (0, vec![3; 100])];
        let digests = std::thread::scope(|scope| {
            let (ends, hashing) = hash_two(scope, 1);
            send(&chunks, &ends);
            drop(ends);
            hashing.join()
        });
        assert_eq!(digests, expected(&chunks));
    }

    #[test]
    fn every_length_ends_as_it_should() {
        for length in 0..200 {
            let chunks = [(0, vec![7; length]), (1, vec![8; 199 - length]), (0, vec![9; 3])];
            assert_eq!(digests(&chunks, HELD_BYTES), expected(&chunks), "{length}");
        }
    }

    #[test]
    fn a_stream_may_be_far_ahead_and_far_longer() {
        let long = |stream: usize| (stream, (0..3u32 << 10).map(|at| (at / 3) as u8).collect());
        for ahead in [0, 1] {
            let mut chunks: Vec<(usize, Vec<u8>)> = (0..4).map(|_| long(ahead)).collect();
            chunks.extend([(1 - ahead, vec![1; 1001]), long(1 - ahead)]);
            assert_eq!(digests(&chunks, 4 << 10), expected(&chunks));
        }
    }

    proptest! {
        #[test]
        fn two_at_once_are_each_by_itself(
            chunks in prop::collection::vec((0..2usize, prop::collection::vec(any::<u8>(), 0..400)), 0..40),
            held_bytes in 0..2000usize,
        ) {
            prop_assert_eq!(digests(&chunks, held_bytes), expected(&chunks));
        }
    }
}
