//! AVX2 with FMA: sixteen lanes in two registers, 16 registers.

use std::arch::x86_64::*;

use super::lanes::{Lanes, Task};

/// Runs a task with AVX2 and FMA enabled.
///
/// # Safety
/// As [`Task::run`], on a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run(task: impl Task) {
    // SAFETY: promised by the caller.
    unsafe { task.run::<Avx2>() }
}

/// Intel since Haswell, AMD since Zen.
#[derive(Clone, Copy)]
pub(super) struct Avx2;

type Pair = (__m256, __m256);

/// Where `a` is larger than `b`, or NaN: lanes of all ones, which select.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn larger_or_nan(a: __m256, b: __m256) -> __m256 {
    // SAFETY: promised by the caller.
    unsafe {
        let larger = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
        _mm256_or_ps(larger, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
    }
}

/// The largest of four, and where the first of them is.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn first_max(v: [__m256; 4]) -> (__m256, __m256i) {
    // SAFETY: promised by the caller. A comparison's lanes are all ones or all zeros, so they select.
    unsafe {
        let (mut best, mut at) = (v[0], _mm256_setzero_ps());
        for place in 1..4 {
            let larger = larger_or_nan(v[place], best);
            best = _mm256_blendv_ps(best, v[place], larger);
            at = _mm256_blendv_ps(at, _mm256_set1_ps(place as f32), larger);
        }
        (best, _mm256_cvtps_epi32(at))
    }
}

// SAFETY of every block below: `Lanes` promises the instruction set and valid pointers.
impl Lanes for Avx2 {
    type V = Pair;
    // 6·2 sums, two registers of weights and a broadcast: 15 of 16 registers.
    const TILES: usize = 6;
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Pair {
        // SAFETY: see above.
        let v = unsafe { _mm256_set1_ps(x) };
        (v, v)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Pair {
        // SAFETY: see above.
        unsafe { (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Pair) {
        // SAFETY: see above.
        unsafe {
            _mm256_storeu_ps(to, v.0);
            _mm256_storeu_ps(to.add(8), v.1);
        }
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
    unsafe fn add(a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn sub(a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn mul(a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe { (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn fma(a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: see above.
        unsafe {
            (
                _mm256_fmadd_ps(a.0, b.0, c.0),
                _mm256_fmadd_ps(a.1, b.1, c.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn relu(v: Pair) -> Pair {
        // SAFETY: see above. The instruction returns its second operand when one is NaN.
        unsafe {
            let zero = _mm256_setzero_ps();
            (_mm256_max_ps(zero, v.0), _mm256_max_ps(zero, v.1))
        }
    }
    #[inline(always)]
    unsafe fn max(a: Pair, b: Pair) -> Pair {
        // SAFETY: see above.
        unsafe {
            (
                _mm256_blendv_ps(b.0, a.0, larger_or_nan(a.0, b.0)),
                _mm256_blendv_ps(b.1, a.1, larger_or_nan(a.1, b.1)),
            )
        }
    }
    #[inline(always)]
    unsafe fn first_max(v: [Pair; 4], indices: *mut u8) -> Pair {
        // SAFETY: see above. The comparison's lanes are all ones or all zeros, so they select and count.
        unsafe {
            let (low, low_at) = first_max([v[0].0, v[1].0, v[2].0, v[3].0]);
            let (high, high_at) = first_max([v[0].1, v[1].1, v[2].1, v[3].1]);
            let mut lanes = [0i32; 16];
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), low_at);
            _mm256_storeu_si256(lanes.as_mut_ptr().add(8).cast(), high_at);
            indices
                .cast::<[u8; 16]>()
                .write_unaligned(lanes.map(|at| at as u8));
            (low, high)
        }
    }
    #[inline(always)]
    unsafe fn where_index(v: Pair, indices: *const u8, index: u8) -> Pair {
        // SAFETY: see above.
        unsafe {
            let at = _mm_loadu_si128(indices.cast());
            let here = _mm_cmpeq_epi8(at, _mm_set1_epi8(index as i8));
            let low = _mm256_cvtepi8_epi32(here);
            let high = _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(here));
            (
                _mm256_and_ps(v.0, _mm256_castsi256_ps(low)),
                _mm256_and_ps(v.1, _mm256_castsi256_ps(high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn where_positive(v: Pair, y: Pair) -> Pair {
        // SAFETY: see above. "Not less or equal" is true for NaN, as in PyTorch.
        unsafe {
            let zero = _mm256_setzero_ps();
            (
                _mm256_and_ps(v.0, _mm256_cmp_ps::<_CMP_NLE_UQ>(y.0, zero)),
                _mm256_and_ps(v.1, _mm256_cmp_ps::<_CMP_NLE_UQ>(y.1, zero)),
            )
        }
    }
}
