//! Tiles on their way into the transformed domain and out of it.

use std::ops::Range;

use super::lanes::{Lanes, Task};
use super::layout::{LANES, NchwcShape, TILE};
use super::transform::{Input, Output, POSITIONS, both, load};

/// Sixteen more elements where the number of vectors is even: an odd stride spreads positions over the cache.
pub(super) fn odd(elements: usize) -> usize {
    elements
        + if (elements / LANES).is_multiple_of(2) {
            LANES
        } else {
            0
        }
}

/// Transforms patches of the input.
pub(super) struct InputTask {
    pub x: *const f32,
    pub from: NchwcShape,
    pub tiles: Range<usize>,
    pub start: usize,
    pub block: usize,
    pub stride: usize,
    pub v: *mut f32,
}

impl Task for InputTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (row, plane) = (self.from.row_stride(), self.from.plane_len());
        for block in 0..self.from.channel_blocks() {
            let mut coord = TileCoord::of(self.tiles.start, self.from);
            for tile in self.tiles.clone() {
                let corner = coord.image * self.from.image_len() + coord.corner(row);
                // SAFETY: the lanes' promise; a patch begins one pixel above and left of its tile, in the border
                // or before, and ends one pixel below and right of it.
                unsafe {
                    let x = self.x.add(corner + block * plane);
                    let v = both::<L, Input, 6, 6>(load::<L, 6>(x, row, LANES));
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

/// Where a tile lies.
#[derive(Clone, Copy)]
pub(super) struct TileCoord {
    pub image: usize,
    /// Its first row and column in the picture.
    pub y: usize,
    pub x: usize,
}

impl TileCoord {
    #[inline(always)]
    pub(super) fn of(tile: usize, shape: NchwcShape) -> Self {
        let (image, tile) = (tile / shape.tiles(), tile % shape.tiles());
        let columns = shape.tile_columns();
        Self {
            image,
            y: tile / columns * TILE,
            x: tile % columns * TILE,
        }
    }

    /// The tile after this one.
    #[inline(always)]
    pub(super) fn next(self, shape: NchwcShape) -> Self {
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

    /// The upper left corner of its 6x6 patch in a bordered plane.
    #[inline(always)]
    fn corner(self, row: usize) -> usize {
        self.y * row + self.x * LANES
    }
}

/// Transforms products back, with what follows them, into the output.
pub(super) struct OutputTask {
    pub m: *const f32,
    pub m_stride: usize,
    pub m_group: usize,
    pub groups: Range<usize>,
    pub tiles: Range<usize>,
    pub to: NchwcShape,
    pub stored: NchwcShape,
    pub bias: *const f32,
    pub relu: bool,
    pub pool: bool,
    pub y: *mut f32,
    pub indices: *mut u8,
}

impl Task for OutputTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (row, plane) = (self.stored.row_stride(), self.stored.plane_len());
        for (group_place, group) in self.groups.clone().enumerate() {
            for part in 0..L::GROUPS {
                let block = group * L::GROUPS + part;
                if block >= self.stored.channel_blocks() {
                    continue;
                }
                let mut coord = TileCoord::of(self.tiles.start, self.to);
                for index in 0..self.tiles.len() {
                    // SAFETY: the lanes' promise; group, tile and block lie within the buffers, and only pixels
                    // of the picture are written.
                    unsafe {
                        let at = group_place * self.m_group + (index * L::GROUPS + part) * LANES;
                        let m = self.m.add(at);
                        let m = load::<L, 6>(m, 6 * self.m_stride, self.m_stride);
                        let bias = L::load(self.bias.add(block * LANES));
                        let mut y = both::<L, Output, 6, 4>(m);
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
    /// # Safety
    /// As [`Task::run`].
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
                // SAFETY: promised by the caller; `at` is a pixel of the pooled picture.
                unsafe {
                    let largest = if self.indices.is_null() {
                        let [a, b, c, d] = window;
                        L::max(L::max(a, b), L::max(c, d))
                    } else {
                        L::first_max(window, self.indices.add(at))
                    };
                    L::store(self.y.add(at), largest);
                }
            }
        }
    }
}
