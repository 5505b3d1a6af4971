//! Matrix products in the Winograd domain with AMX.
//!
//! Activations are split into bf16x3 and packed block by block, while they are in the cache.

use std::ops::Range;

use super::gemm::{ForwardGemmTask, GradientGemmTask};
use crate::buffer::with_scratch;
use crate::error::Error;
use crate::isa::amx::{TileRegisters, microkernel, microkernels};
use crate::isa::bf16x3::{self, COLUMN_TILE_BYTES, ROW_TILE_BYTES};
use crate::layout::{LANES, POSITIONS};

/// Block size in all three dimensions of a product. A tile register has 32 bf16 per row, and the
/// microkernel accumulates in 2x2 tile registers of 16x16 f32.
pub(crate) const BLOCK: usize = 32;

/// Size in bytes of the packed weights for 32 output channels at one position.
pub(crate) fn weights_bytes(inputs: usize) -> usize {
    inputs.div_ceil(BLOCK) * 3 * COLUMN_TILE_BYTES
}

/// Splits the transformed weights of 32 output channels, `[position][input][32]`, into bf16x3 and
/// packs them for [`forward`]: [`weights_bytes`] per position.
///
/// # Safety
///
/// The CPU must support AVX-512 F and BW. `u` must be valid for reads of all positions and `to` for
/// writes of [`weights_bytes`] per position.
pub(crate) unsafe fn split_weights(u: *const f32, inputs: usize, to: *mut f32) {
    let width = 2 * LANES;
    for position in 0..POSITIONS {
        // SAFETY: the CPU supports AVX-512, and both pointers are valid for this position (contract
        // of this function).
        unsafe {
            let u = u.add(position * inputs * width);
            let to = to.cast::<u8>().add(position * weights_bytes(inputs));
            bf16x3::pack_columns(u, width, LANES, inputs, to);
        }
    }
}

/// Runs `task` with AMX: M = V·U for a block of tiles at all positions and some groups of output
/// channels.
///
/// # Safety
///
/// AMX must be available. `task.tiles` and `task.c` must be at least 1. The pointers of `task` must
/// be valid as its docs describe, and `task.m` must have room for the number of tiles rounded up to
/// a multiple of 16.
pub(crate) unsafe fn forward(task: &ForwardGemmTask) -> Result<(), Error> {
    let inputs = task.c.div_ceil(LANES);
    let rows = task.tiles.next_multiple_of(LANES);
    let (term_stride, weights) = (rows * 64, weights_bytes(task.c));
    let u = |group: usize, position: usize| {
        let at = (group * POSITIONS + position) * weights;
        task.u.cast::<u8>().wrapping_add(at)
    };
    let blocks = task.c.div_ceil(BLOCK);
    // The calls for all rows together prefetch the next weights. If there are few calls, each call
    // prefetches more.
    let calls = rows.div_ceil(BLOCK);
    let (whole, half, lines) = microkernels(calls);
    with_scratch(blocks * 3 * term_stride / 4, |a| {
        // SAFETY: AMX is available, the pointers of `task` are valid and `blocks` is not 0
        // (contract of this function). `a` has room for three terms of all rows. Only `forward` and
        // `weight_gradient` create `TileRegisters`, and they do not nest.
        unsafe {
            let a = a.as_mut_ptr().cast::<u8>();
            let tiles = TileRegisters::new();
            for position in 0..POSITIONS {
                let v = task.v.add(position * task.v_stride);
                bf16x3::pack_rows(v, task.v_block, inputs, task.tiles, a, term_stride);
                for (index, group) in task.groups.clone().enumerate() {
                    let next = if group + 1 < task.groups.end {
                        u(group + 1, position)
                    } else {
                        u(task.groups.start, position + 1)
                    };
                    let m = task.m.add(position * task.m_stride + index * task.m_group);
                    for row in (0..rows).step_by(BLOCK) {
                        let (a, b) = (a.add(row * 64), u(group, position));
                        let m = m.add(row * 2 * LANES);
                        let next = next.wrapping_add(row / BLOCK % 6 * blocks * 4 * lines * 64);
                        let microkernel = if row + BLOCK <= rows { whole } else { half };
                        microkernel(&tiles, a, term_stride, b, blocks, m, next);
                    }
                }
            }
        }
        Ok(())
    })
}

