//! AVX-512: sixteen lanes in one register, 32 registers.

use std::arch::x86_64::*;

use super::lanes::{Lanes, Task};

/// Runs a task with AVX-512 enabled.
///
/// # Safety
/// As [`Task::run`], on a processor with AVX-512 F, BW, DQ and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(super) unsafe fn run(task: impl Task) {
    // SAFETY: promised by the caller.
    unsafe { task.run::<Avx512>() }
}

/// Where `a` is larger than `b`, or NaN.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn larger_or_nan(a: __m512, b: __m512) -> __mmask16 {
    // SAFETY: promised by the caller.
    unsafe {
        let larger = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
        larger | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a)
    }
}

/// Intel since Skylake-X, AMD since Zen 4.
#[derive(Clone, Copy)]
pub(super) struct Avx512;

// SAFETY of every block below: `Lanes` promises the instruction set and valid pointers.
impl Lanes for Avx512 {
    type V = __m512;
    // 14·2 sums, two vectors of weights and a broadcast: 31 of 32 registers.
    const TILES: usize = 14;
    const GROUPS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        // SAFETY: a prefetch reads nothing that could fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_l2(from: *const f32) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn relu(v: __m512) -> __m512 {
        // SAFETY: see above. The instruction returns its second operand when one is NaN.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), v) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mask_mov_ps(b, larger_or_nan(a, b), a) }
    }
    #[inline(always)]
    unsafe fn first_max(v: [__m512; 4], indices: *mut u8) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let (mut best, mut at) = (v[0], _mm512_setzero_si512());
            for place in 1..4 {
                let larger = larger_or_nan(v[place], best);
                best = _mm512_mask_mov_ps(best, larger, v[place]);
                at = _mm512_mask_mov_epi32(at, larger, _mm512_set1_epi32(place as i32));
            }
            _mm_storeu_si128(indices.cast(), _mm512_cvtepi32_epi8(at));
            best
        }
    }
    #[inline(always)]
    unsafe fn where_index(v: __m512, indices: *const u8, index: u8) -> __m512 {
        // SAFETY: see above.
        unsafe {
            let at = _mm_loadu_si128(indices.cast());
            let here = _mm_cmpeq_epi8_mask(at, _mm_set1_epi8(index as i8));
            _mm512_maskz_mov_ps(here, v)
        }
    }
    #[inline(always)]
    unsafe fn where_positive(v: __m512, y: __m512) -> __m512 {
        // SAFETY: see above. "Not less or equal" is true for NaN, as in PyTorch.
        unsafe {
            let kept = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(y, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(kept, v)
        }
    }
}
