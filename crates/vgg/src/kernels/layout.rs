//! The layout between our convolutions: `[picture][channel / 16][row][column][16 channels]`, with a border of zeros.
//!
//! Sixteen channels lie together, so that a vector is one pixel of them. Height and width are rounded up to whole
//! tiles of 4x4, and one more pixel of zeros lies around: the padding of the convolution, which nobody has to
//! test for. One layout serves the forward pass and both gradients.

use rayon::prelude::*;

use super::buffer::Buffer;
use super::parallel::{DisjointMut, chunk};

/// Channels that lie together.
pub(super) const LANES: usize = 16;
/// Height and width of the tiles that a picture is cut into.
pub(super) const TILE: usize = 4;

/// A blocked tensor's logical shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NchwcShape {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
}

impl NchwcShape {
    /// Blocks of sixteen channels.
    pub(super) fn channel_blocks(self) -> usize {
        self.c.div_ceil(LANES)
    }

    /// Tiles below each other.
    pub(super) fn tile_rows(self) -> usize {
        self.h.div_ceil(TILE)
    }

    /// Tiles beside each other.
    pub(super) fn tile_columns(self) -> usize {
        self.w.div_ceil(TILE)
    }

    /// Tiles of a picture.
    pub(super) fn tiles(self) -> usize {
        self.tile_rows() * self.tile_columns()
    }

    /// Elements from a row to the next.
    pub(super) fn row_stride(self) -> usize {
        (self.tile_columns() * TILE + 2) * LANES
    }

    /// Elements of a plane of sixteen channels.
    pub(super) fn plane_len(self) -> usize {
        (self.tile_rows() * TILE + 2) * self.row_stride()
    }

    /// Elements of a picture.
    pub(super) fn image_len(self) -> usize {
        self.channel_blocks() * self.plane_len()
    }

    /// Elements in all.
    pub(super) fn len(self) -> usize {
        self.n * self.image_len()
    }

    /// Where pixel (0, 0) of a plane lies in it: behind the border.
    pub(super) fn origin(self) -> usize {
        self.row_stride() + LANES
    }

    /// The same with `n` pictures.
    pub(super) fn with_n(self, n: usize) -> Self {
        Self { n, ..self }
    }

    /// What a 2x2 pool leaves.
    pub(super) fn pooled(self) -> Self {
        Self {
            h: self.h / 2,
            w: self.w / 2,
            ..self
        }
    }
}

/// A blocked tensor whose pixels hold anything, and all around them zeros.
pub(super) fn alloc_with_halo(shape: NchwcShape) -> Buffer {
    alloc_with_halo_around(shape, shape.h, shape.w)
}

/// As [`alloc_with_halo`]; only the first `h` rows and `w` columns hold anything.
pub(super) fn alloc_with_halo_around(shape: NchwcShape, h: usize, w: usize) -> Buffer {
    let mut buffer = Buffer::alloc(shape.len());
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
    buffer
}

/// (n, c, h, w) → the pixels of `to`, which [`alloc_with_halo`] made.
pub(super) fn pack(x: &[f32], shape: NchwcShape, to: &mut [f32]) {
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

/// Blocked → (n, c, h, w).
pub(super) fn unpack(x: &[f32], shape: NchwcShape) -> Vec<f32> {
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
                // SAFETY: each channel of each picture is written by the one part that has its plane.
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
    fn unpacking_undoes_packing() {
        for (n, c, h, w) in [(1, 1, 1, 1), (2, 16, 4, 4), (3, 17, 5, 7), (1, 40, 13, 2)] {
            let shape = NchwcShape { n, c, h, w };
            let x: Vec<f32> = (0..n * c * h * w).map(|i| i as f32 + 1.0).collect();
            let mut blocked = alloc_with_halo(shape);
            pack(&x, shape, &mut blocked);
            assert_eq!(unpack(&blocked, shape), x);
            // All else is zero: the border, rounding up and missing channels.
            let sum: f64 = blocked.iter().map(|&v| f64::from(v)).sum();
            assert_eq!(sum, x.iter().map(|&v| f64::from(v)).sum::<f64>());
        }
    }
}
