//! Which code an execution reached, if the build tells.
//!
//! LLVM's "inline 8-bit counters" put a counter at the start of each basic block and call the function below with
//! the place of all of them, before `main`. rustc can be told to insert them on a stable toolchain; `cargo xtask fuzz`
//! does. In a build without them there is nothing to count, and every execution looks like the one before.

use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// Called by each instrumented module with the counters of the whole program.
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
    START.store(start, Ordering::Relaxed);
    LENGTH.store(
        (stop as usize).saturating_sub(start as usize),
        Ordering::Relaxed,
    );
}

/// What all executions of a target together have reached.
#[derive(Debug, Default)]
pub struct Reached {
    /// For each counter, the orders of magnitude that it has had, a bit for each.
    seen: Vec<u8>,
}

impl Reached {
    /// Clears the counters, for an execution to begin.
    pub fn clear() {
        counters().fill(0);
    }

    /// Adds what was counted since [`clear`](Self::clear); whether any of it is new.
    pub fn add(&mut self) -> bool {
        let counters = counters();
        self.seen.resize(counters.len(), 0);
        let mut new = false;
        for (seen, &count) in self.seen.iter_mut().zip(counters.iter()) {
            if count != 0 {
                let bit = 1 << magnitude(count);
                new |= *seen & bit == 0;
                *seen |= bit;
            }
        }
        new
    }

    /// How many basic blocks were reached.
    pub fn blocks(&self) -> usize {
        self.seen.iter().filter(|&&seen| seen != 0).count()
    }
}

/// The number of instrumented basic blocks; 0 in a build without instrumentation.
pub fn instrumented() -> usize {
    LENGTH.load(Ordering::Relaxed)
}

fn counters() -> &'static mut [u8] {
    let start = START.load(Ordering::Relaxed);
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: the compiler's section of counters, as long as the program runs; instrumented code changes them with
    // plain additions. Only the engine's thread asks, between executions, when no target's code runs.
    unsafe { slice::from_raw_parts_mut(start, LENGTH.load(Ordering::Relaxed)) }
}

/// 1, 2, 3, 4–7, 8–15, 16–31, 32–127, 128–255: how often matters little beyond that.
fn magnitude(count: u8) -> u8 {
    match count {
        0..=3 => count.saturating_sub(1),
        4..=7 => 3,
        8..=15 => 4,
        16..=31 => 5,
        32..=127 => 6,
        128..=255 => 7,
    }
}
