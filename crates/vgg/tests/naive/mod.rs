//! The convolution as it is defined, in double precision: what every fast one is compared with.

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;

/// y = max(0, w ∗ x + b), then a 2x2 max pool or not, and the gradients of Σ y·g: loops and nothing else.
pub struct Naive {
    pub n: usize,
    pub c: usize,
    pub k: usize,
    pub h: usize,
    pub w: usize,
    pub pool: bool,
}

/// A result and its gradients, in their tensors' order.
pub struct Outputs {
    pub y: Vec<f64>,
    pub x: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

impl Naive {
    /// The result's height and width.
    pub fn output_size(&self) -> (usize, usize) {
        if self.pool {
            (self.h / 2, self.w / 2)
        } else {
            (self.h, self.w)
        }
    }

    /// The result, and the gradients of its product with `g`.
    pub fn run(&self, x: &[f32], weight: &[f32], bias: &[f32], g: &[f32]) -> Outputs {
        let &Self { n, c, k, h, w, .. } = self;
        let (oh, ow) = self.output_size();
        let taps = |i: usize, j: usize| {
            (0..9).filter_map(move |tap| {
                let (y, x) = ((i + tap / 3).checked_sub(1)?, (j + tap % 3).checked_sub(1)?);
                (y < h && x < w).then_some((tap, y * w + x))
            })
        };
        let plane = |(at, plane): (usize, &mut [f64])| {
            let (picture, out) = (at / k, at % k);
            for (pixel, value) in plane.iter_mut().enumerate() {
                let mut sum = f64::from(bias[out]);
                for channel in 0..c {
                    let x = &x[(picture * c + channel) * h * w..][..h * w];
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
        let (mut y, mut before) = (Vec::new(), vec![0f64; sums.len()]);
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
                    before[first] = f64::from(g[plane * oh * ow + cell]);
                }
            }
        }
        let mut outputs = Outputs {
            y,
            x: vec![0.0; x.len()],
            weight: vec![0.0; weight.len()],
            bias: vec![0.0; k],
        };
        for picture in 0..n {
            for out in 0..k {
                let before = &before[(picture * k + out) * h * w..][..h * w];
                outputs.bias[out] += before.iter().sum::<f64>();
                for channel in 0..c {
                    let from = (picture * c + channel) * h * w;
                    let kernel = (out * c + channel) * 9;
                    for (pixel, &before) in before.iter().enumerate().filter(|(_, b)| **b != 0.0) {
                        for (tap, at) in taps(pixel / w, pixel % w) {
                            outputs.x[from + at] += before * f64::from(weight[kernel + tap]);
                            outputs.weight[kernel + tap] += before * f64::from(x[from + at]);
                        }
                    }
                }
            }
        }
        outputs
    }
}

/// In [-1, 1].
pub fn random(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count)
        .map(|_| rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0)
        .collect()
}

/// The largest difference, relative to the largest exact value; NaN if there is one.
pub fn relative_error(ours: &Tensor, exact: &[f64]) -> f64 {
    let ours: Vec<f32> = ours.flatten_all().and_then(|t| t.to_vec1()).expect("f32");
    assert_eq!(ours.len(), exact.len());
    let largest = exact.iter().fold(0f64, |most, value| most.max(value.abs()));
    let off = ours
        .iter()
        .zip(exact)
        .map(|(&ours, exact)| (f64::from(ours) - exact).abs());
    let off = off.fold(0f64, |most, off| {
        if off.is_nan() {
            f64::NAN
        } else {
            most.max(off)
        }
    });
    if largest == 0.0 { off } else { off / largest }
}
