//! Filter weights of a resize pass, and the rows of bytes that they are applied to.

use std::ops::Range;

/// Number of fractional bits of a weight, as in Pillow: 8 bits are left for the byte and 2 for the
/// sign and overflow.
pub(super) const BITS: u32 = 32 - 8 - 2;

/// Added to a sum to round to nearest, half up.
pub(super) const HALF: i32 = 1 << (BITS - 1);

/// The weights of a pass: for each output, the index of the first input and `taps` weights.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    starts: Vec<usize>,
    weights: Vec<i32>,
    taps: usize,
}

impl Filter {
    /// Number of inputs per output.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only vector kernels use it")
    )]
    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// Computes the weights of the outputs `first .. first + count` for `length` inputs resized to
    /// `resized`.
    pub(super) fn set(&mut self, length: u32, resized: u32, first: u32, count: u32) {
        let scale = f64::from(length) / f64::from(resized);
        let support = scale.max(1.0);
        let length = length as usize;
        // A half-open interval of length x contains at most ceil(x) integers.
        self.taps = ((support * 2.0).ceil() as usize).min(length);
        self.starts.clear();
        self.weights.clear();
        for output in first..first + count {
            let center = (f64::from(output) + 0.5) * scale;
            let from = (center - support + 0.5).max(0.0) as usize;
            let to = ((center + support + 0.5) as usize).min(length);
            let weight =
                |input: usize| (1.0 - ((input as f64 - center + 0.5) / support).abs()).max(0.0);
            let total: f64 = (from..to).map(weight).sum();
            // Near the end, the inputs start earlier, so that every output has `taps` inputs. The
            // additional ones have weight 0.
            let start = from.min(length - self.taps);
            self.starts.push(start);
            self.weights.extend((start..start + self.taps).map(|input| {
                if (from..to).contains(&input) {
                    fixed(weight(input) / total)
                } else {
                    0
                }
            }));
        }
    }

    /// Reverses the order of the outputs.
    pub(super) fn reverse(&mut self) {
        self.starts.reverse();
        // This also reverses the weights of each output, so they are reversed again.
        self.weights.reverse();
        self.weights
            .chunks_exact_mut(self.taps)
            .for_each(<[i32]>::reverse);
    }

    /// Returns the range of inputs that the outputs depend on, and makes the filter's
    /// indices relative to the start of this range.
    pub(super) fn rebase(&mut self) -> Range<usize> {
        let first = self.starts.iter().copied().min().unwrap_or(0);
        let last = self.starts.iter().copied().max().unwrap_or(0);
        self.starts.iter_mut().for_each(|start| *start -= first);
        first..last + self.taps
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.starts
            .iter()
            .copied()
            .zip(self.weights.chunks_exact(self.taps))
    }
}

/// Converts a weight to fixed point, rounding half up. `weight` must not be negative.
fn fixed(weight: f64) -> i32 {
    (0.5 + weight * f64::from(1 << BITS)) as i32
}

/// The rows of a rectangle in an image.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) bytes: &'a [u8],
    /// Distance between rows in bytes.
    pub(super) stride: usize,
    /// Number of rows above the rectangle.
    pub(super) top: usize,
    /// Number of bytes to the left of the rectangle.
    pub(super) left: usize,
    /// Number of bytes per row of the rectangle.
    pub(super) width: usize,
}

impl<'a> Rows<'a> {
    /// Contiguous rows of `width` bytes.
    pub(super) fn packed(bytes: &'a [u8], width: usize) -> Self {
        Self {
            bytes,
            stride: width,
            top: 0,
            left: 0,
            width,
        }
    }

    pub(super) fn row(&self, index: usize) -> &'a [u8] {
        let start = (self.top + index) * self.stride + self.left;
        &self.bytes[start..start + self.width]
    }

    /// The bytes from the start of a row of the rectangle to the end of the image.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only vector kernels read past a row")
    )]
    pub(super) fn row_onward(&self, index: usize) -> &'a [u8] {
        &self.bytes[(self.top + index) * self.stride + self.left..]
    }
}
