//! Runs of layers with a graph.
//!
//! candle begins every gradient as a tensor of zeros and adds to it. For the activations of 32 pictures that is
//! ten gigabytes of traffic in every step, and four of memory. So what lies between two layers is no tensor here:
//! a [`Trace`] keeps it, and the graph's nodes carry tokens of one element. A layer's backward pass takes the
//! gradient that the layer after it left in the trace, leaves one for the layer before it, and frees the output
//! that nobody needs any more.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use super::backward::{Gradients, Layer, Left, Wanted, backward, backward_of_two};
use super::blocked::{self, Extent};
use super::buffer::Buffer;
use super::conv::{ConvLayer, on_cpu, with_values};
use super::grad_sink::{GradSink, Gradient};
use super::ready::Ready;
use super::sizes;

/// As [`conv_stack`](super::conv_stack), for layers of which some are tracked; `extents` lie around them.
pub(super) fn with_graph(x: &Tensor, layers: &[ConvLayer], extents: &[Extent]) -> Result<Tensor> {
    let trace = Arc::new(Trace::record(x, layers, extents)?);
    let mut token = x.apply_op1(Enter(Arc::clone(&trace)))?;
    for (place, layer) in layers.iter().enumerate() {
        let step = Step {
            trace: Arc::clone(&trace),
            place,
        };
        token = token.apply_op3(&layer.weight, &layer.bias, step)?;
    }
    token.apply_op1(Leave(trace))
}

/// What a run's backward pass needs of its forward pass.
struct Trace {
    layers: Vec<ConvLayer>,
    /// Those around the layers, one more than layers.
    extents: Vec<Extent>,
    /// The pictures, where the first layer's output is not kept, but computed again: see [`Trace::record`].
    again: Option<Tensor>,
    kept: Mutex<Kept>,
}

/// What changes during the backward pass.
struct Kept {
    activations: Vec<Option<Buffer>>,
    /// Where the first maxima of each layer's pool lay.
    indices: Vec<Option<Vec<u8>>>,
    /// The gradient that has come furthest, and which activation's it is.
    gradient: Option<(usize, Buffer)>,
    /// The first layer's gradients, if the second layer's backward pass has computed them.
    first: Option<Gradients>,
}

impl Trace {
    /// The forward pass.
    ///
    /// The first layer's output is a third of all activations of a VGG-16, and costs less than a hundredth of its
    /// operations: where the gradient of x is not wanted, it is made for some pictures at a time, and again in the
    /// backward pass. So are the blocked pictures, whose three channels would take the room of sixteen.
    fn record(x: &Tensor, layers: &[ConvLayer], extents: &[Extent]) -> Result<Self> {
        let again = layers.len() > 1
            && !x.track_op()
            && layers[0].tracked()
            && sizes::recomputed(extents[0].c, extents[1].c, layers[0].pool);
        let trace = Self {
            layers: layers.to_vec(),
            extents: extents.to_vec(),
            again: again.then(|| x.clone()),
            kept: Mutex::new(Kept {
                activations: Vec::new(),
                indices: Vec::new(),
                gradient: None,
                first: None,
            }),
        };
        let mut kept = trace.kept();
        if again {
            let (y, maxima) = trace.first_two(x)?;
            kept.activations.extend([None, None, Some(y)]);
            kept.indices.extend([None, maxima]);
        } else {
            let mut input = blocked::blank(extents[0]);
            with_values(x, |x| blocked::pack(x, extents[0], &mut input))?;
            kept.activations.push(Some(input));
        }
        for place in kept.indices.len()..layers.len() {
            let (y, maxima) = trace.forward(place, kept.activation(place)?)?;
            kept.activations.push(Some(y));
            kept.indices.push(maxima);
        }
        drop(kept);
        Ok(trace)
    }

    fn forward(&self, place: usize, x: &[f32]) -> Result<(Buffer, Option<Vec<u8>>)> {
        let to = self.extents[place + 1];
        let layer = Ready::new(&self.layers[place])?;
        let mut y = blocked::blank(to);
        let mut maxima = layer.pool.then(|| vec![0u8; to.len()]);
        layer.run(x, self.extents[place], &mut y, maxima.as_deref_mut());
        Ok((y, maxima))
    }

