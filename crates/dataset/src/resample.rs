//! Pillow's bilinear resize, bit for bit, fused with crop and flip.
//!
//! The filter is a triangle whose support grows with the scale (antialiasing). Each of the two
//! passes rounds to bytes. Weights are normalized in double precision and converted to fixed point
//! with 22 fractional bits. The horizontal pass comes first, with one exception since Pillow 13.0:
//! from `w` × `h` to `W` × `H`, the vertical pass comes first if `h > H` and `h − H > 2 (w − W)`.
//! The order changes the result, because each pass rounds.
//!
//! Crates optimized for fast resizing round differently. This module is fast because it computes
//! only the pixels that a [`Plan`] keeps.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod filter;
mod portable;

use image::RgbImage;

use crate::error::{Error, Result};
use crate::plan::Plan;
use filter::{Filter, Rows};

/// Applies a plan to one image. For many images, [`Resampler`] allocates less.
///
/// # Errors
///
/// Returns an error if the plan's region is empty or exceeds the image, or if its window is empty or
/// exceeds the resized region or the square.
pub fn apply(image: &RgbImage, plan: &Plan) -> Result<RgbImage> {
    let mut resampler = Resampler::default();
    resampler.apply(image, plan)?;
    Ok(resampler.out)
}

/// Applies plans to images and reuses its buffers.
#[derive(Clone, Debug, Default)]
pub struct Resampler {
    columns: Filter,
    rows: Filter,
    /// Output of the first pass.
    intermediate: Vec<u8>,
    out: RgbImage,
}

impl Resampler {
    /// Applies `plan` to `image` and returns a square image of `plan.size`.
    ///
    /// # Errors
    ///
    /// Returns an error in the same cases as [`apply`].
    pub fn apply(&mut self, image: &RgbImage, plan: &Plan) -> Result<&mut RgbImage> {
        check(image, plan)?;
        let Self {
            columns,
            rows,
            intermediate,
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
            // The pixels outside the window stay 0. Without padding, every byte is written below.
            pixels.clear();
        }
        pixels.resize(side * plan.size as usize, 0);
        // A flip also swaps the left and right padding.
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

        // The part of the region that the window depends on.
        let (needed_columns, needed_rows) = (columns.rebase(), rows.rebase());
        let source = Rows {
            bytes: image.as_raw(),
            stride: image.width() as usize * 3,
            top: plan.region.top as usize + needed_rows.start,
            left: (plan.region.left as usize + needed_columns.start) * 3,
            width: needed_columns.len() * 3,
        };
        // The first pass writes every byte of `intermediate`, so it is not cleared.
        if vertical_first(plan) {
            intermediate.resize(source.width * plan.window.height as usize, 0);
            vertical(source, rows, intermediate.chunks_exact_mut(source.width));
            horizontal(Rows::packed(intermediate, source.width), columns, target);
        } else {
            intermediate.resize(width * needed_rows.len(), 0);
            horizontal(source, columns, intermediate.chunks_exact_mut(width));
            vertical(Rows::packed(intermediate, width), rows, target);
        }
        *out = RgbImage::from_raw(plan.size, plan.size, pixels)
            .expect("the buffer holds size × size pixels");
        Ok(out)
    }
}

/// Runs the horizontal pass: row `i` of the target is computed from row `i` of the source.
fn horizontal<'t>(source: Rows, filter: &Filter, target: impl Iterator<Item = &'t mut [u8]>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU supports AVX2, as detected in the line above.
        return unsafe { avx2::horizontal(source, filter, target) };
    }
    portable::horizontal(source, filter, target);
}

/// Runs the vertical pass: each target row is a weighted sum of source rows.
fn vertical<'t>(source: Rows, filter: &Filter, target: impl Iterator<Item = &'t mut [u8]>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU supports AVX2, as detected in the line above.
        return unsafe { avx2::vertical(source, filter, target) };
    }
    portable::vertical(source, filter, target);
}

/// Returns whether Pillow 13 runs the vertical pass first. Its rule compares the number of rows and
/// columns that the passes remove.
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Returns `count` pseudorandom bytes.
    fn noise(count: usize) -> Vec<u8> {
        (0..count as u64)
            .map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
            .collect()
    }

    #[test]
    fn avx2_and_portable_passes_give_the_same_bytes() {
        if !is_x86_feature_detected!("avx2") {
            println!("skipped: this CPU has no AVX2");
            return;
        }
        for length in [1, 2, 3, 4, 5, 7, 16, 63, 200, 1000] {
            for resized in [1, 2, 3, 8, 11, 64, 224] {
                let mut filter = Filter::default();
                filter.set(length, resized, 0, resized);
                let (length, resized) = (length as usize, resized as usize);
                let rows = 3;
                // The last row ends at the end of the buffer, where fewer than 16 bytes can remain
                // for a load.
                let image = noise(length * rows * 3);
                let source = Rows::packed(&image, length * 3);
                let mut outputs = [vec![0; resized * rows * 3], vec![1; resized * rows * 3]];
                portable::horizontal(source, &filter, outputs[0].chunks_exact_mut(resized * 3));
                horizontal(source, &filter, outputs[1].chunks_exact_mut(resized * 3));
                assert_eq!(outputs[0], outputs[1], "horizontal, {length} to {resized}");

                for width in [1, 31, 32, 33, 100] {
                    let image = noise(length * width);
                    let source = Rows::packed(&image, width);
                    let mut outputs = [vec![0; resized * width], vec![1; resized * width]];
                    portable::vertical(source, &filter, outputs[0].chunks_exact_mut(width));
                    vertical(source, &filter, outputs[1].chunks_exact_mut(width));
                    assert_eq!(
                        outputs[0], outputs[1],
                        "vertical, {length} to {resized}, {width} wide"
                    );
                }
            }
        }
    }
}
