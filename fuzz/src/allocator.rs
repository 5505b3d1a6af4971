//! The system's allocator with a limit, and a count of what is in use.
//!
//! What would go above the limit is refused as if the machine had no more. Code that does not expect that aborts,
//! and the input that led to it is on disk (see [`crate::watchdog`]).

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most bytes in use at a time: 1 GiB.
pub const LIMIT: usize = 1 << 30;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// To be made a program's `#[global_allocator]`.
pub struct Limited;

/// Starts to measure anew: the peak is what is in use now, which is returned.
pub fn start() -> usize {
    let now = IN_USE.load(Ordering::Relaxed);
    PEAK.store(now, Ordering::Relaxed);
    now
}

/// The most bytes that were in use since [`start`].
pub fn peak() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Whether `bytes` more may be used; they are counted then.
fn take(bytes: usize) -> bool {
    let before = IN_USE.fetch_add(bytes, Ordering::Relaxed);
    let now = before.saturating_add(bytes);
    if now > LIMIT {
        IN_USE.fetch_sub(bytes, Ordering::Relaxed);
        return false;
    }
    PEAK.fetch_max(now, Ordering::Relaxed);
    true
}

fn give(bytes: usize) {
    IN_USE.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: every call goes on to the system's allocator with the same arguments; a null pointer, which the trait
// allows at any time, is all that is added. Counting allocates nothing and cannot panic.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the conditions of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the conditions of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the pointer came from the system's allocator with this layout, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: as for `dealloc`; the new size is the caller's.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        // The old block is gone, or, after a failure, the new one was never there.
        give(if moved.is_null() { size } else { layout.size() });
        moved
    }
}
