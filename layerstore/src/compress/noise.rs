//! Which parts of a chunk are noise: bytes that deflate would spend its time on and not make smaller.
//!
//! Compressed and encrypted files are noise. The decision is part of the gzip format, so it is whole
//! numbers only, and depends on the chunk alone. A segment is noise if its bytes are about equally
//! frequent, so that Huffman codes win nothing, and if next to none of its strings were seen before
//! in noise of the same chunk, so that matches win nothing.

use std::ops::Range;

/// What is decided on at once: half of deflate's window.
const SEGMENT_BYTES: usize = 16 << 10;
/// A segment has this many samples of this many bytes that are looked at first.
const SAMPLES: usize = 4;
const SAMPLE_BYTES: usize = 256;
/// Noise has 162 different values in 256 bytes, give or take 6; text and programs have below 110.
const SAMPLE_VALUES_MIN: usize = 128;
/// Most that chi-square may be, as a fraction of the length: then Huffman codes win 0.6 % at most.
const DEVIATION_DIVISOR: u64 = 16;
/// Strings that are remembered: two windows of every fourth position.
const STRINGS_LOG: u32 = 14;
/// Positions between two strings that are remembered.
const STRING_STEP: usize = 4;
/// Most positions where a known string begins, as a fraction of the length.
const REPEATS_DIVISOR: usize = 256;

/// A part of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) bytes: Range<usize>,
    pub(super) is_noise: bool,
}

/// Cuts `chunk` where noise begins and ends; an empty chunk is one part.
pub(super) fn parts(chunk: &[u8]) -> Vec<Part> {
    let mut strings = Strings::default();
    let mut parts: Vec<Part> = Vec::new();
    for (number, segment) in chunk.chunks(SEGMENT_BYTES).enumerate() {
        let start = number * SEGMENT_BYTES;
        let is_noise = segment.len() == SEGMENT_BYTES
            && looks_uniform(segment)
            && is_uniform(segment)
            && strings.repeats_in(segment) <= SEGMENT_BYTES / REPEATS_DIVISOR;
        match parts.last_mut() {
            Some(last) if last.is_noise == is_noise => last.bytes.end += segment.len(),
            _ => parts.push(Part { bytes: start..start + segment.len(), is_noise }),
        }
    }
    if parts.is_empty() {
        parts.push(Part { bytes: 0..0, is_noise: false });
    }
    parts
}

/// A glance that spares most of what is no noise the counting.
fn looks_uniform(segment: &[u8]) -> bool {
    segment.chunks(segment.len() / SAMPLES).all(|quarter| {
        let mut seen = [false; 256];
        // From the middle on: the end of another file may begin the segment.
        let sample = quarter.iter().skip(quarter.len() / 2).take(SAMPLE_BYTES);
        sample.for_each(|byte| seen[usize::from(*byte)] = true);
        seen.iter().filter(|seen| **seen).count() >= SAMPLE_VALUES_MIN
    })
}

fn is_uniform(segment: &[u8]) -> bool {
    // Four tables, so that equal neighbours do not wait for each other.
    let mut tables = [[0u32; 256]; 4];
    for bytes in segment.chunks(4) {
        for (table, byte) in tables.iter_mut().zip(bytes) {
            table[usize::from(*byte)] += 1;
        }
    }
    let count = |byte: usize| tables.iter().map(|table| u64::from(table[byte])).sum::<u64>();
    let length = segment.len() as u64;
    // Everything times 256, as the expected count is a fraction.
    let deviation: u64 = (0..256).map(|byte| (count(byte) * 256).abs_diff(length).pow(2)).sum();
    deviation / 256 <= length * length / DEVIATION_DIVISOR
}

/// Strings of four bytes that were seen.
struct Strings(Vec<u32>);

impl Default for Strings {
    fn default() -> Strings {
        Strings(vec![0; 1 << STRINGS_LOG])
    }
}

impl Strings {
    /// At how many positions a string begins that was seen; those of `segment` are remembered.
    fn repeats_in(&mut self, segment: &[u8]) -> usize {
        let mut repeats = 0;
        for (at, string) in segment.windows(4).enumerate() {
            let string = u32::from_le_bytes([string[0], string[1], string[2], string[3]]);
            let place = string.wrapping_mul(0x9e37_79b1) >> (u32::BITS - STRINGS_LOG);
            let known = &mut self.0[place as usize];
            repeats += usize::from(*known == string);
            if at % STRING_STEP == 0 {
                *known = string;
            }
        }
        repeats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::tests::noise;

    fn is_all_noise(chunk: &[u8]) -> bool {
        parts(chunk) == [Part { bytes: 0..chunk.len(), is_noise: true }]
    }

    fn is_no_noise(chunk: &[u8]) -> bool {
        parts(chunk) == [Part { bytes: 0..chunk.len(), is_noise: false }]
    }

    #[test]
    fn noise_is_found_between_other_things() {
        assert!(is_all_noise(&noise(1 << 19)));
        let mut half = noise(1 << 19);
        half[100_000..200_000].fill(b'x');
        let cuts: Vec<_> = parts(&half).into_iter().map(|part| part.bytes.start).collect();
        assert_eq!(cuts, [0, 6 * SEGMENT_BYTES, 13 * SEGMENT_BYTES]);
        let parts = parts(&half);
        assert!(parts[0].is_noise && !parts[1].is_noise && parts[2].is_noise);
        assert_eq!(parts[2].bytes.end, half.len());
    }

    #[test]
    fn what_deflate_can_make_smaller_is_no_noise() {
        assert!(is_no_noise(b"") && is_no_noise(&noise(SEGMENT_BYTES - 1)));
        let base64: Vec<u8> = noise(1 << 17).iter().map(|byte| b'0' + byte % 64).collect();
        assert!(is_no_noise(&base64));
        // All values equally often, and nothing new after the first 256 bytes.
        let counted: Vec<u8> = (0..=255).cycle().take(1 << 17).collect();
        assert!(is_no_noise(&counted));
        // The same noise again within deflate's window: the second time it is known.
        let again = noise(SEGMENT_BYTES + 333).repeat(4);
        let found = parts(&again[..4 * SEGMENT_BYTES]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].is_noise && found[0].bytes.end == SEGMENT_BYTES && !found[1].is_noise);
    }

    #[test]
    fn a_little_of_something_else_stays_in_the_noise() {
        let mut chunk = noise(4 * SEGMENT_BYTES);
        chunk[SEGMENT_BYTES..SEGMENT_BYTES + 512].fill(0);
        assert_eq!(parts(&chunk).len(), 3, "the header of a member begins something else");
        let letters = noise(512).into_iter().map(|byte| b'a' + byte % 26);
        chunk.splice(SEGMENT_BYTES..SEGMENT_BYTES + 512, letters);
        assert!(is_all_noise(&chunk));
    }
}
