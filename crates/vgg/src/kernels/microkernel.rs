//! The products in the middle: at each of the 36 positions, a matrix of tiles times a matrix of weights.

use super::lanes::Lanes;
use super::layout::LANES;

/// M[tile][k] = Σ_c V[tile][c]·U[c][k] at one position, for 16·GROUPS channels k.
///
/// `v` is `[c / 16][tile][16]` with `block` elements from one block to the next, of which `c` channels count;
/// `u` is `[c][16·GROUPS]`, and `next` the weights that will be wanted after these; `m` is `[tile][16·GROUPS]`.
///
/// # Safety
/// As [`Lanes`]; the pointers are valid for `tiles` tiles and `c` channels.
#[inline(always)]
pub(super) unsafe fn forward<L: Lanes>(
    v: *const f32,
    block: usize,
    u: *const f32,
    next: *const f32,
    m: *mut f32,
    tiles: usize,
    c: usize,
) {
    // Rows of nearly equal length keep the registers busy: 16 tiles are 8 + 8, not 14 + 2.
    let rows = tiles.div_ceil(L::TILES);
    for row in 0..rows {
        let (from, to) = (row * tiles / rows, (row + 1) * tiles / rows);
        // SAFETY: the tiles `from..to` lie within `tiles`.
        unsafe {
            let (v, m) = (v.add(from * LANES), m.add(from * LANES * L::GROUPS));
            // Each row asks for its part of the next weights.
            let pace = L::GROUPS * LANES / rows;
            let next = (next.wrapping_add(row * c * pace), pace);
            match (to - from, L::GROUPS) {
                (1, 2) => forward_block::<L, 1, 2>(v, block, u, next, m, c),
                (2, 2) => forward_block::<L, 2, 2>(v, block, u, next, m, c),
                (3, 2) => forward_block::<L, 3, 2>(v, block, u, next, m, c),
                (4, 2) => forward_block::<L, 4, 2>(v, block, u, next, m, c),
                (5, 2) => forward_block::<L, 5, 2>(v, block, u, next, m, c),
                (6, 2) => forward_block::<L, 6, 2>(v, block, u, next, m, c),
                (7, 2) => forward_block::<L, 7, 2>(v, block, u, next, m, c),
                (8, 2) => forward_block::<L, 8, 2>(v, block, u, next, m, c),
                (9, 2) => forward_block::<L, 9, 2>(v, block, u, next, m, c),
                (10, 2) => forward_block::<L, 10, 2>(v, block, u, next, m, c),
                (11, 2) => forward_block::<L, 11, 2>(v, block, u, next, m, c),
                (12, 2) => forward_block::<L, 12, 2>(v, block, u, next, m, c),
                (13, 2) => forward_block::<L, 13, 2>(v, block, u, next, m, c),
                (14, 2) => forward_block::<L, 14, 2>(v, block, u, next, m, c),
                (1, 1) => forward_block::<L, 1, 1>(v, block, u, next, m, c),
                (2, 1) => forward_block::<L, 2, 1>(v, block, u, next, m, c),
                (3, 1) => forward_block::<L, 3, 1>(v, block, u, next, m, c),
                (4, 1) => forward_block::<L, 4, 1>(v, block, u, next, m, c),
                (5, 1) => forward_block::<L, 5, 1>(v, block, u, next, m, c),
                (6, 1) => forward_block::<L, 6, 1>(v, block, u, next, m, c),
                _ => unreachable!("a row has at most TILES tiles, in at most two groups"),
            }
        }
    }
}

