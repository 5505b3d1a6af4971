//! The saved activations of one pass through a stack, and the forward and backward pass.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor, bail};

use super::backward::{Gradients, Layer, NeedsGrad, SavedActivations, backward, backward_pair};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::layer::{ConvLayer, PreparedLayer};
use crate::layout::{self, NchwcShape};
use crate::storage::{cpu_values, with_values};
use crate::tuning;

/// State of one pass through a stack: the layers and their saved activations.
pub(crate) struct Tape {
    pub(crate) layers: Vec<ConvLayer>,
    /// The input shape, followed by the output shape of each layer.
    pub(crate) shapes: Vec<NchwcShape>,
    /// The input, if the backward pass recomputes the output of the first layer. See
    /// [`Tape::record`].
    recompute_from: Option<Tensor>,
    saved: Mutex<Saved>,
}

/// State that the backward pass consumes.
pub(crate) struct Saved {
    /// The input, followed by the output of each layer. `None` if the backward pass recomputes or
    /// has freed the activation.
    activations: Vec<Option<Buffer>>,
    /// For each layer, the index of the first maximum of each pooling window. `None` if the layer
    /// has no pool or its backward pass has run.
    indices: Vec<Option<Vec<u8>>>,
    /// The most recently computed gradient and the index of its activation.
    pub(crate) gradient: Option<(usize, Buffer)>,
    /// Gradients of the first layer, from the backward pass of the second layer until the backward
    /// pass of the first takes them.
    first_gradients: Option<Gradients>,
}

impl Tape {
    /// Runs the forward pass.
    ///
    /// In VGG-16, the output of the first layer takes a third of the memory for activations, but
    /// less than a hundredth of the operations. That output is computed for one group of images at
    /// a time and recomputed in the backward pass if the stack has at least two layers, `x` is not
    /// tracked, the first layer is tracked, and [`tuning::should_recompute`] returns true. The same
    /// applies to the NCHWc16 input, which pads three channels to sixteen.
    pub(crate) fn record(x: &Tensor, layers: &[ConvLayer], shapes: &[NchwcShape]) -> Result<Self> {
        let recompute = layers.len() > 1
            && !x.track_op()
            && layers[0].tracked()
            && tuning::should_recompute(shapes[0].c, shapes[1].c, layers[0].pool);
        let tape = Self {
            layers: layers.to_vec(),
            shapes: shapes.to_vec(),
            recompute_from: recompute.then(|| x.clone()),
            saved: Mutex::new(Saved {
                activations: Vec::new(),
                indices: Vec::new(),
                gradient: None,
                first_gradients: None,
            }),
        };
        let mut saved = tape.saved();
        if recompute {
            let (y, indices) = tape.forward_first_two(x)?;
            saved.activations.extend([None, None, Some(y)]);
            saved.indices.extend([None, indices]);
        } else {
            let mut input = layout::alloc_with_halo(shapes[0])?;
            with_values(x, |x| layout::pack(x, shapes[0], &mut input))?;
            saved.activations.push(Some(input));
        }
        for index in saved.indices.len()..layers.len() {
            let (y, indices) = tape.forward(index, saved.activation(index)?)?;
            saved.activations.push(Some(y));
            saved.indices.push(indices);
        }
        drop(saved);
        Ok(tape)
    }

    fn forward(&self, index: usize, x: &[f32]) -> Result<(Buffer, Option<Vec<u8>>)> {
        let to = self.shapes[index + 1];
        let layer = PreparedLayer::new(&self.layers[index])?;
        let mut y = layout::alloc_with_halo(to)?;
        let mut indices = layer.pool.then(|| vec![0u8; to.len()]);
        layer.run(x, self.shapes[index], &mut y, indices.as_deref_mut())?;
        Ok((y, indices))
    }

