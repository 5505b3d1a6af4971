//! Rows of leftᵀ·right, the gradient of a fully connected layer's weight, as long as it takes to use them.
//!
//! The gradient of the first such layer of VGG-16 is 411 MB, and a sum over the pictures of a batch: it is computed
//! again from 3 MB in less time than it takes to write it and read it back.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Rows that share a load of `right`, and vectors of each that are summed together.
const ROWS: usize = 4;
const VECTORS: usize = 2;

/// f32 of a block of `right`, which stays in a core's second-level cache while all rows go by.
const BLOCK: usize = 1 << 16;

/// A block's width is a multiple of this many columns, which whole vectors of any processor fill.
const UNIT: usize = 256;

/// leftᵀ·right of `left` (n, out) and `right` (n, in).
#[derive(Clone, Copy)]
pub(crate) struct LowRankProduct<'a> {
    left: &'a [f32],
    right: &'a [f32],
    outputs: usize,
    inputs: usize,
}

impl<'a> LowRankProduct<'a> {
    /// The product of matrices with `outputs` and `inputs` columns, and as many rows.
    pub(crate) fn new(left: &'a [f32], right: &'a [f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(left.len() * inputs, right.len() * outputs, "equal rows");
        Self {
            left,
            right,
            outputs,
            inputs,
        }
    }

    /// Calls `work` with the values of each piece of the rows `rows`: (row, first column, values).
    ///
    /// Each value is a sum over the rows of the factors in their order, whatever the pieces.
    pub(crate) fn for_each(self, rows: Range<usize>, mut work: impl FnMut(usize, usize, &[f32])) {
        let n = self.left.len() / self.outputs;
        let width = (BLOCK / n.max(1) / UNIT).clamp(1, 16) * UNIT;
        let mut right = vec![0.0; n * width];
        let mut sums = vec![0.0; ROWS * width];
        for column in (0..self.inputs).step_by(width) {
            // Side by side: whole rows would meet in the same few lines of a cache.
            let count = width.min(self.inputs - column);
            for (k, to) in right.chunks_exact_mut(width).enumerate() {
                to[..count].copy_from_slice(&self.right[k * self.inputs + column..][..count]);
                to[count..].fill(0.0);
            }
            for row in rows.clone().step_by(ROWS) {
                let some = ROWS.min(rows.end - row);
                Arch::new().dispatch(Sums {
                    // Without samples there is nothing to begin at.
                    left: &self.left[row.min(self.left.len())..],
                    stride: self.outputs,
                    some,
                    right: &right,
                    sums: &mut sums,
                    width,
                });
                for (place, sums) in sums.chunks_exact(width).take(some).enumerate() {
                    work(row + place, column, &sums[..count]);
                }
            }
        }
    }
}

/// `some` of [`ROWS`] rows of sums over a block of `right`.
struct Sums<'a> {
    left: &'a [f32],
    stride: usize,
    some: usize,
    right: &'a [f32],
    sums: &'a mut [f32],
    width: usize,
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Nothing is left beside the vectors: see `UNIT`.
        let (right, _) = S::as_simd_f32s(self.right);
        let (sums, _) = S::as_mut_simd_f32s(self.sums);
        let width = self.width / S::F32_LANES;
        for at in (0..width).step_by(VECTORS) {
            let mut block = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
            for (right, left) in right.chunks_exact(width).zip(self.left.chunks(self.stride)) {
                for row in 0..ROWS {
                    // Rows beyond the last one repeat it.
                    let factor = simd.splat_f32s(left[row.min(self.some - 1)]);
                    for vector in 0..VECTORS {
                        let sum = block[row][vector];
                        block[row][vector] = simd.mul_add_e_f32s(factor, right[at + vector], sum);
                    }
                }
            }
            for row in 0..ROWS {
                for vector in 0..VECTORS {
                    sums[row * width + at + vector] = block[row][vector];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(len: usize, step: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * step).sin()).collect()
    }

    /// The product in two pieces: the rows before `cut`, and the others.
    fn found(product: LowRankProduct<'_>, cut: usize) -> Vec<f32> {
        let mut found = vec![f32::NAN; product.outputs * product.inputs];
        for rows in [0..cut, cut..product.outputs] {
            product.for_each(rows, |row, column, values| {
                found[row * product.inputs + column..][..values.len()].copy_from_slice(values);
            });
        }
        found
    }

    #[test]
    fn the_product_is_that_in_double_precision_whatever_the_pieces() {
        for (n, outputs, inputs) in [
            (0, 3, 5),
            (1, 1, 1),
            (3, 5, 17),
            (32, 7, 5000),
            (2, 9, 256),
            (40, 11, 3000),
        ] {
            let (left, right) = (wave(n * outputs, 0.7), wave(n * inputs, 0.3));
            let product = LowRankProduct::new(&left, &right, outputs, inputs);
            let whole = found(product, 0);
            for cut in 1..=outputs {
                assert_eq!(found(product, cut), whole, "{cut}");
            }
            for (at, &found) in whole.iter().enumerate() {
                let (row, column) = (at / inputs, at % inputs);
                let terms = (0..n).map(|k| {
                    f64::from(left[k * outputs + row]) * f64::from(right[k * inputs + column])
                });
                let expected: f64 = terms.sum();
                let difference = (f64::from(found) - expected).abs();
                assert!(difference < 1e-5, "{n} {outputs} {inputs} {row} {column}");
            }
        }
    }
}
