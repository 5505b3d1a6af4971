//! A naive convolution in f64, the reference for the optimized convolutions.

#![allow(dead_code, reason = "each test file uses some of these functions")]

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;

/// y = max(0, w ∗ x + b) with an optional 2x2 max pool, and the gradients of Σ y·g, as plain loops.
pub struct Naive {
    pub n: usize,
    pub c: usize,
    pub k: usize,
    pub h: usize,
    pub w: usize,
    pub pool: bool,
}

/// The output y and the gradients of x, weight and bias, in row-major order.
pub struct Outputs {
    pub y: Vec<f64>,
    pub x: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

impl Naive {
    /// Height and width of the output.
    pub fn output_size(&self) -> (usize, usize) {
        if self.pool {
            (self.h / 2, self.w / 2)
        } else {
            (self.h, self.w)
        }
    }

    /// Computes the output, and the gradients of Σ y·g, from tensors in row-major order.
    pub fn run(&self, x: &[f32], weight: &[f32], bias: &[f32], g: &[f32]) -> Outputs {
        let &Self { n, c, k, h, w, .. } = self;
        let (oh, ow) = self.output_size();
        let taps = |i: usize, j: usize| {
            (0..9).filter_map(move |tap| {
                let (y, x) = ((i + tap / 3).checked_sub(1)?, (j + tap % 3).checked_sub(1)?);
                (y < h && x < w).then_some((tap, y * w + x))
            })
        };
        let plane = |(index, plane): (usize, &mut [f64])| {
            let (image, out) = (index / k, index % k);
            for (pixel, value) in plane.iter_mut().enumerate() {
                let mut sum = f64::from(bias[out]);
                for channel in 0..c {
                    let x = &x[(image * c + channel) * h * w..][..h * w];
                    let weight = &weight[(out * c + channel) * 9..][..9];
                    for (tap, from) in taps(pixel / w, pixel % w) {
                        sum += f64::from(weight[tap]) * f64::from(x[from]);
                    }
                }
                *value = sum;
            }
        };
        let mut sums = vec![0f64; n * k * h * w];
        sums.par_chunks_mut(h * w).enumerate().for_each(plane);
        let (mut y, mut relu_gradient) = (Vec::new(), vec![0f64; sums.len()]);
        for plane in 0..n * k {
            for cell in 0..oh * ow {
                let at = |i: usize, j: usize| plane * h * w + i * w + j;
                let window = if self.pool {
                    let (i, j) = (2 * (cell / ow), 2 * (cell % ow));
                    vec![at(i, j), at(i, j + 1), at(i + 1, j), at(i + 1, j + 1)]
                } else {
                    vec![at(cell / ow, cell % ow)]
                };
                let relu = |at: usize| sums[at].max(0.0);
                let first = window
                    .iter()
                    .copied()
                    .reduce(|a, b| if relu(b) > relu(a) { b } else { a });
                let first = first.expect("a window has a cell");
                y.push(relu(first));
                if sums[first] > 0.0 {
                    relu_gradient[first] = f64::from(g[plane * oh * ow + cell]);
                }
            }
        }
        let mut outputs = Outputs {
            y,
            x: vec![0.0; x.len()],
            weight: vec![0.0; weight.len()],
            bias: vec![0.0; k],
        };
        for image in 0..n {
            for out in 0..k {
                let gradient = &relu_gradient[(image * k + out) * h * w..][..h * w];
                outputs.bias[out] += gradient.iter().sum::<f64>();
                for channel in 0..c {
                    let from = (image * c + channel) * h * w;
                    let kernel = (out * c + channel) * 9;
                    for (pixel, &gradient) in
                        gradient.iter().enumerate().filter(|(_, g)| **g != 0.0)
                    {
                        for (tap, at) in taps(pixel / w, pixel % w) {
                            outputs.x[from + at] += gradient * f64::from(weight[kernel + tap]);
                            outputs.weight[kernel + tap] += gradient * f64::from(x[from + at]);
                        }
                    }
                }
            }
        }
        outputs
    }
}

/// `count` random values in [-1, 1].
pub fn random(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count)
        .map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0)
        .collect()
}

/// The largest absolute difference, divided by the largest absolute expected value unless it is 0.
pub fn relative_error(actual: &Tensor, expected: &[f64]) -> f64 {
    let actual: Vec<f32> = actual.flatten_all().and_then(|t| t.to_vec1()).expect("f32");
    assert_eq!(actual.len(), expected.len());
    let largest = expected
        .iter()
        .fold(0f64, |max, value| max.max(value.abs()));
    let differences = actual
        .iter()
        .zip(expected)
        .map(|(&actual, expected)| (f64::from(actual) - expected).abs());
    let error = differences.fold(0f64, |max, difference| {
        if difference.is_nan() {
            f64::NAN
        } else {
            max.max(difference)
        }
    });
    if largest == 0.0 {
        error
    } else {
        error / largest
    }
}