    /// Runs the first two layers in groups of images, without storing the output of the first.
    fn forward_first_two(&self, x: &Tensor) -> Result<(Buffer, Option<Vec<u8>>)> {
        let [from, between, to] = [0, 1, 2].map(|index| self.shapes[index]);
        let first = PreparedLayer::new(&self.layers[0])?;
        let second = PreparedLayer::new(&self.layers[1])?;
        let mut y = layout::alloc_with_halo(to)?;
        let mut indices = second.pool.then(|| vec![0u8; to.len()]);
        let group = tuning::images_per_backward_group(between.image_len()).min(from.n);
        let mut images = layout::alloc_with_halo(from.with_n(group))?;
        let mut hidden = layout::alloc_with_halo(between.with_n(group))?;
        with_values(x, |x| {
            for start in (0..from.n).step_by(group) {
                let end = from.n.min(start + group);
                let (from, between) = (from.with_n(end - start), between.with_n(end - start));
                let images = &mut images[..from.len()];
                layout::pack(nchw_images(x, from, &(start..end)), from, images);
                let hidden = &mut hidden[..between.len()];
                first.run(images, from, hidden, None)?;
                let range = start * to.image_len()..end * to.image_len();
                let indices = indices.as_mut().map(|indices| &mut indices[range.clone()]);
                second.run(hidden, between, &mut y[range], indices)?;
            }
            Ok::<_, Error>(())
        })??;
        Ok((y, indices))
    }

    pub(crate) fn saved(&self) -> MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the backward pass of a layer. If the output of the first layer was not saved, the
    /// backward pass of the second layer also computes the gradients of the first.
    pub(crate) fn backward(&self, index: usize, needs_grad: NeedsGrad) -> Result<Gradients> {
        let mut saved = self.saved();
        if let (0, Some(gradients)) = (index, saved.first_gradients.take()) {
            return Ok(gradients);
        }
        let gradient = saved.take_gradient(index + 1)?;
        let Some(y) = saved.activations[index + 1].take() else {
            bail!("{SECOND_BACKWARD}")
        };
        let indices = saved.indices[index].take();
        let saved_activations = |x| SavedActivations {
            x,
            y: &y,
            indices: indices.as_deref(),
        };
        if let (Some(x), 1) = (&self.recompute_from, index) {
            let first = &self.layers[0];
            let first_needs_grad = NeedsGrad {
                x: false,
                weight: first.weight.track_op(),
                bias: first.bias.track_op(),
            };
            let first_prepared = PreparedLayer::new(first)?;
            let [first, second] = self.with_layer(0, first_needs_grad, |first| {
                self.with_layer(1, needs_grad, |second| {
                    with_values(x, |values| {
                        let recompute =
                            |group: Range<usize>, x: &mut [f32], between: &mut [f32]| {
                                let from = self.shapes[0].with_n(group.len());
                                layout::pack(nchw_images(values, from, &group), from, x);
                                first_prepared.run(x, from, between, None)
                            };
                        backward_pair(
                            [first, second],
                            recompute,
                            saved_activations(&[]),
                            &gradient,
                        )
                    })
                })
            })??;
            saved.first_gradients = Some(first);
            return Ok(second);
        }
        let (gradients, x_gradient) = self.with_layer(index, needs_grad, |layer| {
            let saved = saved_activations(saved.activation(index)?);
            Ok(backward(layer, saved, &gradient)?)
        })?;
        saved.gradient = x_gradient.map(|gradient| (index, gradient));
        Ok(gradients)
    }

    fn with_layer<T>(
        &self,
        index: usize,
        needs_grad: NeedsGrad,
        f: impl FnOnce(&Layer<'_>) -> Result<T>,
    ) -> Result<T> {
        let ConvLayer { weight, .. } = &self.layers[index];
        let (storage, layout) = weight.storage_and_layout();
        f(&Layer {
            isa: self.layers[index].isa(),
            relu: self.layers[index].relu,
            from: self.shapes[index],
            stored: self.shapes[index + 1],
            weight: cpu_values(&storage, layout)?,
            needs_grad,
        })
    }
}

/// Returns the elements of an NCHW tensor that belong to a range of images.
fn nchw_images<'a>(x: &'a [f32], shape: NchwcShape, images: &Range<usize>) -> &'a [f32] {
    let image_len = shape.c * shape.h * shape.w;
    &x[images.start * image_len..images.end * image_len]
}

const SECOND_BACKWARD: &str = "cannot run the backward pass of these convolutions twice: the first pass freed the activations";

impl Saved {
    pub(crate) fn activation(&self, index: usize) -> Result<&[f32]> {
        match &self.activations[index] {
            Some(activation) => Ok(activation),
            None => bail!("{SECOND_BACKWARD}"),
        }
    }

    pub(crate) fn take_gradient(&mut self, index: usize) -> Result<Buffer> {
        match self.gradient.take() {
            Some((activation, gradient)) if activation == index => Ok(gradient),
            _ => bail!("two backward passes through the same convolutions overlap"),
        }
    }
}
