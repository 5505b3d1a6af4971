//! Tasks that apply the Winograd input and output transforms to blocks of tiles.

use std::ops::Range;

use super::transform::{InputTransform, OutputTransform, load_square, transform_2d};
use crate::isa::lanes::{Lanes, Task};
use crate::layout::{LANES, NchwcShape, POSITIONS, TILE};

/// Rounds a stride, a multiple of 16 elements, up to an odd number of cache lines. An odd stride
/// distributes the positions of a tile over the sets of the cache.
pub(crate) fn odd_stride(elements: usize) -> usize {
    elements
        + if (elements / LANES).is_multiple_of(2) {
            LANES
        } else {
            0
        }
}

/// The input transform V = Bᵀ d B of a range of tiles, in all channels.
pub(crate) struct InputTask {
    /// The input, NCHWc16 of shape `from`.
    pub x: *const f32,
    pub from: NchwcShape,
    /// The tiles to transform, counted over all images.
    pub tiles: Range<usize>,
    /// Index of the first tile stored in `v`.
    pub start: usize,
    /// Tiles per channel block in `v`.
    pub block: usize,
    /// Elements between positions in `v`.
    pub stride: usize,
    /// The output, `[position][channel / 16][tile][16]`.
    pub v: *mut f32,
}

impl Task for InputTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (row, plane) = (self.from.row_stride(), self.from.plane_len());
        for block in 0..self.from.channel_blocks() {
            let mut coord = TileCoord::new(self.tiles.start, self.from);
            for tile in self.tiles.clone() {
                let corner = coord.image * self.from.image_len() + coord.corner(row);
                // SAFETY: the CPU supports the instruction set of `L`, and `x` and `v` are valid
                // (contract of `run`). A patch is a tile and the one-pixel border around it. Tiles
                // do not overlap the halo, so the patch is inside the plane.
                unsafe {
                    let x = self.x.add(corner + block * plane);
                    let v =
                        transform_2d::<L, InputTransform, 6, 6>(load_square::<L, 6>(x, row, LANES));
                    let to = self.v.add((block * self.block + tile - self.start) * LANES);
                    for position in 0..POSITIONS {
                        L::store(
                            to.add(position * self.stride),
                            v[position / 6][position % 6],
                        );
                    }
                }
                coord = coord.next(self.from);
            }
        }
    }
}

/// Location of a tile in a batch of images.
#[derive(Clone, Copy)]
pub(crate) struct TileCoord {
    /// Index of the image in the batch.
    pub image: usize,
    /// Row of the tile's first pixel.
    pub y: usize,
    /// Column of the tile's first pixel.
    pub x: usize,
}

impl TileCoord {
    /// Coordinates of the tile with index `tile`, counted over all images.
    #[inline(always)]
    pub(crate) fn new(tile: usize, shape: NchwcShape) -> Self {
        let (image, tile) = (tile / shape.tiles(), tile % shape.tiles());
        let columns = shape.tile_columns();
        Self {
            image,
            y: tile / columns * TILE,
            x: tile % columns * TILE,
        }
    }

    /// Coordinates of the next tile, which may be in the next image.
    #[inline(always)]
    pub(crate) fn next(self, shape: NchwcShape) -> Self {
        let Self { image, y, x } = self;
        if x + TILE < shape.w {
            Self {
                image,
                y,
                x: x + TILE,
            }
        } else if y + TILE < shape.h {
            Self {
                image,
                y: y + TILE,
                x: 0,
            }
        } else {
            Self {
                image: image + 1,
                y: 0,
                x: 0,
            }
        }
    }

    /// Offset of the upper left corner of the tile's 6x6 input patch in a plane with halo.
    #[inline(always)]
    fn corner(self, row: usize) -> usize {
        self.y * row + self.x * LANES
    }
}

