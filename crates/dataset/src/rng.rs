//! Random streams keyed by integers such as (seed, epoch, sample), independent of threads and
//! timing.
//!
//! The distributions are implemented here, so that updates to the `rand` crate do not change
//! batches.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The purpose of a stream. Streams of different domains are independent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Domain {
    /// The order of an epoch's samples.
    Order,
    /// The augmentation of one sample in one epoch.
    Augment,
}

/// Creates the stream of the key (`domain`, `seed`, `epoch`, `index`).
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

/// Draws uniformly from [0, 1), in steps of 2⁻⁵³.
pub(crate) fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Draws uniformly from [low, high).
pub(crate) fn uniform(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(rng)
}

/// Draws an integer below `count`. The probabilities differ by at most 2⁻³².
pub(crate) fn below(rng: &mut impl Rng, count: u32) -> u32 {
    ((u64::from(rng.next_u32()) * u64::from(count)) >> 32) as u32
}

/// Returns a random permutation of the integers below `count` (Fisher–Yates).
pub(crate) fn shuffled(rng: &mut impl Rng, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        // 64 random bits keep the bias negligible for long lists too.
        let other = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        order.swap(last, other as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_key_changes_the_stream() {
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
    fn draws_are_uniform_and_in_range() {
        let mut rng = stream(Domain::Augment, 0, 0, 0);
        let mut counts = [0u32; 5];
        let mut sum = 0.0;
        for _ in 0..50_000 {
            counts[below(&mut rng, 5) as usize] += 1;
            let x = unit(&mut rng);
            assert!((0.0..1.0).contains(&x));
            sum += x;
        }
        // Six standard deviations: sqrt(50,000 · 0.2 · 0.8) = 89.
        assert!(
            counts.iter().all(|&n| n.abs_diff(10_000) < 540),
            "{counts:?}"
        );
        assert!((sum / 50_000.0 - 0.5).abs() < 0.008, "{sum}");
    }

    #[test]
    fn shuffle_is_a_permutation_and_moves_items_to_every_position() {
        let mut reached = [[false; 4]; 4];
        for epoch in 0..200 {
            let order = shuffled(&mut stream(Domain::Order, 1, epoch, 0), 4);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            for (position, &item) in order.iter().enumerate() {
                reached[position][item] = true;
            }
        }
        assert_eq!(reached, [[true; 4]; 4]);
        assert!(shuffled(&mut stream(Domain::Order, 1, 0, 0), 0).is_empty());
    }
}
