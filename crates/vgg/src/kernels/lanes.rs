//! SIMD abstraction: operations on vectors of 16 f32 lanes.
//!
//! The kernels are written once, generic over [`Lanes`], and each instruction set implements the
//! trait in its own file. A [`Task`] runs inside a function that enables the instruction set, so
//! that all of its code is inlined there and compiled for that instruction set.

/// Operations on vectors of 16 f32 lanes.
///
/// # Safety
///
/// The CPU must support the instruction set of the implementing type when a method is called.
/// Pointers to f32 must be valid for 16 elements and `indices` for 16 bytes; no alignment is
/// required. Prefetched addresses may be invalid.
pub(super) trait Lanes: Copy + 'static {
    /// A vector of 16 f32.
    type V: Copy;
    /// Maximum number of tiles whose sums the microkernel keeps in registers.
    const TILES: usize;
    /// Number of vectors of output channels per tile in the microkernel, 1 or 2.
    const GROUPS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// Prefetches a cache line into the L1 cache. Any address is allowed.
    unsafe fn prefetch(from: *const f32);
    /// Prefetches a cache line into the L2 cache. Any address is allowed.
    unsafe fn prefetch_l2(from: *const f32);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// max(0, v). NaN stays NaN.
    unsafe fn relu(v: Self::V) -> Self::V;
    /// max(a, b). NaN if either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// Maximum of four vectors. Writes the index (0 to 3) of the first maximum of each lane to
    /// `indices`, 16 bytes. If a lane contains NaN, its result is NaN with the index of the last
    /// NaN, as in PyTorch.
    unsafe fn first_max(v: [Self::V; 4], indices: *mut u8) -> Self::V;
    /// `v` in the lanes whose byte in `indices` equals `index`, 0 in the others.
    unsafe fn where_index(v: Self::V, indices: *const u8, index: u8) -> Self::V;
    /// 0 in the lanes with y ≤ 0, `v` in the others (also for NaN): the gradient of the ReLU.
    unsafe fn where_positive(v: Self::V, y: Self::V) -> Self::V;
}

/// A computation that is compiled for each instruction set.
pub(super) trait Task {
    /// Runs the task with the instruction set of `L`.
    ///
    /// # Safety
    ///
    /// The CPU must support the instruction set of `L`. The pointers of the task must be valid for
    /// the ranges described in the task's docs, and no other thread may access the elements that
    /// the task writes.
    unsafe fn run<L: Lanes>(self);
}

/// Plain Rust, for CPUs without any of the supported instruction sets.
#[derive(Clone, Copy)]
pub(super) struct Portable;

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
        // exact, and the result is nearly always the same as with `mul_add`. In f32 both the
        // product and the sum would be rounded, and the weights after six training steps would
        // differ by 1.2e-5.
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
