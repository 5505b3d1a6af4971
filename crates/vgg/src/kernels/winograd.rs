//! The convolution: transform tiles, multiply at each position, transform back with bias, ReLU and pool.
//!
//! The input gradient is the same convolution with other weights. Every output is a sum over the input channels
//! in their order, whatever the number of threads: the result has the same bits for any.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::amx_gemm;
use super::buffer::with_scratch;
use super::isa::Isa;
use super::lanes::{Lanes, Task};
use super::layout::{LANES, NchwcShape};
use super::microkernel;
use super::parallel::{DisjointMut, for_each_chunk};
use super::tiles::{InputTask, OutputTask, odd};
use super::transform::POSITIONS;
use super::tuning;
use super::weights::{TransformedWeights, microkernel_channels, microkernel_tiles};

/// What follows the sums of a convolution.
pub(super) struct Epilogue<'a> {
    /// Added to each channel.
    pub bias: Option<&'a [f32]>,
    /// max(0, ·) after it.
    pub relu: bool,
    /// A 2x2 max pool after that.
    pub pool: bool,
    /// Where the pool's first maxima lie, one byte per element of the blocked output.
    pub indices: Option<&'a mut [u8]>,
}

/// Convolves `x` (blocked, of extent `from`) to `k` channels into `y` (blocked; pooled if the epilogue pools).
///
/// `y` holds zeros, or an earlier result of the same extent.
pub(super) fn convolve(
    x: &[f32],
    from: NchwcShape,
    weights: &TransformedWeights,
    k: usize,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let to = NchwcShape { c: k, ..from };
    let stored = if epilogue.pool { to.pooled() } else { to };
    assert_eq!(
        (x.len(), y.len()),
        (from.len(), stored.len()),
        "the shapes of a convolution"
    );
    let mut bias = vec![0f32; stored.channel_blocks() * LANES];
    if let Some(values) = epilogue.bias {
        bias[..k].copy_from_slice(values);
    }
    let indices = epilogue.indices.map(|indices| {
        assert_eq!(indices.len(), stored.len(), "one index per element");
        DisjointMut::new(indices)
    });
    let isa = weights.isa;
    let convolution = Convolution {
        isa,
        x,
        from,
        to,
        stored,
        weights: &weights.values,
        width: microkernel_channels(isa),
        bias: &bias,
        relu: epilogue.relu,
        pool: epilogue.pool,
        y: DisjointMut::new(y),
        indices,
    };
    if tuning::partition_by_tiles(from.c, k) {
        convolution.by_tiles();
    } else {
        convolution.by_channels();
    }
}

struct Convolution<'a> {
    isa: Isa,
    x: &'a [f32],
    from: NchwcShape,
    to: NchwcShape,
    stored: NchwcShape,
    weights: &'a [f32],
    width: usize,
    bias: &'a [f32],
    relu: bool,
    pool: bool,
    y: DisjointMut<'a>,
    indices: Option<DisjointMut<'a, u8>>,
}

