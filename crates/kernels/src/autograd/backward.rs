//! Backward pass of a convolution with its ReLU and pool, for one layer or two consecutive ones.
//!
//! Images are processed in groups, so the gradient of the convolution's output (before the ReLU) is
//! stored for one group at a time.

use std::ops::Range;

use super::relu_backward::{LayerOutput, relu_pool_backward};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::isa::Isa;
use crate::layout::{NchwcShape, alloc_with_halo, alloc_with_halo_around};
use crate::tuning;
use crate::winograd::weight_gradient::WeightGradient;
use crate::winograd::weights::{self, KernelLayout, TransformedWeights};
use crate::winograd::{Epilogue, convolve};

/// Weight, shapes and settings of a layer for the backward pass.
pub(crate) struct Layer<'a> {
    pub isa: Isa,
    pub relu: bool,
    /// Shape of the input x.
    pub from: NchwcShape,
    /// Shape of the output y, after the pool.
    pub stored: NchwcShape,
    /// Weight, (k, c, 3, 3).
    pub weight: &'a [f32],
    pub needs_grad: NeedsGrad,
}

/// Which gradients of a layer to compute.
#[derive(Clone, Copy)]
pub(crate) struct NeedsGrad {
    pub x: bool,
    pub weight: bool,
    pub bias: bool,
}

/// Activations that the forward pass saved, in NCHWc16.
#[derive(Clone, Copy)]
pub(crate) struct SavedActivations<'a> {
    pub x: &'a [f32],
    pub y: &'a [f32],
    /// Index of the first maximum of each pooling window, if the layer has a pool.
    pub indices: Option<&'a [u8]>,
}

/// Parameter gradients of a layer, each in its parameter's layout. `None` if not needed.
pub(crate) struct Gradients {
    pub weight: Option<Vec<f32>>,
    pub bias: Option<Vec<f32>>,
}

/// Computes the parameter gradients of a layer from `gradient`, the gradient of y in NCHWc16. Also
/// returns the gradient of x in NCHWc16, if needed.
pub(crate) fn backward(
    layer: &Layer<'_>,
    saved: SavedActivations<'_>,
    gradient: &[f32],
) -> Result<(Gradients, Option<Buffer>), Error> {
    let x_gradient = layer.needs_grad.x.then(|| alloc_with_halo(layer.from));
    let mut x_gradient = x_gradient.transpose()?;
    let mut sums = GradientSums::new(layer, layer.images_per_group(), saved.indices.is_some())?;
    for images in layer.groups() {
        let x = image_range(layer.from, &images);
        let y = image_range(layer.stored, &images);
        let saved = SavedActivations {
            x: &saved.x[x.clone()],
            y: &saved.y[y.clone()],
            indices: saved.indices.map(|indices| &indices[y.clone()]),
        };
        let x_gradient = x_gradient.as_mut().map(|gradient| &mut gradient[x]);
        sums.add(images.len(), saved, &gradient[y], x_gradient)?;
    }
    Ok((sums.finish(), x_gradient))
}

