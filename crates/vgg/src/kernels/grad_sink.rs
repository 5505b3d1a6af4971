//! Gradients of parameters that do not pass through candle's backward pass.
//!
//! candle begins each gradient as zeros and adds to it. For a fully connected layer of a hundred million weights
//! that is as much memory again, and more time than the product. Operations that have an [`GradSink`] put the
//! gradients of parameters there instead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor, TensorId};

/// The gradient of a parameter.
#[derive(Clone, Debug)]
pub enum Gradient {
    /// Its values, in the parameter's shape.
    Dense(Tensor),
    /// leftᵀ·right of `left` (n, out) and `right` (n, in), for the weight (out, in) of a fully connected layer: for
    /// the first of VGG-16 and 32 pictures 4 MB in place of 411. An optimizer can compute it as it goes. The factors
    /// may share memory with the layer's input and output: use them before those are written.
    LowRank {
        /// The gradient of the layer's output.
        left: Tensor,
        /// The layer's input.
        right: Tensor,
    },
}

impl Gradient {
    /// The values in the parameter's shape; those of a product are computed.
    pub fn values(&self) -> Result<Tensor> {
        match self {
            Self::Dense(values) => Ok(values.clone()),
            Self::LowRank { left, right } => left.t()?.matmul(right),
        }
    }

    /// Numbers that it holds.
    fn size(&self) -> usize {
        match self {
            Self::Dense(values) => values.elem_count(),
            Self::LowRank { left, right } => left.elem_count() + right.elem_count(),
        }
    }

    /// The sum of both; of two products again a product, of their rows together.
    fn plus(self, other: Self) -> Result<Self> {
        match (&self, &other) {
            (Self::LowRank { left: a, right: b }, Self::LowRank { left: c, right: d }) => {
                let (left, right) = (Tensor::cat(&[a, c], 0)?, Tensor::cat(&[b, d], 0)?);
                Self::LowRank { left, right }.smallest()
            }
            _ => (self.values()? + other.values()?).map(Self::Dense),
        }
    }

    /// As it is stored in less memory.
    fn smallest(self) -> Result<Self> {
        match &self {
            Self::LowRank { left, right } if left.dim(1)? * right.dim(1)? <= self.size() => {
                Ok(Self::Dense(self.values()?))
            }
            _ => Ok(self),
        }
    }
}

/// Where gradients wait until whoever runs the backward pass takes them. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct GradSink(Arc<Mutex<HashMap<TensorId, Gradient>>>);

impl GradSink {
    /// Takes out the gradient of a parameter, summed over all backward passes since it was last taken: also those
    /// that failed on their way. Only variables have theirs here.
    pub fn take(&self, parameter: &Tensor) -> Option<Gradient> {
        self.lock().remove(&parameter.id())
    }

    /// Puts the gradient aside, if there is an aside, or returns it for candle.
    pub(super) fn store_or_return(
        grad_sink: Option<&Self>,
        parameter: &Tensor,
        gradient: Gradient,
    ) -> Result<Option<Tensor>> {
        // What is no variable is computed from something, to which candle has to lead its gradient on.
        let Some(grad_sink) = grad_sink.filter(|_| parameter.is_variable()) else {
            return gradient.values().map(Some);
        };
        let mut sum = gradient.smallest()?;
        loop {
            let mut waiting = grad_sink.lock();
            let Some(other) = waiting.remove(&parameter.id()) else {
                waiting.insert(parameter.id(), sum);
                return Ok(None);
            };
            // Not while others wait for the lock: this may be half a gigabyte.
            drop(waiting);
            sum = other.plus(sum)?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TensorId, Gradient>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::super::linear_with_grad_sink;
    use super::*;

    fn wave(rows: usize, columns: usize) -> Tensor {
        let values = (0..rows * columns).map(|i| (i as f32 * 0.37).sin());
        Tensor::from_iter(values, &Device::Cpu)
            .and_then(|t| t.reshape((rows, columns)))
            .unwrap()
    }

    /// The weight's gradient of Σ y² after `passes` backward passes, put aside, and as candle has it.
    fn gradients(inputs: usize, outputs: usize, passes: usize) -> (Gradient, Tensor) {
        let (grad_sink, weight) = (
            GradSink::default(),
            Var::from_tensor(&wave(outputs, inputs)).unwrap(),
        );
        let bias = Tensor::zeros(outputs, DType::F32, &Device::Cpu).unwrap();
        let x = wave(3, inputs);
        let loss = |grad_sink| {
            let y = linear_with_grad_sink(&x, &weight, &bias, grad_sink).unwrap();
            y.sqr().and_then(|y| y.sum_all()).unwrap()
        };
        for _ in 0..passes {
            loss(Some(&grad_sink)).backward().unwrap();
        }
        let plain = loss(None).backward().unwrap();
        let expected = (plain.get(&weight).unwrap() * passes as f64).unwrap();
        (grad_sink.take(&weight).unwrap(), expected)
    }

    #[test]
    fn large_gradients_stay_products_and_passes_add_up() {
        for (inputs, outputs, passes, product) in [
            (100, 50, 1, true),
            (100, 50, 2, true),
            // As many numbers as the values have, or more.
            (100, 50, 12, false),
            (100, 1, 1, false),
            (100, 1, 2, false),
        ] {
            let (found, expected) = gradients(inputs, outputs, passes);
            assert_eq!(
                matches!(found, Gradient::LowRank { .. }),
                product,
                "{outputs} {passes}"
            );
            let difference = (found.values().unwrap() - &expected)
                .unwrap()
                .abs()
                .unwrap();
            let worst = difference.max_all().unwrap().to_scalar::<f32>().unwrap();
            let largest = expected.abs().unwrap().max_all().unwrap();
            assert!(
                worst < 1e-5 * largest.to_scalar::<f32>().unwrap(),
                "{outputs} {passes}"
            );
        }
    }
}
