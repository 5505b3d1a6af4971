//! 3x3 convolution, stride 1, padding 1, as matrix products over tiles of pixels.
//!
//! A tile of T pixels of one picture becomes a matrix (c·9, T) of the values under each kernel tap; the product
//! with the weights (k, c·9) is the tile's output. The input gradient is the same convolution of the output's
//! gradient, with the kernel rotated by 180° and its channel axes swapped; the weight gradient is the product of
//! the output's gradient (k, T) with the transposed tile.

use gemm::Parallelism;
use rayon::prelude::*;

use super::share::{Shared, piece};

/// The sizes of a convolution: `n` pictures, `c` → `k` channels, `h` x `w` pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub n: usize,
    pub c: usize,
    pub k: usize,
    pub h: usize,
    pub w: usize,
}

impl Size {
    /// Pixels per tile: the tile's matrix should stay in the second-level cache (512 KiB of it).
    fn tile(&self) -> usize {
        let fitting = (512 * 1024 / 4) / (self.c * 9);
        fitting.clamp(64, 1024).min(self.h * self.w)
    }

    fn tiles(&self) -> usize {
        (self.h * self.w).div_ceil(self.tile())
    }
}

/// Writes the values under each tap for pixels `from..from + t` of the picture `x` (c, h, w): `cols` (c·9, t).
fn gather(x: &[f32], size: Size, from: usize, t: usize, cols: &mut [f32]) {
    let (h, w) = (size.h, size.w);
    for channel in 0..size.c {
        let plane = &x[channel * h * w..][..h * w];
        for tap in 0..9 {
            let (dy, dx) = (tap / 3, tap % 3);
            let out = &mut cols[(channel * 9 + tap) * t..][..t];
            let mut at = 0;
            while at < t {
                let (row, column) = ((from + at) / w, (from + at) % w);
                let run = (w - column).min(t - at);
                let out = &mut out[at..at + run];
                let source = row + dy;
                if source == 0 || source > h {
                    out.fill(0.0);
                } else {
                    let line = &plane[(source - 1) * w..][..w];
                    // Column j of the run reads line[column + j + dx - 1], zero outside.
                    let first = usize::from(column + dx == 0);
                    let last = run.min((w + 1).saturating_sub(column + dx));
                    out[..first].fill(0.0);
                    out[last..].fill(0.0);
                    if first < last {
                        out[first..last].copy_from_slice(
                            &line[column + dx + first - 1..column + dx + last - 1],
                        );
                    }
                }
                at += run;
            }
        }
    }
}

/// y = w ∗ x (+ b, then max(0, ·) if `relu`): `x` (n, c, h, w), `weight` (k, c, 3, 3) → (n, k, h, w).
pub(super) fn forward(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    relu: bool,
    size: Size,
) -> Vec<f32> {
    let Size { n, c, k, h, w } = size;
    let (pixels, tile, tiles) = (h * w, size.tile(), size.tiles());
    let mut y = vec![0f32; n * k * pixels];
    let out = Shared::new(&mut y);
    let units = n * tiles;
    let parts = rayon::current_num_threads().min(units);
    (0..parts).into_par_iter().for_each(|part| {
        let mut cols = vec![0f32; c * 9 * tile];
        for unit in piece(units, parts, part) {
            let (picture, from) = (unit / tiles, unit % tiles * tile);
            let t = tile.min(pixels - from);
            gather(
                &x[picture * c * pixels..][..c * pixels],
                size,
                from,
                t,
                &mut cols,
            );
            let start = picture * k * pixels + from;
            // SAFETY: a unit writes the pixels `from..from + t` of its picture's planes, no other unit does;
            // the last element is start + (k - 1)·pixels + t - 1, within the picture.
            let to = unsafe { out.part(start, (k - 1) * pixels + t) };
            // SAFETY: `to` is (k, t) with row stride `pixels`, `weight` (k, c·9), `cols` (c·9, t), all in bounds.
            unsafe {
                gemm::gemm(
                    k,
                    t,
                    c * 9,
                    to,
                    1,
                    pixels as isize,
                    false,
                    weight.as_ptr(),
                    1,
                    (c * 9) as isize,
                    cols.as_ptr(),
                    1,
                    t as isize,
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    Parallelism::None,
                );
            }
            for channel in 0..k {
                // SAFETY: row `channel` of the tile just written.
                let row = unsafe { std::slice::from_raw_parts_mut(to.add(channel * pixels), t) };
                finish(row, bias.map_or(0.0, |bias| bias[channel]), relu);
            }
        }
    });
    y
}

