//! Memory for the kernels: aligned to cache lines, and used again.
//!
//! A vector of sixteen f32 is a cache line; one that straddles two costs twice. A large block that comes fresh from
//! the system costs more than what is computed in it: each of its pages is cleared and mapped on first use. So
//! buffers go back to a pool when they are dropped, and what threads need in passing is kept by each.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

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
        Self {
            lines: vec![Line([0.0; LINE]); len.div_ceil(LINE)],
            len,
        }
    }

    /// `len` elements with any values, from the pool if it has such a buffer.
    pub(super) fn any(len: usize) -> Self {
        let kept = {
            let mut pool = POOL.lock().unwrap_or_else(|poison| poison.into_inner());
            let lines = len.div_ceil(LINE);
            let fits = |buffer: &Self| (lines..=lines + lines / 8).contains(&buffer.lines.len());
            // The last one in is the likeliest to be in a cache.
            pool.iter().rposition(fits).map(|at| pool.remove(at))
        };
        match kept {
            Some(buffer) => Self {
                lines: buffer.take(),
                len,
            },
            None => Self::zeros(len),
        }
    }

    fn take(mut self) -> Vec<Line> {
        std::mem::take(&mut self.lines)
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

/// What the pool keeps at most, in bytes: the activations of 32 pictures of 224x224 in VGG-16, and then some.
const KEPT: usize = 2 << 30;

static POOL: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let mut pool = POOL.lock().unwrap_or_else(|poison| poison.into_inner());
        pool.push(Self {
            lines: std::mem::take(&mut self.lines),
            len: self.len,
        });
        let bytes = |pool: &[Self]| pool.iter().map(|b| b.lines.len() * 64).sum::<usize>();
        while bytes(&pool) > KEPT {
            // Forgotten lines are freed here and not put back.
            let mut oldest = pool.remove(0);
            drop(std::mem::take(&mut oldest.lines));
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
        .unwrap_or_else(|| Buffer::zeros(len));
    let result = work(&mut buffer[..len]);
    SCRATCH.with_borrow_mut(|kept| kept.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_start_at_cache_lines_and_come_back() {
        let length = 123_457;
        let mut buffer = Buffer::any(length);
        assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (length, 0));
        buffer[length - 1] = 3.0;
        let place = buffer.as_ptr();
        drop(buffer);
        assert_eq!(Buffer::any(length).as_ptr(), place);
        scratch(100, |outer| {
            outer.fill(1.0);
            scratch(100, |inner| inner.fill(2.0));
            assert!(outer.iter().all(|&x| x == 1.0));
        });
    }
}
