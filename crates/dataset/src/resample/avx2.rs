//! The resize passes for AVX2, with the same integer results as the portable ones.
//!
//! 16-bit multiply-adds are much faster than 32-bit multiplications, but a weight can be as large
//! as 2²². Each weight is therefore split into its lower 11 bits and its remaining bits, whose
//! sums are combined at the end.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi32, _mm_cvtsi128_si64, _mm_extract_epi32, _mm_loadu_si128,
    _mm_packus_epi16, _mm_packus_epi32, _mm_setr_epi8, _mm_shuffle_epi8, _mm_srli_epi32,
    _mm256_add_epi32, _mm256_broadcastsi128_si256, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_setr_epi8,
    _mm256_setr_epi32, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32,
};

use super::filter::{BITS, Filter, HALF, Rows};
use super::portable;

/// Number of input pixels per step. They occupy 12 of the 16 loaded bytes.
const TAPS: usize = 4;
/// Number of bits in the lower half of a weight.
const LOW: u32 = BITS / 2;

/// The vertical pass, which is the portable code compiled for AVX2. The compiler vectorizes it
/// well.
#[target_feature(enable = "avx2")]
pub(super) fn vertical<'t>(
    source: Rows,
    filter: &Filter,
    target: impl Iterator<Item = &'t mut [u8]>,
) {
    portable::vertical(source, filter, target);
}

/// The horizontal pass.
#[target_feature(enable = "avx2")]
pub(super) fn horizontal<'t>(
    source: Rows,
    filter: &Filter,
    target: impl Iterator<Item = &'t mut [u8]>,
) {
    let steps = filter.taps().div_ceil(TAPS);
    let starts: Vec<usize> = filter.outputs().map(|(start, _)| start * 3).collect();
    let weights: Vec<Halves> = filter
        .outputs()
        .flat_map(|(_, weights)| weights.chunks(TAPS).map(split))
        .collect();
    for (index, to) in target.enumerate() {
        // The last step may read inputs of the next row, but their weights are 0.
        let from = source.row_onward(index);
        let (fours, rest) = to.as_chunks_mut::<12>();
        let (starts_of_fours, starts_of_rest) = starts.as_chunks::<4>();
        let (weights_of_fours, weights_of_rest) = weights.split_at(fours.len() * 4 * steps);
        let groups = starts_of_fours
            .iter()
            .zip(weights_of_fours.chunks_exact(4 * steps));
        for (pixels, (starts, weights)) in fours.iter_mut().zip(groups) {
            // Not a `map`: its closure lacks the target feature, so `pixel` would not be inlined.
            let a = pixel(from, starts[0], &weights[..steps]);
            let b = pixel(from, starts[1], &weights[steps..2 * steps]);
            let c = pixel(from, starts[2], &weights[2 * steps..3 * steps]);
            let d = pixel(from, starts[3], &weights[3 * steps..]);
            *pixels = interleave(a, b, c, d);
        }
        let singles = starts_of_rest
            .iter()
            .zip(weights_of_rest.chunks_exact(steps));
        for (pixel_bytes, (&start, weights)) in rest.as_chunks_mut::<3>().0.iter_mut().zip(singles)
        {
            let one = pixel(from, start, weights);
            let [r, g, b, ..] = interleave(one, one, one, one);
            *pixel_bytes = [r, g, b];
        }
    }
}

/// Computes the channels of one output as 32-bit integers from the inputs at `from[start..]`.
#[inline]
#[target_feature(enable = "avx2")]
fn pixel(from: &[u8], start: usize, weights: &[Halves]) -> __m128i {
    // For each channel, pairs of adjacent inputs as 16-bit integers: inputs 0 and 1 in the lower
    // half of the register, inputs 2 and 3 in the upper half. Index -1 gives 0.
    #[rustfmt::skip]
    let pairs = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,
        6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
    );
    let mut low = _mm256_setr_epi32(HALF, HALF, HALF, HALF, 0, 0, 0, 0);
    let mut high = _mm256_setzero_si256();
    for (step, [low_weights, high_weights]) in weights.iter().enumerate() {
        let bytes = load_bytes(&from[start + step * TAPS * 3..]);
        let inputs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), pairs);
        low = _mm256_add_epi32(low, _mm256_madd_epi16(inputs, load_weights(low_weights)));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(inputs, load_weights(high_weights)));
    }
    let sums = _mm256_add_epi32(low, _mm256_slli_epi32::<{ LOW as i32 }>(high));
    let sums = _mm_add_epi32(
        _mm256_castsi256_si128(sums),
        _mm256_extracti128_si256::<1>(sums),
    );
    _mm_srli_epi32::<{ BITS as i32 }>(sums)
}

/// Packs four pixels into 12 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn interleave(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> [u8; 12] {
    let bytes = _mm_packus_epi16(_mm_packus_epi32(a, b), _mm_packus_epi32(c, d));
    let bytes = _mm_shuffle_epi8(
        bytes,
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1),
    );
    let mut pixels = [0; 12];
    pixels[..8].copy_from_slice(&_mm_cvtsi128_si64(bytes).to_le_bytes());
    pixels[8..].copy_from_slice(&_mm_extract_epi32::<2>(bytes).to_le_bytes());
    pixels
}

/// The lower and upper halves of four weights, in the layout of the inputs in [`pixel`].
type Halves = [[i16; 16]; 2];

fn split(weights: &[i32]) -> Halves {
    let mut halves = [[0; 16]; 2];
    for (tap, weight) in weights.iter().enumerate() {
        for channel in 0..3 {
            let index = tap / 2 * 8 + channel * 2 + tap % 2;
            // Both halves fit in 16 bits, because a weight is at most 2^22.
            halves[0][index] = (weight & ((1 << LOW) - 1)) as i16;
            halves[1][index] = (weight >> LOW) as i16;
        }
    }
    halves
}

/// Loads the first 16 bytes of `bytes`. Missing bytes are 0.
#[inline]
#[target_feature(enable = "avx2")]
fn load_bytes(bytes: &[u8]) -> __m128i {
    let mut padded = [0; 16];
    let bytes = bytes.first_chunk::<16>().unwrap_or_else(|| {
        padded[..bytes.len()].copy_from_slice(bytes);
        &padded
    });
    // SAFETY: `bytes` is an array of 16 bytes, and the load has no alignment requirement.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_weights(weights: &[i16; 16]) -> __m256i {
    // SAFETY: `weights` is an array of 32 bytes, and the load has no alignment requirement.
    unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) }
}
