//! Backward of a convolution with ReLU and pool: the gradient before them, and those of weight and bias.
//!
//! dU = Σ (Bᵀ d B) ⊙ (A dY Aᵀ) over all tiles, then dW = Gᵀ dU G. Small sums (dU of few channels) are kept by each
//! thread for tiles of its own and added up in order at the end; large ones are shared, each thread having
//! positions of its own. The former depends on the number of threads in the last bits, the latter does not.

use std::ops::Range;
use std::sync::Mutex;

use super::blocked::{Extent, LANES, TILE};
use super::lanes::{Lanes, Task};
use super::path::Path;
use super::product;
use super::share::{Shared, split};
use super::sizes;
use super::tiles::{InputTask, Place};
use super::transform::{OutputGradient, POSITIONS, both, load};
use super::weights::{self, group};

/// Sums over tiles at the positions, to which pictures are added.
pub(super) struct WeightGradient {
    path: Path,
    from: Extent,
    k: usize,
    sums: Vec<f32>,
}

impl WeightGradient {
    /// For a convolution of pictures like `from` to `k` channels.
    pub(super) fn new(path: Path, from: Extent, k: usize) -> Self {
        let width = group(path);
        let size = POSITIONS * from.blocks() * LANES * k.div_ceil(width) * width;
        Self {
            path,
            from,
            k,
            sums: vec![0f32; size],
        }
    }

    /// Adds the pictures `x` with the gradient `g` before the ReLU, both blocked, `n` of each.
    pub(super) fn add(&mut self, x: &[f32], g: &[f32], n: usize) {
        let from = self.from.with_n(n);
        let to = Extent { c: self.k, ..from };
        assert_eq!(
            (x.len(), g.len()),
            (from.len(), to.len()),
            "the extents of a weight gradient"
        );
        let width = group(self.path);
        let work = Work {
            path: self.path,
            x,
            g,
            from,
            to,
            groups: self.k.div_ceil(width),
            width,
        };
        if sizes::gradient_by_tiles(from.blocks() * LANES, work.groups * width) {
            work.by_tiles(&mut self.sums);
        } else {
            work.by_positions(&mut self.sums);
        }
    }

    /// The gradient of the weight, (k, c, 3, 3).
    pub(super) fn finish(self) -> Vec<f32> {
        weights::gradient(self.path, &self.sums, self.k, self.from.c)
    }
}

struct Work<'a> {
    path: Path,
    x: &'a [f32],
    g: &'a [f32],
    from: Extent,
    to: Extent,
    groups: usize,
    width: usize,
}

/// The transforms of a block of tiles.
struct Block {
    tiles: usize,
    v: Vec<f32>,
    w: Vec<f32>,
}

