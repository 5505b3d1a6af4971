//! The backward pass of one convolution with its ReLU and pool: which gradients, and in which order.

use super::blocked::{Extent, blank, blank_around};
use super::buffer::Buffer;
use super::gradient::WeightGradient;
use super::mask::before_relu;
use super::path::Path;
use super::sizes;
use super::weights::{self, Kernels};
use super::winograd::{Epilogue, convolve};

/// A layer and what its forward pass left. All activations are blocked.
pub(super) struct Backward<'a> {
    pub path: Path,
    /// Of `x`.
    pub from: Extent,
    /// Of `y`, pooled if the layer pools.
    pub stored: Extent,
    pub x: &'a [f32],
    /// (k, c, 3, 3).
    pub weight: &'a [f32],
    pub y: &'a [f32],
    /// Where the pool's first maxima lay, if the layer pools.
    pub indices: Option<&'a [u8]>,
}

/// Which gradients to compute.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub x: bool,
    pub weight: bool,
    pub bias: bool,
}

/// The gradients that were wanted: of x blocked, the others as the parameters lie.
pub(super) struct Gradients {
    pub x: Option<Buffer>,
    pub weight: Option<Vec<f32>>,
    pub bias: Option<Vec<f32>>,
}

impl Backward<'_> {
    /// From the gradient of `y`; some pictures at a time, so that the gradient before the ReLU is never whole.
    pub(super) fn gradients(&self, gradient: &[f32], wanted: Wanted) -> Gradients {
        let (from, stored) = (self.from, self.stored);
        let to = Extent {
            c: stored.c,
            ..from
        };
        let turned = wanted.x.then(|| {
            let kernels = Kernels::backward(to.c, from.c);
            weights::transform(self.path, self.weight, kernels)
        });
        let mut x_gradient = wanted.x.then(|| blank(from));
        let mut weight_gradient = wanted
            .weight
            .then(|| WeightGradient::new(self.path, from, to.c));
        let mut bias_gradient = vec![0f64; to.c];
        let at_once = sizes::masked_pictures(to.picture()).min(from.n);
        // What an odd size leaves out of the pool has no gradient.
        let pool = if self.indices.is_some() { 2 } else { 1 };
        let (h, w) = (pool * stored.h, pool * stored.w);
        let mut before = blank_around(to.with_n(at_once), h, w);
        for first in (0..from.n).step_by(at_once) {
            let n = at_once.min(from.n - first);
            let part = |extent: Extent| first * extent.picture()..(first + n) * extent.picture();
            let before = &mut before[..to.with_n(n).len()];
            let sums = before_relu(
                self.path,
                &self.y[part(stored)],
                &gradient[part(stored)],
                self.indices.map(|indices| &indices[part(stored)]),
                to.with_n(n),
                before,
            );
            for (total, sum) in bias_gradient.iter_mut().zip(sums) {
                *total += sum;
            }
            if let Some(weight_gradient) = &mut weight_gradient {
                weight_gradient.add(&self.x[part(from)], before, n);
            }
            if let (Some(turned), Some(x_gradient)) = (&turned, &mut x_gradient) {
                let nothing = Epilogue {
                    bias: None,
                    relu: false,
                    pool: false,
                    indices: None,
                };
                let x_gradient = &mut x_gradient[part(from)];
                convolve(before, to.with_n(n), turned, from.c, nothing, x_gradient);
            }
        }
        let bias = bias_gradient.into_iter().map(|sum| sum as f32).collect();
        Gradients {
            x: x_gradient,
            weight: weight_gradient.map(WeightGradient::finish),
            bias: wanted.bias.then_some(bias),
        }
    }
}
