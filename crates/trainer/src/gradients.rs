//! The gradients of one step: the one point that all of them pass between backward and the optimizer.
//!
//! Whatever acts on all gradients of a step (clipping, or the sum over machines when training on several)
//! belongs here and leaves the loop as it is. Of a product the values are summed, or the rows of its factors joined;
//! one factor is scaled.

use std::collections::BTreeMap;

use candle_core::{DType, Result as CandleResult, Shape, Tensor, Var, bail};

use crate::error::{Error, ResultExt};

/// The gradient of one parameter.
#[derive(Clone, Debug)]
pub enum Gradient {
    /// Its values, in the parameter's shape.
    Dense(Tensor),
    /// leftᵀ·right of `left` (n, out) and `right` (n, in), for a parameter (out, in): the weight of a fully connected
    /// layer that saw n samples. Where n is small this is less memory than the values, which the update on the CPU
    /// computes a few rows at a time. The factors may share memory with the layer's input and output.
    LowRank {
        /// The gradient of the layer's output.
        left: Tensor,
        /// The layer's input.
        right: Tensor,
    },
}

impl Gradient {
    /// The values in the parameter's shape; those of a product are computed.
    pub fn to_dense(&self) -> CandleResult<Tensor> {
        match self {
            Self::Dense(values) => Ok(values.clone()),
            Self::LowRank { left, right } => left.t()?.matmul(right),
        }
    }

    fn add(&self, other: &Self) -> CandleResult<Self> {
        (self.to_dense()? + other.to_dense()?).map(Self::Dense)
    }

    /// Shape and type of the values.
    pub(crate) fn shape_and_dtype(&self) -> CandleResult<(Shape, DType)> {
        match self {
            Self::Dense(values) => Ok((values.shape().clone(), values.dtype())),
            Self::LowRank { left, right } => {
                let ((n, out), (rows, inputs)) = (left.dims2()?, right.dims2()?);
                if n != rows || left.dtype() != right.dtype() {
                    bail!("{left:?} and {right:?} are no factors of a gradient");
                }
                Ok(((out, inputs).into(), left.dtype()))
            }
        }
    }
}

impl From<Tensor> for Gradient {
    fn from(values: Tensor) -> Self {
        Self::Dense(values)
    }
}

/// Gradients by parameter name. A parameter that the loss does not depend on has none.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Gradient>);

impl Gradients {
    /// Differentiates a scalar `loss` by `parameters`.
    ///
    /// It takes the loss to free the graph, with all activations that are no factor of a gradient, before the optimizer
    /// runs.
    pub fn backward(loss: Tensor, parameters: &[(String, Var)]) -> Result<Self, Error> {
        Self::backward_with(loss, parameters, |_| None)
    }

    /// As [`Gradients::backward`], where `take` has the gradients that did not go through candle: see
    /// [`Model::take_gradient`](crate::Model::take_gradient).
    pub fn backward_with(
        loss: Tensor,
        parameters: &[(String, Var)],
        take: impl Fn(&Tensor) -> Option<Gradient>,
    ) -> Result<Self, Error> {
        let mut store = loss.backward().context("the backward pass")?;
        let mut gradients = BTreeMap::new();
        for (name, var) in parameters {
            let gradient = match (store.remove(var).map(Gradient::from), take(var)) {
                // Used both by the model's operations and by candle's: a penalty on the weights, for example.
                (Some(one), Some(other)) => one
                    .add(&other)
                    .context(format!("adding up the gradients of `{name}`"))?,
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => continue,
            };
            gradients.insert(name.clone(), gradient);
        }
        Ok(Self(gradients))
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
    pub fn get(&self, name: &str) -> Option<&Gradient> {
        self.0.get(name)
    }

    /// Takes a gradient out, so that its memory is free once it has been used.
    pub fn take(&mut self, name: &str) -> Option<Gradient> {
        self.0.remove(name)
    }
}

impl<G: Into<Gradient>> FromIterator<(String, G)> for Gradients {
    fn from_iter<I: IntoIterator<Item = (String, G)>>(gradients: I) -> Self {
        let gradients = gradients.into_iter();
        Self(gradients.map(|(name, g)| (name, g.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn what_comes_from_both_sides_adds_up() {
        let tensor = |values: [f32; 2]| Tensor::new(&[values], &Device::Cpu).unwrap();
        let w = Var::from_tensor(&tensor([1.0, 2.0])).unwrap();
        // d Σ w² = 2 w, and 3·(10, 20) from the model's own operations.
        let low_rank = || Gradient::LowRank {
            left: Tensor::new(&[[3f32]], &Device::Cpu).unwrap(),
            right: tensor([10.0, 20.0]),
        };
        let parameters = [("w".to_owned(), w.clone())];
        let loss = w.sqr().and_then(|w| w.sum_all()).unwrap();
        let gradients = Gradients::backward_with(loss, &parameters, |_| Some(low_rank())).unwrap();
        let values = gradients.get("w").unwrap().to_dense().unwrap();
        assert_eq!(values.to_vec2::<f32>().unwrap(), [[32.0, 64.0]]);
    }
}
