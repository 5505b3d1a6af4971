//! Random streams keyed by (seed, epoch, sample), independent of threads and timing.
//!
//! The distributions are implemented here, so that updates to the `rand` crate do not change
//! batches.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The random numbers of one sample in one epoch, a function of (seed, epoch, sample).
///
/// The generator is ChaCha with 8 rounds, whose output is the same on every machine.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream from which a [`Loader`](crate::Loader) with this seed draws the crop, the flip
    /// and the augmentation of a sample in `epoch`. `sample` is an index into
    /// [`Loader::samples`](crate::Loader::samples).
    pub fn new(seed: u64, epoch: u64, sample: u64) -> Self {
        Self::keyed(b"augment ", seed, epoch, sample)
    }

    /// The stream that shuffles the samples of an epoch. It is independent of all streams returned
    /// by [`new`](Self::new).
    pub(crate) fn of_order(seed: u64, epoch: u64) -> Self {
        Self::keyed(b"order   ", seed, epoch, 0)
    }

    fn keyed(purpose: &[u8; 8], seed: u64, epoch: u64, sample: u64) -> Self {
        let mut key = [0; 32];
        let parts = [u64::from_le_bytes(*purpose), seed, epoch, sample];
        for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Draws 64 random bits, for example to seed another generator.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Draws uniformly from [0, 1), in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Draws uniformly from [`low`, `high`). Rounding can make the result equal to `high`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Draws an integer below `count`, or 0 if `count` is 0. The probabilities of two integers
    /// differ by at most 2⁻³².
    pub fn below(&mut self, count: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(count)) >> 32) as u32
    }

    /// Returns a random permutation of the integers below `count` (Fisher–Yates).
    pub(crate) fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            // 64 random bits keep the bias negligible for long lists too.
            let other = (u128::from(self.bits()) * (last as u128 + 1)) >> 64;
            order.swap(last, other as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_changes_the_stream() {
        let first = |mut stream: Stream| stream.bits();
        let all = [
            first(Stream::new(1, 2, 0)),
            first(Stream::of_order(1, 2)),
            first(Stream::new(9, 2, 0)),
            first(Stream::new(1, 9, 0)),
            first(Stream::new(1, 2, 9)),
            first(Stream::of_order(9, 2)),
            first(Stream::of_order(1, 9)),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{all:?}");
        }
        assert_eq!(all[0], first(Stream::new(1, 2, 0)));
    }

    #[test]
    fn draws_are_uniform_and_in_range() {
        let mut stream = Stream::new(0, 0, 0);
        let mut counts = [0u32; 5];
        let mut sum = 0.0;
        for _ in 0..50_000 {
            counts[stream.below(5) as usize] += 1;
            let x = stream.unit();
            assert!((0.0..1.0).contains(&x));
            sum += x;
        }
        // The standard deviation is sqrt(50,000 · 0.2 · 0.8) = 89. The tolerance is six times that.
        assert!(
            counts.iter().all(|&n| n.abs_diff(10_000) < 540),
            "{counts:?}"
        );
        assert!((sum / 50_000.0 - 0.5).abs() < 0.008, "{sum}");
    }

    #[test]
    fn uniform_scales_the_unit_interval() {
        let (mut units, mut scaled) = (Stream::new(1, 2, 3), Stream::new(1, 2, 3));
        for _ in 0..100 {
            assert_eq!(scaled.uniform(-2.0, 6.0), 8.0 * units.unit() - 2.0);
        }
    }

    #[test]
    fn shuffle_is_a_permutation_and_moves_items_to_every_position() {
        let mut reached = [[false; 4]; 4];
        for epoch in 0..200 {
            let order = Stream::of_order(1, epoch).permutation(4);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            for (position, &item) in order.iter().enumerate() {
                reached[position][item] = true;
            }
        }
        assert_eq!(reached, [[true; 4]; 4]);
        assert!(Stream::of_order(1, 0).permutation(0).is_empty());
    }
}
