//! The layout between our convolutions: `[picture][channel / 16][row][column][16 channels]`, with a border of zeros.
//!
//! Sixteen channels lie together, so that a vector is one pixel of them. Height and width are rounded up to whole
//! tiles of 4x4, and one more pixel of zeros lies around: the padding of the convolution, which nobody has to
//! test for. One layout serves the forward pass and both gradients.

use candle_core::Shape;
use rayon::prelude::*;

use super::share::{Shared, piece};

/// Channels that lie together.
pub(super) const LANES: usize = 16;
/// Height and width of the tiles that a picture is cut into.
pub(super) const TILE: usize = 4;

/// A blocked tensor's logical shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub n: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
}

impl Extent {
    /// Blocks of sixteen channels.
    pub(super) fn blocks(self) -> usize {
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
    pub(super) fn row(self) -> usize {
        (self.tile_columns() * TILE + 2) * LANES
    }

    /// Elements of a plane of sixteen channels.
    pub(super) fn plane(self) -> usize {
        (self.tile_rows() * TILE + 2) * self.row()
    }

    /// Elements of a picture.
    pub(super) fn picture(self) -> usize {
        self.blocks() * self.plane()
    }

    /// Elements in all.
    pub(super) fn len(self) -> usize {
        self.n * self.picture()
    }

    /// Where pixel (0, 0) of a plane lies in it: behind the border.
    pub(super) fn origin(self) -> usize {
        self.row() + LANES
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

/// The shape of a blocked tensor: (n, c/16, height, width, 16), border included.
pub(super) fn blocked_shape(extent: Extent) -> Shape {
    let (row, plane) = (extent.row(), extent.plane());
    Shape::from((extent.n, extent.blocks(), plane / row, row / LANES, LANES))
}

/// (n, c, h, w) → blocked. `to` holds zeros, or a tensor of the same extent.
pub(super) fn pack(x: &[f32], extent: Extent, to: &mut [f32]) {
    let Extent { c, h, w, .. } = extent;
    to.par_chunks_mut(extent.plane())
        .enumerate()
        .for_each(|(plane, to)| {
            let (picture, block) = (plane / extent.blocks(), plane % extent.blocks());
            for lane in 0..LANES.min(c - block * LANES) {
                let from = &x[(picture * c + block * LANES + lane) * h * w..][..h * w];
                for (row, line) in from.chunks_exact(w).enumerate() {
                    let to = &mut to[extent.origin() + row * extent.row() + lane..];
                    for (to, &value) in to.iter_mut().step_by(LANES).zip(line) {
                        *to = value;
                    }
                }
            }
        });
}

/// Blocked → (n, c, h, w).
pub(super) fn unpack(x: &[f32], extent: Extent) -> Vec<f32> {
    let Extent { n, c, h, w } = extent;
    let mut y = vec![0f32; n * c * h * w];
    let out = Shared::new(&mut y);
    let planes = n * extent.blocks();
    let parts = rayon::current_num_threads().min(planes);
    (0..parts).into_par_iter().for_each(|part| {
        for plane in piece(planes, parts, part) {
            let (picture, block) = (plane / extent.blocks(), plane % extent.blocks());
            let from = &x[plane * extent.plane()..][..extent.plane()];
            for lane in 0..LANES.min(c - block * LANES) {
                let start = (picture * c + block * LANES + lane) * h * w;
                // SAFETY: each channel of each picture is written by the one part that has its plane.
                let to = unsafe { std::slice::from_raw_parts_mut(out.part(start, h * w), h * w) };
                for (row, line) in to.chunks_exact_mut(w).enumerate() {
                    let from = &from[extent.origin() + row * extent.row() + lane..];
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
            let extent = Extent { n, c, h, w };
            let x: Vec<f32> = (0..n * c * h * w).map(|i| i as f32 + 1.0).collect();
            let mut blocked = vec![0f32; extent.len()];
            pack(&x, extent, &mut blocked);
            assert_eq!(unpack(&blocked, extent), x);
            // All else is zero: the border, rounding up and missing channels.
            let sum: f64 = blocked.iter().map(|&v| f64::from(v)).sum();
            assert_eq!(sum, x.iter().map(|&v| f64::from(v)).sum::<f64>());
        }
    }
}
