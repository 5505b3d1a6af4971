//! The gradients of one step: the one point that all of them pass between backward and the optimizer.
//!
//! Whatever acts on all gradients of a step (clipping, or the sum over machines when training on several)
//! belongs here and leaves the loop as it is.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::error::{Doing, Error};

/// Gradients by parameter name. A parameter that the loss does not depend on has none.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Differentiates a scalar `loss` by `parameters`.
    ///
    /// It takes the loss to free the graph, with all activations, before the optimizer runs.
    pub fn backward(loss: Tensor, parameters: &[(String, Var)]) -> Result<Self, Error> {
        Self::backward_with(loss, parameters, |_| None)
    }

    /// As [`Gradients::backward`], where `take` has the gradients that did not go through candle: see
    /// [`Model::take_gradient`](crate::Model::take_gradient).
    pub fn backward_with(
        loss: Tensor,
        parameters: &[(String, Var)],
        take: impl Fn(&Tensor) -> Option<Tensor>,
    ) -> Result<Self, Error> {
        let mut store = loss.backward().doing("the backward pass")?;
        let gradients = parameters.iter().filter_map(|(name, var)| {
            Some((name.clone(), store.remove(var).or_else(|| take(var))?))
        });
        Ok(Self(gradients.collect()))
    }

    /// Demands a gradient for each of `parameters`; else [`Error::MissingGradient`] names those without.
    pub fn check_complete(&self, parameters: &[(String, Var)]) -> Result<(), Error> {
        let missing = parameters
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !self.0.contains_key(*name));
        let names: Vec<String> = missing.cloned().collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(Error::MissingGradient { names })
        }
    }

    /// The gradient of a parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Takes a gradient out, so that its memory is free once it has been used.
    pub fn take(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name)
    }
}

impl FromIterator<(String, Tensor)> for Gradients {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(gradients: I) -> Self {
        Self(gradients.into_iter().collect())
    }
}
