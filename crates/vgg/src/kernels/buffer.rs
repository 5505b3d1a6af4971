//! Memory for the kernels: aligned to cache lines, and used again.
//!
//! A vector of sixteen f32 is a cache line; one that straddles two costs twice. A large block that comes fresh from
//! the system costs more than what is computed in it: each of its pages is cleared and mapped on first use. So
//! buffers go back to a pool when they are dropped, and what threads need in passing is kept by each.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

const LINE: usize = 16;

/// Elements that start at a cache line.
#[derive(Default)]
pub(super) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    fn zeros(len: usize) -> Self {
        let count = len.div_ceil(LINE);
        let mut lines = Vec::with_capacity(count);
        huge_pages(&mut lines);
        lines.resize(count, Line([0.0; LINE]));
        Self { lines, len }
    }

    /// `len` elements with any values, from the pool if it has a buffer that fits.
    pub(super) fn any(len: usize) -> Self {
        match pool().lend(len.div_ceil(LINE)) {
            Some(lines) => Self { lines, len },
            None => Self::zeros(len),
        }
    }
}

/// Asks Linux for pages of 2 MiB: a walk over many pages of 4 KiB spends a tenth of its time on their addresses.
fn huge_pages(lines: &mut Vec<Line>) {
    #[cfg(target_os = "linux")]
    {
        const HUGE: usize = 2 << 20;
        let room = lines.spare_capacity_mut();
        let start = room.as_ptr() as usize;
        let (from, to) = (
            start.next_multiple_of(HUGE),
            (start + size_of_val(room)) / HUGE * HUGE,
        );
        if from < to {
            // SAFETY: the range lies within the allocation; advice does not change what memory holds. If it is not
            // taken, pages stay small.
            unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_HUGEPAGE) };
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` elements lie in the lines, which are arrays of f32.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// Buffers on loan and at home, in lines.
struct Pool {
    kept: Vec<Vec<Line>>,
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
    /// what is kept are never more than what was once needed at the same time.
    fn lend(&mut self, count: usize) -> Option<Vec<Line>> {
        let fits = |lines: &&Vec<Line>| (count..=2 * count).contains(&lines.len());
        let best = self.kept.iter().filter(fits).map(Vec::len).min();
        let found = best.and_then(|best| {
            // The last one in is the likeliest to be in a cache.
            let at = self.kept.iter().rposition(|lines| lines.len() == best)?;
            Some(self.kept.remove(at))
        });
        self.lent += found.as_ref().map_or(count, Vec::len);
        self.most = self.most.max(self.lent);
        self.shrink();
        found
    }

    fn take_back(&mut self, lines: Vec<Line>) {
        self.lent = self.lent.saturating_sub(lines.len());
        self.kept.push(lines);
        self.shrink();
    }

    fn shrink(&mut self) {
        let kept = |pool: &Self| pool.kept.iter().map(Vec::len).sum::<usize>();
        while !self.kept.is_empty() && self.lent + kept(self) > self.most {
            self.kept.remove(0);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !self.lines.is_empty() {
            pool().take_back(std::mem::take(&mut self.lines));
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
        .filter(|buffer| buffer.len >= len)
        .unwrap_or_else(|| Buffer::any(len));
    let result = work(&mut buffer[..len]);
    SCRATCH.with_borrow_mut(|kept| kept.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_cache_lines() {
        let mut buffer = Buffer::any(1001);
        assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (1001, 0));
        buffer[1000] = 3.0;
        scratch(100, |outer| {
            outer.fill(1.0);
            scratch(100, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&x| x == 1.0));
        });
    }

    #[test]
    fn the_pool_keeps_what_was_needed_at_once_and_no_more() {
        let mut pool = Pool {
            kept: Vec::new(),
            lent: 0,
            most: 0,
        };
        let lines = |count| vec![Line([0.0; LINE]); count];
        let sizes = |pool: &Pool| pool.kept.iter().map(Vec::len).collect::<Vec<_>>();
        for count in [100, 50, 30] {
            assert!(pool.lend(count).is_none());
        }
        for count in [100, 50, 30] {
            pool.take_back(lines(count));
        }
        assert_eq!((sizes(&pool), pool.lent), (vec![100, 50, 30], 0));
        // The smallest that fits, and none of which most would lie idle.
        assert_eq!(pool.lend(40).map(|lines| lines.len()), Some(50));
        assert!(pool.lend(10).is_none());
        // 60 are lent; with 100 and 30 kept that would be 190, where 180 were once needed.
        assert_eq!((sizes(&pool), pool.lent), (vec![30], 60));
    }
}
