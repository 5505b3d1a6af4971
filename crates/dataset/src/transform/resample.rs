//! Pillow's bilinear resize, to the bit, fused with the cut, the center crop and the flip.
//!
//! A triangle filter whose support grows with the scale (antialias), two passes, each rounded to bytes, weights
//! normalized in double precision and then fixed to 22 bits. The horizontal pass comes first, except where Pillow
//! (since 13.0) saves work by the other order: from `w` × `h` to `W` × `H` when `h > H` and `h − H > 2 (w − W)`.
//! Since each pass rounds, the order shows.
//!
//! Resizers that are built for speed round otherwise. This one is fast because it computes only the pixels that a
//! [`Plan`] keeps.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod filter;
mod portable;

use image::RgbImage;

use super::Plan;
use crate::error::{Error, Result};
use filter::{Filter, Rows};
use portable::{horizontal, vertical};

/// Applies one plan. [`Resampler`] does the same for many images, with less allocation.
///
/// # Errors
///
/// A plan that does not fit the image.
pub fn apply(image: &RgbImage, plan: &Plan) -> Result<RgbImage> {
    let mut resampler = Resampler::default();
    resampler.apply(image, plan)?;
    Ok(resampler.out)
}

/// Applies plans to images one after the other, and keeps its buffers.
#[derive(Clone, Debug, Default)]
pub struct Resampler {
    columns: Filter,
    rows: Filter,
    /// What the first pass makes.
    between: Vec<u8>,
    out: RgbImage,
}

impl Resampler {
    /// The image that `plan` makes of `image`: a square of `plan.size`, valid until the next call.
    ///
    /// # Errors
    ///
    /// A plan that does not fit the image.
    pub fn apply(&mut self, image: &RgbImage, plan: &Plan) -> Result<&RgbImage> {
        check(image, plan)?;
        let Self {
            columns,
            rows,
            between,
            out,
        } = self;
        columns.set(
            plan.region.width,
            plan.resized.0,
            plan.window.left,
            plan.window.width,
        );
        rows.set(
            plan.region.height,
            plan.resized.1,
            plan.window.top,
            plan.window.height,
        );
        if plan.flip {
            columns.reverse();
        }

        let side = plan.size as usize * 3;
        let mut pixels = std::mem::take(out).into_raw();
        if (plan.window.width, plan.window.height) != (plan.size, plan.size) {
            // What the window leaves is padding; else every byte is written below.
            pixels.clear();
        }
        pixels.resize(side * plan.size as usize, 0);
        // A flip swaps the padding of the two sides as well.
        let left = if plan.flip {
            plan.size - plan.window.width - plan.offset.0
        } else {
            plan.offset.0
        } as usize
            * 3;
        let width = plan.window.width as usize * 3;
        let target = pixels
            .chunks_exact_mut(side)
            .skip(plan.offset.1 as usize)
            .map(|row| &mut row[left..left + width]);

        // Of the region, only the part that the window needs.
        let (needed_columns, needed_rows) = (columns.rebase(), rows.rebase());
        let source = Rows {
            bytes: image.as_raw(),
            stride: image.width() as usize * 3,
            top: plan.region.top as usize + needed_rows.start,
            left: (plan.region.left as usize + needed_columns.start) * 3,
            width: needed_columns.len() * 3,
        };
        // Every byte of it is written by the first pass.
        if vertical_first(plan) {
            between.resize(source.width * plan.window.height as usize, 0);
            vertical(source, rows, between.chunks_exact_mut(source.width));
            horizontal(Rows::packed(between, source.width), columns, target);
        } else {
            between.resize(width * needed_rows.len(), 0);
            horizontal(source, columns, between.chunks_exact_mut(width));
            vertical(Rows::packed(between, width), rows, target);
        }
        *out = RgbImage::from_raw(plan.size, plan.size, pixels)
            .expect("the buffer has the square's size");
        Ok(out)
    }
}

/// Whether Pillow 13 makes the vertical pass first. Its rule counts the rows and columns that a pass takes away.
fn vertical_first(plan: &Plan) -> bool {
    let rows = i64::from(plan.region.height) - i64::from(plan.resized.1);
    let columns = i64::from(plan.region.width) - i64::from(plan.resized.0);
    rows > 0 && rows > 2 * columns
}

fn check(image: &RgbImage, plan: &Plan) -> Result<()> {
    let Plan {
        region,
        resized,
        window,
        offset,
        size,
        ..
    } = *plan;
    let within = |start: u32, length: u32, end: u32| {
        length > 0 && u64::from(start) + u64::from(length) <= u64::from(end)
    };
    let fits = within(region.left, region.width, image.width())
        && within(region.top, region.height, image.height())
        && within(window.left, window.width, resized.0)
        && within(window.top, window.height, resized.1)
        && within(offset.0, window.width, size)
        && within(offset.1, window.height, size);
    if fits {
        return Ok(());
    }
    Err(Error::Plan {
        plan: *plan,
        width: image.width(),
        height: image.height(),
    })
}
