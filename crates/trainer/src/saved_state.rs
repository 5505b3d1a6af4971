//! Checks that saved tensors match the trainable parameters.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::error::Error;

/// Removes the saved tensor of the parameter `name` and checks its shape and dtype against `var`.
pub(crate) fn take_saved(
    tensors: &mut BTreeMap<String, Tensor>,
    part: &'static str,
    name: &str,
    var: &Var,
) -> Result<Tensor, Error> {
    let mismatch = |problem: String| Error::SavedState {
        part,
        name: name.to_owned(),
        problem,
    };
    let tensor = tensors
        .remove(name)
        .ok_or_else(|| mismatch("is missing".to_owned()))?;
    if (tensor.dims(), tensor.dtype()) != (var.dims(), var.dtype()) {
        return Err(mismatch(format!(
            "has dtype {:?} and shape {:?}, but the parameter has {:?} and {:?}",
            tensor.dtype(),
            tensor.dims(),
            var.dtype(),
            var.dims()
        )));
    }
    Ok(tensor)
}

/// Returns an error if saved tensors are left, because they belong to no trainable parameter.
pub(crate) fn check_empty(
    tensors: &BTreeMap<String, Tensor>,
    part: &'static str,
) -> Result<(), Error> {
    match tensors.keys().next() {
        None => Ok(()),
        Some(name) => Err(Error::SavedState {
            part,
            name: name.clone(),
            problem: "does not belong to a trainable parameter".to_owned(),
        }),
    }
}
