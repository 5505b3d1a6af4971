//! Work for threads, cut the same way every time, and buffers that they fill side by side.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

/// The `slice_ptr`-th of `parts` nearly equal pieces of `0..len`.
pub(super) fn chunk(len: usize, parts: usize, part: usize) -> Range<usize> {
    part * len / parts..(part + 1) * len / parts
}

/// Cuts `0..len` into a piece for each thread of the current pool and works on them side by side.
///
/// Which piece a number belongs to depends on `len` and the number of threads alone.
pub(super) fn for_each_chunk(len: usize, work: impl Fn(Range<usize>) + Sync) {
    let parts = rayon::current_num_threads().min(len);
    match parts {
        0 => {}
        1 => work(0..len),
        _ => (0..parts)
            .into_par_iter()
            .with_max_len(1)
            .for_each(|part| work(chunk(len, parts, part))),
    }
}

/// A buffer whose disjoint parts are written by several threads.
pub(super) struct DisjointMut<'a, T = f32> {
    start: *mut T,
    len: usize,
    lives: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is only written through `slice_ptr`, whose callers promise disjoint parts.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// Borrows `buffer` for as long as threads write to it.
    pub(super) fn new(buffer: &'a mut [T]) -> Self {
        Self {
            start: buffer.as_mut_ptr(),
            len: buffer.len(),
            lives: PhantomData,
        }
    }

    /// A pointer to element `at`, for `len` elements from there.
    ///
    /// # Safety
    /// No two threads may use overlapping elements at the same time.
    pub(super) unsafe fn slice_ptr(&self, at: usize, len: usize) -> *mut T {
        assert!(at + len <= self.len, "a part lies outside of its buffer");
        // SAFETY: `at` is within the buffer, which outlives `self`.
        unsafe { self.start.add(at) }
    }
}