/// `R` tiles by `G` vectors of channels, all sums in registers.
#[inline(always)]
unsafe fn forward_block<L: Lanes, const R: usize, const G: usize>(
    v: *const f32,
    block: usize,
    u: *const f32,
    (mut next, pace): (*const f32, usize),
    m: *mut f32,
    c: usize,
) {
    // SAFETY: as promised to `forward`.
    unsafe {
        let mut sums = [[L::splat(0.0); G]; R];
        let mut weights = u;
        let mut from = 0;
        while from < c {
            let tiles = v.add(from / LANES * block);
            let lanes = LANES.min(c - from);
            let mut lane = 0;
            while lane + 2 <= lanes {
                // Two at a time, so that counting them costs less.
                add::<L, R, G>(&mut sums, tiles.add(lane), weights);
                add::<L, R, G>(&mut sums, tiles.add(lane + 1), weights.add(G * LANES));
                // Tiles of the next row, which the weights' stream would otherwise find in the second cache.
                L::prefetch(tiles.wrapping_add((R + lane) * LANES));
                L::prefetch(tiles.wrapping_add((R + lane + 1) * LANES));
                L::prefetch_l2(next);
                L::prefetch_l2(next.wrapping_add(pace));
                next = next.wrapping_add(2 * pace);
                weights = weights.add(2 * G * LANES);
                lane += 2;
            }
            if lane < lanes {
                add::<L, R, G>(&mut sums, tiles.add(lane), weights);
                weights = weights.add(G * LANES);
            }
            from += LANES;
        }
        for tile in 0..R {
            for group in 0..G {
                L::store(m.add((tile * G + group) * LANES), sums[tile][group]);
            }
        }
    }
}

/// Channels whose weights are asked for ahead of their use: far enough for a line from the last-level cache.
const PREFETCH_DISTANCE: usize = 16;

/// Adds the products of one input channel to the sums.
#[inline(always)]
unsafe fn add<L: Lanes, const R: usize, const G: usize>(
    sums: &mut [[L::V; G]; R],
    tiles: *const f32,
    weights: *const f32,
) {
    // SAFETY: as promised to `forward`.
    unsafe {
        let mut u = [L::splat(0.0); G];
        for group in 0..G {
            u[group] = L::load(weights.add(group * LANES));
            L::prefetch(weights.wrapping_add((PREFETCH_DISTANCE * G + group) * LANES));
        }
        for tile in 0..R {
            let value = L::splat(*tiles.add(tile * LANES));
            for group in 0..G {
                sums[tile][group] = L::fma(value, u[group], sums[tile][group]);
            }
        }
    }
}

/// U[c][k] += Σ_tile V[tile][c]·W[tile][k] (= if `overwrite`) at one position, for 16 channels c and 16·GROUPS channels k.
///
/// `v` is `[tile][16]`; `w` is `[k / 16][tile][16]` with `block` elements from one block to the next; `u` is
/// `[16 c][16·GROUPS]`.
///
/// # Safety
/// As [`Lanes`]; the pointers are valid for `tiles` tiles.
#[inline(always)]
pub(super) unsafe fn weight_gradient<L: Lanes>(
    v: *const f32,
    w: *const f32,
    block: usize,
    u: *mut f32,
    tiles: usize,
    overwrite: bool,
) {
    // SAFETY: promised by the caller; the parts make up the sixteen channels.
    unsafe {
        match L::GROUPS {
            2 => {
                weight_gradient_block::<L, 8, 2>(v, w, block, u, tiles, overwrite);
                weight_gradient_block::<L, 8, 2>(
                    v.add(8),
                    w,
                    block,
                    u.add(8 * 2 * LANES),
                    tiles,
                    overwrite,
                );
            }
            _ => {
                for part in 0..4 {
                    let u = u.add(part * 4 * LANES);
                    weight_gradient_block::<L, 4, 1>(
                        v.add(part * 4),
                        w,
                        block,
                        u,
                        tiles,
                        overwrite,
                    );
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn weight_gradient_block<L: Lanes, const C: usize, const G: usize>(
    v: *const f32,
    w: *const f32,
    block: usize,
    u: *mut f32,
    tiles: usize,
    overwrite: bool,
) {
    // SAFETY: as promised to `weight_gradient`.
    unsafe {
        let mut sums = [[L::splat(0.0); G]; C];
        if !overwrite {
            for c in 0..C {
                for group in 0..G {
                    sums[c][group] = L::load(u.add((c * G + group) * LANES));
                }
            }
        }
        for tile in 0..tiles {
            let mut weights = [L::splat(0.0); G];
            for group in 0..G {
                weights[group] = L::load(w.add(group * block + tile * LANES));
            }
            for c in 0..C {
                let value = L::splat(*v.add(tile * LANES + c));
                for group in 0..G {
                    sums[c][group] = L::fma(value, weights[group], sums[c][group]);
                }
            }
        }
        for c in 0..C {
            for group in 0..G {
                L::store(u.add((c * G + group) * LANES), sums[c][group]);
            }
        }
    }
}
