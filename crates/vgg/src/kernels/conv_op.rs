//! A convolution with ReLU and pool as one candle operation on blocked tensors, with its backward pass.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use super::blocked::{Extent, blocked_shape};
use super::conv::{contiguous, on_cpu};
use super::gradient::{WeightGradient, before_relu};
use super::path::Path;
use super::sizes;
use super::weights::{self, Kernels};
use super::winograd::{Epilogue, convolve};

/// y = pool(max(0, w ∗ x + b)), x and y blocked.
pub(super) struct ConvOp {
    from: Extent,
    k: usize,
    pool: bool,
    path: Path,
    /// Where the pool's first maxima lay, kept from the forward pass for the backward pass.
    indices: OnceLock<Vec<u8>>,
}

impl ConvOp {
    pub(super) fn new(from: Extent, k: usize, pool: bool, path: Path) -> Self {
        Self {
            from,
            k,
            pool,
            path,
            indices: OnceLock::new(),
        }
    }

    fn to(&self) -> Extent {
        Extent {
            c: self.k,
            ..self.from
        }
    }

    fn stored(&self) -> Extent {
        if self.pool {
            self.to().pooled()
        } else {
            self.to()
        }
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "vgg-conv3x3-relu-pool"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let kernels = Kernels::forward(self.k, self.from.c);
        let weights = weights::transform(self.path, contiguous(weight, weight_layout)?, kernels);
        let stored = self.stored();
        let mut y = vec![0f32; stored.len()];
        let mut indices = if self.pool {
            vec![0u8; stored.len()]
        } else {
            Vec::new()
        };
        let epilogue = Epilogue {
            bias: Some(contiguous(bias, bias_layout)?),
            relu: true,
            pool: self.pool,
            indices: self.pool.then_some(&mut indices),
        };
        convolve(
            contiguous(x, x_layout)?,
            self.from,
            &weights,
            self.k,
            epilogue,
            &mut y,
        );
        if self.pool {
            // An operation runs forward once; a second run would find the same indices.
            let _ = self.indices.set(indices);
        }
        Ok((CpuStorage::F32(y), blocked_shape(stored)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wanted = [x.track_op(), weight.track_op(), bias.track_op()];
        let grad = grad.contiguous()?;
        let lent = [x, weight, y, &grad].map(Tensor::storage_and_layout);
        let [x_values, weight_values, y_values, grad_values] = &lent;
        let found = self.gradients(
            on_cpu(&x_values.0, x_values.1)?,
            on_cpu(&weight_values.0, weight_values.1)?,
            on_cpu(&y_values.0, y_values.1)?,
            on_cpu(&grad_values.0, grad_values.1)?,
            wanted,
        )?;
        let tensor = |values: Option<Vec<f32>>, shape: Shape| {
            values
                .map(|values| Tensor::from_vec(values, shape, &Device::Cpu))
                .transpose()
        };
        Ok((
            tensor(found.x, blocked_shape(self.from))?,
            tensor(found.weight, weight.shape().clone())?,
            tensor(found.bias, bias.shape().clone())?,
        ))
    }
}

struct Gradients {
    x: Option<Vec<f32>>,
    weight: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl ConvOp {
    /// The wanted gradients, some pictures at a time, so that the gradient before the ReLU is never whole.
    fn gradients(
        &self,
        x: &[f32],
        weight: &[f32],
        y: &[f32],
        grad: &[f32],
        [want_x, want_weight, want_bias]: [bool; 3],
    ) -> Result<Gradients> {
        let (from, to, stored) = (self.from, self.to(), self.stored());
        let indices = match (self.pool, self.indices.get()) {
            (true, None) => bail!("backward before forward"),
            (_, indices) => indices,
        };
        let kernels = Kernels::backward(self.k, from.c);
        let turned = want_x.then(|| weights::transform(self.path, weight, kernels));
        let mut x_grad = want_x.then(|| vec![0f32; from.len()]);
        let mut weight_grad = want_weight.then(|| WeightGradient::new(self.path, from, self.k));
        let mut bias_grad = vec![0f64; self.k];
        let at_once = sizes::masked_pictures(to.picture()).min(from.n);
        let mut g = vec![0f32; to.with_n(at_once).len()];
        for first in (0..from.n).step_by(at_once) {
            let n = at_once.min(from.n - first);
            let part = |extent: Extent| first * extent.picture()..(first + n) * extent.picture();
            let g = &mut g[..to.with_n(n).len()];
            let sums = before_relu(
                self.path,
                &y[part(stored)],
                &grad[part(stored)],
                indices.map(|indices| &indices[part(stored)]),
                to.with_n(n),
                g,
            );
            bias_grad
                .iter_mut()
                .zip(sums)
                .for_each(|(grad, sum)| *grad += sum);
            if let Some(weight_grad) = &mut weight_grad {
                weight_grad.add(&x[part(from)], g, n);
            }
            if let (Some(turned), Some(x_grad)) = (&turned, &mut x_grad) {
                let epilogue = Epilogue {
                    bias: None,
                    relu: false,
                    pool: false,
                    indices: None,
                };
                convolve(
                    g,
                    to.with_n(n),
                    turned,
                    from.c,
                    epilogue,
                    &mut x_grad[part(from)],
                );
            }
        }
        let bias_grad = bias_grad.into_iter().map(|sum| sum as f32).collect();
        Ok(Gradients {
            x: x_grad,
            weight: weight_grad.map(WeightGradient::finish),
            bias: want_bias.then_some(bias_grad),
        })
    }
}
