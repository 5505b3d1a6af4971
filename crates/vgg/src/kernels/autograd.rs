//! Forward and backward passes of a stack of convolutions with tracked tensors.
//!
//! candle allocates a zero tensor for every gradient and accumulates into it. For the activations
//! of 32 images, this would move 10 GB of data per step and keep 4 GB allocated. The activations
//! between the layers are therefore not tensors. A [`Tape`] stores them, and the nodes of the graph
//! pass one-element tokens to each other. The backward pass of a layer takes its output gradient
//! from the tape, stores its input gradient there, and frees its output.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use super::backward::{Gradients, Layer, NeedsGrad, SavedActivations, backward, backward_pair};
use super::buffer::Buffer;
use super::conv::{ConvLayer, cpu_values, with_values};
use super::grad_sink::{GradSink, Gradient};
use super::layout::{self, NchwcShape};
use super::prepared::PreparedLayer;
use super::tuning;

/// Runs the layers and records a [`Tape`]. `shapes` holds the shape of `x`, followed by the output
/// shape of each layer.
pub(super) fn forward_with_tape(
    x: &Tensor,
    layers: &[ConvLayer],
    shapes: &[NchwcShape],
) -> Result<Tensor> {
    let tape = Arc::new(Tape::record(x, layers, shapes)?);
    let mut token = x.apply_op1(Pack(Arc::clone(&tape)))?;
    for (index, layer) in layers.iter().enumerate() {
        let op = ConvOp {
            tape: Arc::clone(&tape),
            index,
        };
        token = token.apply_op3(&layer.weight, &layer.bias, op)?;
    }
    token.apply_op1(Unpack(tape))
}

/// State of one pass through a stack: the layers and their saved activations.
struct Tape {
    layers: Vec<ConvLayer>,
    /// The input shape, followed by the output shape of each layer.
    shapes: Vec<NchwcShape>,
    /// The input, if the backward pass recomputes the output of the first layer. See
    /// [`Tape::record`].
    recompute_from: Option<Tensor>,
    saved: Mutex<Saved>,
}

/// State that the backward pass consumes.
struct Saved {
    activations: Vec<Option<Buffer>>,
    /// For each layer, the index of the first maximum of each pooling window, or `None` if the
    /// layer has no pool.
    indices: Vec<Option<Vec<u8>>>,
    /// The most recently computed gradient and the index of its activation.
    gradient: Option<(usize, Buffer)>,
    /// Gradients of the first layer, if the backward pass of the second layer computed them.
    first_gradients: Option<Gradients>,
}

impl Tape {
    /// Runs the forward pass.
    ///
    /// In VGG-16, the output of the first layer takes a third of the memory for activations, but
    /// less than a hundredth of the operations. If the gradient of `x` is not needed, that output
    /// is computed for one group of images at a time and recomputed in the backward pass. The same
    /// applies to the NCHWc16 input, which pads three channels to sixteen.
    fn record(x: &Tensor, layers: &[ConvLayer], shapes: &[NchwcShape]) -> Result<Self> {
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
            let mut input = layout::alloc_with_halo(shapes[0]);
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
        let mut y = layout::alloc_with_halo(to);
        let mut indices = layer.pool.then(|| vec![0u8; to.len()]);
        layer.run(x, self.shapes[index], &mut y, indices.as_deref_mut());
        Ok((y, indices))
    }

    /// Runs the first two layers in groups of images, without storing the output of the first.
    fn forward_first_two(&self, x: &Tensor) -> Result<(Buffer, Option<Vec<u8>>)> {
        let [from, between, to] = [0, 1, 2].map(|index| self.shapes[index]);
        let first = PreparedLayer::new(&self.layers[0])?;
        let second = PreparedLayer::new(&self.layers[1])?;
        let mut y = layout::alloc_with_halo(to);
        let mut indices = second.pool.then(|| vec![0u8; to.len()]);
        let group = tuning::images_per_backward_group(between.image_len()).min(from.n);
        let mut images = layout::alloc_with_halo(from.with_n(group));
        let mut hidden = layout::alloc_with_halo(between.with_n(group));
        with_values(x, |x| {
            for start in (0..from.n).step_by(group) {
                let end = from.n.min(start + group);
                let (from, between) = (from.with_n(end - start), between.with_n(end - start));
                let images = &mut images[..from.len()];
                layout::pack(nchw_images(x, from, &(start..end)), from, images);
                let hidden = &mut hidden[..between.len()];
                first.run(images, from, hidden, None);
                let range = start * to.image_len()..end * to.image_len();
                let indices = indices.as_mut().map(|indices| &mut indices[range.clone()]);
                second.run(hidden, between, &mut y[range], indices);
            }
        })?;
        Ok((y, indices))
    }

