//! The same bytes at any number of threads, and back again.

use std::io::{Read, Write};

use super::*;
use crate::pipe::{ChunkWriter, channel};

fn sample(length: usize) -> Vec<u8> {
    let mut state = 12345u32;
    (0..length)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Runs of text between runs of noise.
            if at / 3000 % 2 == 0 { b'a' + (at / 5 % 20) as u8 } else { (state >> 24) as u8 }
        })
        .collect()
}

fn compress(compression: &Compression, input: &[u8], threads: usize, piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    std::thread::scope(|scope| {
        let (sender, chunks) = channel();
        scope.spawn(move || {
            let mut writer = compression.codec.chunk_writer(vec![Box::new(sender)]);
            input.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
            writer.finish().unwrap();
        });
        let mut take = |chunk: Chunk| {
            out.extend_from_slice(&chunk);
            Ok(())
        };
        encode_with(compression, (chunks, None), &mut take, threads).unwrap();
    });
    out
}

#[test]
fn threads_and_pieces_do_not_change_the_bytes() {
    let input = sample(9 << 20);
    for codec in [Codec::Gzip, Codec::Zstd, Codec::None] {
        for level in [1, 6] {
            let compression = Compression { level: Some(level), ..Compression::new(codec) };
            let one = compress(&compression, &input, 1, 1 << 20);
            assert!(one == compress(&compression, &input, 2, 7919), "{codec:?}");
            assert!(one == compress(&compression, &input, 5, 333_333), "{codec:?}");
            let (found, mut plain) = decoder(one.as_slice()).unwrap();
            let mut back = Vec::new();
            plain.read_to_end(&mut back).unwrap();
            assert!(found == codec && back == input, "{codec:?}");
        }
    }
}

#[test]
fn nothing_is_something() {
    for codec in [Codec::Gzip, Codec::Zstd, Codec::None] {
        let bytes = compress(&Compression::new(codec), b"", 2, 1);
        let (_, mut plain) = decoder(bytes.as_slice()).unwrap();
        assert_eq!(plain.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert_eq!(bytes.is_empty(), codec == Codec::None);
    }
}

#[test]
fn a_writer_that_fails_ends_everything() {
    let input = sample(20 << 20);
    for codec in [Codec::Gzip, Codec::Zstd, Codec::None] {
        std::thread::scope(|scope| {
            let (sender, chunks) = channel();
            let input = &input;
            let producer = scope.spawn(move || {
                let mut writer = ChunkWriter::new(CHUNK_BYTES, vec![Box::new(sender)]);
                writer.write_all(input)
            });
            let mut left = 1usize << 20;
            let mut full = |chunk: Chunk| {
                left = left.checked_sub(chunk.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(())
            };
            let error = encode(&Compression::new(codec), chunks, None, &mut full);
            let kind = error.map_err(|error| error.kind());
            assert_eq!(kind, Err(io::ErrorKind::StorageFull), "{codec:?}");
            // Nobody waits for ever; an encoder may have taken everything before it failed.
            if let Err(error) = producer.join().unwrap() {
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            }
        });
    }
}

#[test]
fn truncated_streams_are_errors() {
    let input = sample(300_000);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let bytes = compress(&Compression::new(codec), &input, 1, 1 << 20);
        for cut in [5, 20, bytes.len() / 2, bytes.len() - 1] {
            let read = decoder(&bytes[..cut])
                .and_then(|(_, mut plain)| plain.read_to_end(&mut Vec::new()));
            assert!(read.is_err(), "{codec:?} {cut}");
        }
    }
}

/// Bytes that nothing makes smaller.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

#[test]
fn noise_is_stored_and_comes_back() {
    // Longer than a stored block, shorter than a chunk, cut by the end of a chunk, at the very end.
    for length in [40_000, 100_000, 700_000, CHUNK_BYTES] {
        for text in [0, 20_000, CHUNK_BYTES - 30_000] {
            let input = [vec![b'x'; text], noise(length), vec![b'y'; text]].concat();
            let bytes = compress(&Compression::new(Codec::Gzip), &input, 2, 1 << 20);
            assert!(bytes.len() < length + length / 200 + 9000, "{length} {text} {}", bytes.len());
            let mut back = Vec::new();
            flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut back).unwrap();
            assert!(back == input, "{length} {text}");
        }
    }
}

/// What this version of the format makes of text, of noise and of both.
#[test]
fn golden_blobs() {
    let mut mixed = sample(1 << 20);
    mixed.extend(noise(1 << 20));
    let mut text = String::new();
    for (codec, levels) in [(Codec::Gzip, &[1, 6, 7, 9, 12][..]), (Codec::Zstd, &[1, 3, 9])] {
        for level in levels {
            let compression = Compression { level: Some(*level), ..Compression::new(codec) };
            let bytes = compress(&compression, &mixed, 2, 1 << 20);
            let digest = crate::Digest::of(&bytes);
            let line = format!("{} {digest} {}\n", compression.format_name(), bytes.len());
            text.push_str(&line);
        }
    }
    insta::assert_snapshot!(text);
}
