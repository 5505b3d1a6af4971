//! Splits f32 matrices into three bf16 terms (bf16x3) and packs them for AMX.
//!
//! A bf16 is the upper half of an f32, with 8 of the 24 significant bits. Truncation to bf16 gives
//! the high term, and truncation of the remainder gives the middle term. The rest is the low term.
//! The sum of the three terms is exact if none is subnormal.
//!
//! `TDPBF16PS` multiplies pairs of adjacent bf16, 16 pairs per row of 64 bytes. The order within
//! the inner dimension is free if it is the same in both matrices, so element i of a block of 32 is
//! paired with element i + 16. Two vectors then combine into a row of pairs without crossing lanes.

use std::arch::x86_64::*;

/// Size in bytes of one bf16 term for 16 rows and 32 inner elements.
pub(crate) const ROW_TILE_BYTES: usize = 16 * 64;
/// Size in bytes of one bf16 term for 32 columns and 32 inner elements.
pub(crate) const COLUMN_TILE_BYTES: usize = 2 * 16 * 64;

/// Splits two vectors into their high, middle and low terms, in this order, and interleaves the
/// terms into pairs.
///
/// # Safety
///
/// The CPU must support AVX-512 F and BW.
#[inline(always)]
unsafe fn split_pairs(first: __m512, second: __m512) -> [__m512i; 3] {
    // SAFETY: the CPU supports AVX-512 F and BW (contract of this function).
    unsafe {
        let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        let remainder = |x: __m512| {
            let high = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper));
            _mm512_sub_ps(x, high)
        };
        let pairs = |first: __m512, second: __m512| {
            let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
            _mm512_mask_blend_epi16(0xaaaa_aaaa, first, _mm512_castps_si512(second))
        };
        let (middle_1, middle_2) = (remainder(first), remainder(second));
        let (low_1, low_2) = (remainder(middle_1), remainder(middle_2));
        [
            pairs(first, second),
            pairs(middle_1, middle_2),
            pairs(low_1, low_2),
        ]
    }
}

/// Packs `count` rows of a left matrix: f32 `[inner / 16][row][16]` with `stride` elements between
/// blocks of 16 → bf16 `[inner / 32][term][row][32]` with `term_stride` bytes between terms.
/// `blocks` is the number of blocks of 16. An odd number is padded with a block of zeros.
///
/// # Safety
///
/// The CPU must support AVX-512 F and BW. `from` must be valid for reads and `to` for writes of
/// these ranges.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack_rows(
    from: *const f32,
    stride: usize,
    blocks: usize,
    count: usize,
    to: *mut u8,
    term_stride: usize,
) {
    for pair in 0..blocks.div_ceil(2) {
        for row in 0..count {
            // SAFETY: the CPU supports AVX-512 and the pointers are valid for `blocks` blocks of
            // `count` rows (contract of this function).
            unsafe {
                let first = _mm512_loadu_ps(from.add(2 * pair * stride + row * 16));
                let second = if 2 * pair + 1 < blocks {
                    _mm512_loadu_ps(from.add((2 * pair + 1) * stride + row * 16))
                } else {
                    _mm512_setzero_ps()
                };
                let to = to.add(3 * pair * term_stride + row * 64);
                for (term, line) in split_pairs(first, second).into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(term * term_stride).cast(), line);
                }
            }
        }
    }
}