/// The output transform Y = Aᵀ M A of a range of tiles and of groups of output channels, fused with
/// bias, ReLU and max pooling.
pub(crate) struct OutputTask {
    /// The products, `[position][group][tile][channels of a group]`.
    pub m: *const f32,
    /// Elements between positions in `m`.
    pub m_stride: usize,
    /// Elements between groups in `m`.
    pub m_group: usize,
    /// Groups of output channels. `m` starts with the first of these groups.
    pub groups: Range<usize>,
    /// Tiles, counted over all images. `m` starts with the first of these tiles.
    pub tiles: Range<usize>,
    /// Shape of the output before pooling.
    pub to: NchwcShape,
    /// Shape of `y`: `to`, or `to` pooled.
    pub stored: NchwcShape,
    /// Bias, one value per output channel, padded to whole blocks of 16.
    pub bias: *const f32,
    pub relu: bool,
    pub pool: bool,
    /// The output, NCHWc16 of shape `stored`.
    pub y: *mut f32,
    /// Index of the first maximum of each pooling window, 0 to 3, in the layout of `y`. Null if
    /// not needed.
    pub indices: *mut u8,
}

impl Task for OutputTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (row, plane) = (self.stored.row_stride(), self.stored.plane_len());
        for (group_index, group) in self.groups.clone().enumerate() {
            for part in 0..L::GROUPS {
                let block = group * L::GROUPS + part;
                if block >= self.stored.channel_blocks() {
                    continue;
                }
                let mut coord = TileCoord::new(self.tiles.start, self.to);
                for index in 0..self.tiles.len() {
                    // SAFETY: the CPU supports the instruction set of `L`, and the buffers are
                    // valid for these groups and tiles (contract of `run`). `block` is a channel
                    // block of `y`, checked above, and only pixels inside the image are written.
                    unsafe {
                        let at = group_index * self.m_group + (index * L::GROUPS + part) * LANES;
                        let m = self.m.add(at);
                        let m = load_square::<L, 6>(m, 6 * self.m_stride, self.m_stride);
                        let bias = L::load(self.bias.add(block * LANES));
                        let mut y = transform_2d::<L, OutputTransform, 6, 4>(m);
                        for i in 0..TILE {
                            for j in 0..TILE {
                                y[i][j] = L::add(y[i][j], bias);
                                if self.relu {
                                    y[i][j] = L::relu(y[i][j]);
                                }
                            }
                        }
                        let image = coord.image * self.stored.image_len();
                        let origin = image + block * plane + self.stored.origin();
                        if self.pool {
                            self.store_pooled::<L>(&y, coord, origin, row);
                        } else {
                            let rows = TILE.min(self.to.h - coord.y);
                            let columns = TILE.min(self.to.w - coord.x);
                            for i in 0..rows {
                                let at = origin + (coord.y + i) * row + coord.x * LANES;
                                for j in 0..columns {
                                    L::store(self.y.add(at + j * LANES), y[i][j]);
                                }
                            }
                        }
                    }
                    coord = coord.next(self.to);
                }
            }
        }
    }
}

impl OutputTask {
    /// Max-pools the output tile `y` and stores the result in the plane of `self.y` whose pixel
    /// (0, 0) is at `origin`.
    ///
    /// # Safety
    ///
    /// The contract of [`Task::run`]. `origin` must be the offset of pixel (0, 0) of a plane of
    /// `self.y`, and `row` the row stride of `self.y`.
    #[inline(always)]
    unsafe fn store_pooled<L: Lanes>(
        &self,
        y: &[[L::V; 4]; 4],
        coord: TileCoord,
        origin: usize,
        row: usize,
    ) {
        for i in 0..2.min(self.stored.h.saturating_sub(coord.y / 2)) {
            for j in 0..2.min(self.stored.w.saturating_sub(coord.x / 2)) {
                let at = origin + (coord.y / 2 + i) * row + (coord.x / 2 + j) * LANES;
                let window = [
                    y[2 * i][2 * j],
                    y[2 * i][2 * j + 1],
                    y[2 * i + 1][2 * j],
                    y[2 * i + 1][2 * j + 1],
                ];
                // SAFETY: the CPU supports the instruction set of `L`, and `origin` is pixel (0, 0)
                // of a plane (contract of this function). The loop bounds keep `at` inside the
                // pooled image.
                unsafe {
                    let max = if self.indices.is_null() {
                        let [a, b, c, d] = window;
                        L::max(L::max(a, b), L::max(c, d))
                    } else {
                        L::first_max(window, self.indices.add(at))
                    };
                    L::store(self.y.add(at), max);
                }
            }
        }
    }
}