    /// The second layer's output.
    fn first_two(&self, x: &Tensor) -> Result<(Buffer, Option<Vec<u8>>)> {
        let [from, between, to] = [0, 1, 2].map(|place| self.extents[place]);
        let first = Ready::new(&self.layers[0])?;
        let second = Ready::new(&self.layers[1])?;
        let mut y = blocked::blank(to);
        let mut maxima = second.pool.then(|| vec![0u8; to.len()]);
        let group = sizes::masked_pictures(between.picture()).min(from.n);
        let mut pictures = blocked::blank(from.with_n(group));
        let mut buffer = blocked::blank(between.with_n(group));
        with_values(x, |x| {
            for start in (0..from.n).step_by(group) {
                let end = from.n.min(start + group);
                let (from, between) = (from.with_n(end - start), between.with_n(end - start));
                let pictures = &mut pictures[..from.len()];
                blocked::pack(planar(x, from, &(start..end)), from, pictures);
                let buffer = &mut buffer[..between.len()];
                first.run(pictures, from, buffer, None);
                let out = start * to.picture()..end * to.picture();
                let maxima = maxima.as_mut().map(|maxima| &mut maxima[out.clone()]);
                second.run(buffer, between, &mut y[out], maxima);
            }
        })?;
        Ok((y, maxima))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backward pass of one layer; of two where the first one's output was not kept.
    fn backward(&self, place: usize, wanted: Wanted) -> Result<Gradients> {
        let mut kept = self.kept();
        if let (0, Some(gradients)) = (place, kept.first.take()) {
            return Ok(gradients);
        }
        let gradient = kept.take_gradient(place + 1)?;
        let Some(y) = kept.activations[place + 1].take() else {
            bail!("{SECOND_TIME}")
        };
        let maxima = kept.indices[place].take();
        let left = |x| Left {
            x,
            y: &y,
            indices: maxima.as_deref(),
        };
        if let (Some(x), 1) = (&self.again, place) {
            let first = &self.layers[0];
            let wanted_first = Wanted {
                x: false,
                weight: first.weight.track_op(),
                bias: first.bias.track_op(),
            };
            let again = Ready::new(first)?;
            let [first, second] = self.with_layer(0, wanted_first, |first| {
                self.with_layer(1, wanted, |second| {
                    with_values(x, |values| {
                        let recompute =
                            |group: Range<usize>, x: &mut [f32], between: &mut [f32]| {
                                let from = self.extents[0].with_n(group.len());
                                blocked::pack(planar(values, from, &group), from, x);
                                again.run(x, from, between, None);
                            };
                        backward_of_two([first, second], recompute, left(&[]), &gradient)
                    })
                })
            })?;
            kept.first = Some(first);
            return Ok(second);
        }
        let (gradients, x_gradient) = self.with_layer(place, wanted, |layer| {
            Ok(backward(layer, left(kept.activation(place)?), &gradient))
        })?;
        kept.gradient = x_gradient.map(|gradient| (place, gradient));
        Ok(gradients)
    }

    fn with_layer<T>(
        &self,
        place: usize,
        wanted: Wanted,
        work: impl FnOnce(&Layer<'_>) -> Result<T>,
    ) -> Result<T> {
        let ConvLayer { weight, .. } = &self.layers[place];
        let (storage, layout) = weight.storage_and_layout();
        work(&Layer {
            isa: self.layers[place].isa(),
            from: self.extents[place],
            stored: self.extents[place + 1],
            weight: on_cpu(&storage, layout)?,
            wanted,
        })
    }
}

/// Some pictures of planes (n, c, h, w).
fn planar<'a>(x: &'a [f32], extent: Extent, pictures: &Range<usize>) -> &'a [f32] {
    let picture = extent.c * extent.h * extent.w;
    &x[pictures.start * picture..pictures.end * picture]
}

const SECOND_TIME: &str =
    "a second backward pass through the same convolutions: the first one freed what it needs";

impl Kept {
    fn activation(&self, place: usize) -> Result<&[f32]> {
        match &self.activations[place] {
            Some(activation) => Ok(activation),
            None => bail!("{SECOND_TIME}"),
        }
    }

    fn take_gradient(&mut self, place: usize) -> Result<Buffer> {
        match self.gradient.take() {
            Some((at, gradient)) if at == place => Ok(gradient),
            _ => bail!("two backward passes through the same convolutions at the same time"),
        }
    }
}

/// A value for the graph's nodes.
fn token() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), Shape::from(1))
}

fn token_gradient() -> Result<Tensor> {
    Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)
}

/// x → token.
struct Enter(Arc<Trace>);

impl CustomOp1 for Enter {
    fn name(&self) -> &'static str {
        "vgg-enter-convolutions"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(token())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let extent = self.0.extents[0];
        let gradient = self.0.kept().take_gradient(0)?;
        let Extent { n, c, h, w } = extent;
        Tensor::from_vec(
            blocked::unpack(&gradient, extent),
            (n, c, h, w),
            &Device::Cpu,
        )
        .map(Some)
    }
}

/// Token → y.
struct Leave(Arc<Trace>);

impl CustomOp1 for Leave {
    fn name(&self) -> &'static str {
        "vgg-leave-convolutions"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let last = self.0.extents.len() - 1;
        let Extent { n, c, h, w } = self.0.extents[last];
        let y = blocked::unpack(self.0.kept().activation(last)?, self.0.extents[last]);
        Ok((CpuStorage::F32(y), Shape::from((n, c, h, w))))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let last = self.0.extents.len() - 1;
        let mut gradient = blocked::blank(self.0.extents[last]);
        with_values(&grad.contiguous()?, |grad| {
            blocked::pack(grad, self.0.extents[last], &mut gradient);
        })?;
        self.0.kept().gradient = Some((last, gradient));
        token_gradient().map(Some)
    }
}

/// (token, weight, bias) → token: y = pool(max(0, w ∗ x + b)).
struct Step {
    trace: Arc<Trace>,
    place: usize,
}

impl CustomOp3 for Step {
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
        let wanted = Wanted {
            x: x.track_op(),
            weight: weight.track_op(),
            bias: bias.track_op(),
        };
        let gradients = self.trace.backward(self.place, wanted)?;
        let x_token = wanted.x.then(token_gradient).transpose()?;
        let grad_sink = self.trace.layers[self.place].grad_sink.as_ref();
        let store_or_return = |values: Option<Vec<f32>>, of: &Tensor| {
            let Some(values) = values else {
                return Ok(None);
            };
            let gradient = Tensor::from_vec(values, of.shape(), &Device::Cpu)?;
            GradSink::store_or_return(grad_sink, of, Gradient::Dense(gradient))
        };
        Ok((
            x_token,
            store_or_return(gradients.weight, weight)?,
            store_or_return(gradients.bias, bias)?,
        ))
    }
}
