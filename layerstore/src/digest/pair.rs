//! Two sha256 at once in one thread, with the rotations and three-way logic of AVX-512.
//!
//! ```text
//! block of A ─┐  message schedule, four words of both at a time
//!             ├▶ [A A A A | B B B B] ─▶ + constants ─▶ [A B] [A B] … ─▶ 64 rounds of both together
//! block of B ─┘
//! ```
//! FIPS 180-4, section 6.2. Processors that have AVX-512 but no SHA instructions (most servers from 2017
//! to 2021) hash two streams so in little more time than one. What may be executed is proved by `pulp`'s
//! token, which is only had where the processor can.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into the function that may use the instructions cannot use them"
)]
#![expect(clippy::many_single_char_names, reason = "these are the standard's names")]

use std::arch::x86_64::{__m128i, __m256i};

use pulp::{NullaryFnOnce, cast, x86::V4};

use super::{
    both::{Block, State},
    sha256::has_sha_instructions,
};

/// Four words of a message schedule, those of both streams side by side.
type Words = [[u32; 2]; 4];

/// Compresses blocks of two streams at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pairs(V4);

impl Pairs {
    /// None where the processor cannot, or has instructions for sha256 itself.
    pub(super) fn new() -> Option<Pairs> {
        if has_sha_instructions() {
            return None;
        }
        V4::try_new().map(Pairs)
    }

    /// Compresses as many blocks of each as the shorter one has.
    pub(super) fn compress(self, states: [&mut State; 2], blocks: [&[Block]; 2]) {
        self.0.vectorize(Compress { simd: self.0, states, blocks });
    }
}

struct Compress<'a> {
    simd: V4,
    states: [&'a mut State; 2],
    blocks: [&'a [Block]; 2],
}

impl NullaryFnOnce for Compress<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Compress { simd, states: [first, second], blocks: [a, b] } = self;
        let mut states: [__m128i; 8] =
            std::array::from_fn(|word| cast([first[word], second[word], 0, 0]));
        for (a, b) in a.iter().zip(b) {
            let (words, before) = (schedule(simd, a, b), states);
            for words in words.as_chunks::<2>().0 {
                eight_rounds(simd, &mut states, words);
            }
            for (after, before) in states.iter_mut().zip(before) {
                *after = simd.sse2._mm_add_epi32(*after, before);
            }
        }
        for (word, both) in states.into_iter().enumerate() {
            let [a, b, _, _]: [u32; 4] = cast(both);
            (first[word], second[word]) = (a, b);
        }
    }
}

/// The 64 words of the message schedule, with the rounds' constants added.
#[inline(always)]
fn schedule(simd: V4, a: &Block, b: &Block) -> [Words; 16] {
    let avx2 = simd.avx2;
    let [mut w0, mut w1, mut w2, mut w3] = std::array::from_fn(|quarter| {
        let mut both = [0u8; 32];
        both[..16].copy_from_slice(&a[quarter * 16..][..16]);
        both[16..].copy_from_slice(&b[quarter * 16..][..16]);
        avx2._mm256_shuffle_epi8(cast(both), cast(BIG_ENDIAN))
    });
    let mut schedule = [[[0; 2]; 4]; 16];
    let fours = schedule.as_chunks_mut::<4>().0.iter_mut();
    for (at, (words, constants)) in fours.zip(CONSTANTS.as_chunks::<4>().0).enumerate() {
        if at > 0 {
            w0 = next_words(simd, [w0, w1, w2, w3]);
            w1 = next_words(simd, [w1, w2, w3, w0]);
            w2 = next_words(simd, [w2, w3, w0, w1]);
            w3 = next_words(simd, [w3, w0, w1, w2]);
        }
        for ((words, four), constants) in words.iter_mut().zip([w0, w1, w2, w3]).zip(constants) {
            let both = avx2._mm256_permutevar8x32_epi32(four, cast(SIDE_BY_SIDE));
            let [k0, k1, k2, k3] = *constants;
            let constants = cast([k0, k0, k1, k1, k2, k2, k3, k3]);
            *words = cast(avx2._mm256_add_epi32(both, constants));
        }
    }
    schedule
}

/// The four words that follow the last sixteen.
#[inline(always)]
fn next_words(simd: V4, [w0, w1, w2, w3]: [__m256i; 4]) -> __m256i {
    let (avx2, avx512) = (simd.avx2, simd.avx512f);
    let back_15 = avx2._mm256_alignr_epi8::<4>(w1, w0);
    let back_7 = avx2._mm256_alignr_epi8::<4>(w3, w2);
    let sigma0 = avx512._mm256_ternarylogic_epi32::<XOR>(
        avx512._mm256_ror_epi32::<7>(back_15),
        avx512._mm256_ror_epi32::<18>(back_15),
        avx2._mm256_srli_epi32::<3>(back_15),
    );
    let sigma1 = |words| {
        avx512._mm256_ternarylogic_epi32::<XOR>(
            avx512._mm256_ror_epi32::<17>(words),
            avx512._mm256_ror_epi32::<19>(words),
            avx2._mm256_srli_epi32::<10>(words),
        )
    };
    let sum = avx2._mm256_add_epi32(avx2._mm256_add_epi32(w0, sigma0), back_7);
    // The last two words depend on the first two.
    let first = avx2._mm256_add_epi32(sum, sigma1(avx2._mm256_unpackhi_epi64(w3, w3)));
    let last = avx2._mm256_add_epi32(sum, sigma1(avx2._mm256_unpacklo_epi64(first, first)));
    avx2._mm256_blend_epi32::<0b1100_1100>(first, last)
}

#[inline(always)]
fn eight_rounds(simd: V4, states: &mut [__m128i; 8], words: &[Words; 2]) {
    let (sse2, avx512) = (simd.sse2, simd.avx512f);
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *states;
    for [first, second] in words.as_flattened() {
        let sum1 = avx512._mm_ternarylogic_epi32::<XOR>(
            avx512._mm_ror_epi32::<6>(e),
            avx512._mm_ror_epi32::<11>(e),
            avx512._mm_ror_epi32::<25>(e),
        );
        let sum0 = avx512._mm_ternarylogic_epi32::<XOR>(
            avx512._mm_ror_epi32::<2>(a),
            avx512._mm_ror_epi32::<13>(a),
            avx512._mm_ror_epi32::<22>(a),
        );
        let choice = avx512._mm_ternarylogic_epi32::<CHOICE>(e, f, g);
        let majority = avx512._mm_ternarylogic_epi32::<MAJORITY>(a, b, c);
        let word = sse2._mm_add_epi32(h, cast([*first, *second, 0, 0]));
        let t1 = sse2._mm_add_epi32(sse2._mm_add_epi32(word, choice), sum1);
        let t2 = sse2._mm_add_epi32(sum0, majority);
        (h, g, f, e) = (g, f, e, sse2._mm_add_epi32(d, t1));
        (d, c, b, a) = (c, b, a, sse2._mm_add_epi32(t1, t2));
    }
    *states = [a, b, c, d, e, f, g, h];
}

/// Tables of three-way logic: `a ^ b ^ c`, `b` where `a` and else `c`, and what two of three are.
const XOR: i32 = 0x96;
const CHOICE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

/// Which byte of a register becomes which, so that words are big-endian.
const BIG_ENDIAN: [u8; 32] = [
    3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, //
    3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12,
];
/// Which word becomes which, so that those of one round are neighbours.
const SIDE_BY_SIDE: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The constants of the rounds.
const CONSTANTS: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
    [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
    [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
    [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
    [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
    [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
    [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
    [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
    [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];
