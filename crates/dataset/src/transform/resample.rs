//! Pillow's bilinear resize, to the bit, fused with the cut, the centre crop and the flip.
//!
//! A triangle filter whose support grows with the scale (antialias), horizontal pass first, each pass rounded to
//! bytes, weights normalised in double precision and then fixed to 22 bits: `src/libImaging/Resample.c` of Pillow.
//! Resizers that are built for speed round otherwise; this one gives Pillow's bytes, and takes part of its speed back
//! by computing only the pixels that a [`Plan`] keeps.

use image::RgbImage;

use super::Plan;
use crate::error::{Error, Result};

/// Bits behind the point of a weight. A byte times a sum of weights of one needs 8 more, and a sign.
const BITS: u32 = 32 - 8 - 2;

/// Applies one plan. [`Resampler`] does the same for many pictures, with less allocation.
///
/// # Errors
///
/// A plan that does not fit the picture.
pub fn apply(picture: &RgbImage, plan: &Plan) -> Result<RgbImage> {
    let mut resampler = Resampler::default();
    resampler.apply(picture, plan)?;
    Ok(resampler.out)
}

/// Applies plans to pictures one after the other, and keeps its buffers.
#[derive(Clone, Debug, Default)]
pub struct Resampler {
    columns: Axis,
    rows: Axis,
    /// What the horizontal pass makes: the rows of the region that take part, each as wide as the window.
    narrow: Vec<u8>,
    out: RgbImage,
}

impl Resampler {
    /// The picture that `plan` makes of `picture`: a square of `plan.size`, valid until the next call.
    ///
    /// # Errors
    ///
    /// A plan that does not fit the picture.
    pub fn apply(&mut self, picture: &RgbImage, plan: &Plan) -> Result<&RgbImage> {
        check(picture, plan)?;
        self.columns.set(
            plan.region.width,
            plan.resized.0,
            plan.window.left,
            plan.window.width,
        );
        self.rows.set(
            plan.region.height,
            plan.resized.1,
            plan.window.top,
            plan.window.height,
        );
        if plan.flip {
            self.columns.reverse();
        }
        let span = self.rows.span();
        self.across(picture, plan, span.clone());

        let mut pixels = std::mem::take(&mut self.out).into_raw();
        let side = plan.size as usize * 3;
        pixels.clear();
        pixels.resize(side * plan.size as usize, 0);
        let width = plan.window.width as usize * 3;
        // A flip swaps the padding of the two sides as well.
        let left = if plan.flip {
            plan.size - plan.window.width - plan.at.0
        } else {
            plan.at.0
        } as usize
            * 3;
        let target = pixels.chunks_exact_mut(side).skip(plan.at.1 as usize);
        for (row, (start, weights)) in target.zip(self.rows.outputs()) {
            down(
                &self.narrow[(start - span.start) * width..],
                weights,
                &mut row[left..left + width],
            );
        }
        self.out = RgbImage::from_raw(plan.size, plan.size, pixels)
            .expect("the buffer has the square's size");
        Ok(&self.out)
    }

    /// The horizontal pass over the rows `span` of the region.
    fn across(&mut self, picture: &RgbImage, plan: &Plan, span: std::ops::Range<usize>) {
        let stride = picture.width() as usize * 3;
        let first = (plan.region.left as usize) * 3;
        let length = plan.region.width as usize * 3;
        self.narrow.clear();
        self.narrow
            .resize(span.len() * plan.window.width as usize * 3, 0);
        let source = picture
            .as_raw()
            .chunks_exact(stride)
            .skip(plan.region.top as usize + span.start);
        for (from, to) in source.zip(self.narrow.chunks_exact_mut(plan.window.width as usize * 3)) {
            across_row(&from[first..first + length], &self.columns, to);
        }
    }
}

/// One row of the horizontal pass.
fn across_row(from: &[u8], columns: &Axis, to: &mut [u8]) {
    let (from, _) = from.as_chunks::<3>();
    let (to, _) = to.as_chunks_mut::<3>();
    for (pixel, (start, weights)) in to.iter_mut().zip(columns.outputs()) {
        let mut sum = [1i32 << (BITS - 1); 3];
        for (&[r, g, b], &weight) in from[start..start + weights.len()].iter().zip(weights) {
            sum[0] += i32::from(r) * weight;
            sum[1] += i32::from(g) * weight;
            sum[2] += i32::from(b) * weight;
        }
        *pixel = sum.map(|sum| (sum >> BITS) as u8);
    }
}

