//! Weight gradient of a convolution, accumulated in the Winograd domain.
//!
//! For each pair of an input and an output channel, dU = Σ (Bᵀ d B) ⊙ (A dY Aᵀ) over all tiles,
//! then dW = Gᵀ dU G. If dU is small (few channels), each thread accumulates the sum of its own
//! tiles, and the sums are added in order at the end. If dU is large, it is shared, and each thread
//! accumulates its own positions. The last bits of the result depend on the number of threads only
//! in the first case.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::amx_gemm;
use super::gemm::GradientGemmTask;
use super::tiles::{InputTask, TileCoord, odd_stride};
use super::transform::{OutputGradientTransform, load_square, transform_2d};
use super::weights::{self, microkernel_channels};
use crate::buffer::{Buffer, with_scratch};
use crate::error::Error;
use crate::isa::Isa;
use crate::isa::lanes::{Lanes, Task};
use crate::layout::{LANES, NchwcShape, POSITIONS, TILE};
use crate::parallel::{DisjointMut, chunk, for_each_chunk, try_for_each_chunk};
use crate::tuning;

/// Accumulates dU over groups of images.
pub(crate) struct WeightGradient {
    isa: Isa,
    from: NchwcShape,
    k: usize,
    /// Whether the next `add` overwrites `sums`, whose initial values are arbitrary.
    overwrite: bool,
    sums: Buffer,
}

impl WeightGradient {
    /// Creates an accumulator for a convolution with input shape `from` and `k` output channels.
    pub(crate) fn new(isa: Isa, from: NchwcShape, k: usize) -> Result<Self, Error> {
        let width = microkernel_channels(isa);
        let size = POSITIONS * from.channel_blocks() * LANES * k.div_ceil(width) * width;
        Ok(Self {
            isa,
            from,
            k,
            overwrite: true,
            sums: Buffer::alloc(size)?,
        })
    }

    /// Adds the gradient of `n` images with input `x` and gradient `g` of the convolution's output
    /// (before the ReLU), both NCHWc16 with a halo and padding of zeros.
    pub(crate) fn add(&mut self, x: &[f32], g: &[f32], n: usize) -> Result<(), Error> {
        let from = self.from.with_n(n);
        let to = NchwcShape { c: self.k, ..from };
        assert_eq!(
            (x.len(), g.len()),
            (from.len(), to.len()),
            "`x` or `g` does not match its shape"
        );
        let width = microkernel_channels(self.isa);
        let accumulation = Accumulation {
            isa: self.isa,
            x,
            g,
            from,
            to,
            groups: self.k.div_ceil(width),
            width,
        };
        if tuning::partition_gradient_by_tiles(
            from.channel_blocks() * LANES,
            accumulation.groups * width,
        ) {
            accumulation.by_tiles(&mut self.sums, self.overwrite)?;
        } else {
            accumulation.by_positions(&mut self.sums, self.overwrite)?;
        }
        self.overwrite = false;
        Ok(())
    }

    /// Returns the gradient of the weight, (k, c, 3, 3).
    pub(crate) fn finish(self) -> Vec<f32> {
        weights::gradient(self.isa, &self.sums, self.k, self.from.c)
    }
}

struct Accumulation<'a> {
    isa: Isa,
    x: &'a [f32],
    g: &'a [f32],
    from: NchwcShape,
    to: NchwcShape,
    groups: usize,
    width: usize,
}

/// Transforms of a block of tiles: V = Bᵀ d B and W = A dY Aᵀ, both
/// `[position][channel / 16][tile][16]`.
struct Block<'a> {
    /// Capacity in tiles.
    tiles: usize,
    v: &'a mut [f32],
    w: &'a mut [f32],
}

/// A [`Block`] that several threads write.
struct SharedBlock<'a> {
    tiles: usize,
    v: DisjointMut<'a>,
    w: DisjointMut<'a>,
}

