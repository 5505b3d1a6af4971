//! [`Lanes`] in plain Rust: a vector is an array.

use super::lanes::Lanes;

/// Plain Rust, for any CPU.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Builds a vector from a function of the lane index.
#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> [f32; 16] {
    std::array::from_fn(f)
}

impl Lanes for Portable {
    type V = [f32; 16];
    const TILES: usize = 4;
    const GROUPS: usize = 1;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: `from` is valid for 16 elements (contract of `Lanes`).
        unsafe { from.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: `to` is valid for 16 elements (contract of `Lanes`).
        unsafe { to.cast::<[f32; 16]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
    #[inline(always)]
    unsafe fn prefetch_l2(_: *const f32) {}
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            return lanes(|i| a[i].mul_add(b[i], c[i]));
        }
        // Without FMA instructions, `mul_add` would call a library function. In f64 the product is
        // exact, and the result is nearly always the same as with `mul_add`. In f32 the product and
        // the sum would each be rounded, and the weights after six training steps would differ by
        // 1.2e-5.
        lanes(|i| (f64::from(a[i]) * f64::from(b[i]) + f64::from(c[i])) as f32)
    }
    #[inline(always)]
    unsafe fn relu(v: Self::V) -> Self::V {
        lanes(|i| if v[i] < 0.0 { 0.0 } else { v[i] })
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| {
            if a[i] > b[i] || a[i].is_nan() {
                a[i]
            } else {
                b[i]
            }
        })
    }
    #[inline(always)]
    unsafe fn first_max(v: [Self::V; 4], indices: *mut u8) -> Self::V {
        let mut max = v[0];
        let mut argmax = [0u8; 16];
        for (index, v) in (1u8..).zip(&v[1..]) {
            for lane in 0..16 {
                if v[lane] > max[lane] || v[lane].is_nan() {
                    (max[lane], argmax[lane]) = (v[lane], index);
                }
            }
        }
        // SAFETY: `indices` is valid for 16 bytes (contract of `Lanes`).
        unsafe { indices.cast::<[u8; 16]>().write_unaligned(argmax) };
        max
    }
    #[inline(always)]
    unsafe fn where_index(v: Self::V, indices: *const u8, index: u8) -> Self::V {
        // SAFETY: `indices` is valid for 16 bytes (contract of `Lanes`).
        let indices = unsafe { indices.cast::<[u8; 16]>().read_unaligned() };
        lanes(|i| if indices[i] == index { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn where_positive(v: Self::V, y: Self::V) -> Self::V {
        lanes(|i| if y[i] <= 0.0 { 0.0 } else { v[i] })
    }
}
