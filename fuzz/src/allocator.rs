//! The system allocator with a memory limit and a record of peak usage.
//!
//! An allocation over the limit fails as if the system were out of memory. Code that does not
//! handle the failure aborts. The input that caused it remains on disk (see [`crate::watchdog`]).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Maximum memory in use, in bytes: 1 GiB.
pub const LIMIT: usize = 1 << 30;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The allocator, to be declared as `#[global_allocator]`.
pub struct LimitedAllocator;

/// Sets the peak to the memory in use, and returns it in bytes.
pub fn reset_peak() -> usize {
    let now = IN_USE.load(Ordering::Relaxed);
    PEAK.store(now, Ordering::Relaxed);
    now
}

/// Maximum memory in use since [`reset_peak`], in bytes.
pub fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Adds `bytes` to the memory in use. Returns false, and adds nothing, if that exceeds the limit.
fn reserve(bytes: usize) -> bool {
    let before = IN_USE.fetch_add(bytes, Ordering::Relaxed);
    let now = before.saturating_add(bytes);
    if now > LIMIT {
        IN_USE.fetch_sub(bytes, Ordering::Relaxed);
        return false;
    }
    PEAK.fetch_max(now, Ordering::Relaxed);
    true
}

/// Subtracts `bytes` from the memory in use.
fn release(bytes: usize) {
    IN_USE.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: each method calls the same method of `System` with the same arguments, or returns null,
// which the trait permits. The bookkeeping neither allocates nor panics.
unsafe impl GlobalAlloc for LimitedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !reserve(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the layout has a nonzero size, as the contract of `alloc` requires of our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !reserve(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the layout has a nonzero size, as the contract of `alloc_zeroed` requires of our
        // caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        release(layout.size());
        // SAFETY: every block of this allocator comes from `System`, and our caller passes the
        // block's layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !reserve(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: the block comes from `System` with this layout, and our caller passes a valid
        // nonzero size.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        // On success the old block was freed. On failure the new one was not allocated.
        release(if moved.is_null() { size } else { layout.size() });
        moved
    }
}
