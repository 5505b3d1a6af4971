//! The NCHWc16 activation layout: `[image][channel / 16][row][column][16 channels]`, with a zero
//! halo.
//!
//! Sixteen channels are contiguous, so a vector holds one pixel of sixteen channels. Height and
//! width are rounded up to whole 4x4 tiles. A one-pixel border of zeros serves as the convolution's
//! padding, so the input transform needs no bounds checks. The forward pass, the input gradient and
//! the weight gradient use this layout.

use rayon::prelude::*;

use crate::buffer::Buffer;
use crate::error::Error;
use crate::parallel::{DisjointMut, chunk};

/// Channels per block.
pub(crate) const LANES: usize = 16;
/// Height and width of a Winograd output tile.
pub(crate) const TILE: usize = 4;
/// Number of elements (positions) of a transformed tile, 6x6. Each position has its own matrix
/// product.
pub(crate) const POSITIONS: usize = (TILE + 2) * (TILE + 2);

/// Logical shape of an NCHWc16 tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NchwcShape {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
}

impl NchwcShape {
    /// Number of blocks of sixteen channels.
    pub(crate) fn channel_blocks(self) -> usize {
        self.c.div_ceil(LANES)
    }

    /// Number of rows of tiles per image.
    pub(crate) fn tile_rows(self) -> usize {
        self.h.div_ceil(TILE)
    }

    /// Number of columns of tiles per image.
    pub(crate) fn tile_columns(self) -> usize {
        self.w.div_ceil(TILE)
    }

    /// Number of tiles per image and channel block.
    pub(crate) fn tiles(self) -> usize {
        self.tile_rows() * self.tile_columns()
    }

    /// Distance between the starts of adjacent rows, in elements.
    pub(crate) fn row_stride(self) -> usize {
        (self.tile_columns() * TILE + 2) * LANES
    }

    /// Number of elements in one channel block of an image, including padding and halo.
    pub(crate) fn plane_len(self) -> usize {
        (self.tile_rows() * TILE + 2) * self.row_stride()
    }

    /// Number of elements in one image, including padding and halos.
    pub(crate) fn image_len(self) -> usize {
        self.channel_blocks() * self.plane_len()
    }

    /// Number of elements in the tensor, including padding and halos.
    pub(crate) fn len(self) -> usize {
        self.n * self.image_len()
    }

    /// Offset of pixel (0, 0) in a plane, after the halo.
    pub(crate) fn origin(self) -> usize {
        self.row_stride() + LANES
    }

    /// The same shape with a batch size of `n`.
    pub(crate) fn with_n(self, n: usize) -> Self {
        Self { n, ..self }
    }

    /// The shape after a 2x2 max pool with stride 2.
    pub(crate) fn pooled(self) -> Self {
        Self {
            h: self.h / 2,
            w: self.w / 2,
            ..self
        }
    }
}

/// Allocates a tensor with zeros in the halo and in the padding to whole tiles. The pixels have
/// arbitrary values.
pub(crate) fn alloc_with_halo(shape: NchwcShape) -> Result<Buffer, Error> {
    alloc_with_halo_around(shape, shape.h, shape.w)
}

/// Like [`alloc_with_halo`], but with zeros everywhere outside the first `h` rows and `w` columns.
pub(crate) fn alloc_with_halo_around(
    shape: NchwcShape,
    h: usize,
    w: usize,
) -> Result<Buffer, Error> {
    let mut buffer = Buffer::alloc(shape.len())?;
    let (row, rows) = (shape.row_stride(), shape.plane_len() / shape.row_stride());
    buffer.par_chunks_mut(shape.plane_len()).for_each(|plane| {
        let (above, below) = (0..row, (h + 1) * row..rows * row);
        plane[above].fill(0.0);
        plane[below].fill(0.0);
        for line in plane.chunks_exact_mut(row).skip(1).take(h) {
            line[..LANES].fill(0.0);
            line[(w + 1) * LANES..].fill(0.0);
        }
    });
    Ok(buffer)
}

/// Packs NCHW into NCHWc16, with zeros in the missing channels of the last block. Writes only the
/// pixels: the halo of `to` and its padding to whole tiles must already be zero.
pub(crate) fn pack(x: &[f32], shape: NchwcShape, to: &mut [f32]) {
    let NchwcShape { c, h, w, .. } = shape;
    to.par_chunks_mut(shape.plane_len())
        .enumerate()
        .for_each(|(plane, to)| {
            let (image, block) = (
                plane / shape.channel_blocks(),
                plane % shape.channel_blocks(),
            );
            let lanes = LANES.min(c - block * LANES);
            let channels = &x[(image * c + block * LANES) * h * w..][..lanes * h * w];
            for row in 0..h {
                let to = &mut to[shape.origin() + row * shape.row_stride()..][..w * LANES];
                if lanes < LANES {
                    to.fill(0.0);
                }
                for (lane, channel) in channels.chunks_exact(h * w).enumerate() {
                    let from = &channel[row * w..][..w];
                    for (to, &value) in to[lane..].iter_mut().step_by(LANES).zip(from) {
                        *to = value;
                    }
                }
            }
        });
}

/// Unpacks NCHWc16 into NCHW.
pub(crate) fn unpack(x: &[f32], shape: NchwcShape) -> Vec<f32> {
    let NchwcShape { n, c, h, w } = shape;
    let mut y = vec![0f32; n * c * h * w];
    let out = DisjointMut::new(&mut y);
    let planes = n * shape.channel_blocks();
    let parts = rayon::current_num_threads().min(planes);
    (0..parts).into_par_iter().for_each(|part| {
        for plane in chunk(planes, parts, part) {
            let (image, block) = (
                plane / shape.channel_blocks(),
                plane % shape.channel_blocks(),
            );
            let from = &x[plane * shape.plane_len()..][..shape.plane_len()];
            for lane in 0..LANES.min(c - block * LANES) {
                let start = (image * c + block * LANES + lane) * h * w;
                // SAFETY: each channel of each image has its own range of `y`, and the chunks of
                // planes are disjoint, so no other thread accesses this range.
                let to =
                    unsafe { std::slice::from_raw_parts_mut(out.slice_ptr(start, h * w), h * w) };
                for (row, line) in to.chunks_exact_mut(w).enumerate() {
                    let from = &from[shape.origin() + row * shape.row_stride() + lane..];
                    for (to, &value) in line.iter_mut().zip(from.iter().step_by(LANES)) {
                        *to = value;
                    }
                }
            }
        }
    });
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpack_inverts_pack() {
        for (n, c, h, w) in [(1, 1, 1, 1), (2, 16, 4, 4), (3, 17, 5, 7), (1, 40, 13, 2)] {
            let shape = NchwcShape { n, c, h, w };
            let x: Vec<f32> = (0..n * c * h * w).map(|i| i as f32 + 1.0).collect();
            let mut packed = alloc_with_halo(shape).unwrap();
            pack(&x, shape, &mut packed);
            assert_eq!(unpack(&packed, shape), x);
            // The halo, the padding to whole tiles and the missing channels are zero.
            let sum: f64 = packed.iter().map(|&v| f64::from(v)).sum();
            assert_eq!(sum, x.iter().map(|&v| f64::from(v)).sum::<f64>());
        }
    }
}