/// Packs 32 columns of a right matrix: f32 vectors of 16 columns → bf16
/// `[inner / 32][term][column / 16][16 pairs][16 columns][2]`.
///
/// `inner_stride` is the number of elements between rows of the matrix (the inner dimension), and
/// `half_stride` the number of elements from the first 16 columns to the second 16. `count` is the
/// size of the inner dimension, which is padded with zeros to a multiple of 32.
///
/// # Safety
///
/// The CPU must support AVX-512 F and BW. `from` must be valid for reads and `to` for writes of
/// these ranges.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack_columns(
    from: *const f32,
    inner_stride: usize,
    half_stride: usize,
    count: usize,
    to: *mut u8,
) {
    for block in 0..count.div_ceil(32) {
        for half in 0..2 {
            for pair in 0..16 {
                // SAFETY: the CPU supports AVX-512 and the pointers are valid (contract of this
                // function). `load` reads no element at or beyond `count`.
                unsafe {
                    let load = |index: usize| {
                        if index < count {
                            _mm512_loadu_ps(from.add(index * inner_stride + half * half_stride))
                        } else {
                            _mm512_setzero_ps()
                        }
                    };
                    let lines = split_pairs(load(block * 32 + pair), load(block * 32 + pair + 16));
                    let to =
                        to.add(block * 3 * COLUMN_TILE_BYTES + half * ROW_TILE_BYTES + pair * 64);
                    for (term, line) in lines.into_iter().enumerate() {
                        _mm512_storeu_si512(to.add(term * COLUMN_TILE_BYTES).cast(), line);
                    }
                }
            }
        }
    }
}

/// Packs 16 rows of a left matrix that is stored transposed: f32 `[inner][16 rows]` → bf16
/// `[inner / 32][term][16 rows][32]` with `term_stride` bytes between terms. `count` is the size of
/// the inner dimension, which is padded with zeros to a multiple of 32.
///
/// # Safety
///
/// The CPU must support AVX-512 F and BW. `from` must be valid for reads and `to` for writes of
/// these ranges.
#[target_feature(enable = "avx512f,avx512bw")]
pub(crate) unsafe fn pack_transposed_rows(
    from: *const f32,
    count: usize,
    to: *mut u8,
    term_stride: usize,
) {
    for block in 0..count.div_ceil(32) {
        // SAFETY: the CPU supports AVX-512 and the pointers are valid (contract of this function).
        // `load` reads no element at or beyond `count`.
        unsafe {
            let load = |index: usize| {
                if index < count {
                    _mm512_loadu_ps(from.add(index * 16))
                } else {
                    _mm512_setzero_ps()
                }
            };
            let mut lines = [[_mm512_setzero_si512(); 16]; 3];
            for pair in 0..16 {
                let pairs = split_pairs(load(block * 32 + pair), load(block * 32 + pair + 16));
                for term in 0..3 {
                    lines[term][pair] = pairs[term];
                }
            }
            for (term, lines) in lines.into_iter().enumerate() {
                let to = to.add((3 * block + term) * term_stride);
                for (row, line) in transpose_16x16(lines).into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(row * 64).cast(), line);
                }
            }
        }
    }
}

/// Transposes a 16x16 matrix of 32-bit elements.
///
/// # Safety
///
/// The CPU must support AVX-512 F.
#[inline(always)]
unsafe fn transpose_16x16(x: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the CPU supports AVX-512 F (contract of this function).
    unsafe {
        let zero = _mm512_setzero_si512();
        // Interleave pairs of rows, then groups of four: this transposes a 4x4 matrix in each
        // 128-bit quarter.
        let mut pairs = [zero; 16];
        for i in 0..8 {
            pairs[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
            pairs[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
        }
        let mut fours = [zero; 16];
        for i in 0..4 {
            for j in 0..2 {
                let (above, below) = (pairs[4 * i + j], pairs[4 * i + 2 + j]);
                fours[4 * i + 2 * j] = _mm512_unpacklo_epi64(above, below);
                fours[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(above, below);
            }
        }
        // Transpose the quarters: quarter q of fours[4i + j] holds column 4q + j of the rows
        // 4i..4i + 4.
        let mut y = [zero; 16];
        for j in 0..4 {
            let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
            let even_low = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
            let odd_low = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
            let even_high = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
            let odd_high = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
            y[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(even_low, even_high);
            y[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(even_low, even_high);
            y[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(odd_low, odd_high);
            y[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(odd_low, odd_high);
        }
        y
    }
}
