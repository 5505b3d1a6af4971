//! Memory for the kernels: aligned to cache lines, and used again.
//!
//! A vector of sixteen f32 is a cache line; one that straddles two costs twice. A large block that comes fresh from
//! the system costs more than what is computed in it: each of its pages is cleared and mapped on first use. So
//! buffers go back to a pool when they are dropped, and what threads need in passing is kept by each.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether buffers come from the system and go back to a pool. Under a sanitizer or miri each is an allocation of its
/// own, so that an access outside of it, or after it was given back, is seen.
const POOLED: bool = !cfg!(any(miri, waggle_heap));

#[cfg(not(any(miri, waggle_heap)))]
type Memory = memmap2::MmapMut;
#[cfg(any(miri, waggle_heap))]
type Memory = Box<[CacheLine]>;

/// A cache line of the allocator's.
#[cfg(any(miri, waggle_heap))]
#[derive(Clone)]
#[repr(align(64))]
struct CacheLine(#[expect(dead_code, reason = "reached by pointers")] [f32; LINE_LEN]);

/// f32 in a cache line.
const LINE_LEN: usize = 16;

/// Memory from the system, in lines. Not from the allocator: what is given back is free for everybody.
struct CacheLines {
    memory: Option<Memory>,
    count: usize,
}

impl CacheLines {
    fn new(count: usize) -> Self {
        #[cfg(any(miri, waggle_heap))]
        let memory =
            (count > 0).then(|| vec![CacheLine([0.0; LINE_LEN]); count].into_boxed_slice());
        #[cfg(not(any(miri, waggle_heap)))]
        let memory = (count > 0).then(|| {
            let bytes = count * LINE_LEN * size_of::<f32>();
            // As Vec does when there is no memory.
            let memory = Memory::map_anon(bytes)
                .unwrap_or_else(|error| panic!("{bytes} bytes of memory: {error}"));
            // Pages of 2 MiB: a walk over many pages of 4 KiB spends a tenth of its time on their addresses. If the
            // advice is not taken, pages stay small.
            #[cfg(target_os = "linux")]
            let _ = memory.advise(memmap2::Advice::HugePage);
            memory
        });
        Self { memory, count }
    }

    fn start(&self) -> *const f32 {
        match &self.memory {
            Some(memory) => memory.as_ptr().cast(),
            None => std::ptr::NonNull::dangling().as_ptr(),
        }
    }

    fn start_mut(&mut self) -> *mut f32 {
        match &mut self.memory {
            Some(memory) => memory.as_mut_ptr().cast(),
            None => std::ptr::NonNull::dangling().as_ptr(),
        }
    }
}

/// Elements that start at a cache line.
pub(super) struct Buffer {
    lines: CacheLines,
    len: usize,
}

impl Buffer {
    /// `len` elements with any values, from the pool if it has a buffer that fits.
    pub(super) fn alloc(len: usize) -> Self {
        let count = len.div_ceil(LINE_LEN);
        let free = POOLED.then(|| pool().acquire(count)).flatten();
        Self {
            lines: free.unwrap_or_else(|| CacheLines::new(count)),
            len,
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` elements lie in the lines. Mapped memory starts at a page and holds zeros at first; all bits
        // are an f32.
        unsafe { std::slice::from_raw_parts(self.lines.start(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.start_mut(), self.len) }
    }
}

/// What is kept beyond what was needed at once, as a part of that: sizes seldom fit exactly.
const SLACK_DIVISOR: usize = 10;

/// Buffers on loan and at home, in lines.
struct Pool {
    free: Vec<CacheLines>,
    in_use: usize,
    /// The most that was on loan at one time.
    peak: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    in_use: 0,
    peak: 0,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// The smallest kept buffer of at least `count` lines, unless most of it would lie idle. Without one, the caller
    /// makes a new one, and as much as there would then be too much is given back to the system: what is lent and
    /// what is kept are never more than what was once needed at the same time and a tenth ([`SLACK_DIVISOR`]) of that.
    fn acquire(&mut self, count: usize) -> Option<CacheLines> {
        let fits = |lines: &&CacheLines| (count..=2 * count).contains(&lines.count);
        let best = self.free.iter().filter(fits).map(|lines| lines.count).min();
        let lines = best.and_then(|best| {
            // The last one in is the likeliest to be in a cache.
            let at = self.free.iter().rposition(|lines| lines.count == best)?;
            Some(self.free.remove(at))
        });
        self.in_use += lines.as_ref().map_or(count, |lines| lines.count);
        self.peak = self.peak.max(self.in_use);
        self.shrink();
        lines
    }

    fn release(&mut self, lines: CacheLines) {
        self.in_use = self.in_use.saturating_sub(lines.count);
        self.free.push(lines);
        self.shrink();
    }

    fn shrink(&mut self) {
        let free = |pool: &Self| pool.free.iter().map(|lines| lines.count).sum::<usize>();
        while !self.free.is_empty()
            && self.in_use + free(self) > self.peak + self.peak / SLACK_DIVISOR
        {
            self.free.remove(0);
        }
    }
}

/// Gives the memory that the kernels keep for their next call back to the system: after training, up to a gigabyte. What
/// each thread keeps for itself stays, some megabytes.
pub fn release_memory() {
    let mut pool = pool();
    pool.free.clear();
    pool.peak = pool.in_use;
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if POOLED && self.lines.count > 0 {
            let lines = std::mem::replace(&mut self.lines, CacheLines::new(0));
            pool().release(lines);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` elements that hold anything; the thread keeps them for its next loan.
pub(super) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    // While a thread waits for others it may begin another piece of work, which then gets another buffer.
    let free = SCRATCH.with_borrow_mut(Vec::pop);
    let mut buffer = free
        .filter(|buffer| POOLED && buffer.len >= len)
        .unwrap_or_else(|| Buffer::alloc(len));
    let result = work(&mut buffer[..len]);
    SCRATCH.with_borrow_mut(|free| free.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_cache_lines() {
        let mut buffer = Buffer::alloc(1001);
        assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (1001, 0));
        buffer[1000] = 3.0;
        with_scratch(100, |outer| {
            outer.fill(1.0);
            with_scratch(100, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&x| x == 1.0));
        });
    }

    #[test]
    fn the_pool_keeps_a_tenth_more_than_what_was_needed_at_once() {
        let mut pool = Pool {
            free: Vec::new(),
            in_use: 0,
            peak: 0,
        };
        let sizes = |pool: &Pool| -> Vec<usize> {
            let free = pool.free.iter();
            free.map(|lines| lines.count).collect()
        };
        for count in [100, 50, 30] {
            assert!(pool.acquire(count).is_none());
        }
        for count in [100, 50, 30] {
            pool.release(CacheLines::new(count));
        }
        assert_eq!((sizes(&pool), pool.in_use), (vec![100, 50, 30], 0));
        // The smallest that fits, and none of which most would lie idle.
        assert_eq!(pool.acquire(40).map(|lines| lines.count), Some(50));
        assert!(pool.acquire(10).is_none());
        assert_eq!((sizes(&pool), pool.in_use), (vec![100, 30], 60));
        // With 100 more there would be 230, where 180 were once needed.
        assert!(pool.acquire(40).is_none());
        assert_eq!((sizes(&pool), pool.in_use), (vec![30], 100));
    }
}
