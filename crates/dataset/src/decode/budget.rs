//! A limit on the memory of all images that are decoded at the same time.
//!
//! The clones of [`DecodeOptions`](super::DecodeOptions) share it. An image waits until its memory is
//! free, so that large images are decoded one after the other, and small ones side by side.
//!
//! Waiting changes no result and cannot deadlock: a decoder reserves the memory of the file, then
//! that of the image, and releases both without waiting for anything else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The purposes of memory, in the order in which a decoder reserves them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The contents of a file.
    File,
    /// The pixels of an image, and the buffers of its decoder.
    Image,
}

/// The part of the shared memory that one decoder has reserved. Dropping it releases the memory.
/// A clone shares the memory, but has nothing reserved.
#[derive(Debug, Default)]
pub(super) struct Budget {
    shared: Arc<Shared>,
    /// Reserved bytes by [`Purpose`].
    reserved: [AtomicU64; 2],
}

#[derive(Debug, Default)]
struct Shared {
    /// Reserved bytes by [`Purpose`], of all decoders.
    reserved: Mutex<[u64; 2]>,
    changed: Condvar,
}

impl Budget {
    /// Waits until `bytes` can be reserved within `limit`, or nothing else is reserved. A decoder that
    /// already has memory for this purpose does not wait, because other decoders may wait for it.
    pub(super) fn reserve(&self, purpose: Purpose, bytes: u64, limit: u64) {
        let index = purpose as usize;
        let own = &self.reserved[index];
        // No thread panics while it holds the lock.
        let lock = self.shared.reserved.lock();
        let mut reserved = lock.unwrap_or_else(PoisonError::into_inner);
        if own.load(Ordering::Relaxed) == 0 {
            let is_full = |reserved: &mut [u64; 2]| {
                reserved[index] > 0 && reserved[index].saturating_add(bytes) > limit
            };
            let wait = self.shared.changed.wait_while(reserved, is_full);
            reserved = wait.unwrap_or_else(PoisonError::into_inner);
        }
        reserved[index] += bytes;
        own.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        let own = [0, 1].map(|index: usize| *self.reserved[index].get_mut());
        if own == [0; 2] {
            return;
        }
        let lock = self.shared.reserved.lock();
        let mut reserved = lock.unwrap_or_else(PoisonError::into_inner);
        for (sum, own) in reserved.iter_mut().zip(own) {
            *sum -= own;
        }
        drop(reserved);
        self.shared.changed.notify_all();
    }
}

impl Clone for Budget {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            reserved: Default::default(),
        }
    }
}

/// Options with equal settings are equal, even if they do not share memory.
impl PartialEq for Budget {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Budget {}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_sum_stays_below_the_limit_and_large_images_come_alone() {
        let (budget, used, peak) = (Budget::default(), AtomicU64::new(0), AtomicU64::new(0));
        let decoded = AtomicU64::new(0);
        thread::scope(|scope| {
            for worker in 0..8u64 {
                let (budget, used, peak, decoded) = (budget.clone(), &used, &peak, &decoded);
                scope.spawn(move || {
                    for image in 0..50 {
                        // Some exceed the limit of 100 alone.
                        let bytes = [10, 40, 90, 130][((worker + image) % 4) as usize];
                        let own = budget.clone();
                        own.reserve(Purpose::File, bytes / 2, 100);
                        own.reserve(Purpose::Image, bytes, 100);
                        let sum = used.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        assert!(sum <= 100 || sum == bytes, "{sum} with {bytes}");
                        peak.fetch_max(sum, Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(50));
                        used.fetch_sub(bytes, Ordering::SeqCst);
                        decoded.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(decoded.into_inner(), 400, "not all images were decoded");
        assert_eq!(*budget.shared.reserved.lock().unwrap(), [0, 0]);
        assert!(
            peak.into_inner() > 90,
            "no images were decoded side by side"
        );
    }

    #[test]
    fn an_image_within_an_image_does_not_wait_for_itself() {
        let budget = Budget::default();
        budget.reserve(Purpose::Image, 90, 100);
        budget.reserve(Purpose::Image, 90, 100);
        assert_eq!(*budget.shared.reserved.lock().unwrap(), [0, 180]);
    }
}
