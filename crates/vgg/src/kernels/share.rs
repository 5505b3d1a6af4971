//! Work for threads, cut the same way every time, and buffers that they fill side by side.

use std::ops::Range;

/// The `part`-th of `parts` nearly equal pieces of `0..len`.
pub(super) fn piece(len: usize, parts: usize, part: usize) -> Range<usize> {
    part * len / parts..(part + 1) * len / parts
}

/// A buffer whose disjoint parts are written by several threads.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    lives: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only written through `part`, whose callers promise disjoint parts.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Borrows `buffer` for as long as threads write to it.
    pub(super) fn new(buffer: &'a mut [f32]) -> Self {
        Self {
            start: buffer.as_mut_ptr(),
            len: buffer.len(),
            lives: std::marker::PhantomData,
        }
    }

    /// A pointer to element `at`, for `len` elements from there.
    ///
    /// # Safety
    /// No two threads may use overlapping elements at the same time.
    pub(super) unsafe fn part(&self, at: usize, len: usize) -> *mut f32 {
        assert!(at + len <= self.len, "a part lies outside of its buffer");
        // SAFETY: `at` is within the buffer, which outlives `self`.
        unsafe { self.start.add(at) }
    }
}
