//! Random streams that depend only on a key.
//!
//! candle's CPU generator cannot be seeded, and numbers drawn from a shared generator would depend
//! on the order of calls.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Creates the random stream for a purpose and a key. Each combination gives an independent stream.
pub(crate) fn keyed(purpose: &[u8; 8], key: [u64; 3]) -> ChaCha8Rng {
    let mut seed = [0u8; 32];
    seed[..8].copy_from_slice(purpose);
    for (bytes, number) in seed[8..].chunks_exact_mut(8).zip(key) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(seed)
}

/// Computes the 64-bit FNV-1a hash of a tensor name (G. Fowler, L. C. Noll, K.-P. Vo).
pub(crate) fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Draws a uniform sample from [0, 1) with 24 random bits, the precision of f32.
pub(crate) fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}