/// Like [`backward`], for two consecutive layers. The input of the first layer and the activation
/// between the layers were not saved: `recompute(images, x, between)` computes both for a group of
/// images. `saved` belongs to the second layer, and its `x` is not used. `gradient` is the gradient
/// of the second layer's y. The gradient of the first layer's input is not computed.
pub(crate) fn backward_pair(
    layers: [&Layer<'_>; 2],
    recompute: impl Fn(Range<usize>, &mut [f32], &mut [f32]) -> Result<(), Error>,
    saved: SavedActivations<'_>,
    gradient: &[f32],
) -> Result<[Gradients; 2], Error> {
    let [first, second] = layers;
    let group = second.images_per_group();
    let mut first_sums = GradientSums::new(first, group, false)?;
    let mut second_sums = GradientSums::new(second, group, saved.indices.is_some())?;
    let mut x = alloc_with_halo(first.from.with_n(group))?;
    let mut between = alloc_with_halo(second.from.with_n(group))?;
    let mut between_gradient = alloc_with_halo(second.from.with_n(group))?;
    for images in second.groups() {
        let n = images.len();
        let between = &mut between[..second.from.with_n(n).len()];
        let between_gradient = &mut between_gradient[..between.len()];
        let x = &mut x[..first.from.with_n(n).len()];
        recompute(images.clone(), x, between)?;
        let y = image_range(second.stored, &images);
        let saved = SavedActivations {
            x: between,
            y: &saved.y[y.clone()],
            indices: saved.indices.map(|indices| &indices[y.clone()]),
        };
        second_sums.add(n, saved, &gradient[y], Some(between_gradient))?;
        let saved = SavedActivations {
            x,
            y: between,
            indices: None,
        };
        first_sums.add(n, saved, between_gradient, None)?;
    }
    Ok([first_sums.finish(), second_sums.finish()])
}

fn image_range(shape: NchwcShape, images: &Range<usize>) -> Range<usize> {
    images.start * shape.image_len()..images.end * shape.image_len()
}

impl Layer<'_> {
    /// Shape of the convolution's output, before the pool.
    fn to(&self) -> NchwcShape {
        NchwcShape {
            c: self.stored.c,
            ..self.from
        }
    }

    fn images_per_group(&self) -> usize {
        tuning::images_per_backward_group(self.to().image_len()).min(self.from.n)
    }

    fn groups(&self) -> impl Iterator<Item = Range<usize>> {
        let (n, group) = (self.from.n, self.images_per_group());
        (0..n)
            .step_by(group)
            .map(move |first| first..n.min(first + group))
    }
}

/// Accumulates a layer's parameter gradients over groups of images.
struct GradientSums<'a> {
    layer: &'a Layer<'a>,
    /// Transformed weights of the convolution that computes the gradient of x. `None` if that
    /// gradient is not needed.
    rotated_weights: Option<TransformedWeights>,
    weight: Option<WeightGradient>,
    bias: Vec<f64>,
    /// Gradient of the convolution's output, before ReLU and pool, for one group of images.
    before: Buffer,
}

impl<'a> GradientSums<'a> {
    fn new(layer: &'a Layer<'a>, group: usize, pools: bool) -> Result<Self, Error> {
        let (from, to, stored) = (layer.from, layer.to(), layer.stored);
        let rotated_weights = layer.needs_grad.x.then(|| {
            let kernels = KernelLayout::backward(to.c, from.c);
            weights::transform(layer.isa, layer.weight, kernels)
        });
        let weight = layer
            .needs_grad
            .weight
            .then(|| WeightGradient::new(layer.isa, from, to.c));
        // If the height or width is odd, no pooling window covers the last row or column, so the
        // gradient there is zero.
        let pool = if pools { 2 } else { 1 };
        let before = alloc_with_halo_around(to.with_n(group), pool * stored.h, pool * stored.w)?;
        Ok(Self {
            layer,
            rotated_weights: rotated_weights.transpose()?,
            weight: weight.transpose()?,
            bias: vec![0.0; to.c],
            before,
        })
    }

    /// Adds the parameter gradients of a group of `n` images and, if needed, writes the gradient of
    /// x to `x_gradient`. `gradient` is the gradient of y.
    fn add(
        &mut self,
        n: usize,
        saved: SavedActivations<'_>,
        gradient: &[f32],
        x_gradient: Option<&mut [f32]>,
    ) -> Result<(), Error> {
        let layer = self.layer;
        let to = layer.to().with_n(n);
        let before = &mut self.before[..to.len()];
        let output = LayerOutput {
            y: saved.y,
            indices: saved.indices,
            relu: layer.relu,
        };
        let sums = relu_pool_backward(layer.isa, output, gradient, to, before);
        for (total, sum) in self.bias.iter_mut().zip(sums) {
            *total += sum;
        }
        if let Some(weight) = &mut self.weight {
            weight.add(saved.x, before, n)?;
        }
        if let (Some(rotated_weights), Some(x_gradient)) = (&self.rotated_weights, x_gradient) {
            let epilogue = Epilogue {
                bias: None,
                relu: false,
                pool: false,
                indices: None,
            };
            convolve(
                before,
                to,
                rotated_weights,
                layer.from.c,
                epilogue,
                x_gradient,
            )?;
        }
        Ok(())
    }

    fn finish(self) -> Gradients {
        let bias = self.bias.into_iter().map(|sum| sum as f32).collect();
        Gradients {
            weight: self.weight.map(WeightGradient::finish),
            bias: self.layer.needs_grad.bias.then_some(bias),
        }
    }
}