impl Block<'_> {
    fn shared(&mut self) -> SharedBlock<'_> {
        SharedBlock {
            tiles: self.tiles,
            v: DisjointMut::new(self.v),
            w: DisjointMut::new(self.w),
        }
    }
}

impl Accumulation<'_> {
    /// Calls `f` with a scratch block for `tiles` tiles.
    fn with_block(
        &self,
        tiles: usize,
        f: impl FnOnce(Block<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        with_scratch(POSITIONS * self.v_stride(tiles), |v| {
            with_scratch(POSITIONS * self.w_stride(tiles), |w| {
                f(Block { tiles, v, w })
            })
        })
    }

    fn v_stride(&self, tiles: usize) -> usize {
        odd_stride(self.from.channel_blocks() * tiles * LANES)
    }

    fn w_stride(&self, tiles: usize) -> usize {
        odd_stride(self.groups * tiles * self.width)
    }

    fn block_tiles(&self) -> usize {
        tuning::gradient_block_tiles(self.from.channel_blocks() * LANES, self.groups * self.width)
    }

    fn by_tiles(&self, sums: &mut [f32], overwrite: bool) -> Result<(), Error> {
        let tile_count = self.from.n * self.from.tiles();
        let len = sums.len();
        let parts = rayon::current_num_threads().min(tile_count);
        let mut partial_sums = Buffer::alloc(parts * len)?;
        let shared = DisjointMut::new(&mut partial_sums);
        try_for_each_chunk(parts, |assigned| {
            for part in assigned {
                let tiles = chunk(tile_count, parts, part);
                // SAFETY: each part has its own range of `len` elements, and exactly one thread
                // processes each part.
                let partial = unsafe {
                    std::slice::from_raw_parts_mut(shared.slice_ptr(part * len, len), len)
                };
                self.with_block(self.block_tiles().min(tiles.len()), |mut block| {
                    for start in tiles.clone().step_by(block.tiles) {
                        let block_range = start..tiles.end.min(start + block.tiles);
                        self.transform(block_range.clone(), start, &block.shared());
                        let first = start == tiles.start;
                        self.multiply(
                            &block,
                            block_range.len(),
                            0..POSITIONS,
                            &DisjointMut::new(partial),
                            first,
                        )?;
                    }
                    Ok(())
                })?;
            }
            Ok::<_, Error>(())
        })?;
        let shared = DisjointMut::new(sums);
        for_each_chunk(len, |elements| {
            // SAFETY: chunks are disjoint, so no other thread accesses these elements of `sums`.
            let sums = unsafe {
                let to = shared.slice_ptr(elements.start, elements.len());
                std::slice::from_raw_parts_mut(to, elements.len())
            };
            for part in 0..parts {
                let partial = &partial_sums[part * len..][elements.clone()];
                if overwrite && part == 0 {
                    sums.copy_from_slice(partial);
                } else {
                    sums.iter_mut()
                        .zip(partial)
                        .for_each(|(sum, partial)| *sum += partial);
                }
            }
        });
        Ok(())
    }

    fn by_positions(&self, sums: &mut [f32], overwrite: bool) -> Result<(), Error> {
        let tile_count = self.from.n * self.from.tiles();
        self.with_block(self.block_tiles().min(tile_count), |mut block| {
            for start in (0..tile_count).step_by(block.tiles) {
                let count = block.tiles.min(tile_count - start);
                let shared = block.shared();
                for_each_chunk(count, |part| {
                    self.transform(start + part.start..start + part.end, start, &shared);
                });
                let sums = DisjointMut::new(sums);
                try_for_each_chunk(POSITIONS, |positions| {
                    self.multiply(&block, count, positions, &sums, overwrite && start == 0)
                })?;
            }
            Ok(())
        })
    }

    fn transform(&self, tiles: Range<usize>, start: usize, block: &SharedBlock<'_>) {
        let (v_stride, w_stride) = (self.v_stride(block.tiles), self.w_stride(block.tiles));
        // SAFETY: `ConvLayer::with_isa` checked that the CPU supports `isa`. The halo keeps the
        // patch of each tile inside its plane, and `add` checked the lengths of `x` and `g`. Chunks
        // of tiles are disjoint, so no other thread accesses the same elements of `v` and `w`.
        unsafe {
            self.isa.run(InputTask {
                x: self.x.as_ptr(),
                from: self.from,
                tiles: tiles.clone(),
                start,
                block: block.tiles,
                stride: v_stride,
                v: block.v.slice_ptr(0, POSITIONS * v_stride),
            });
            self.isa.run(OutputGradientTask {
                g: self.g.as_ptr(),
                to: self.to,
                tiles,
                start,
                block: block.tiles,
                stride: w_stride,
                w: block.w.slice_ptr(0, POSITIONS * w_stride),
            });
        }
    }

    /// Multiplies the first `count` tiles of `block` at `positions` and adds the products to `sums`,
    /// `[position][c / 16][group][16 c][width]`. If `overwrite` is set, the products replace
    /// `sums`.
    fn multiply(
        &self,
        block: &Block<'_>,
        count: usize,
        positions: Range<usize>,
        sums: &DisjointMut<'_>,
        overwrite: bool,
    ) -> Result<(), Error> {
        let size = self.from.channel_blocks() * self.groups * LANES * self.width;
        // SAFETY: `ConvLayer::with_isa` checked that the CPU supports `isa`. `with_block` allocated
        // `v` and `w` with these strides for at least `count` tiles. Either the chunks of positions
        // are disjoint or `sums` is private to the thread, so no other thread accesses the same
        // elements.
        unsafe {
            let products = GradientGemmTask {
                v: block.v.as_ptr(),
                v_stride: self.v_stride(block.tiles),
                w: block.w.as_ptr(),
                w_stride: self.w_stride(block.tiles),
                block: block.tiles * LANES,
                tiles: count,
                inputs: self.from.channel_blocks(),
                groups: self.groups,
                sums: sums.slice_ptr(positions.start * size, positions.len() * size),
                positions,
                overwrite,
            };
            match self.isa {
                #[cfg(target_arch = "x86_64")]
                Isa::Amx => amx_gemm::weight_gradient(&products)?,
                _ => self.isa.run(products),
            }
        }
        Ok(())
    }
}

