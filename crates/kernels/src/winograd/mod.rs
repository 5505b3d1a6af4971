//! Winograd convolution: input transform, one matrix product per position, output transform with
//! bias, ReLU and pooling.
//!
//! The input gradient is the same convolution with different weights. Each output is a sum over the
//! input channels in an order that does not depend on the partitioning, so the result is
//! bit-identical for any number of threads.

#[cfg(target_arch = "x86_64")]
mod amx_gemm;
mod gemm;
mod microkernel;
mod tiles;
mod transform;
pub(crate) mod weight_gradient;
pub(crate) mod weights;

use std::ops::Range;

use gemm::ForwardGemmTask;
use tiles::{InputTask, OutputTask, odd_stride};
use weights::{TransformedWeights, microkernel_channels, microkernel_tiles};

use crate::buffer::with_scratch;
use crate::error::Error;
use crate::isa::Isa;
use crate::layout::{LANES, NchwcShape, POSITIONS};
use crate::parallel::{DisjointMut, for_each_chunk, try_for_each_chunk};
use crate::tuning;

/// Operations fused into the output transform, in this order.
pub(crate) struct Epilogue<'a> {
    /// Bias to add, one value per output channel.
    pub bias: Option<&'a [f32]>,
    /// Whether to apply max(0, ·).
    pub relu: bool,
    /// Whether to apply a 2x2 max pool with stride 2.
    pub pool: bool,
    /// If `pool` is set, receives the index (0 to 3) of the first maximum of each pooling window,
    /// one byte per element of the output.
    pub indices: Option<&'a mut [u8]>,
}

/// Convolves `x` (NCHWc16 of shape `from`) to `k` channels, applies the epilogue and writes the
/// result to `y` (NCHWc16).
///
/// Only the pixels of `y` are written. The halo of `y` and its padding to whole tiles must be zero.
///
/// # Errors
///
/// Returns an error if there is no memory for scratch buffers. Then only some pixels are written.
pub(crate) fn convolve(
    x: &[f32],
    from: NchwcShape,
    weights: &TransformedWeights,
    k: usize,
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) -> Result<(), Error> {
    let to = NchwcShape { c: k, ..from };
    let stored = if epilogue.pool { to.pooled() } else { to };
    assert_eq!(
        (x.len(), y.len()),
        (from.len(), stored.len()),
        "`x` or `y` does not match its shape"
    );
    let mut bias = vec![0f32; stored.channel_blocks() * LANES];
    if let Some(values) = epilogue.bias {
        bias[..k].copy_from_slice(values);
    }
    let indices = epilogue.indices.map(|indices| {
        assert_eq!(
            indices.len(),
            stored.len(),
            "`indices` does not match the shape of `y`"
        );
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
        convolution.by_tiles()
    } else {
        convolution.by_channels()
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

    /// Partitions the tiles: each thread computes all channels of its own tiles.
    fn by_tiles(&self) -> Result<(), Error> {
        let block = tuning::private_block_tiles(
            self.from.channel_blocks() * LANES,
            self.groups() * self.width,
            microkernel_tiles(self.isa),
        );
        try_for_each_chunk(self.from.n * self.from.tiles(), |tiles| {
            let block = block.min(tiles.len().next_multiple_of(LANES));
            let v_stride = odd_stride(self.from.channel_blocks() * block * LANES);
            with_scratch(POSITIONS * v_stride, |v| {
                for start in tiles.clone().step_by(block) {
                    let tiles = start..tiles.end.min(start + block);
                    let all = DisjointMut::new(v);
                    self.transform(tiles.clone(), tiles.start, block, v_stride, &all);
                    self.multiply(v, v_stride, block, tiles, 0..self.groups())?;
                }
                Ok(())
            })
        })
    }

    /// Partitions the output channels: all threads transform a block of tiles together, then each
    /// thread computes its own channels.
    fn by_channels(&self) -> Result<(), Error> {
        let all = self.from.n * self.from.tiles();
        let block = tuning::shared_block_tiles(
            self.from.channel_blocks() * LANES,
            microkernel_tiles(self.isa),
            all,
        );
        let block = block.min(all.next_multiple_of(LANES));
        let v_stride = odd_stride(self.from.channel_blocks() * block * LANES);
        with_scratch(POSITIONS * v_stride, |v| {
            for start in (0..all).step_by(block) {
                let tiles = start..all.min(start + block);
                let shared = DisjointMut::new(v);
                for_each_chunk(tiles.len(), |part| {
                    let part = start + part.start..start + part.end;
                    self.transform(part, start, block, v_stride, &shared);
                });
                try_for_each_chunk(self.groups(), |groups| {
                    self.multiply(v, v_stride, block, tiles.clone(), groups)
                })?;
            }
            Ok(())
        })
    }

    /// Input transform of `tiles` into `v`, `[position][c / 16][tile][16]`. Tile `start` is the
    /// first in `v`.
    fn transform(
        &self,
        tiles: Range<usize>,
        start: usize,
        block: usize,
        stride: usize,
        v: &DisjointMut<'_>,
    ) {
        // SAFETY: `ConvLayer::with_isa` checked that the CPU supports `isa`. `convolve` checked the
        // length of `x`, and `v` has room for `block` tiles at all positions. The threads transform
        // disjoint tiles, so no other thread accesses the same elements of `v`.
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

    /// Matrix products and output transform of a block of tiles, for some groups of output
    /// channels.
    fn multiply(
        &self,
        v: &[f32],
        v_stride: usize,
        block: usize,
        tiles: Range<usize>,
        groups: Range<usize>,
    ) -> Result<(), Error> {
        let m_group = block * self.width;
        let m_stride = odd_stride(groups.len() * m_group);
        assert!(
            v.len() >= POSITIONS * v_stride,
            "`v` does not hold all positions"
        );
        let (isa, c) = (self.isa, self.from.c);
        with_scratch(POSITIONS * m_stride, |m| {
            // SAFETY: `ConvLayer::with_isa` checked that the CPU supports `isa`. `v` has
            // `POSITIONS` positions (asserted above), and `m` was allocated with these strides.
            // Both have room for `block` tiles, which is a multiple of 16 with AMX. `convolve`
            // checked the lengths of `y` and `indices`. Threads have disjoint tiles or disjoint
            // groups, so no other thread accesses the elements that this thread writes.
            unsafe {
                let products = ForwardGemmTask {
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
                    Isa::Amx => amx_gemm::forward(&products)?,
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
            Ok(())
        })
    }
}