impl Work<'_> {
    fn block(&self, tiles: usize) -> Block {
        Block {
            tiles,
            v: vec![0f32; POSITIONS * self.v_stride(tiles)],
            w: vec![0f32; POSITIONS * self.w_stride(tiles)],
        }
    }

    fn v_stride(&self, tiles: usize) -> usize {
        self.from.blocks() * tiles * LANES + LANES
    }

    fn w_stride(&self, tiles: usize) -> usize {
        self.groups * tiles * self.width + LANES
    }

    fn block_size(&self) -> usize {
        sizes::gradient_block(self.from.blocks() * LANES, self.groups * self.width)
    }

    fn by_tiles(&self, sums: &mut [f32]) {
        let all = self.from.n * self.from.tiles();
        let parts = Mutex::new(Vec::new());
        split(all, |tiles| {
            let first = tiles.start;
            let mut own = vec![0f32; sums.len()];
            let mut block = self.block(self.block_size().min(tiles.len()));
            for start in tiles.clone().step_by(block.tiles) {
                let tiles = start..tiles.end.min(start + block.tiles);
                let count = tiles.len();
                let (stride_v, stride_w) = (self.v_stride(block.tiles), self.w_stride(block.tiles));
                let (v, w) = (Shared::new(&mut block.v), Shared::new(&mut block.w));
                self.transform(tiles, start, block.tiles, (&v, stride_v), (&w, stride_w));
                let own = Shared::new(&mut own);
                self.multiply(&block, count, 0..POSITIONS, &own);
            }
            let mut parts = parts
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            parts.push((first, own));
        });
        let mut parts = parts
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        parts.sort_by_key(|(first, _)| *first);
        for (_, part) in parts {
            sums.iter_mut()
                .zip(part)
                .for_each(|(sum, part)| *sum += part);
        }
    }

    fn by_positions(&self, sums: &mut [f32]) {
        let all = self.from.n * self.from.tiles();
        let mut block = self.block(self.block_size().min(all));
        for start in (0..all).step_by(block.tiles) {
            let count = block.tiles.min(all - start);
            let (stride_v, stride_w) = (self.v_stride(block.tiles), self.w_stride(block.tiles));
            let size = block.tiles;
            let (v, w) = (Shared::new(&mut block.v), Shared::new(&mut block.w));
            split(count, |part| {
                let part = start + part.start..start + part.end;
                self.transform(part, start, size, (&v, stride_v), (&w, stride_w));
            });
            let sums = Shared::new(sums);
            split(POSITIONS, |positions| {
                self.multiply(&block, count, positions, &sums)
            });
        }
    }

    fn transform(
        &self,
        tiles: Range<usize>,
        start: usize,
        block: usize,
        (v, v_stride): (&Shared<'_>, usize),
        (w, w_stride): (&Shared<'_>, usize),
    ) {
        // SAFETY: `path` was available when it was chosen. A tile's patches lie within their bordered planes, and
        // its places in `v` and `w` are its own.
        unsafe {
            self.path.run(InputTask {
                x: self.x.as_ptr(),
                from: self.from,
                tiles: tiles.clone(),
                start,
                block,
                stride: v_stride,
                v: v.part(0, POSITIONS * v_stride),
            });
            self.path.run(GradientTask {
                g: self.g.as_ptr(),
                to: self.to,
                tiles,
                start,
                block,
                stride: w_stride,
                w: w.part(0, POSITIONS * w_stride),
            });
        }
    }

    /// Adds a block's products at some positions to `sums`, `[position][c / 16][group][16 c][width]`.
    fn multiply(&self, block: &Block, count: usize, positions: Range<usize>, sums: &Shared<'_>) {
        let size = self.from.blocks() * self.groups * LANES * self.width;
        // SAFETY: `path` was available when it was chosen. The buffers have the strides given here, and the sums
        // at these positions belong to this call alone.
        unsafe {
            self.path.run(ProductTask {
                v: block.v.as_ptr(),
                v_stride: self.v_stride(block.tiles),
                w: block.w.as_ptr(),
                w_stride: self.w_stride(block.tiles),
                block: block.tiles * LANES,
                tiles: count,
                inputs: self.from.blocks(),
                groups: self.groups,
                sums: sums.part(positions.start * size, positions.len() * size),
                positions,
            });
        }
    }
}

struct ProductTask {
    v: *const f32,
    v_stride: usize,
    w: *const f32,
    w_stride: usize,
    block: usize,
    tiles: usize,
    inputs: usize,
    groups: usize,
    positions: Range<usize>,
    sums: *mut f32,
}

impl Task for ProductTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let mut sums = self.sums;
        for position in self.positions {
            for input in 0..self.inputs {
                for group in 0..self.groups {
                    // SAFETY: the lanes' promise; position, input and group lie within the buffers.
                    unsafe {
                        product::weight_gradient::<L>(
                            self.v.add(position * self.v_stride + input * self.block),
                            self.w
                                .add(position * self.w_stride + group * L::GROUPS * self.block),
                            self.block,
                            sums,
                            self.tiles,
                        );
                        sums = sums.add(LANES * L::GROUPS * LANES);
                    }
                }
            }
        }
    }
}

