//! Static partitioning of work over threads, and buffers written by several threads.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

/// Splits `0..len` into `parts` chunks whose sizes differ by at most one, and returns the chunk
/// with index `part`.
pub(crate) fn chunk(len: usize, parts: usize, part: usize) -> Range<usize> {
    part * len / parts..(part + 1) * len / parts
}

/// Divides `0..len` into one chunk per thread of the current pool, but at most `len` chunks, and
/// calls `f` for each chunk in parallel.
///
/// The chunks depend only on `len` and the number of threads, so results are reproducible for a
/// given number of threads.
pub(crate) fn for_each_chunk(len: usize, f: impl Fn(Range<usize>) + Sync) {
    let Ok(()) = try_for_each_chunk::<Infallible>(len, |chunk| {
        f(chunk);
        Ok(())
    });
}

/// Like [`for_each_chunk`], and returns an error of `f`. Chunks that have not started by then may be
/// skipped.
pub(crate) fn try_for_each_chunk<E: Send>(
    len: usize,
    f: impl Fn(Range<usize>) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let parts = rayon::current_num_threads().min(len);
    match parts {
        0 => Ok(()),
        1 => f(0..len),
        _ => (0..parts)
            .into_par_iter()
            .with_max_len(1)
            .try_for_each(|part| f(chunk(len, parts, part))),
    }
}

/// A mutable slice whose disjoint ranges can be written by several threads.
pub(crate) struct DisjointMut<'a, T = f32> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: only callers of `slice_ptr` dereference the pointer, and its contract forbids data races.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}
// SAFETY: as for `Send`: a shared reference gives access only through `slice_ptr`.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// Borrows `buffer` exclusively for `'a`.
    pub(crate) fn new(buffer: &'a mut [T]) -> Self {
        Self {
            start: buffer.as_mut_ptr(),
            len: buffer.len(),
            lifetime: PhantomData,
        }
    }

    /// Returns a pointer to the `len` elements from `at` on.
    ///
    /// # Panics
    ///
    /// Panics if the range is outside the buffer.
    ///
    /// # Safety
    ///
    /// The pointer must not be used after `'a`. While a thread writes an element, no other thread
    /// may access it.
    pub(crate) unsafe fn slice_ptr(&self, at: usize, len: usize) -> *mut T {
        assert!(at + len <= self.len, "the range is outside the buffer");
        // SAFETY: `at + len <= self.len` was checked, and the buffer is borrowed for `'a`.
        unsafe { self.start.add(at) }
    }
}
