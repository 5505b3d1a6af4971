//! SIMD abstraction: operations on vectors of 16 f32 lanes.
//!
//! The kernels are written once, generic over [`Lanes`]. The trait is implemented for AVX-512, AVX2
//! and plain Rust, each in its own file. A [`Task`] runs inside a function that enables the
//! instruction set. All code of the task is inlined there, and so compiled for that instruction
//! set.

/// Operations on vectors of 16 f32 lanes.
///
/// # Safety
///
/// The CPU must support the instruction set of the implementing type when a method is called.
/// Pointers to f32 must be valid for 16 elements and `indices` for 16 bytes; no alignment is
/// required. Prefetched addresses may be invalid.
pub(crate) trait Lanes: Copy + 'static {
    /// A vector of 16 f32.
    type V: Copy;
    /// Maximum number of tiles whose sums the microkernel keeps in registers: at most 6 if `GROUPS` is
    /// 1, and 14 if it is 2. More need another arm in `microkernel::forward`.
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
pub(crate) trait Task {
    /// Runs the task with the instruction set of `L`.
    ///
    /// # Safety
    ///
    /// The CPU must support the instruction set of `L`. The pointers of the task must be valid for
    /// the ranges described in the task's docs, and no other thread may access the elements that
    /// the task writes.
    unsafe fn run<L: Lanes>(self);
}
