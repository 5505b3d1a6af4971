//! Forward and backward passes of a stack of convolutions with tracked tensors.
//!
//! candle allocates a zero tensor for every gradient and accumulates into it. For the activations
//! of VGG-16 and 32 images, this would move 10 GB of data per step and keep 4 GB allocated. The
//! activations between the layers are therefore not tensors. A [`Tape`] stores them, and the nodes
//! of the graph pass one-element tokens to each other. The backward pass of a layer takes the
//! layer's output gradient from the tape, stores the input gradient there, and frees the output.

mod backward;
mod relu_backward;
mod tape;

use std::sync::Arc;

use backward::NeedsGrad;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Device, Layout, Result, Shape, Tensor};
use tape::Tape;

use crate::grad::{GradSink, Gradient};
use crate::layer::ConvLayer;
use crate::layout::{self, NchwcShape};
use crate::storage::with_values;

/// Runs the layers on `x` (n, c, h, w), records a [`Tape`], and returns the last output, (n, k, h',
/// w'). `shapes` holds the shape of `x`, followed by the output shape of each layer.
pub(crate) fn forward_with_tape(
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

/// Placeholder value passed between the nodes of the graph: a single zero.
fn token() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), Shape::from(1))
}

fn token_gradient() -> Result<Tensor> {
    Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)
}

/// Graph node of the input: x → token. [`Tape::record`] packs x into NCHWc16, and the backward pass
/// unpacks the gradient of x.
struct Pack(Arc<Tape>);

impl CustomOp1 for Pack {
    fn name(&self) -> &'static str {
        "conv-pack"
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

/// Graph node of the output: token → y. The forward pass unpacks the last activation, and the
/// backward pass packs the gradient of y.
struct Unpack(Arc<Tape>);

impl CustomOp1 for Unpack {
    fn name(&self) -> &'static str {
        "conv-unpack"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let last = self.0.shapes.len() - 1;
        let NchwcShape { n, c, h, w } = self.0.shapes[last];
        let y = layout::unpack(self.0.saved().activation(last)?, self.0.shapes[last]);
        Ok((CpuStorage::F32(y), Shape::from((n, c, h, w))))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let last = self.0.shapes.len() - 1;
        let mut gradient = layout::alloc_with_halo(self.0.shapes[last])?;
        with_values(&grad.contiguous()?, |grad| {
            layout::pack(grad, self.0.shapes[last], &mut gradient);
        })?;
        self.0.saved().gradient = Some((last, gradient));
        token_gradient().map(Some)
    }
}

/// Graph node of a layer: (token, weight, bias) → token. [`Tape::record`] computes the output, y =
/// pool(max(0, w ∗ x + b)), where the ReLU and the pool are optional.
struct ConvOp {
    tape: Arc<Tape>,
    index: usize,
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "conv3x3-relu-pool"
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
