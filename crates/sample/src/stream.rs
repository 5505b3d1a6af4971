//! Random numbers: one independent stream for each image.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The random numbers for drawing one image.
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of image `index` of `class` in `split`.
    pub fn new(seed: u64, split: &str, class: &str, index: u64) -> Self {
        let parts = [seed, fnv(split), fnv(class), index];
        let mut key = [0; 32];
        for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A uniformly distributed multiple of 2⁻²⁴ in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / (1 << 24) as f32
    }

    /// A uniformly distributed number in [`low`, `high`). Rounding can make it equal to `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A number from `middle - spread` to `middle + spread`, with a triangular distribution.
    pub fn around(&mut self, middle: f32, spread: f32) -> f32 {
        middle + spread * (self.unit() + self.unit() - 1.0)
    }

    /// A uniformly distributed integer from `low` to `high`, inclusive.
    pub fn count(&mut self, low: usize, high: usize) -> usize {
        low + ((u64::from(self.bits()) * (high - low + 1) as u64) >> 32) as usize
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// −1 or 1.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { -1.0 } else { 1.0 }
    }

    /// A uniformly random element of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.count(0, choices.len() - 1)]
    }
}

/// The 64-bit FNV-1a hash of `text`.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
