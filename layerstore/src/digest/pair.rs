//! Two sha256 at once in one thread, with the rotations and three-way logic of AVX-512.
//!
//! ```text
//! block of A ─┐  message schedule, four words of both at a time
//!             ├▶ [A A A A | B B B B] ─▶ + constants ─▶ [A B A B] … ─▶ 64 rounds of both together
//! block of B ─┘
//! the state: [a of A, a of B, e of A, e of B], and what it was one, two and three rounds before,
//! which are b and f, c and g, d and h
//! ```
//! FIPS 180-4, section 6.2. Processors that have AVX-512 but no SHA instructions (most servers from 2017
//! to 2021) hash two streams so in the time of one. What may be executed is proved by `pulp`'s
//! token, which is only had where the processor can.

#![expect(
    clippy::inline_always,
    reason = "what is not inlined into the function that may use the instructions cannot use them"
)]

use std::{
    arch::x86_64::{__m128i, __m256i},
    hint::black_box,
};

use pulp::{NullaryFnOnce, cast, x86::V4};

use super::{
    both::{Block, State},
    sha256::has_sha_instructions,
};

/// Four words of a message schedule, those of both streams side by side, each twice.
type Words = [[u32; 4]; 4];

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
        let masks = Masks::new();
        let mut states: [__m128i; 4] =
            std::array::from_fn(|t| cast([first[t], second[t], first[t + 4], second[t + 4]]));
        for (a, b) in a.iter().zip(b) {
            let before = states;
            all_rounds(simd, masks, &mut states, load(simd, a, b));
            for (after, before) in states.iter_mut().zip(before) {
                *after = simd.sse2._mm_add_epi32(*after, before);
            }
        }
        for (word, both) in states.into_iter().enumerate() {
            let [a, b, e, f]: [u32; 4] = cast(both);
            (first[word], second[word]) = (a, b);
            (first[word + 4], second[word + 4]) = (e, f);
        }
    }
}

/// Where the two words `a` and the two words `e` lie.
#[derive(Debug, Clone, Copy)]
struct Masks {
    a: u8,
    e: u8,
}

impl Masks {
    /// As something that the compiler does not know: else it makes two instructions of each masked one.
    #[inline(always)]
    fn new() -> Masks {
        Masks { a: black_box(0b0011), e: black_box(0b1100) }
    }
}

/// The sixteen words of both blocks, four of both in each.
#[inline(always)]
fn load(simd: V4, a: &Block, b: &Block) -> [__m256i; 4] {
    std::array::from_fn(|quarter| {
        let mut both = [0u8; 32];
        both[..16].copy_from_slice(&a[quarter * 16..][..16]);
        both[16..].copy_from_slice(&b[quarter * 16..][..16]);
        simd.avx2._mm256_shuffle_epi8(cast(both), cast(BIG_ENDIAN))
    })
}

/// The rounds, and between them the words that are due sixteen rounds later.
#[inline(always)]
fn all_rounds(simd: V4, masks: Masks, states: &mut [__m128i; 4], words: [__m256i; 4]) {
    let [mut w0, mut w1, mut w2, mut w3] = words;
    let (sixteens, _) = CONSTANTS.as_chunks::<4>();
    let (last, before) = sixteens.split_last().expect("because there are four of them");
    let mut rounds = |words, constants| {
        four_rounds(simd, masks, states, &with_constants(simd, words, constants));
    };
    for [k0, k1, k2, k3] in before {
        rounds(w0, k0);
        w0 = next_words(simd, [w0, w1, w2, w3]);
        rounds(w1, k1);
        w1 = next_words(simd, [w1, w2, w3, w0]);
        rounds(w2, k2);
        w2 = next_words(simd, [w2, w3, w0, w1]);
        rounds(w3, k3);
        w3 = next_words(simd, [w3, w0, w1, w2]);
    }
    for (words, constants) in [w0, w1, w2, w3].into_iter().zip(last) {
        rounds(words, constants);
    }
}

#[inline(always)]
fn with_constants(simd: V4, words: __m256i, constants: &[u32; 4]) -> Words {
    let [k0, k1, k2, k3] = *constants;
    let sums = simd.avx2._mm256_add_epi32(words, cast([k0, k1, k2, k3, k0, k1, k2, k3]));
    cast([
        simd.avx2._mm256_permutevar8x32_epi32(sums, cast(FIRST_TWO)),
        simd.avx2._mm256_permutevar8x32_epi32(sums, cast(LAST_TWO)),
    ])
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

/// With `t1` and `t2` as the standard has them, the next `a` is `t1 + t2`, and the next `e` is `d + t1`.
#[inline(always)]
fn four_rounds(simd: V4, masks: Masks, states: &mut [__m128i; 4], words: &Words) {
    let (sse2, avx512) = (simd.sse2, simd.avx512f);
    let [mut ae, mut bf, mut cg, mut dh] = *states;
    // From memory, where it costs no instruction that the rounds wait for.
    for word in black_box(words) {
        let sums = avx512._mm_ternarylogic_epi32::<XOR>(
            avx512._mm_rorv_epi32(ae, cast([2, 2, 6, 6])),
            avx512._mm_rorv_epi32(ae, cast([13, 13, 11, 11])),
            avx512._mm_rorv_epi32(ae, cast([22, 22, 25, 25])),
        );
        let choice = avx512._mm_mask_ternarylogic_epi32::<CHOICE>(ae, masks.e, bf, cg);
        let logic = avx512._mm_mask_ternarylogic_epi32::<MAJORITY>(choice, masks.a, bf, cg);
        // Of t1 all but `h`, the word and its constant; and t2.
        let parts = sse2._mm_add_epi32(sums, logic);
        // The rest of t1 for the next `a`, and `d` with it for the next `e`.
        let hd = sse2._mm_shuffle_epi32::<SWAPPED>(sse2._mm_add_epi32(dh, cast(*word)));
        let rest = avx512._mm_mask_add_epi32(hd, masks.e, hd, dh);
        let rest = avx512._mm_mask_add_epi32(rest, masks.a, rest, parts);
        let next = sse2._mm_add_epi32(sse2._mm_shuffle_epi32::<LAST_TWICE>(parts), rest);
        (dh, cg, bf, ae) = (cg, bf, ae, next);
    }
    *states = [ae, bf, cg, dh];
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
/// Which word becomes which, so that those of one round are neighbours, twice.
const FIRST_TWO: [u32; 8] = [0, 4, 0, 4, 1, 5, 1, 5];
const LAST_TWO: [u32; 8] = [2, 6, 2, 6, 3, 7, 3, 7];
/// Shuffles of the words `a` and `e`: each in the place of the other, and `e` in both.
const SWAPPED: i32 = 0b01_00_11_10;
const LAST_TWICE: i32 = 0b11_10_11_10;

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