/// Runs `task` with AMX: dU += Vᵀ·W, or dU = Vᵀ·W if `overwrite`, for a block of tiles at some
/// positions.
///
/// # Safety
///
/// AMX must be available. `task.tiles` must be at least 1. The pointers of `task` must be valid as
/// its docs describe.
pub(crate) unsafe fn weight_gradient(task: &GradientGemmTask) -> Result<(), Error> {
    let blocks = task.tiles.div_ceil(BLOCK);
    let term_stride = task.inputs * ROW_TILE_BYTES;
    let columns = blocks * 3 * COLUMN_TILE_BYTES;
    with_scratch(blocks * 3 * term_stride / 4, |a| {
        with_scratch(task.groups * columns / 4, |b| {
            // SAFETY: AMX is available, the pointers of `task` are valid and `blocks` is not 0
            // (contract of this function). `a` and `b` have room for three terms of all channels.
            // Only `forward` and `weight_gradient` create `TileRegisters`, and they do not nest.
            unsafe {
                let (a, b) = (a.as_mut_ptr().cast::<u8>(), b.as_mut_ptr().cast::<u8>());
                let tiles = TileRegisters::new();
                let Range { start, end } = task.positions;
                for position in start..end {
                    let v = task.v.add(position * task.v_stride);
                    for input in 0..task.inputs {
                        let to = a.add(input * ROW_TILE_BYTES);
                        bf16x3::pack_transposed_rows(
                            v.add(input * task.block),
                            task.tiles,
                            to,
                            term_stride,
                        );
                    }
                    let w = task.w.add(position * task.w_stride);
                    for group in 0..task.groups {
                        let w = w.add(group * 2 * task.block);
                        let to = b.add(group * columns);
                        bf16x3::pack_columns(w, LANES, task.block, task.tiles, to);
                    }
                    let size = LANES * 2 * LANES;
                    let sums = task.sums;
                    let sums = sums.add((position - start) * task.inputs * task.groups * size);
                    for input in (0..task.inputs).step_by(2) {
                        for group in 0..task.groups {
                            let mut c = TileBlock([0.0; BLOCK * BLOCK]);
                            let (to, b) = (c.0.as_mut_ptr(), b.add(group * columns));
                            let a = a.add(input * ROW_TILE_BYTES);
                            let rows = if input + 1 < task.inputs {
                                microkernel::<false, 4>(&tiles, a, term_stride, b, blocks, to, b);
                                2
                            } else {
                                microkernel::<true, 4>(&tiles, a, term_stride, b, blocks, to, b);
                                1
                            };
                            for (row, c) in c.0.chunks_exact(size).take(rows).enumerate() {
                                let sums = sums.add(((input + row) * task.groups + group) * size);
                                add(c, sums, task.overwrite);
                            }
                        }
                    }
                }
            }
            Ok(())
        })
    })
}

/// A 32x32 block of sums, the output of one microkernel call.
#[repr(C, align(64))]
struct TileBlock([f32; BLOCK * BLOCK]);

/// Adds `c` to `sums`, or copies `c` to `sums` if `overwrite`.
///
/// # Safety
///
/// The CPU must support AVX-512 F. `sums` must be valid for reads and writes of `c.len()` elements.
#[target_feature(enable = "avx512f")]
unsafe fn add(c: &[f32], sums: *mut f32, overwrite: bool) {
    for (index, value) in c.iter().enumerate() {
        // SAFETY: `index` is less than `c.len()`, and `sums` is valid for `c.len()` elements
        // (contract of this function).
        unsafe {
            let sum = sums.add(index);
            *sum = if overwrite { *value } else { *sum + value };
        }
    }
}
