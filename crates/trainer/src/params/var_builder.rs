//! The `VarBuilder` backend through which candle models read their parameters from [`Params`].

use std::collections::BTreeMap;

use candle_core::{DType, Device, Shape, Tensor, bail};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;

use super::{Entry, Params, init};
use crate::pattern;

/// A `VarBuilder` backend that returns the tensors in `params`.
pub(super) struct ParamsBackend {
    pub(super) params: Params,
    /// Whether trainable parameters are returned as variables that autograd tracks.
    pub(super) tracked: bool,
}

impl ParamsBackend {
    fn tensor(
        &self,
        entry: &Entry,
        name: &str,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = if self.tracked {
            entry.tracked()
        } else {
            entry.detached()
        };
        // Converting the dtype would return a copy that later updates of the variable do not
        // change.
        if tensor.dtype() != dtype {
            bail!(
                "`{name}` is {:?}, but the model requests {dtype:?}",
                tensor.dtype()
            );
        }
        if !tensor.device().same_device(device) {
            bail!("`{name}` is on another device than the model");
        }
        Ok(tensor)
    }
}

impl SimpleBackend for ParamsBackend {
    fn get(
        &self,
        s: Shape,
        name: &str,
        h: Init,
        dtype: DType,
        dev: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut entries = self.params.lock();
        if let (false, Some(seed)) = (entries.contains_key(name), self.params.init_seed) {
            let var = init::variable(h, &s, dtype, &self.params.device, seed, name)?;
            entries.insert(name.to_owned(), Entry::trainable(var));
        }
        let Some(entry) = entries.get(name) else {
            return Err(missing(name, &entries));
        };
        let tensor = self.tensor(entry, name, dtype, dev)?;
        if tensor.shape() != &s {
            bail!(
                "`{name}` has shape {:?}, but the model requests {s:?}",
                tensor.shape()
            );
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, dev: &Device) -> candle_core::Result<Tensor> {
        let entries = self.params.lock();
        let entry = entries.get(name).ok_or_else(|| missing(name, &entries))?;
        self.tensor(entry, name, dtype, dev)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.params.lock().contains_key(name)
    }
}

fn missing(name: &str, entries: &BTreeMap<String, Entry>) -> candle_core::Error {
    let nearest = pattern::nearest(name, entries.keys().map(String::as_str));
    let hint = nearest.map_or_else(String::new, |nearest| {
        format!("; did you mean `{nearest}`?")
    });
    candle_core::Error::Msg(format!("there is no parameter `{name}`{hint}"))
}
