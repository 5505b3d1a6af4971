//! The weight gradient of a convolution, in the transformed domain.
//!
//! dU = Σ (Bᵀ d B) ⊙ (A dY Aᵀ) over all tiles, then dW = Gᵀ dU G. Small sums (dU of few channels) are kept by each
//! thread for tiles of its own and added up in order at the end; large ones are shared, each thread having
//! positions of its own. The former depends on the number of threads in the last bits, the latter does not.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::amx_gemm;
use super::buffer::{Buffer, with_scratch};
use super::isa::Isa;
use super::lanes::{Lanes, Task};
use super::layout::{LANES, NchwcShape, TILE};
use super::microkernel;
use super::parallel::{DisjointMut, chunk, for_each_chunk};
use super::tiles::{InputTask, TileCoord, odd};
use super::transform::{OutputGradient, POSITIONS, both, load};
use super::tuning;
use super::weights::{self, microkernel_channels};

/// Sums over tiles at the positions, to which pictures are added.
pub(super) struct WeightGradient {
    isa: Isa,
    from: NchwcShape,
    k: usize,
    /// Whether nothing has been added yet, and `sums` hold anything.
    overwrite: bool,
    sums: Buffer,
}

impl WeightGradient {
    /// For a convolution of pictures like `from` to `k` channels.
    pub(super) fn new(isa: Isa, from: NchwcShape, k: usize) -> Self {
        let width = microkernel_channels(isa);
        let size = POSITIONS * from.channel_blocks() * LANES * k.div_ceil(width) * width;
        Self {
            isa,
            from,
            k,
            overwrite: true,
            sums: Buffer::alloc(size),
        }
    }

    /// Adds the pictures `x` with the gradient `g` before the ReLU, both blocked, `n` of each.
    pub(super) fn add(&mut self, x: &[f32], g: &[f32], n: usize) {
        let from = self.from.with_n(n);
        let to = NchwcShape { c: self.k, ..from };
        assert_eq!(
            (x.len(), g.len()),
            (from.len(), to.len()),
            "the shapes of a weight gradient"
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
            accumulation.by_tiles(&mut self.sums, self.overwrite);
        } else {
            accumulation.by_positions(&mut self.sums, self.overwrite);
        }
        self.overwrite = false;
    }