    fn saved(&self) -> MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the backward pass of one layer, or of the first two if the output of the first was not
    /// saved.
    fn backward(&self, index: usize, needs_grad: NeedsGrad) -> Result<Gradients> {
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
                                first_prepared.run(x, from, between, None);
                            };
                        backward_pair(
                            [first, second],
                            recompute,
                            saved_activations(&[]),
                            &gradient,
                        )
                    })
                })
            })?;
            saved.first_gradients = Some(first);
            return Ok(second);
        }
        let (gradients, x_gradient) = self.with_layer(index, needs_grad, |layer| {
            Ok(backward(
                layer,
                saved_activations(saved.activation(index)?),
                &gradient,
            ))
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
    fn activation(&self, index: usize) -> Result<&[f32]> {
        match &self.activations[index] {
            Some(activation) => Ok(activation),
            None => bail!("{SECOND_BACKWARD}"),
        }
    }

    fn take_gradient(&mut self, index: usize) -> Result<Buffer> {
        match self.gradient.take() {
            Some((activation, gradient)) if activation == index => Ok(gradient),
            _ => bail!("two backward passes through the same convolutions overlap"),
        }
    }
}

/// Placeholder value passed between the nodes of the graph: a single zero.
fn token() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), Shape::from(1))
}

fn token_gradient() -> Result<Tensor> {
    Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)
}

/// Packs x into NCHWc16: x → token.
struct Pack(Arc<Tape>);

impl CustomOp1 for Pack {
    fn name(&self) -> &'static str {
        "vgg-conv-pack"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(token())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let shape = self.0.shapes[0];
        let gradient = self.0.saved().take_gradient(0)?;
        let NchwcShape { n, c, h, w } = shape;
        Tensor::from_vec(layout::unpack(&gradient, shape), (n, c, h, w), &Device::Cpu).map(Some)
    }
}

/// Unpacks the last activation: token → y.
struct Unpack(Arc<Tape>);

impl CustomOp1 for Unpack {
    fn name(&self) -> &'static str {
        "vgg-conv-unpack"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let last = self.0.shapes.len() - 1;
        let NchwcShape { n, c, h, w } = self.0.shapes[last];
        let y = layout::unpack(self.0.saved().activation(last)?, self.0.shapes[last]);
        Ok((CpuStorage::F32(y), Shape::from((n, c, h, w))))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let last = self.0.shapes.len() - 1;
        let mut gradient = layout::alloc_with_halo(self.0.shapes[last]);
        with_values(&grad.contiguous()?, |grad| {
            layout::pack(grad, self.0.shapes[last], &mut gradient);
        })?;
        self.0.saved().gradient = Some((last, gradient));
        token_gradient().map(Some)
    }
}

/// One layer: (token, weight, bias) → token, with y = pool(max(0, w ∗ x + b)).
struct ConvOp {
    tape: Arc<Tape>,
    index: usize,
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "vgg-conv3x3-relu-pool"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(token())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let needs_grad = NeedsGrad {
            x: x.track_op(),
            weight: weight.track_op(),
            bias: bias.track_op(),
        };
        let gradients = self.tape.backward(self.index, needs_grad)?;
        let x_token = needs_grad.x.then(token_gradient).transpose()?;
        let grad_sink = self.tape.layers[self.index].grad_sink.as_ref();
        let store_or_return = |values: Option<Vec<f32>>, parameter: &Tensor| {
            let Some(values) = values else {
                return Ok(None);
            };
            let gradient = Tensor::from_vec(values, parameter.shape(), &Device::Cpu)?;
            GradSink::store_or_return(grad_sink, parameter, Gradient::Dense(gradient))
        };
        Ok((
            x_token,
            store_or_return(gradients.weight, weight)?,
            store_or_return(gradients.bias, bias)?,
        ))
    }
}
