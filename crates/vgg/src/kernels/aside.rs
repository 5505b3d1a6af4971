//! Gradients of parameters that do not pass through candle's backward pass.
//!
//! candle begins each gradient as zeros and adds to it. For a fully connected layer of a hundred million weights
//! that is as much memory again, and more time than the product. Operations that have an [`Aside`] put the
//! gradients of parameters there instead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor, TensorId};

/// The gradient of a parameter.
#[derive(Clone, Debug)]
pub enum Gradient {
    /// Its values, in the parameter's shape.
    Values(Tensor),
    /// leftᵀ·right of `left` (n, out) and `right` (n, in), for the weight (out, in) of a fully connected layer: for
    /// the first of VGG-16 and 32 pictures 4 MB in place of 411. An optimizer can compute it as it goes.
    Product {
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
            Self::Values(values) => Ok(values.clone()),
            Self::Product { left, right } => left.t()?.matmul(right),
        }
    }

    /// Numbers that it holds.
    fn size(&self) -> usize {
        match self {
            Self::Values(values) => values.elem_count(),
            Self::Product { left, right } => left.elem_count() + right.elem_count(),
        }
    }

    /// As it is stored in less memory.
    fn smallest(self) -> Result<Self> {
        match &self {
            Self::Product { left, right } if left.dim(1)? * right.dim(1)? <= self.size() => {
                Ok(Self::Values(self.values()?))
            }
            _ => Ok(self),
        }
    }
}

/// Where gradients wait until whoever runs the backward pass takes them. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Aside(Arc<Mutex<HashMap<TensorId, Gradient>>>);

impl Aside {
    /// Takes out the gradient of a parameter, summed over all backward passes since it was last taken: also those
    /// that failed on their way. Only variables have theirs here.
    pub fn take(&self, parameter: &Tensor) -> Option<Gradient> {
        self.lock().remove(&parameter.id())
    }

    /// Puts the gradient aside, if there is an aside, or returns it for candle.
    pub(super) fn hand_over(
        aside: Option<&Self>,
        parameter: &Tensor,
        gradient: Gradient,
    ) -> Result<Option<Tensor>> {
        // What is no variable is computed from something, to which candle has to lead its gradient on.
        let Some(aside) = aside.filter(|_| parameter.is_variable()) else {
            return gradient.values().map(Some);
        };
        let mut waiting = aside.lock();
        let sum = match waiting.remove(&parameter.id()) {
            Some(other) => Gradient::Values((other.values()? + gradient.values()?)?),
            None => gradient.smallest()?,
        };
        waiting.insert(parameter.id(), sum);
        Ok(None)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TensorId, Gradient>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