impl Convolution<'_> {
    fn groups(&self) -> usize {
        self.to.c.div_ceil(self.width)
    }

    /// Each thread takes tiles of its own, with all channels.
    fn by_tiles(&self) {
        let block = tuning::private_block_tiles(
            self.from.channel_blocks() * LANES,
            self.groups() * self.width,
            microkernel_tiles(self.isa),
        );
        for_each_chunk(self.from.n * self.from.tiles(), |tiles| {
            let block = block.min(tiles.len().next_multiple_of(LANES));
            let v_stride = odd(self.from.channel_blocks() * block * LANES);
            with_scratch(POSITIONS * v_stride, |v| {
                for start in tiles.clone().step_by(block) {
                    let tiles = start..tiles.end.min(start + block);
                    let all = DisjointMut::new(v);
                    self.transform(tiles.clone(), tiles.start, block, v_stride, &all);
                    self.multiply(v, v_stride, block, tiles, 0..self.groups());
                }
            });
        });
    }

    /// The threads transform a block of tiles together, then each multiplies for channels of its own.
    fn by_channels(&self) {
        let all = self.from.n * self.from.tiles();
        let block = tuning::shared_block_tiles(
            self.from.channel_blocks() * LANES,
            microkernel_tiles(self.isa),
            all,
        );
        let block = block.min(all.next_multiple_of(LANES));
        let v_stride = odd(self.from.channel_blocks() * block * LANES);
        with_scratch(POSITIONS * v_stride, |v| {
            for start in (0..all).step_by(block) {
                let tiles = start..all.min(start + block);
                let shared = DisjointMut::new(v);
                for_each_chunk(tiles.len(), |part| {
                    let part = start + part.start..start + part.end;
                    self.transform(part, start, block, v_stride, &shared);
                });
                for_each_chunk(self.groups(), |groups| {
                    self.multiply(v, v_stride, block, tiles.clone(), groups);
                });
            }
        });
    }

    /// Bᵀ d B of `tiles`, which are counted from `start` in `v`: `[position][c / 16][tile][16]`.
    fn transform(
        &self,
        tiles: Range<usize>,
        start: usize,
        block: usize,
        stride: usize,
        v: &DisjointMut<'_>,
    ) {
        // SAFETY: `isa` was available when it was chosen. A tile's patch of 6x6 lies within its bordered plane,
        // and its place in `v` is its own.
        unsafe {
            self.isa.run(InputTask {
                x: self.x.as_ptr(),
                from: self.from,
                tiles,
                start,
                block,
                stride,
                v: v.slice_ptr(0, POSITIONS * stride),
            });
        }
    }

    /// The products of a block and their way into the output, for some groups of channels.
    fn multiply(
        &self,
        v: &[f32],
        v_stride: usize,
        block: usize,
        tiles: Range<usize>,
        groups: Range<usize>,
    ) {
        let m_group = block * self.width;
        let m_stride = odd(groups.len() * m_group);
        assert!(v.len() >= POSITIONS * v_stride, "transformed tiles");
        let (isa, c) = (self.isa, self.from.c);
        with_scratch(POSITIONS * m_stride, |m| {
            // SAFETY: `isa` was available when it was chosen. The buffers have the strides given here; the output's
            // planes of these groups at these tiles belong to this call alone.
            unsafe {
                let products = GemmTask {
                    v: v.as_ptr(),
                    v_stride,
                    v_block: block * LANES,
                    u: self.weights.as_ptr(),
                    m: m.as_mut_ptr(),
                    m_stride,
                    m_group,
                    groups: groups.clone(),
                    tiles: tiles.len(),
                    c,
                };
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Amx => amx_gemm::forward(&products),
                    _ => isa.run(products),
                }
                isa.run(OutputTask {
                    m: m.as_ptr(),
                    m_stride,
                    m_group,
                    groups,
                    tiles,
                    to: self.to,
                    stored: self.stored,
                    bias: self.bias.as_ptr(),
                    relu: self.relu,
                    pool: self.pool,
                    y: self.y.slice_ptr(0, self.stored.len()),
                    indices: match &self.indices {
                        Some(indices) => indices.slice_ptr(0, self.stored.len()),
                        None => std::ptr::null_mut(),
                    },
                });
            }
        });
    }
}

/// The products of a block of tiles at all positions.
pub(super) struct GemmTask {
    pub v: *const f32,
    pub v_stride: usize,
    pub v_block: usize,
    pub u: *const f32,
    pub m: *mut f32,
    pub m_stride: usize,
    pub m_group: usize,
    pub groups: Range<usize>,
    pub tiles: usize,
    pub c: usize,
}

impl Task for GemmTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let weights = self.c * L::GROUPS * LANES;
        let u = |group: usize, position: usize| {
            self.u
                .wrapping_add((group * POSITIONS + position) * weights)
        };
        for position in 0..POSITIONS {
            for (place, group) in self.groups.clone().enumerate() {
                let next = if group + 1 < self.groups.end {
                    u(group + 1, position)
                } else {
                    u(self.groups.start, position + 1)
                };
                // SAFETY: the lanes' promise; position, group and tiles lie within the buffers.
                unsafe {
                    microkernel::forward::<L>(
                        self.v.add(position * self.v_stride),
                        self.v_block,
                        u(group, position),
                        next,
                        self.m.add(position * self.m_stride + place * self.m_group),
                        self.tiles,
                        self.c,
                    );
                }
            }
        }
    }
}
