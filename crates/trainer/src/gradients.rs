//! The gradients of one step, as passed from the backward pass to the optimizer.
//!
//! Operations on all gradients of a step, such as clipping or an all-reduce, belong here. A
//! low-rank gradient is scaled by scaling one factor. Two low-rank gradients are added by
//! concatenating the rows of their factors, or by adding their dense forms.

use std::collections::BTreeMap;

use candle_core::{DType, Result as CandleResult, Shape, Tensor, Var, bail};

use crate::error::{Error, ResultExt};

/// The gradient of one parameter.
#[derive(Clone, Debug)]
pub enum Gradient {
    /// A tensor with the same shape as the parameter.
    Dense(Tensor),
    /// The product leftᵀ·right (out, in): the weight gradient of a linear layer for n samples.
    ///
    /// If n is small, the factors take less memory than the product. The update on the CPU
    /// multiplies them out a few rows at a time. The factors may share memory with the layer's
    /// activations.
    LowRank {
        /// The gradient with respect to the layer output: (n, out).
        left: Tensor,
        /// The layer input: (n, in).
        right: Tensor,
    },
}

impl Gradient {
    /// Returns the gradient as a tensor with the same shape as the parameter.
    ///
    /// # Errors
    ///
    /// Returns an error if the factors of a low-rank gradient cannot be multiplied.
    pub fn to_dense(&self) -> CandleResult<Tensor> {
        match self {
            Self::Dense(values) => Ok(values.clone()),
            Self::LowRank { left, right } => left.t()?.matmul(right),
        }
    }

    fn add(&self, other: &Self) -> CandleResult<Self> {
        (self.to_dense()? + other.to_dense()?).map(Self::Dense)
    }

    /// Shape and dtype of the dense gradient.
    pub(crate) fn shape_and_dtype(&self) -> CandleResult<(Shape, DType)> {
        match self {
            Self::Dense(values) => Ok((values.shape().clone(), values.dtype())),
            Self::LowRank { left, right } => {
                let ((n, out), (rows, inputs)) = (left.dims2()?, right.dims2()?);
                if n != rows || left.dtype() != right.dtype() {
                    bail!("the low-rank factors {left:?} and {right:?} do not match");
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

/// Gradients by parameter name. Parameters that the loss does not depend on have no entry.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Gradient>);

impl Gradients {
    /// Computes the gradients of the scalar `loss` with respect to `parameters`.
    ///
    /// Consuming the loss frees the graph and its activations before the optimizer runs. Only
    /// activations that are factors of a low-rank gradient stay in memory.
    ///
    /// # Errors
    ///
    /// Returns an error if the backward pass fails.
    pub fn backward(loss: Tensor, parameters: &[(String, Var)]) -> Result<Self, Error> {
        Self::backward_with(loss, parameters, |_| None)
    }

    /// Like [`Gradients::backward`], for models that compute some gradients outside candle's graph.
    ///
    /// `take` returns the gradient of a parameter if the model computed one (see
    /// [`Model::take_gradient`](crate::Model::take_gradient)). If candle also computed a gradient
    /// for this parameter, the two are added.
    ///
    /// # Errors
    ///
    /// Returns an error if the backward pass fails or if two gradients cannot be added.
    pub fn backward_with(
        loss: Tensor,
        parameters: &[(String, Var)],
        take: impl Fn(&Tensor) -> Option<Gradient>,
    ) -> Result<Self, Error> {
        let mut store = loss.backward().context("the backward pass failed")?;
        let mut gradients = BTreeMap::new();
        for (name, var) in parameters {
            let gradient = match (store.remove(var).map(Gradient::from), take(var)) {
                // There are two gradients if the loss also uses the parameter directly, as in a
                // weight penalty.
                (Some(one), Some(other)) => one
                    .add(&other)
                    .context(format!("cannot add the gradients of `{name}`"))?,
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => continue,
            };
            gradients.insert(name.clone(), gradient);
        }
        Ok(Self(gradients))
    }

    /// Checks that each of `parameters` has a gradient.
    ///
    /// # Errors
    ///
    /// Returns [`Error::MissingGradient`] with the names of those that have none.
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

    /// The gradient of the parameter `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<&Gradient> {
        self.0.get(name)
    }

    /// Removes and returns the gradient of the parameter `name`.
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
    fn gradients_from_candle_and_from_the_model_are_added() {
        let tensor = |values: [f32; 2]| Tensor::new(&[values], &Device::Cpu).unwrap();
        let w = Var::from_tensor(&tensor([1.0, 2.0])).unwrap();
        // candle computes d Σ w² / dw = 2·w, and the model returns 3·(10, 20).
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

    #[test]
    fn a_taken_gradient_is_missing() {
        let vars = ["v", "w"].map(|name| {
            let ones = Var::ones(2, DType::F32, &Device::Cpu).unwrap();
            (name.to_owned(), ones)
        });
        let loss = (vars[0].1.as_tensor() * vars[1].1.as_tensor()).and_then(|x| x.sum_all());
        let mut gradients = Gradients::backward(loss.unwrap(), &vars).unwrap();
        gradients.check_complete(&vars).unwrap();
        let gradient = gradients.take("w").unwrap().to_dense().unwrap();
        assert_eq!(gradient.to_vec1::<f32>().unwrap(), [1.0, 1.0]);
        assert!(gradients.take("w").is_none() && gradients.get("v").is_some());
        let error = gradients.check_complete(&vars).unwrap_err();
        assert!(
            matches!(&error, Error::MissingGradient { names } if names == &["w"]),
            "{error}"
        );
    }
}
