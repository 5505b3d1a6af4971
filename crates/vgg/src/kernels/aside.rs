//! Gradients of parameters that do not pass through candle's backward pass.
//!
//! candle begins each gradient as zeros and adds to it. For a fully connected layer of a hundred million weights
//! that is as much memory again, and more time than the product. Operations that have an [`Aside`] put the
//! gradients of parameters there instead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Tensor, TensorId};

/// Where gradients wait until whoever runs the backward pass takes them. Clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct Aside(Arc<Mutex<HashMap<TensorId, Tensor>>>);

impl Aside {
    /// Takes out the gradient of a parameter, summed over all backward passes since it was last taken: also those
    /// that failed on their way. Only variables have theirs here.
    pub fn take(&self, parameter: &Tensor) -> Option<Tensor> {
        self.lock().remove(&parameter.id())
    }

    /// Puts the gradient aside, if there is an aside, or returns it for candle.
    pub(super) fn hand_over(
        aside: Option<&Self>,
        parameter: &Tensor,
        gradient: Tensor,
    ) -> Result<Option<Tensor>> {
        // What is no variable is computed from something, to which candle has to lead its gradient on.
        let Some(aside) = aside.filter(|_| parameter.is_variable()) else {
            return Ok(Some(gradient));
        };
        let mut waiting = aside.lock();
        let sum = match waiting.remove(&parameter.id()) {
            Some(other) => (other + gradient)?,
            None => gradient,
        };
        waiting.insert(parameter.id(), sum);
        Ok(None)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TensorId, Tensor>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
