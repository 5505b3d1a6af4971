//! Runs of layers with a graph.
//!
//! candle begins every gradient as a tensor of zeros and adds to it. For the activations of 32 pictures that is
//! ten gigabytes of traffic in every step, and four of memory. So what lies between two layers is no tensor here:
//! a [`Trace`] keeps it, and the graph's nodes carry tokens of one element. A layer's backward pass takes the
//! gradient that the layer after it left in the trace, and leaves one for the layer before it.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp1, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use super::backward::{Backward, Gradients, Wanted};
use super::blocked::{self, Extent};
use super::buffer::Buffer;
use super::conv::{ConvLayer, on_cpu, with_values};
use super::winograd::{Epilogue, convolve};

/// As [`conv_stack`](super::conv_stack), for layers of which some are tracked; `extents` lie around them.
pub(super) fn with_graph(x: &Tensor, layers: &[ConvLayer], extents: &[Extent]) -> Result<Tensor> {
    let trace = Arc::new(Trace::record(x, layers, extents)?);
    let mut token = x.apply_op1(Enter(Arc::clone(&trace)))?;
    for (place, layer) in layers.iter().enumerate() {
        let step = Step {
            trace: Arc::clone(&trace),
            layer: layer.clone(),
            place,
        };
        token = token.apply_op3(&layer.weight, &layer.bias, step)?;
    }
    token.apply_op1(Leave(trace))
}

/// What a run's backward pass needs of its forward pass.
struct Trace {
    /// Those around the layers, one more than layers.
    extents: Vec<Extent>,
    activations: Vec<Buffer>,
    /// Where the first maxima of each layer's pool lay.
    indices: Vec<Option<Vec<u8>>>,
    /// The gradient that has come furthest, and which activation's it is.
    gradient: Mutex<Option<(usize, Buffer)>>,
}

impl Trace {
    fn record(x: &Tensor, layers: &[ConvLayer], extents: &[Extent]) -> Result<Self> {
        let mut input = blocked::blank(extents[0]);
        with_values(x, |x| blocked::pack(x, extents[0], &mut input))?;
        let (mut activations, mut indices) = (vec![input], Vec::new());
        for (layer, (from, to)) in layers.iter().zip(extents.iter().zip(&extents[1..])) {
            let weights = layer.transformed()?;
            let bias = layer.bias.to_vec1::<f32>()?;
            let mut y = blocked::blank(*to);
            let mut maxima = layer.pool.then(|| vec![0u8; to.len()]);
            let epilogue = Epilogue {
                bias: Some(&bias),
                relu: true,
                pool: layer.pool,
                indices: maxima.as_deref_mut(),
            };
            let x = &activations[activations.len() - 1];
            convolve(x, *from, &weights, to.c, epilogue, &mut y);
            activations.push(y);
            indices.push(maxima);
        }
        Ok(Self {
            extents: extents.to_vec(),
            activations,
            indices,
            gradient: Mutex::new(None),
        })
    }

    /// Leaves the gradient of activation `place`.
    fn leave(&self, place: usize, gradient: Buffer) {
        let mut left = self.gradient.lock().unwrap_or_else(|e| e.into_inner());
        *left = Some((place, gradient));
    }

    /// Takes the gradient of activation `place`.
    fn take(&self, place: usize) -> Result<Buffer> {
        let mut left = self.gradient.lock().unwrap_or_else(|e| e.into_inner());
        match left.take() {
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
        let gradient = blocked::unpack(&self.0.take(0)?, extent);
        let Extent { n, c, h, w } = extent;
        Tensor::from_vec(gradient, (n, c, h, w), &Device::Cpu).map(Some)
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
        let y = blocked::unpack(&self.0.activations[last], self.0.extents[last]);
        Ok((CpuStorage::F32(y), Shape::from((n, c, h, w))))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let last = self.0.extents.len() - 1;
        let mut gradient = blocked::blank(self.0.extents[last]);
        with_values(&grad.contiguous()?, |grad| {
            blocked::pack(grad, self.0.extents[last], &mut gradient);
        })?;
        self.0.leave(last, gradient);
        token_gradient().map(Some)
    }
}

/// (token, weight, bias) → token: y = pool(max(0, w ∗ x + b)).
struct Step {
    trace: Arc<Trace>,
    layer: ConvLayer,
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
        let Self { trace, place, .. } = self;
        let gradient = trace.take(place + 1)?;
        let wanted = Wanted {
            x: x.track_op(),
            weight: weight.track_op(),
            bias: bias.track_op(),
        };
        let (storage, layout) = weight.storage_and_layout();
        let backward = Backward {
            path: self.layer.path(),
            from: trace.extents[*place],
            stored: trace.extents[place + 1],
            x: &trace.activations[*place],
            weight: on_cpu(&storage, layout)?,
            y: &trace.activations[place + 1],
            indices: trace.indices[*place].as_deref(),
        };
        let Gradients {
            x: x_gradient,
            weight: weight_gradient,
            bias: bias_gradient,
        } = backward.gradients(&gradient, wanted);
        drop(gradient);
        let x_token = x_gradient.map(|gradient| {
            trace.leave(*place, gradient);
            token_gradient()
        });
        let tensor = |values: Option<Vec<f32>>, of: &Tensor| {
            values
                .map(|values| Tensor::from_vec(values, of.shape(), &Device::Cpu))
                .transpose()
        };
        Ok((
            x_token.transpose()?,
            tensor(weight_gradient, weight)?,
            tensor(bias_gradient, bias)?,
        ))
    }
}
