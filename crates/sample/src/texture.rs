//! Value noise, for the texture of soil, bark, leaves and skin.

use crate::plane::{Point, at, smooth};

/// Noise in [0, 1] with features of about one unit. `key` selects the noise function.
pub(crate) fn noise(p: Point, key: u32) -> f32 {
    let (left, top) = (p.x.floor(), p.y.floor());
    let (u, v) = (smooth(p.x - left), smooth(p.y - top));
    let (x, y) = (left as i32, top as i32);
    let row = |y: i32| lattice(x, y, key) * (1.0 - u) + lattice(x.wrapping_add(1), y, key) * u;
    row(y) * (1.0 - v) + row(y.wrapping_add(1)) * v
}

/// Fractal noise in [0, 1]: a weighted mean of `octaves` layers of noise, each with half the
/// feature size and 0.55 times the weight of the previous one.
pub(crate) fn cloud(p: Point, key: u32, octaves: u32) -> f32 {
    let (mut sum, mut weight, mut total, mut q) = (0.0, 1.0, 0.0, p);
    for octave in 0..octaves {
        sum += weight * noise(q, key.wrapping_add(octave));
        total += weight;
        weight *= 0.55;
        // The rotation prevents the lattices of the octaves from aligning.
        q = at(1.6 * q.x + 1.2 * q.y, 1.6 * q.y - 1.2 * q.x);
    }
    sum / total
}

/// A number in [0, 1) for each lattice point: a hash of its coordinates and `key` with
/// MurmurHash3's finalizer.
fn lattice(x: i32, y: i32, key: u32) -> f32 {
    let mut h = (x as u32).wrapping_mul(0x9e37_79b1)
        ^ (y as u32).wrapping_mul(0x85eb_ca77)
        ^ key.wrapping_mul(0xc2b2_ae3d);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    ((h ^ (h >> 16)) >> 8) as f32 / (1 << 24) as f32
}