/// The transposed output transform W = A dY Aᵀ of a range of tiles, in all channels.
struct OutputGradientTask {
    /// Gradient of the convolution's output (before the ReLU), NCHWc16 of shape `to`.
    g: *const f32,
    to: NchwcShape,
    /// The tiles to transform, counted over all images.
    tiles: Range<usize>,
    /// Index of the first tile stored in `w`.
    start: usize,
    /// Tiles per channel block in `w`.
    block: usize,
    /// Elements between positions in `w`.
    stride: usize,
    /// The output, `[position][k / 16][tile][16]`.
    w: *mut f32,
}

impl Task for OutputGradientTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (row, plane) = (self.to.row_stride(), self.to.plane_len());
        for tile in self.tiles {
            let coord = TileCoord::new(tile, self.to);
            let corner = coord.image * self.to.image_len() + self.to.origin();
            let corner = corner + coord.y * row + coord.x * LANES;
            for block in 0..self.to.channel_blocks() {
                // SAFETY: the CPU supports the instruction set of `L`, and `g` and `w` are valid
                // (contract of `run`). Planes are padded to whole tiles, so each tile is inside its
                // plane.
                unsafe {
                    let g = self.g.add(corner + block * plane);
                    let y = load_square::<L, TILE>(g, row, LANES);
                    let w = transform_2d::<L, OutputGradientTransform, 4, 6>(y);
                    let to = self.w.add((block * self.block + tile - self.start) * LANES);
                    for position in 0..POSITIONS {
                        L::store(
                            to.add(position * self.stride),
                            w[position / 6][position % 6],
                        );
                    }
                }
            }
        }
    }
}
