//! Random numbers that depend on a key alone, never on what was drawn before.
//!
//! candle's CPU generator cannot be seeded, and a shared stream would tie every number to the order of calls.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream for three numbers and a purpose: different keys give independent streams.
pub(crate) fn keyed(purpose: &[u8; 8], key: [u64; 3]) -> ChaCha8Rng {
    let mut seed = [0u8; 32];
    seed[..8].copy_from_slice(purpose);
    for (place, number) in seed[8..].chunks_exact_mut(8).zip(key) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(seed)
}

/// FNV-1a, to make a number of a tensor's name (G. Fowler, L. C. Noll, K.-P. Vo).
pub(crate) fn number_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A number in [0, 1) with 24 random bits, all that an f32 holds.
pub(crate) fn unit(rng: &mut ChaCha8Rng) -> f32 {
    (rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}
