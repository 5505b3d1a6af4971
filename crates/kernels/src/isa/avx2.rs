//! [`Lanes`] for AVX2 with FMA: a vector occupies two of the sixteen 256-bit registers.

use std::arch::x86_64::*;

use super::lanes::{Lanes, Task};

/// Runs a task with AVX2 and FMA enabled.
///
/// # Safety
///
/// The contract of [`Task::run`]. The CPU must support AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn run(task: impl Task) {
    // SAFETY: the CPU supports AVX2 and FMA, the pointers of the task are valid, and no other thread
    // accesses what the task writes (contract of this function).
    unsafe { task.run::<Avx2>() }
}

/// AVX2 with FMA, as in Intel Haswell and AMD Zen.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

type Pair = (__m256, __m256);

/// Mask of the lanes where `a` is greater than `b` or `a` is NaN: all bits are 1 in these lanes and
/// 0 in the others.
///
/// # Safety
///
/// The CPU must support AVX2.
#[inline(always)]
unsafe fn greater_or_nan(a: __m256, b: __m256) -> __m256 {
    // SAFETY: the CPU supports AVX2 (contract of this function).
    unsafe {
        let greater = _mm256_cmp_ps::<_CMP_GT_OQ>(a, b);
        _mm256_or_ps(greater, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
    }
}

/// Maximum of four vectors and the index of the first maximum, lane by lane.
///
/// # Safety
///
/// The CPU must support AVX2.
#[inline(always)]
unsafe fn first_max(v: [__m256; 4]) -> (__m256, __m256i) {
    // SAFETY: the CPU supports AVX2 (contract of this function).
    unsafe {
        let (mut max, mut argmax) = (v[0], _mm256_setzero_ps());
        for index in 1..4 {
            let greater = greater_or_nan(v[index], max);
            max = _mm256_blendv_ps(max, v[index], greater);
            argmax = _mm256_blendv_ps(argmax, _mm256_set1_ps(index as f32), greater);
        }
        (max, _mm256_cvtps_epi32(argmax))
    }
}

impl Lanes for Avx2 {
    type V = Pair;
    // 15 of 16 registers: 6·2 sums, 2 for the weights and 1 for the broadcast input.
    const TILES: usize = 6;
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Pair {
        // SAFETY: the CPU supports AVX2 (contract of `Lanes`).
        let v = unsafe { _mm256_set1_ps(x) };
        (v, v)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Pair {
        // SAFETY: the CPU supports AVX2 and `from` is valid for 16 elements (contract of `Lanes`).
        unsafe { (_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Pair) {
        // SAFETY: the CPU supports AVX2 and `to` is valid for 16 elements (contract of `Lanes`).
        unsafe {
            _mm256_storeu_ps(to, v.0);
            _mm256_storeu_ps(to.add(8), v.1);
        }
    }
    #[inline(always)]
    unsafe fn prefetch(from: *const f32) {
        // SAFETY: a prefetch of an invalid address does not fault. SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_l2(from: *const f32) {
        // SAFETY: a prefetch of an invalid address does not fault. SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }
    #[inline(always)]
    unsafe fn add(a: Pair, b: Pair) -> Pair {
        // SAFETY: the CPU supports AVX2 (contract of `Lanes`).
        unsafe { (_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn sub(a: Pair, b: Pair) -> Pair {
        // SAFETY: the CPU supports AVX2 (contract of `Lanes`).
        unsafe { (_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn mul(a: Pair, b: Pair) -> Pair {
        // SAFETY: the CPU supports AVX2 (contract of `Lanes`).
        unsafe { (_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn fma(a: Pair, b: Pair, c: Pair) -> Pair {
        // SAFETY: the CPU supports FMA (contract of `Lanes`).
        unsafe {
            (
                _mm256_fmadd_ps(a.0, b.0, c.0),
                _mm256_fmadd_ps(a.1, b.1, c.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn relu(v: Pair) -> Pair {
        // The instruction returns its second operand if either is NaN, so a NaN in `v` is
        // preserved.
        // SAFETY: the CPU supports AVX2 (contract of `Lanes`).
        unsafe {
            let zero = _mm256_setzero_ps();
            (_mm256_max_ps(zero, v.0), _mm256_max_ps(zero, v.1))
        }
    }
    #[inline(always)]
    unsafe fn max(a: Pair, b: Pair) -> Pair {
        // SAFETY: the CPU supports AVX2 (contract of `Lanes`).
        unsafe {
            (
                _mm256_blendv_ps(b.0, a.0, greater_or_nan(a.0, b.0)),
                _mm256_blendv_ps(b.1, a.1, greater_or_nan(a.1, b.1)),
            )
        }
    }
    #[inline(always)]
    unsafe fn first_max(v: [Pair; 4], indices: *mut u8) -> Pair {
        // SAFETY: the CPU supports AVX2 and `indices` is valid for 16 bytes (contract of `Lanes`).
        // `lanes` has room for both halves, 8 elements each.
        unsafe {
            let (low, low_indices) = first_max([v[0].0, v[1].0, v[2].0, v[3].0]);
            let (high, high_indices) = first_max([v[0].1, v[1].1, v[2].1, v[3].1]);
            let mut lanes = [0i32; 16];
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), low_indices);
            _mm256_storeu_si256(lanes.as_mut_ptr().add(8).cast(), high_indices);
            indices
                .cast::<[u8; 16]>()
                .write_unaligned(lanes.map(|index| index as u8));
            (low, high)
        }
    }
    #[inline(always)]
    unsafe fn where_index(v: Pair, indices: *const u8, index: u8) -> Pair {
        // SAFETY: the CPU supports AVX2 and `indices` is valid for 16 bytes (contract of `Lanes`).
        unsafe {
            let indices = _mm_loadu_si128(indices.cast());
            let equal = _mm_cmpeq_epi8(indices, _mm_set1_epi8(index as i8));
            // Sign extension turns the byte masks into lane masks.
            let low = _mm256_cvtepi8_epi32(equal);
            let high = _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(equal));
            (
                _mm256_and_ps(v.0, _mm256_castsi256_ps(low)),
                _mm256_and_ps(v.1, _mm256_castsi256_ps(high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn where_positive(v: Pair, y: Pair) -> Pair {
        // "Not less than or equal" is true for NaN, as in PyTorch.
        // SAFETY: the CPU supports AVX2 (contract of `Lanes`).
        unsafe {
            let zero = _mm256_setzero_ps();
            (
                _mm256_and_ps(v.0, _mm256_cmp_ps::<_CMP_NLE_UQ>(y.0, zero)),
                _mm256_and_ps(v.1, _mm256_cmp_ps::<_CMP_NLE_UQ>(y.1, zero)),
            )
        }
    }
}
