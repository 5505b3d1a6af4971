//! [`Lanes`] for AVX-512: a vector occupies one of the 32 512-bit registers.

use std::arch::x86_64::*;

use super::lanes::{Lanes, Task};

/// Runs a task with AVX-512 and FMA enabled.
///
/// # Safety
///
/// The contract of [`Task::run`]. The CPU must support AVX-512 F, BW, DQ and VL, and FMA.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
pub(crate) unsafe fn run(task: impl Task) {
    // SAFETY: the CPU supports AVX-512 and FMA, the pointers of the task are valid, and no other thread
    // accesses what the task writes (contract of this function).
    unsafe { task.run::<Avx512>() }
}

/// Mask of the lanes where `a` is greater than `b` or `a` is NaN.
///
/// # Safety
///
/// The CPU must support AVX-512 F.
#[inline(always)]
unsafe fn greater_or_nan(a: __m512, b: __m512) -> __mmask16 {
    // SAFETY: the CPU supports AVX-512 F (contract of this function).
    unsafe {
        let greater = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b);
        greater | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a)
    }
}

/// AVX-512 F, BW, DQ and VL with FMA, as in Intel Skylake-SP and AMD Zen 4.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

impl Lanes for Avx512 {
    type V = __m512;
    // 31 of 32 registers: 14·2 sums, 2 for the weights and 1 for the broadcast input.
    const TILES: usize = 14;
    const GROUPS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        // SAFETY: the CPU supports AVX-512 (contract of `Lanes`).
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the CPU supports AVX-512 and `from` is valid for 16 elements (contract of
        // `Lanes`).
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: __m512) {
        // SAFETY: the CPU supports AVX-512 and `to` is valid for 16 elements (contract of `Lanes`).
        unsafe { _mm512_storeu_ps(to, v) }
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
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the CPU supports AVX-512 (contract of `Lanes`).
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the CPU supports AVX-512 (contract of `Lanes`).
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the CPU supports AVX-512 (contract of `Lanes`).
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the CPU supports AVX-512 (contract of `Lanes`).
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn relu(v: __m512) -> __m512 {
        // The instruction returns its second operand if either is NaN, so a NaN in `v` is
        // preserved.
        // SAFETY: the CPU supports AVX-512 (contract of `Lanes`).
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), v) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the CPU supports AVX-512 (contract of `Lanes`).
        unsafe { _mm512_mask_mov_ps(b, greater_or_nan(a, b), a) }
    }
    #[inline(always)]
    unsafe fn first_max(v: [__m512; 4], indices: *mut u8) -> __m512 {
        // SAFETY: the CPU supports AVX-512 and `indices` is valid for 16 bytes (contract of
        // `Lanes`).
        unsafe {
            let (mut max, mut argmax) = (v[0], _mm512_setzero_si512());
            for index in 1..4 {
                let greater = greater_or_nan(v[index], max);
                max = _mm512_mask_mov_ps(max, greater, v[index]);
                argmax = _mm512_mask_mov_epi32(argmax, greater, _mm512_set1_epi32(index as i32));
            }
            _mm_storeu_si128(indices.cast(), _mm512_cvtepi32_epi8(argmax));
            max
        }
    }
    #[inline(always)]
    unsafe fn where_index(v: __m512, indices: *const u8, index: u8) -> __m512 {
        // SAFETY: the CPU supports AVX-512 and `indices` is valid for 16 bytes (contract of
        // `Lanes`).
        unsafe {
            let indices = _mm_loadu_si128(indices.cast());
            let equal = _mm_cmpeq_epi8_mask(indices, _mm_set1_epi8(index as i8));
            _mm512_maskz_mov_ps(equal, v)
        }
    }
    #[inline(always)]
    unsafe fn where_positive(v: __m512, y: __m512) -> __m512 {
        // "Not less than or equal" is true for NaN, as in PyTorch.
        // SAFETY: the CPU supports AVX-512 (contract of `Lanes`).
        unsafe {
            let positive = _mm512_cmp_ps_mask::<_CMP_NLE_UQ>(y, _mm512_setzero_ps());
            _mm512_maskz_mov_ps(positive, v)
        }
    }
}