    /// The gradient of the weight, (k, c, 3, 3).
    pub(super) fn finish(self) -> Vec<f32> {
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

/// The transforms of a block of tiles: V = Bᵀ d B and W = A dY Aᵀ, `[position][channel / 16][tile][16]` each.
struct Block<'a> {
    /// Tiles that it has room for.
    tiles: usize,
    v: &'a mut [f32],
    w: &'a mut [f32],
}

/// A block that several threads fill.
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
    /// Lends a block with room for `tiles`.
    fn with_block<R>(&self, tiles: usize, work: impl FnOnce(Block<'_>) -> R) -> R {
        with_scratch(POSITIONS * self.v_stride(tiles), |v| {
            with_scratch(POSITIONS * self.w_stride(tiles), |w| {
                work(Block { tiles, v, w })
            })
        })
    }

    fn v_stride(&self, tiles: usize) -> usize {
        odd(self.from.channel_blocks() * tiles * LANES)
    }

    fn w_stride(&self, tiles: usize) -> usize {
        odd(self.groups * tiles * self.width)
    }

    fn block_size(&self) -> usize {
        tuning::gradient_block_tiles(self.from.channel_blocks() * LANES, self.groups * self.width)
    }

    fn by_tiles(&self, sums: &mut [f32], overwrite: bool) {
        let all = self.from.n * self.from.tiles();
        let len = sums.len();
        let parts = rayon::current_num_threads().min(all);
        let mut own = Buffer::alloc(parts * len);
        let shared = DisjointMut::new(&mut own);
        for_each_chunk(parts, |numbers| {
            for part in numbers {
                let tiles = chunk(all, parts, part);
                // SAFETY: each part has sums of its own.
                let own = unsafe {
                    std::slice::from_raw_parts_mut(shared.slice_ptr(part * len, len), len)
                };
                self.with_block(self.block_size().min(tiles.len()), |mut block| {
                    for start in tiles.clone().step_by(block.tiles) {
                        let now = start..tiles.end.min(start + block.tiles);
                        self.transform(now.clone(), start, &block.shared());
                        let first = start == tiles.start;
                        self.multiply(
                            &block,
                            now.len(),
                            0..POSITIONS,
                            &DisjointMut::new(own),
                            first,
                        );
                    }
                });
            }
        });
        let shared = DisjointMut::new(sums);
        for_each_chunk(len, |elements| {
            // SAFETY: each part has elements of its own.
            let sums = unsafe {
                let to = shared.slice_ptr(elements.start, elements.len());
                std::slice::from_raw_parts_mut(to, elements.len())
            };
            for part in 0..parts {
                let own = &own[part * len..][elements.clone()];
                if overwrite && part == 0 {
                    sums.copy_from_slice(own);
                } else {
                    sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                }
            }
        });
    }

    fn by_positions(&self, sums: &mut [f32], overwrite: bool) {
        let all = self.from.n * self.from.tiles();
        self.with_block(self.block_size().min(all), |mut block| {
            for start in (0..all).step_by(block.tiles) {
                let count = block.tiles.min(all - start);
                let shared = block.shared();
                for_each_chunk(count, |part| {
                    self.transform(start + part.start..start + part.end, start, &shared);
                });
                let sums = DisjointMut::new(sums);
                for_each_chunk(POSITIONS, |positions| {
                    self.multiply(&block, count, positions, &sums, overwrite && start == 0);
                });
            }
        });
    }

    fn transform(&self, tiles: Range<usize>, start: usize, block: &SharedBlock<'_>) {
        let (v_stride, w_stride) = (self.v_stride(block.tiles), self.w_stride(block.tiles));
        // SAFETY: `isa` was available when it was chosen. A tile's patches lie within their bordered planes, and
        // its places in `v` and `w` are its own.
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

    /// Adds a block's products at some positions to `sums`, `[position][c / 16][group][16 c][width]`.
    fn multiply(
        &self,
        block: &Block<'_>,
        count: usize,
        positions: Range<usize>,
        sums: &DisjointMut<'_>,
        overwrite: bool,
    ) {
        let size = self.from.channel_blocks() * self.groups * LANES * self.width;
        // SAFETY: `isa` was available when it was chosen. The buffers have the strides given here, and the sums
        // at these positions belong to this call alone.
        unsafe {
            let products = GemmTask {
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
                Isa::Amx => amx_gemm::weight_gradient(&products),
                _ => self.isa.run(products),
            }
        }
    }
}

/// The products of a block of tiles at some positions.
pub(super) struct GemmTask {
    pub v: *const f32,
    pub v_stride: usize,
    pub w: *const f32,
    pub w_stride: usize,
    pub block: usize,
    pub tiles: usize,
    pub inputs: usize,
    pub groups: usize,
    pub positions: Range<usize>,
    /// Whether the sums hold anything, and are to be written rather than added to.
    pub overwrite: bool,
    pub sums: *mut f32,
}

impl Task for GemmTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut sums = self.sums;
        for position in self.positions {
            for input in 0..self.inputs {
                for group in 0..self.groups {
                    // SAFETY: the lanes' promise; position, input and group lie within the buffers.
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

/// A dY Aᵀ of tiles: `[position][k / 16][tile][16]`.
struct OutputGradientTask {
    g: *const f32,
    to: NchwcShape,
    tiles: Range<usize>,
    start: usize,
    block: usize,
    stride: usize,
    w: *mut f32,
}

impl Task for OutputGradientTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (row, plane) = (self.to.row_stride(), self.to.plane_len());
        for tile in self.tiles {
            let coord = TileCoord::of(tile, self.to);
            let corner = coord.image * self.to.image_len() + self.to.origin();
            let corner = corner + coord.y * row + coord.x * LANES;
            for block in 0..self.to.channel_blocks() {
                // SAFETY: the lanes' promise; a tile lies within its plane, whose sides are whole tiles.
                unsafe {
                    let g = self.g.add(corner + block * plane);
                    let y = load::<L, TILE>(g, row, LANES);
                    let w = both::<L, OutputGradient, 4, 6>(y);
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
