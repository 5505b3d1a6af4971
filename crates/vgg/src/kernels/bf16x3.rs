//! f32 as the sum of three bf16, laid out as the rows and columns that AMX multiplies.
//!
//! A bf16 is the upper half of an f32: eight bits of the significand. Cutting those off three times takes a number
//! apart without any error. A line of 64 bytes holds sixteen pairs: the inner dimension goes in blocks of 32, and
//! number i is paired with number i + 16, so that two vectors become a line of pairs without crossing lanes.

use std::arch::x86_64::*;

/// Bytes of sixteen rows of one third.
pub(super) const ROW_TILE_BYTES: usize = 16 * 64;
/// Bytes of 32 columns of one third.
pub(super) const COLUMN_TILE_BYTES: usize = 2 * 16 * 64;

/// The high, middle and low thirds of two vectors, in pairs.
#[inline(always)]
unsafe fn split_pairs(first: __m512, second: __m512) -> [__m512i; 3] {
    // SAFETY: the callers run with AVX-512 F and BW.
    unsafe {
        let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        let cut = |x: __m512| {
            let high = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper));
            _mm512_sub_ps(x, high)
        };
        let pairs = |first: __m512, second: __m512| {
            let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
            _mm512_mask_blend_epi16(0xaaaa_aaaa, first, _mm512_castps_si512(second))
        };
        let (middle_1, middle_2) = (cut(first), cut(second));
        let (low_1, low_2) = (cut(middle_1), cut(middle_2));
        [
            pairs(first, second),
            pairs(middle_1, middle_2),
            pairs(low_1, low_2),
        ]
    }
}

/// Rows of a left matrix: `[block of 16][row][16]`, `stride` elements from block to block, to
/// `[block of 32][third][row][32]`, `term_stride` bytes from third to third.
///
/// # Safety
/// AVX-512 F and BW; the pointers are valid for that.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_rows(
    from: *const f32,
    stride: usize,
    blocks: usize,
    count: usize,
    to: *mut u8,
    term_stride: usize,
) {
    for pair in 0..blocks.div_ceil(2) {
        for row in 0..count {
            // SAFETY: promised by the caller.
            unsafe {
                let first = _mm512_loadu_ps(from.add(2 * pair * stride + row * 16));
                let second = if 2 * pair + 1 < blocks {
                    _mm512_loadu_ps(from.add((2 * pair + 1) * stride + row * 16))
                } else {
                    _mm512_setzero_ps()
                };
                let to = to.add(3 * pair * term_stride + row * 64);
                for (place, line) in split_pairs(first, second).into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(place * term_stride).cast(), line);
                }
            }
        }
    }
}

/// Columns of a right matrix: vectors of sixteen of them, `inner` elements from one number of the inner dimension
/// to the next and `half` from the first sixteen to the others, to `[block of 32][third][half][pair][16][2]`.
/// Beyond `count` numbers of the inner dimension come zeros.
///
/// # Safety
/// AVX-512 F and BW; the pointers are valid for that.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_columns(
    from: *const f32,
    inner: usize,
    half: usize,
    count: usize,
    to: *mut u8,
) {
    for block in 0..count.div_ceil(32) {
        for part in 0..2 {
            for pair in 0..16 {
                // SAFETY: promised by the caller.
                unsafe {
                    let number = |at: usize| {
                        if at < count {
                            _mm512_loadu_ps(from.add(at * inner + part * half))
                        } else {
                            _mm512_setzero_ps()
                        }
                    };
                    let lines =
                        split_pairs(number(block * 32 + pair), number(block * 32 + pair + 16));
                    let to =
                        to.add(block * 3 * COLUMN_TILE_BYTES + part * ROW_TILE_BYTES + pair * 64);
                    for (place, line) in lines.into_iter().enumerate() {
                        _mm512_storeu_si512(to.add(place * COLUMN_TILE_BYTES).cast(), line);
                    }
                }
            }
        }
    }
}

/// Rows of a left matrix that lies transposed: `[inner][16 rows]` to `[block of 32][third][16 rows][32]`, `term_stride`
/// bytes from third to third. Beyond `count` numbers of the inner dimension come zeros.
///
/// # Safety
/// AVX-512 F and BW; the pointers are valid for that.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn pack_transposed_rows(
    from: *const f32,
    count: usize,
    to: *mut u8,
    term_stride: usize,
) {
    for block in 0..count.div_ceil(32) {
        // SAFETY: promised by the caller.
        unsafe {
            let number = |at: usize| {
                if at < count {
                    _mm512_loadu_ps(from.add(at * 16))
                } else {
                    _mm512_setzero_ps()
                }
            };
            let mut lines = [[_mm512_setzero_si512(); 16]; 3];
            for pair in 0..16 {
                let pairs = split_pairs(number(block * 32 + pair), number(block * 32 + pair + 16));
                for place in 0..3 {
                    lines[place][pair] = pairs[place];
                }
            }
            for (place, lines) in lines.into_iter().enumerate() {
                let to = to.add((3 * block + place) * term_stride);
                for (row, line) in transpose_16x16(lines).into_iter().enumerate() {
                    _mm512_storeu_si512(to.add(row * 64).cast(), line);
                }
            }
        }
    }
}

/// The transpose of a 16x16 matrix of 32 bits.
#[inline(always)]
unsafe fn transpose_16x16(x: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the caller runs with AVX-512 F.
    unsafe {
        let zero = _mm512_setzero_si512();
        // Pairs of rows, then fours: in each quarter of a register a 4x4 matrix is transposed.
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
        // Then the quarters are transposed: fours[4 i + j] has column 4 q + j of rows 4 i.. in its quarter q.
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
