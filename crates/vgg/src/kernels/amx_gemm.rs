//! The products at the positions on AMX: matrices are taken apart into thirds where they are needed, in the cache.

use std::ops::Range;

use super::amx::{TileRegisters, microkernel, microkernels};
use super::bf16x3::{self, COLUMN_TILE_BYTES, ROW_TILE_BYTES};
use super::buffer::with_scratch;
use super::layout::LANES;
use super::transform::POSITIONS;
use super::weight_gradient::GemmTask as GradientGemmTask;
use super::winograd::GemmTask;

/// Inner dimension of a product of tile registers, and their rows and columns taken two by two.
pub(super) const BLOCK: usize = 32;

/// Bytes of a group of 32 output channels' weights at one position.
pub(super) fn weights_bytes(inputs: usize) -> usize {
    inputs.div_ceil(BLOCK) * 3 * COLUMN_TILE_BYTES
}

/// Takes weights `[position][input][32]` apart to what [`forward`] reads, `[position]` of [`weights_bytes`].
///
/// # Safety
/// AVX-512; the pointers are valid for that.
pub(super) unsafe fn split_weights(u: *const f32, inputs: usize, to: *mut f32) {
    let width = 2 * LANES;
    for position in 0..POSITIONS {
        // SAFETY: promised by the caller.
        unsafe {
            let u = u.add(position * inputs * width);
            let to = to.cast::<u8>().add(position * weights_bytes(inputs));
            bf16x3::pack_columns(u, width, LANES, inputs, to);
        }
    }
}

/// M = V·U of a block of tiles at all positions, for some groups of output channels.
///
/// # Safety
/// AMX; as [`GemmTask`]'s run, with room in `m` for tiles rounded up to whole sixteens.
pub(super) unsafe fn forward(task: &GemmTask) {
    let inputs = task.c.div_ceil(LANES);
    let rows = task.tiles.next_multiple_of(LANES);
    let (term_stride, weights) = (rows * 64, weights_bytes(task.c));
    let u = |group: usize, position: usize| {
        let at = (group * POSITIONS + position) * weights;
        task.u.cast::<u8>().wrapping_add(at)
    };
    let blocks = task.c.div_ceil(BLOCK);
    // Together the rows ask for the next weights: of few tiles, each for more of them.
    let calls = rows.div_ceil(BLOCK);
    let (whole, half, lines) = microkernels(calls);
    with_scratch(blocks * 3 * term_stride / 4, |a| {
        // SAFETY: promised by the caller; `a` has room for the thirds of all rows.
        unsafe {
            let a = a.as_mut_ptr().cast::<u8>();
            let tiles = TileRegisters::new();
            for position in 0..POSITIONS {
                let v = task.v.add(position * task.v_stride);
                bf16x3::pack_rows(v, task.v_block, inputs, task.tiles, a, term_stride);
                for (place, group) in task.groups.clone().enumerate() {
                    let next = if group + 1 < task.groups.end {
                        u(group + 1, position)
                    } else {
                        u(task.groups.start, position + 1)
                    };
                    let m = task.m.add(position * task.m_stride + place * task.m_group);
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
    });
}

/// U += Vᵀ·W (= if overwrite) of a block of tiles at some positions.
///
/// # Safety
/// AMX; as [`GradientGemmTask`]'s run.
pub(super) unsafe fn weight_gradient(task: &GradientGemmTask) {
    let blocks = task.tiles.div_ceil(BLOCK);
    let term_stride = task.inputs * ROW_TILE_BYTES;
    let columns = blocks * 3 * COLUMN_TILE_BYTES;
    with_scratch(blocks * 3 * term_stride / 4, |a| {
        with_scratch(task.groups * columns / 4, |b| {
            // SAFETY: promised by the caller; `a` and `b` have room for the thirds of all channels.
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
        });
    });
}

#[repr(C, align(64))]
struct TileBlock([f32; BLOCK * BLOCK]);

/// Adds `c` to the sums, or writes it there.
///
/// # Safety
/// AVX-512; `sums` is valid for as many elements.
#[target_feature(enable = "avx512f")]
unsafe fn add(c: &[f32], sums: *mut f32, overwrite: bool) {
    for (place, value) in c.iter().enumerate() {
        // SAFETY: promised by the caller.
        unsafe {
            let sum = sums.add(place);
            *sum = if overwrite { *value } else { *sum + value };
        }
    }
}
