//! Sixteen numbers at a time: what the kernels need of a processor, in one trait.
//!
//! The kernels are written once, over [`Lanes`]; each instruction set implements it in a file of its own. A
//! [`Task`] is run inside a function that enables the instruction set, so that everything in it is inlined there.

/// A set of sixteen f32 lanes.
///
/// # Safety
/// Every function may only be called on a processor that has the instruction set, and pointers must be valid for
/// sixteen elements (bytes, for `indices`).
pub(super) trait Lanes: Copy + 'static {
    /// Sixteen f32.
    type V: Copy;
    /// How many tiles a product keeps in registers.
    const TILES: usize;
    /// How many vectors of output channels a product keeps in registers per tile (1 or 2).
    const GROUPS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// Asks for a cache line that will be read soon; any address will do.
    unsafe fn prefetch(from: *const f32);
    /// Asks for it in the second-level cache.
    unsafe fn prefetch_l2(from: *const f32);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a·b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// max(0, v); NaN stays NaN.
    unsafe fn relu(v: Self::V) -> Self::V;
    /// The larger; NaN if one of them is.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The largest of four, and where the first of them is, written as sixteen bytes 0..4; the last NaN if there is
    /// one, as in PyTorch.
    unsafe fn first_max(v: [Self::V; 4], indices: *mut u8) -> Self::V;
    /// `v` where the byte at `indices` is `index`, else 0.
    unsafe fn where_index(v: Self::V, indices: *const u8, index: u8) -> Self::V;
    /// `v` where `y` is not 0 or less, else 0: the gradient of max(0, ·).
    unsafe fn where_positive(v: Self::V, y: Self::V) -> Self::V;
}

/// Work that runs on any instruction set.
pub(super) trait Task {
    /// Does it.
    ///
    /// # Safety
    /// The processor must have the instruction set of `L`, and the pointers in the task must be valid for what
    /// the task says.
    unsafe fn run<L: Lanes>(self);
}

/// Plain Rust, for processors without the instruction sets we know.
#[derive(Clone, Copy)]
pub(super) struct Portable;

/// Applies `f` lane by lane.
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
        // SAFETY: the caller promises sixteen elements.
        unsafe { from.cast::<[f32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: the caller promises sixteen elements.
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
        // `mul_add` would call a library function. In double precision the product is exact, and the sum is rounded
        // nearly as there: rounded twice in single precision, six steps of training are off by 1.2e-5.
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
        let mut best = v[0];
        let mut at = [0u8; 16];
        for (place, v) in (1u8..).zip(&v[1..]) {
            for lane in 0..16 {
                if v[lane] > best[lane] || v[lane].is_nan() {
                    (best[lane], at[lane]) = (v[lane], place);
                }
            }
        }
        // SAFETY: the caller promises sixteen bytes.
        unsafe { indices.cast::<[u8; 16]>().write_unaligned(at) };
        best
    }
    #[inline(always)]
    unsafe fn where_index(v: Self::V, indices: *const u8, index: u8) -> Self::V {
        // SAFETY: the caller promises sixteen bytes.
        let at = unsafe { indices.cast::<[u8; 16]>().read_unaligned() };
        lanes(|i| if at[i] == index { v[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn where_positive(v: Self::V, y: Self::V) -> Self::V {
        lanes(|i| if y[i] <= 0.0 { 0.0 } else { v[i] })
    }
}
