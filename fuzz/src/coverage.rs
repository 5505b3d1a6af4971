//! Records which basic blocks an execution reaches, in an instrumented build.
//!
//! LLVM's "inline 8-bit counters" instrumentation adds a counter to each basic block. Before
//! `main`, it calls `__sanitizer_cov_8bit_counters_init` with the array of all counters.
//! `cargo xtask fuzz` enables it, which works with stable rustc. Without instrumentation there are
//! no counters, and no input counts as new.

use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Entry point for the instrumentation: each instrumented module passes the bounds of the whole
/// program's counters.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    LENGTH.store(
        (stop as usize).saturating_sub(start as usize),
        Ordering::Relaxed,
    );
}

/// The combined coverage of a target's executions.
#[derive(Debug, Default)]
pub struct Coverage {
    /// For each counter, a bit for each range of counts that occurred, see [`bucket`].
    buckets: Vec<u8>,
}

impl Coverage {
    /// Sets all counters to zero before an execution.
    pub fn clear_counters() {
        counters().fill(0);
    }

    /// Adds the counts since [`clear_counters`](Self::clear_counters). Returns whether any count
    /// falls into a new range.
    pub fn add_counters(&mut self) -> bool {
        let counters = counters();
        self.buckets.resize(counters.len(), 0);
        let mut is_new = false;
        for (buckets, &count) in self.buckets.iter_mut().zip(counters.iter()) {
            if count != 0 {
                let bit = 1 << bucket(count);
                is_new |= *buckets & bit == 0;
                *buckets |= bit;
            }
        }
        is_new
    }

    /// Number of basic blocks reached so far.
    pub fn blocks(&self) -> usize {
        self.buckets.iter().filter(|&&buckets| buckets != 0).count()
    }
}

/// Number of instrumented basic blocks, or 0 without instrumentation.
pub fn instrumented() -> usize {
    LENGTH.load(Ordering::Relaxed)
}

fn counters() -> &'static mut [u8] {
    let start = START.load(Ordering::Relaxed);
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: the instrumentation passed the bounds of a static array of counters, which lives as
    // long as the program. Only the engine's thread calls this, between executions, when no
    // instrumented code of a target runs and no other reference exists.
    unsafe { slice::from_raw_parts_mut(start, LENGTH.load(Ordering::Relaxed)) }
}

/// The index of the range that contains a count: 1, 2, 3, 4–7, 8–15, 16–31, 32–127, 128–255.
///
/// These are the ranges of AFL. A different count in the same range is not new coverage.
fn bucket(count: u8) -> u8 {
    match count {
        0..=3 => count.saturating_sub(1),
        4..=7 => 3,
        8..=15 => 4,
        16..=31 => 5,
        32..=127 => 6,
        128..=255 => 7,
    }
}