/// One row of the vertical pass: the weighted sum of the rows that `from` begins with.
fn down(from: &[u8], weights: &[i32], to: &mut [u8]) {
    const LANES: usize = 32;
    let width = to.len();
    let mut at = 0;
    while at < width {
        let lanes = LANES.min(width - at);
        let mut sum = [1i32 << (BITS - 1); LANES];
        for (row, &weight) in from.chunks_exact(width).zip(weights) {
            for (sum, &byte) in sum.iter_mut().zip(&row[at..at + lanes]) {
                *sum += i32::from(byte) * weight;
            }
        }
        for (byte, &sum) in to[at..at + lanes].iter_mut().zip(&sum) {
            *byte = (sum >> BITS) as u8;
        }
        at += lanes;
    }
}

/// The weights of one pass: for each output, the first input that takes part, and the same number of weights.
#[derive(Clone, Debug, Default)]
struct Axis {
    starts: Vec<usize>,
    weights: Vec<i32>,
    /// Weights of each output; those beyond its support are 0.
    taps: usize,
}

impl Axis {
    /// The outputs `first .. first + count` of `length` inputs resized to `resized`.
    fn set(&mut self, length: u32, resized: u32, first: u32, count: u32) {
        let scale = f64::from(length) / f64::from(resized);
        let support = scale.max(1.0);
        let length = length as usize;
        // The inputs whose centre lies nearer than the support are at most this many.
        self.taps = ((support * 2.0).ceil() as usize + 1).min(length);
        self.starts.clear();
        self.weights.clear();
        self.weights.reserve(self.taps * count as usize);
        for output in first..first + count {
            let center = (f64::from(output) + 0.5) * scale;
            let from = (center - support + 0.5).max(0.0) as usize;
            let to = ((center + support + 0.5) as usize).min(length);
            let weight =
                |input: usize| (1.0 - ((input as f64 - center + 0.5) / support).abs()).max(0.0);
            let total: f64 = (from..to).map(weight).sum();
            // Near the end the window moves back, so that every output has the same number of inputs.
            let start = from.min(length - self.taps);
            self.starts.push(start);
            self.weights.extend((start..start + self.taps).map(|input| {
                if input < from || input >= to {
                    0
                } else {
                    fixed(weight(input) / total)
                }
            }));
        }
    }

    /// Mirrors the outputs.
    fn reverse(&mut self) {
        self.starts.reverse();
        let last = self.starts.len();
        for output in 0..last / 2 {
            for tap in 0..self.taps {
                self.weights.swap(
                    output * self.taps + tap,
                    (last - 1 - output) * self.taps + tap,
                );
            }
        }
    }

    /// The inputs that any output needs.
    fn span(&self) -> std::ops::Range<usize> {
        let first = self.starts.iter().min().copied().unwrap_or(0);
        let last = self.starts.iter().max().copied().unwrap_or(0);
        first..last + self.taps
    }

    fn outputs(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.starts
            .iter()
            .copied()
            .zip(self.weights.chunks_exact(self.taps.max(1)))
    }
}

/// Rounds to fixed point, half up; weights are not negative.
fn fixed(weight: f64) -> i32 {
    (0.5 + weight * f64::from(1 << BITS)) as i32
}

fn check(picture: &RgbImage, plan: &Plan) -> Result<()> {
    let Plan {
        region,
        resized,
        window,
        at,
        size,
        ..
    } = *plan;
    let within = |start: u32, length: u32, end: u32| {
        length > 0 && u64::from(start) + u64::from(length) <= u64::from(end)
    };
    let fits = within(region.left, region.width, picture.width())
        && within(region.top, region.height, picture.height())
        && within(window.left, window.width, resized.0)
        && within(window.top, window.height, resized.1)
        && within(at.0, window.width, size)
        && within(at.1, window.height, size);
    if fits {
        return Ok(());
    }
    Err(Error::Plan {
        plan: *plan,
        width: picture.width(),
        height: picture.height(),
    })
}
