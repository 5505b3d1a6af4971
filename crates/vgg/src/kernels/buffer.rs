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
type Memory = Box<[Line]>;

/// A cache line of the allocator's.
#[cfg(any(miri, waggle_heap))]
#[derive(Clone)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "reached by pointers")] [f32; LINE]);

/// f32 in a cache line.
const LINE: usize = 16;

/// Memory from the system, in lines. Not from the allocator: what is given back is free for everybody.
struct Lines {
    memory: Option<Memory>,
    count: usize,
}

impl Lines {
    fn new(count: usize) -> Self {
        #[cfg(any(miri, waggle_heap))]
        let memory = (count > 0).then(|| vec![Line([0.0; LINE]); count].into_boxed_slice());
        #[cfg(not(any(miri, waggle_heap)))]
        let memory = (count > 0).then(|| {
            let bytes = count * LINE * size_of::<f32>();
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
    lines: Lines,
    len: usize,
}

impl Buffer {
    /// `len` elements with any values, from the pool if it has a buffer that fits.
    pub(super) fn alloc(len: usize) -> Self {
        let count = len.div_ceil(LINE);
        let kept = POOLED.then(|| pool().lend(count)).flatten();
        Self {
            lines: kept.unwrap_or_else(|| Lines::new(count)),
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
const SPARE: usize = 10;

/// Buffers on loan and at home, in lines.
struct Pool {
    kept: Vec<Lines>,
    lent: usize,
    /// The most that was on loan at one time.
    most: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    kept: Vec::new(),
    lent: 0,
    most: 0,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// The smallest kept buffer of at least `count` lines, unless most of it would lie idle. Without one, the caller
    /// makes a new one, and as much as there would then be too much is given back to the system: what is lent and
    /// what is kept are never more than what was once needed at the same time and a tenth ([`SPARE`]) of that.
    fn lend(&mut self, count: usize) -> Option<Lines> {
        let fits = |lines: &&Lines| (count..=2 * count).contains(&lines.count);
        let best = self.kept.iter().filter(fits).map(|lines| lines.count).min();
        let found = best.and_then(|best| {
            // The last one in is the likeliest to be in a cache.
            let at = self.kept.iter().rposition(|lines| lines.count == best)?;
            Some(self.kept.remove(at))
        });
        self.lent += found.as_ref().map_or(count, |lines| lines.count);
        self.most = self.most.max(self.lent);
        self.shrink();
        found
    }

    fn take_back(&mut self, lines: Lines) {
        self.lent = self.lent.saturating_sub(lines.count);
        self.kept.push(lines);
        self.shrink();
    }

    fn shrink(&mut self) {
        let kept = |pool: &Self| pool.kept.iter().map(|lines| lines.count).sum::<usize>();
        while !self.kept.is_empty() && self.lent + kept(self) > self.most + self.most / SPARE {
            self.kept.remove(0);
        }
    }
}

/// Gives the memory that the kernels keep for their next call back to the system: after training, up to a gigabyte. What
/// each thread keeps for itself stays, some megabytes.
pub fn release_memory() {
    let mut pool = pool();
    pool.kept.clear();
    pool.most = pool.lent;
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if POOLED && self.lines.count > 0 {
            let lines = std::mem::replace(&mut self.lines, Lines::new(0));
            pool().take_back(lines);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` elements that hold anything; the thread keeps them for its next loan.
pub(super) fn scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    // While a thread waits for others it may begin another piece of work, which then gets another buffer.
    let kept = SCRATCH.with_borrow_mut(Vec::pop);
    let mut buffer = kept
        .filter(|buffer| POOLED && buffer.len >= len)
        .unwrap_or_else(|| Buffer::alloc(len));
    let result = work(&mut buffer[..len]);
    SCRATCH.with_borrow_mut(|kept| kept.push(buffer));
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
        scratch(100, |outer| {
            outer.fill(1.0);
            scratch(100, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&x| x == 1.0));
        });
    }

    #[test]
    fn the_pool_keeps_a_tenth_more_than_what_was_needed_at_once() {
        let mut pool = Pool {
            kept: Vec::new(),
            lent: 0,
            most: 0,
        };
        let sizes = |pool: &Pool| -> Vec<usize> {
            let kept = pool.kept.iter();
            kept.map(|lines| lines.count).collect()
        };
        for count in [100, 50, 30] {
            assert!(pool.lend(count).is_none());
        }
        for count in [100, 50, 30] {
            pool.take_back(Lines::new(count));
        }
        assert_eq!((sizes(&pool), pool.lent), (vec![100, 50, 30], 0));
        // The smallest that fits, and none of which most would lie idle.
        assert_eq!(pool.lend(40).map(|lines| lines.count), Some(50));
        assert!(pool.lend(10).is_none());
        assert_eq!((sizes(&pool), pool.lent), (vec![100, 30], 60));
        // With 100 more there would be 230, where 180 were once needed.
        assert!(pool.lend(40).is_none());
        assert_eq!((sizes(&pool), pool.lent), (vec![30], 100));
    }
}
