//! Tasks that compute the matrix products in the Winograd domain for a block of tiles.

use std::ops::Range;

use super::microkernel;
use crate::isa::lanes::{Lanes, Task};
use crate::layout::{LANES, POSITIONS};

/// The matrix products M = V·U of a block of tiles at all positions, for some groups of output
/// channels.
pub(crate) struct ForwardGemmTask {
    /// Transformed input, `[position][channel / 16][tile][16]`.
    pub v: *const f32,
    /// Elements between positions in `v`.
    pub v_stride: usize,
    /// Elements between channel blocks in `v`.
    pub v_block: usize,
    /// Transformed weights of all groups, in the layout of `weights::TransformedWeights`.
    pub u: *const f32,
    /// The products, `[position][group][tile][channels of a group]`.
    pub m: *mut f32,
    /// Elements between positions in `m`.
    pub m_stride: usize,
    /// Elements between groups in `m`.
    pub m_group: usize,
    /// Groups of output channels. `m` starts with the first of these groups.
    pub groups: Range<usize>,
    /// Number of tiles.
    pub tiles: usize,
    /// Number of input channels.
    pub c: usize,
}

impl Task for ForwardGemmTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let weights = self.c * L::GROUPS * LANES;
        let u = |group: usize, position: usize| {
            self.u
                .wrapping_add((group * POSITIONS + position) * weights)
        };
        for position in 0..POSITIONS {
            for (index, group) in self.groups.clone().enumerate() {
                let next = if group + 1 < self.groups.end {
                    u(group + 1, position)
                } else {
                    u(self.groups.start, position + 1)
                };
                // SAFETY: the CPU supports the instruction set of `L`, and the buffers are valid
                // for all positions, these groups and `tiles` tiles (contract of `run`).
                unsafe {
                    microkernel::forward::<L>(
                        self.v.add(position * self.v_stride),
                        self.v_block,
                        u(group, position),
                        next,
                        self.m.add(position * self.m_stride + index * self.m_group),
                        self.tiles,
                        self.c,
                    );
                }
            }
        }
    }
}

/// The products dU += Vᵀ·W of a block of tiles at some positions, or dU = Vᵀ·W if `overwrite`.
pub(crate) struct GradientGemmTask {
    /// Transformed input, `[position][c / 16][tile][16]`.
    pub v: *const f32,
    /// Elements between positions in `v`.
    pub v_stride: usize,
    /// Transformed output gradient, `[position][k / 16][tile][16]`.
    pub w: *const f32,
    /// Elements between positions in `w`.
    pub w_stride: usize,
    /// Elements between channel blocks in `v` and `w`.
    pub block: usize,
    /// Number of tiles.
    pub tiles: usize,
    /// Number of blocks of 16 input channels.
    pub inputs: usize,
    /// Number of groups of output channels.
    pub groups: usize,
    /// Positions to compute.
    pub positions: Range<usize>,
    /// Whether to overwrite `sums`, whose initial values are arbitrary, instead of adding to it.
    pub overwrite: bool,
    /// dU, `[position][c / 16][group][16 c][channels of a group]`. It starts with the first of
    /// `positions`.
    pub sums: *mut f32,
}

impl Task for GradientGemmTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut sums = self.sums;
        for position in self.positions {
            for input in 0..self.inputs {
                for group in 0..self.groups {
                    // SAFETY: the CPU supports the instruction set of `L`, and the buffers are
                    // valid for these positions, channels and tiles (contract of `run`).
                    unsafe {
                        microkernel::weight_gradient::<L>(
                            self.v.add(position * self.v_stride + input * self.block),
                            self.w
                                .add(position * self.w_stride + group * L::GROUPS * self.block),
                            self.block,
                            sums,
                            self.tiles,
                            self.overwrite,
                        );
                        sums = sums.add(LANES * L::GROUPS * LANES);
                    }
                }
            }
        }
    }
}
