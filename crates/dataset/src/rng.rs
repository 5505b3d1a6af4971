//! Keyed random streams: what is drawn depends on integers such as (seed, epoch, sample), not on who draws when.
//!
//! The formulas are spelled out here, so that no change of a library's distributions changes a batch.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is for; two uses of the same integers must not share numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Domain {
    /// The order of an epoch's samples.
    Order,
    /// The augmentation of one sample in one epoch.
    Augment,
}

/// The stream that belongs to these integers.
pub(crate) fn stream(domain: Domain, seed: u64, epoch: u64, index: u64) -> ChaCha8Rng {
    let domain = match domain {
        Domain::Order => u64::from_le_bytes(*b"order   "),
        Domain::Augment => u64::from_le_bytes(*b"augment "),
    };
    let mut key = [0; 32];
    for (bytes, part) in key.chunks_exact_mut(8).zip([domain, seed, epoch, index]) {
        bytes.copy_from_slice(&part.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Uniform in [0, 1), in steps of 2⁻⁵³.
pub(crate) fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Uniform in [low, high).
pub(crate) fn between(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// A whole number below `count`, each with the same probability up to 2⁻³².
pub(crate) fn below(rng: &mut impl Rng, count: u32) -> u32 {
    ((u64::from(rng.next_u32()) * u64::from(count)) >> 32) as u32
}

/// The numbers 0 to `count` − 1 in random order (Fisher and Yates).
pub(crate) fn shuffled(rng: &mut impl Rng, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // 64 by 64 bits, so that also long lists are shuffled evenly.
        let other = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_integer_of_the_key_matters() {
        let first = |domain, seed, epoch, index| stream(domain, seed, epoch, index).next_u64();
        let all = [
            first(Domain::Augment, 1, 2, 3),
            first(Domain::Order, 1, 2, 3),
            first(Domain::Augment, 9, 2, 3),
            first(Domain::Augment, 1, 9, 3),
            first(Domain::Augment, 1, 2, 9),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{all:?}");
        }
        assert_eq!(all[0], first(Domain::Augment, 1, 2, 3));
    }

    #[test]
    fn draws_are_uniform_and_within_bounds() {
        let mut rng = stream(Domain::Augment, 0, 0, 0);
        let mut counts = [0u32; 5];
        let mut sum = 0.0;
        for _ in 0..50_000 {
            counts[below(&mut rng, 5) as usize] += 1;
            let x = unit(&mut rng);
            assert!((0.0..1.0).contains(&x));
            sum += x;
        }
        // Six standard deviations.
        assert!(
            counts.iter().all(|&n| n.abs_diff(10_000) < 540),
            "{counts:?}"
        );
        assert!((sum / 50_000.0 - 0.5).abs() < 0.008, "{sum}");
    }

    #[test]
    fn a_shuffle_is_a_permutation_that_reaches_every_place() {
        let mut reached = [[false; 4]; 4];
        for epoch in 0..200 {
            let order = shuffled(&mut stream(Domain::Order, 1, epoch, 0), 4);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            for (place, &item) in order.iter().enumerate() {
                reached[place][item] = true;
            }
        }
        assert_eq!(reached, [[true; 4]; 4]);
        assert!(shuffled(&mut stream(Domain::Order, 1, 0, 0), 0).is_empty());
    }
}