/// A dY Aᵀ of tiles: `[position][k / 16][tile][16]`.
struct GradientTask {
    g: *const f32,
    to: Extent,
    tiles: Range<usize>,
    start: usize,
    block: usize,
    stride: usize,
    w: *mut f32,
}

impl Task for GradientTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let (row, plane) = (self.to.row(), self.to.plane());
        for tile in self.tiles {
            let place = Place::of(tile, self.to);
            let corner = place.picture * self.to.picture() + self.to.origin();
            let corner = corner + place.y * row + place.x * LANES;
            for block in 0..self.to.blocks() {
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

/// The gradient before ReLU and pool from the one after them, for `n` pictures; returns the bias's, (k).
///
/// `y` and `grad` are blocked as the convolution stored them, `indices` its pool's maxima; `g` is blocked like the
/// convolution's output `to` and holds zeros, or an earlier result of the same extent.
pub(super) fn before_relu(
    path: Path,
    y: &[f32],
    grad: &[f32],
    indices: Option<&[u8]>,
    to: Extent,
    g: &mut [f32],
) -> Vec<f64> {
    let stored = if indices.is_some() { to.pooled() } else { to };
    assert_eq!(
        (y.len(), grad.len(), g.len()),
        (stored.len(), stored.len(), to.len())
    );
    let planes = to.n * to.blocks();
    let mut bias = vec![0f64; planes * LANES];
    let (sums, out) = (Shared::new(&mut bias), Shared::new(g));
    split(planes, |planes| {
        // SAFETY: `path` was available when it was chosen; each plane is written by the one part that has it.
        unsafe {
            path.run(MaskTask {
                y: y.as_ptr(),
                grad: grad.as_ptr(),
                indices: indices.map_or(std::ptr::null(), <[u8]>::as_ptr),
                to,
                stored,
                g: out.part(0, to.len()),
                bias: sums.part(planes.start * LANES, planes.len() * LANES),
                planes,
            });
        }
    });
    let channels = to.blocks() * LANES;
    (0..to.c)
        .map(|channel| {
            (0..to.n)
                .map(|picture| bias[picture * channels + channel])
                .sum()
        })
        .collect()
}

struct MaskTask {
    y: *const f32,
    grad: *const f32,
    indices: *const u8,
    to: Extent,
    stored: Extent,
    planes: Range<usize>,
    g: *mut f32,
    bias: *mut f64,
}

impl Task for MaskTask {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let pools = !self.indices.is_null();
        for (place, plane) in self.planes.clone().enumerate() {
            let from = plane * self.stored.plane() + self.stored.origin();
            let to = plane * self.to.plane() + self.to.origin();
            let mut sums = [0f64; LANES];
            for row in 0..self.stored.h {
                // SAFETY: the lanes' promise; rows and columns lie within the planes.
                unsafe {
                    let mut sum = L::splat(0.0);
                    for column in 0..self.stored.w {
                        let at = from + row * self.stored.row() + column * LANES;
                        let g =
                            L::where_positive(L::load(self.grad.add(at)), L::load(self.y.add(at)));
                        sum = L::add(sum, g);
                        if pools {
                            for index in 0..4 {
                                let (i, j) = (2 * row + index / 2, 2 * column + index % 2);
                                let part = L::where_index(g, self.indices.add(at), index as u8);
                                L::store(self.g.add(to + i * self.to.row() + j * LANES), part);
                            }
                        } else {
                            L::store(self.g.add(to + row * self.to.row() + column * LANES), g);
                        }
                    }
                    // A row in single precision, rows in double: the error does not grow with the picture.
                    let mut lanes = [0f32; LANES];
                    L::store(lanes.as_mut_ptr(), sum);
                    sums.iter_mut()
                        .zip(lanes)
                        .for_each(|(sum, lane)| *sum += f64::from(lane));
                }
            }
            for (lane, sum) in sums.into_iter().enumerate() {
                // SAFETY: the plane's sixteen sums.
                unsafe { *self.bias.add(place * LANES + lane) = sum };
            }
        }
    }
}