fn finish(row: &mut [f32], bias: f32, relu: bool) {
    if relu {
        // Written so that NaN stays NaN, as in PyTorch.
        row.iter_mut().for_each(|y| {
            let sum = *y + bias;
            *y = if sum < 0.0 { 0.0 } else { sum };
        });
    } else if bias != 0.0 {
        row.iter_mut().for_each(|y| *y += bias);
    }
}

/// The gradient of the input: `grad` (n, k, h, w), `weight` (k, c, 3, 3) → (n, c, h, w).
pub(super) fn input_gradient(grad: &[f32], weight: &[f32], size: Size) -> Vec<f32> {
    let Size { c, k, .. } = size;
    let mut turned = vec![0f32; c * k * 9];
    for out in 0..k {
        for channel in 0..c {
            for tap in 0..9 {
                turned[(channel * k + out) * 9 + 8 - tap] = weight[(out * c + channel) * 9 + tap];
            }
        }
    }
    forward(grad, &turned, None, false, Size { c: k, k: c, ..size })
}

/// The gradient of the weight: `x` (n, c, h, w), `grad` (n, k, h, w) → (k, c, 3, 3).
///
/// Each thread sums its own share of the tiles; the shares are then added in order, so that the same number of
/// threads gives the same bits.
pub(super) fn weight_gradient(x: &[f32], grad: &[f32], size: Size) -> Vec<f32> {
    let Size { n, c, k, h, w } = size;
    let (pixels, tile, tiles) = (h * w, size.tile(), size.tiles());
    let units = n * tiles;
    let parts = rayon::current_num_threads().min(units);
    let mut sums: Vec<Vec<f32>> = (0..parts)
        .into_par_iter()
        .map(|part| {
            let mut cols = vec![0f32; c * 9 * tile];
            let mut sum = vec![0f32; k * c * 9];
            for unit in piece(units, parts, part) {
                let (picture, from) = (unit / tiles, unit % tiles * tile);
                let t = tile.min(pixels - from);
                gather(
                    &x[picture * c * pixels..][..c * pixels],
                    size,
                    from,
                    t,
                    &mut cols,
                );
                let grad = &grad[picture * k * pixels + from..][..(k - 1) * pixels + t];
                // SAFETY: `sum` is (k, c·9), `grad` (k, t) with row stride `pixels`, `cols` (c·9, t) read
                // transposed; all in bounds.
                unsafe {
                    gemm::gemm(
                        k,
                        c * 9,
                        t,
                        sum.as_mut_ptr(),
                        1,
                        (c * 9) as isize,
                        true,
                        grad.as_ptr(),
                        1,
                        pixels as isize,
                        cols.as_ptr(),
                        t as isize,
                        1,
                        1.0,
                        1.0,
                        false,
                        false,
                        false,
                        Parallelism::None,
                    );
                }
            }
            sum
        })
        .collect();
    let mut total = sums.remove(0);
    for sum in sums {
        total
            .iter_mut()
            .zip(sum)
            .for_each(|(total, part)| *total += part);
    }
    total
}

/// The gradient of the bias: `grad` (n, k, h, w) → (k), summed over pictures and pixels.
pub(super) fn bias_gradient(grad: &[f32], size: Size) -> Vec<f32> {
    let pixels = size.h * size.w;
    (0..size.k)
        .into_par_iter()
        .map(|channel| {
            let planes =
                (0..size.n).map(|picture| &grad[(picture * size.k + channel) * pixels..][..pixels]);
            // A plane in single precision, planes in double: the error does not grow with the batch.
            planes
                .map(|plane| f64::from(plane.iter().sum::<f32>()))
                .sum::<f64>() as f32
        })
        .collect()
}
