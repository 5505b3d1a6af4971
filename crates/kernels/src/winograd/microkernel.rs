//! GEMM microkernels of the forward pass and the weight gradient, for one of the 36 positions.

use crate::isa::lanes::Lanes;
use crate::layout::LANES;

/// M[tile][k] = Σ_c V[tile][c]·U[c][k] at one position, for 16·GROUPS channels k.
///
/// `v` is `[c / 16][tile][16]` with `block_stride` elements between channel blocks. Only the first
/// `c` channels are used. `u` is `[c][16·GROUPS]`, and `m` is `[tile][16·GROUPS]`. The weights at
/// `next`, those of the next call, are prefetched.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`. `v` and `m` must be valid for `tiles` tiles,
/// and `v` and `u` for `c` channels. `next` may be any address.
#[inline(always)]
pub(crate) unsafe fn forward<L: Lanes>(
    v: *const f32,
    block_stride: usize,
    u: *const f32,
    next: *const f32,
    m: *mut f32,
    tiles: usize,
    c: usize,
) {
    // Blocks of nearly equal size use the registers best: 16 tiles become 8 + 8, not 14 + 2.
    let row_blocks = tiles.div_ceil(L::TILES);
    for row_block in 0..row_blocks {
        let (from, to) = (
            row_block * tiles / row_blocks,
            (row_block + 1) * tiles / row_blocks,
        );
        // SAFETY: the CPU supports the instruction set of `L`, and the pointers are valid for
        // `tiles` tiles and `c` channels (contract of this function). `to <= tiles`, so the block
        // is inside `v` and `m`.
        unsafe {
            let (v, m) = (v.add(from * LANES), m.add(from * LANES * L::GROUPS));
            // Each block prefetches its share of the next weights.
            let prefetch_step = L::GROUPS * LANES / row_blocks;
            let next = (
                next.wrapping_add(row_block * c * prefetch_step),
                prefetch_step,
            );
            match (to - from, L::GROUPS) {
                (1, 2) => forward_block::<L, 1, 2>(v, block_stride, u, next, m, c),
                (2, 2) => forward_block::<L, 2, 2>(v, block_stride, u, next, m, c),
                (3, 2) => forward_block::<L, 3, 2>(v, block_stride, u, next, m, c),
                (4, 2) => forward_block::<L, 4, 2>(v, block_stride, u, next, m, c),
                (5, 2) => forward_block::<L, 5, 2>(v, block_stride, u, next, m, c),
                (6, 2) => forward_block::<L, 6, 2>(v, block_stride, u, next, m, c),
                (7, 2) => forward_block::<L, 7, 2>(v, block_stride, u, next, m, c),
                (8, 2) => forward_block::<L, 8, 2>(v, block_stride, u, next, m, c),
                (9, 2) => forward_block::<L, 9, 2>(v, block_stride, u, next, m, c),
                (10, 2) => forward_block::<L, 10, 2>(v, block_stride, u, next, m, c),
                (11, 2) => forward_block::<L, 11, 2>(v, block_stride, u, next, m, c),
                (12, 2) => forward_block::<L, 12, 2>(v, block_stride, u, next, m, c),
                (13, 2) => forward_block::<L, 13, 2>(v, block_stride, u, next, m, c),
                (14, 2) => forward_block::<L, 14, 2>(v, block_stride, u, next, m, c),
                (1, 1) => forward_block::<L, 1, 1>(v, block_stride, u, next, m, c),
                (2, 1) => forward_block::<L, 2, 1>(v, block_stride, u, next, m, c),
                (3, 1) => forward_block::<L, 3, 1>(v, block_stride, u, next, m, c),
                (4, 1) => forward_block::<L, 4, 1>(v, block_stride, u, next, m, c),
                (5, 1) => forward_block::<L, 5, 1>(v, block_stride, u, next, m, c),
                (6, 1) => forward_block::<L, 6, 1>(v, block_stride, u, next, m, c),
                _ => unreachable!("a block has at most `TILES` tiles and `GROUPS` is 1 or 2"),
            }
        }
    }
}

