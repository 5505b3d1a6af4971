//! The weights of one pass of a resize, and the rows of bytes that they are applied to.

use std::ops::Range;

/// Bits behind the point of a weight. A byte times weights that add up to one needs eight more, and a sign.
pub(super) const BITS: u32 = 32 - 8 - 2;

/// What rounds a sum to the nearest byte, half up.
pub(super) const HALF: i32 = 1 << (BITS - 1);

/// The weights of one pass: for each output, the first input that takes part, and as many weights as any output has.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    starts: Vec<usize>,
    weights: Vec<i32>,
    taps: usize,
}

impl Filter {
    /// How many inputs each output has.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only a vector kernel asks")
    )]
    pub(super) fn taps(&self) -> usize {
        self.taps
    }

    /// The outputs `first .. first + count` of `length` inputs resized to `resized`.
    pub(super) fn set(&mut self, length: u32, resized: u32, first: u32, count: u32) {
        let scale = f64::from(length) / f64::from(resized);
        let support = scale.max(1.0);
        let length = length as usize;
        // An interval of this length, open at one end, holds no more whole numbers than that.
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
            // Moved back near the end, so that every output has the same number of inputs.
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

    /// Mirrors the outputs.
    pub(super) fn reverse(&mut self) {
        self.starts.reverse();
        // Reversing everything also reverses the weights of each output, which is undone.
        self.weights.reverse();
        self.weights
            .chunks_exact_mut(self.taps)
            .for_each(<[i32]>::reverse);
    }

    /// The inputs that any output needs; from now on they are counted from the first of them.
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

/// Rounds to fixed point, half up; a triangle has no negative weights.
fn fixed(weight: f64) -> i32 {
    (0.5 + weight * f64::from(1 << BITS)) as i32
}

/// A rectangle of a image.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// Rows above the rectangle.
    pub(super) top: usize,
    /// Bytes left of it in each row.
    pub(super) left: usize,
    /// Bytes of it in each row.
    pub(super) width: usize,
}

impl<'a> Rows<'a> {
    /// Rows of `width` bytes that follow each other.
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

    /// The bytes of the rectangle's row, and whatever follows it in the image.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only a vector kernel reads on")
    )]
    pub(super) fn row_onward(&self, index: usize) -> &'a [u8] {
        &self.bytes[(self.top + index) * self.stride + self.left..]
    }
}
