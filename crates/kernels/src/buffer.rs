//! Memory for the kernels: aligned to cache lines and reused.
//!
//! A vector of sixteen f32 fills one cache line, and an access that straddles two lines costs twice
//! as much. A large new allocation can cost more than the computation on it, because the operating
//! system clears and maps each page on first use. Dropped buffers therefore return to a pool, and
//! each thread keeps its scratch buffers.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// Whether buffers are mapped memory that returns to a pool. Under AddressSanitizer
/// (`cfg(waggle_heap)`) or Miri, each buffer is a separate heap allocation, so that out-of-bounds
/// accesses and uses after free are detected.
const POOLED: bool = !cfg!(any(miri, waggle_heap));

#[cfg(not(any(miri, waggle_heap)))]
type Memory = memmap2::MmapMut;
#[cfg(any(miri, waggle_heap))]
type Memory = Box<[CacheLine]>;

/// A cache line of a heap allocation.
#[cfg(any(miri, waggle_heap))]
#[derive(Clone)]
#[repr(align(64))]
struct CacheLine(#[expect(dead_code, reason = "reached by pointers")] [f32; LINE_LEN]);

/// Number of f32 in a cache line.
const LINE_LEN: usize = 16;

/// Memory of `count` cache lines, mapped if [`POOLED`]. Unmapping returns memory to the operating
/// system at once, whereas an allocator may keep freed memory.
struct CacheLines {
    memory: Option<Memory>,
    count: usize,
}

impl CacheLines {
    const EMPTY: Self = Self {
        memory: None,
        count: 0,
    };

    fn alloc(count: usize) -> Result<Self, Error> {
        if count == 0 {
            return Ok(Self::EMPTY);
        }
        #[cfg(any(miri, waggle_heap))]
        let memory = vec![CacheLine([0.0; LINE_LEN]); count].into_boxed_slice();
        #[cfg(not(any(miri, waggle_heap)))]
        let memory = {
            let bytes = count.saturating_mul(LINE_LEN * size_of::<f32>());
            let map = || Memory::map_anon(bytes);
            let memory = map().or_else(|_| {
                // The buffers in the pool may take the memory that is missing.
                pool().free.clear();
                map()
            });
            let memory = memory.map_err(|source| Error::OutOfMemory { bytes, source })?;
            // Request huge pages of 2 MiB. With pages of 4 KiB, address translation takes a tenth
            // of the time of a pass over a large buffer. The operating system may ignore the
            // request.
            #[cfg(target_os = "linux")]
            let _ = memory.advise(memmap2::Advice::HugePage);
            memory
        };
        Ok(Self {
            memory: Some(memory),
            count,
        })
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

/// An owned slice of f32, aligned to a cache line.
pub(crate) struct Buffer {
    lines: CacheLines,
    len: usize,
}

impl Buffer {
    /// Allocates `len` elements with arbitrary values. Takes a buffer of suitable size from the
    /// pool if there is one.
    ///
    /// # Errors
    ///
    /// Returns [`Error::OutOfMemory`] if the operating system does not provide the memory.
    pub(crate) fn alloc(len: usize) -> Result<Self, Error> {
        let count = len.div_ceil(LINE_LEN);
        if !POOLED {
            let lines = CacheLines::alloc(count)?;
            return Ok(Self { lines, len });
        }
        let pooled = pool().acquire(count);
        let lines = match pooled {
            Some(lines) => lines,
            None => CacheLines::alloc(count).inspect_err(|_| pool().in_use -= count)?,
        };
        Ok(Self { lines, len })
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: there are at least `len.div_ceil(LINE_LEN)` lines, as `alloc` requested. Mapped
        // memory is page-aligned and starts as zeros, the lines of a heap allocation are aligned
        // and initialized, and every bit pattern is a valid f32. Without lines, `len` is 0 and the
        // pointer is aligned and not null.
        unsafe { std::slice::from_raw_parts(self.lines.start(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.start_mut(), self.len) }
    }
}

/// Used and free memory together may exceed the peak use by up to `peak / SLACK_DIVISOR` cache
/// lines, because buffer sizes seldom match exactly.
const SLACK_DIVISOR: usize = 10;

/// Free buffers and the amount of memory in use. Sizes are in cache lines.
struct Pool {
    free: Vec<CacheLines>,
    in_use: usize,
    /// Maximum of `in_use` since the start or the last [`release_memory`].
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
    /// Takes the smallest free buffer of `count` to `2 * count` lines. Returns `None` if there is
    /// none. The caller must then allocate `count` lines, which already count as in use.
    ///
    /// Frees the oldest buffers so that used and free memory together never exceed the peak use by
    /// more than a tenth ([`SLACK_DIVISOR`]).
    fn acquire(&mut self, count: usize) -> Option<CacheLines> {
        let fits = |lines: &&CacheLines| (count..=2 * count).contains(&lines.count);
        let best = self.free.iter().filter(fits).map(|lines| lines.count).min();
        let lines = best.and_then(|best| {
            // The most recently released buffer is the most likely to be in a cache.
            let index = self.free.iter().rposition(|lines| lines.count == best)?;
            Some(self.free.remove(index))
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

/// Returns the kernels' free pooled buffers to the operating system: up to a gigabyte after
/// training. Buffers in use and the scratch buffers of each thread, up to tens of megabytes, stay
/// allocated.
pub fn release_memory() {
    let mut pool = pool();
    pool.free.clear();
    pool.peak = pool.in_use;
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if POOLED && self.lines.count > 0 {
            let lines = std::mem::replace(&mut self.lines, CacheLines::EMPTY);
            pool().release(lines);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with a scratch buffer of `len` elements with arbitrary values. The thread keeps the
/// buffer for the next call on this thread.
///
/// # Errors
///
/// Returns [`Error::OutOfMemory`] if there is no memory for the buffer, and the errors of `f`.
pub(crate) fn with_scratch<R>(
    len: usize,
    f: impl FnOnce(&mut [f32]) -> Result<R, Error>,
) -> Result<R, Error> {
    // If `f` waits for other threads, rayon can run another task on this thread in the meantime.
    // That task gets a different buffer.
    let recycled = SCRATCH.with_borrow_mut(Vec::pop);
    let recycled = recycled.filter(|buffer| POOLED && buffer.len >= len);
    let mut buffer = recycled.map_or_else(|| Buffer::alloc(len), Ok)?;
    let result = f(&mut buffer[..len]);
    SCRATCH.with_borrow_mut(|buffers| buffers.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_nested_scratch_buffers_are_distinct() {
        let mut buffer = Buffer::alloc(1001).unwrap();
        assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (1001, 0));
        buffer[1000] = 3.0;
        with_scratch(100, |outer| {
            outer.fill(1.0);
            with_scratch(100, |inner| {
                inner.fill(2.0);
                Ok(())
            })?;
            assert!(outer.iter().all(|&x| x == 1.0));
            Ok(())
        })
        .unwrap();
    }

    #[cfg(not(any(miri, waggle_heap)))]
    #[test]
    fn a_buffer_larger_than_the_address_space_is_an_error() {
        let len = usize::MAX / 8;
        let error = Buffer::alloc(len).err().expect("no such memory");
        assert!(error.to_string().contains("out of memory"), "{error}");
        assert!(with_scratch(len, |_| Ok(())).is_err());
        // It does not count as in use.
        assert!(pool().in_use < len / LINE_LEN);
    }

    #[test]
    fn pool_holds_at_most_a_tenth_more_than_the_peak() {
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
            pool.release(CacheLines::alloc(count).unwrap());
        }
        assert_eq!((sizes(&pool), pool.in_use), (vec![100, 50, 30], 0));
        // The smallest buffer that fits, unless it is more than twice as large as requested.
        assert_eq!(pool.acquire(40).map(|lines| lines.count), Some(50));
        assert!(pool.acquire(10).is_none());
        assert_eq!((sizes(&pool), pool.in_use), (vec![100, 30], 60));
        // With the new 40 lines, 230 lines would be in use or free. The limit is 198: the peak of
        // 180 and a tenth of it.
        assert!(pool.acquire(40).is_none());
        assert_eq!((sizes(&pool), pool.in_use), (vec![30], 100));
    }
}