/// Microkernel for `R` tiles and `G` vectors of channels, with all sums in registers.
///
/// # Safety
///
/// As [`forward`], for `R` tiles and `16·G` channels k.
#[inline(always)]
unsafe fn forward_block<L: Lanes, const R: usize, const G: usize>(
    v: *const f32,
    block_stride: usize,
    u: *const f32,
    (mut next, prefetch_step): (*const f32, usize),
    m: *mut f32,
    c: usize,
) {
    // SAFETY: the CPU supports the instruction set of `L`, `v` and `u` are valid for `c` channels,
    // and `v` and `m` for `R` tiles (contract of this function). Each `add` reads a channel below
    // `c`. Prefetches may use any address.
    unsafe {
        let mut sums = [[L::splat(0.0); G]; R];
        let mut weights = u;
        let mut from = 0;
        while from < c {
            let tiles = v.add(from / LANES * block_stride);
            let lanes = LANES.min(c - from);
            let mut lane = 0;
            while lane + 2 <= lanes {
                // Unrolled by two to halve the loop overhead.
                add::<L, R, G>(&mut sums, tiles.add(lane), weights);
                add::<L, R, G>(&mut sums, tiles.add(lane + 1), weights.add(G * LANES));
                // Prefetch the tiles of the next block, which the weights have displaced from the
                // L1 cache.
                L::prefetch(tiles.wrapping_add((R + lane) * LANES));
                L::prefetch(tiles.wrapping_add((R + lane + 1) * LANES));
                L::prefetch_l2(next);
                L::prefetch_l2(next.wrapping_add(prefetch_step));
                next = next.wrapping_add(2 * prefetch_step);
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

/// Prefetch distance of the weights, in input channels: enough to hide the latency of the
/// last-level cache.
const PREFETCH_DISTANCE: usize = 16;

/// Adds the products of one input channel to the sums.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`. `tiles` must be valid for one channel of `R`
/// tiles, 16 elements apart, and `weights` for `16·G` elements.
#[inline(always)]
unsafe fn add<L: Lanes, const R: usize, const G: usize>(
    sums: &mut [[L::V; G]; R],
    tiles: *const f32,
    weights: *const f32,
) {
    // SAFETY: the CPU supports the instruction set of `L`, and `tiles` and `weights` are valid for
    // these elements (contract of this function). Prefetches may use any address.
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

/// U[c][k] += Σ_tile V[tile][c]·W[tile][k] at one position, for 16 channels c and 16·GROUPS
/// channels k. If `overwrite` is set, the sum replaces U.
///
/// `v` is `[tile][16]`. `w` is `[k / 16][tile][16]` with `block_stride` elements between channel
/// blocks. `u` is `[16 c][16·GROUPS]`.
///
/// # Safety
///
/// The CPU must support the instruction set of `L`. `v` and `w` must be valid for `tiles` tiles,
/// and `u` for 16·16·GROUPS elements.
#[inline(always)]
pub(crate) unsafe fn weight_gradient<L: Lanes>(
    v: *const f32,
    w: *const f32,
    block_stride: usize,
    u: *mut f32,
    tiles: usize,
    overwrite: bool,
) {
    // SAFETY: the CPU supports the instruction set of `L`, and the pointers are valid for 16
    // channels c (contract of this function). Each call processes some of these channels.
    unsafe {
        match L::GROUPS {
            2 => {
                weight_gradient_block::<L, 8, 2>(v, w, block_stride, u, tiles, overwrite);
                weight_gradient_block::<L, 8, 2>(
                    v.add(8),
                    w,
                    block_stride,
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
                        block_stride,
                        u,
                        tiles,
                        overwrite,
                    );
                }
            }
        }
    }
}

/// Microkernel for `C` channels c and `G` vectors of channels k, with all sums in registers.
///
/// # Safety
///
/// As [`weight_gradient`], for `C` channels c and `16·G` channels k.
#[inline(always)]
unsafe fn weight_gradient_block<L: Lanes, const C: usize, const G: usize>(
    v: *const f32,
    w: *const f32,
    block_stride: usize,
    u: *mut f32,
    tiles: usize,
    overwrite: bool,
) {
    // SAFETY: the CPU supports the instruction set of `L`, `v` and `w` are valid for `tiles` tiles,
    // and `u` is valid for these `C` channels (contract of this function).
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
                weights[group] = L::load(w.add(group * block_stride + tile * LANES));
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
