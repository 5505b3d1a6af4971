//! Stores the parameters of a model by name, each trainable or frozen.
//!
//! Any candle model can be built from [`Params`] through a `VarBuilder`. The model receives each
//! trainable parameter as a [`Var`], which autograd tracks, and each frozen one as a detached
//! tensor. candle records only operations that depend on a variable, so frozen layers compute no
//! gradients.

mod init;
mod var_builder;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use serde::Serialize;

use crate::error::{Error, ResultExt};
use crate::pattern;
use crate::snapshot::{Snapshot, SnapshotRegistry};
use var_builder::ParamsBackend;

/// The parameters of a model, ordered by name.
///
/// Clones refer to the same parameters, just as clones of a candle tensor share its storage.
#[derive(Clone, Debug)]
pub struct Params {
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    device: Device,
    /// Seed for newly initialized parameters. If `None`, requesting a missing parameter is an
    /// error.
    init_seed: Option<u64>,
    /// The existing snapshots of the parameters.
    pub(crate) snapshots: SnapshotRegistry,
}

/// A parameter or a buffer. The value of a trainable parameter is always a variable.
#[derive(Debug)]
struct Entry {
    value: Value,
    trainable: bool,
    /// Whether the entry is a buffer, which is never trainable.
    buffer: bool,
}

/// The value of an entry. It is copied into a variable when the parameter first becomes trainable,
/// so parameters that stay frozen are not copied.
#[derive(Debug)]
enum Value {
    Constant(Tensor),
    Variable(Var),
}

impl Entry {
    /// Creates the entry of a new trainable parameter.
    fn trainable(var: Var) -> Self {
        Self {
            value: Value::Variable(var),
            trainable: true,
            buffer: false,
        }
    }

    /// The value as a detached tensor, which shares its storage with the variable.
    fn detached(&self) -> Tensor {
        match &self.value {
            Value::Constant(tensor) => tensor.clone(),
            Value::Variable(var) => var.as_detached_tensor(),
        }
    }

    /// The variable if the parameter is trainable, otherwise the detached value.
    fn tracked(&self) -> Tensor {
        match &self.value {
            Value::Variable(var) if self.trainable => var.as_tensor().clone(),
            _ => self.detached(),
        }
    }

    fn set_trainable(&mut self, trainable: bool) -> candle_core::Result<()> {
        if let (true, Value::Constant(tensor)) = (trainable, &self.value) {
            self.value = Value::Variable(Var::from_tensor(tensor)?);
        }
        self.trainable = trainable;
        Ok(())
    }
}

/// Numbers of trainable and frozen parameters. Buffers count as neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Number of scalar values in trainable parameters.
    pub trainable: usize,
    /// Number of scalar values in frozen parameters.
    pub frozen: usize,
}

/// Copies of the trainable parameters, made by [`Params::copy_trainable`].
#[derive(Debug)]
pub struct BestWeights(BTreeMap<String, Tensor>);

impl BestWeights {
    /// The copies by parameter name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.0
    }
}

impl Params {
    /// Creates an empty set. Each parameter is initialized when a model first requests it.
    ///
    /// New parameters are trainable. Their values are a function of (`seed`, name, shape, `Init`
    /// hint), where the hint comes from the model. `candle_nn::linear` uses a Kaiming normal
    /// distribution for the weight, whereas PyTorch's `nn.Linear` uses U(−1/√in, 1/√in).
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            entries: Arc::default(),
            device: device.clone(),
            init_seed: Some(seed),
            snapshots: SnapshotRegistry::default(),
        }
    }

    /// Creates parameters from `tensors`, such as pretrained weights. All of them are frozen.
    ///
    /// Tensors that are already on `device` are not copied. A request for a missing parameter is an
    /// error unless [`create_missing`](Self::create_missing) was called.
    ///
    /// # Errors
    ///
    /// Returns an error if a tensor cannot be moved to `device`.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for (name, tensor) in tensors {
            let tensor = tensor
                .to_device(device)
                .context(format!("cannot move `{name}` to the device"))?
                .detach();
            entries.insert(
                name,
                Entry {
                    value: Value::Constant(tensor),
                    trainable: false,
                    buffer: false,
                },
            );
        }
        Ok(Self {
            entries: Arc::new(Mutex::new(entries)),
            device: device.clone(),
            init_seed: None,
            snapshots: SnapshotRegistry::default(),
        })
    }

    /// Marks the existing tensors whose names satisfy `is_buffer` as buffers, such as the running
    /// statistics of a batch norm.
    ///
    /// Buffers are part of the model and of [`tensors`](Self::tensors), but not of
    /// [`counts`](Self::counts), and no pattern makes them trainable.
    pub fn with_buffers(self, is_buffer: impl Fn(&str) -> bool) -> Self {
        for (name, entry) in self.lock().iter_mut() {
            entry.buffer = is_buffer(name);
            entry.trainable &= !entry.buffer;
        }
        self
    }

    /// Initializes missing parameters when a model requests them, like [`Params::new`].
    pub fn create_missing(mut self, seed: u64) -> Self {
        self.init_seed = Some(seed);
        self
    }

    /// Returns a builder for training. Autograd tracks trainable parameters, and frozen ones are
    /// detached.
    ///
    /// [`set_trainable`](Self::set_trainable) does not affect existing models. Build a new model
    /// after calling it.
    pub fn var_builder(&self) -> VarBuilder<'static> {
        self.builder(true)
    }

    /// Returns a builder for evaluation. All parameters are detached, so that no graph is recorded.
    ///
    /// The model shares storage with the trained model, so updates change it too. Values that a
    /// layer precomputed from its weights, such as a packed copy, become outdated. Build a new
    /// model after training.
    pub fn frozen_var_builder(&self) -> VarBuilder<'static> {
        self.builder(false)
    }

    fn builder(&self, tracked: bool) -> VarBuilder<'static> {
        let backend = ParamsBackend {
            params: self.clone(),
            tracked,
        };
        VarBuilder::from_backend(Box::new(backend), DType::F32, self.device.clone())
    }

    /// Makes the parameters covered by `patterns` trainable and freezes all others.
    ///
    /// Patterns are layer prefixes (see [`pattern`]).
    ///
    /// # Errors
    ///
    /// Returns [`Error::NoParameters`] if there are no parameters yet, because
    /// [`Params::new`] creates them only when a model is built, and [`Error::UnknownPattern`] if a
    /// pattern covers no parameter or buffer. In these cases nothing changes. Returns an error if a
    /// parameter cannot be copied into a variable.
    pub fn set_trainable<S: AsRef<str>>(&self, patterns: &[S]) -> Result<(), Error> {
        let mut entries = self.lock();
        if entries.is_empty() {
            return Err(Error::NoParameters);
        }
        for pattern in patterns.iter().map(AsRef::as_ref) {
            if !entries.keys().any(|name| pattern::covers(pattern, name)) {
                let names = || entries.keys().map(String::as_str);
                return Err(Error::UnknownPattern {
                    pattern: pattern.to_owned(),
                    suggestion: pattern::nearest(pattern, names()),
                    layers: pattern::layers(names()),
                });
            }
        }
        for (name, entry) in entries.iter_mut() {
            let mut patterns = patterns.iter().map(AsRef::as_ref);
            let trainable = !entry.buffer && patterns.any(|pattern| pattern::covers(pattern, name));
            entry
                .set_trainable(trainable)
                .context(format!("cannot make `{name}` trainable"))?;
        }
        Ok(())
    }

    /// The trainable parameters, ordered by name.
    pub fn trainable(&self) -> Vec<(String, Var)> {
        let entries = self.lock();
        let variables = entries.iter().filter(|(_, entry)| entry.trainable);
        variables
            .filter_map(|(name, entry)| match &entry.value {
                Value::Variable(var) => Some((name.clone(), var.clone())),
                Value::Constant(_) => None,
            })
            .collect()
    }

    /// All parameters and buffers by name.
    ///
    /// They share storage with the model, so each update changes them. Use
    /// [`snapshot`](Self::snapshot) to save them during training.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.lock()
            .iter()
            .map(|(name, entry)| (name.clone(), entry.detached()))
            .collect()
    }

    /// Takes copy-on-write snapshots of the parameters and buffers whose names satisfy `filter`.
    ///
    /// Another thread can read the snapshots while training continues. Do not call this while
    /// another thread updates the parameters: the snapshots would mix values from before and after
    /// the update. Parameters on a GPU are copied to the host immediately.
    ///
    /// # Errors
    ///
    /// Returns an error if a parameter cannot be copied.
    pub fn snapshot(
        &self,
        filter: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Snapshot>, Error> {
        let snapshot = |(name, tensor): (String, Tensor)| {
            let snapshot = self.snapshots.snapshot(&name, tensor);
            let snapshot = snapshot.context(format!("cannot take a snapshot of `{name}`"))?;
            Ok((name, snapshot))
        };
        let tensors = self.tensors().into_iter();
        tensors
            .filter(|(name, _)| filter(name))
            .map(snapshot)
            .collect()
    }

    /// Counts the trainable and the frozen parameters.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            trainable: 0,
            frozen: 0,
        };
        for entry in self.lock().values().filter(|entry| !entry.buffer) {
            let count = if entry.trainable {
                &mut counts.trainable
            } else {
                &mut counts.frozen
            };
            *count += match &entry.value {
                Value::Constant(tensor) => tensor.elem_count(),
                Value::Variable(var) => var.elem_count(),
            };
        }
        counts
    }

    /// Copies the trainable parameters, so that later updates do not change the copies.
    ///
    /// (Tensors returned by candle's `clone` and `detach` would share the storage.)
    ///
    /// # Errors
    ///
    /// Returns an error if a parameter cannot be copied.
    pub fn copy_trainable(&self) -> Result<BestWeights, Error> {
        let mut copies = BTreeMap::new();
        for (name, var) in self.trainable() {
            let copy = var
                .as_detached_tensor()
                .copy()
                .context(format!("cannot copy `{name}`"))?;
            copies.insert(name, copy);
        }
        Ok(BestWeights(copies))
    }

    /// Moves saved best weights to the device of the parameters.
    pub(crate) fn best_weights_from(
        &self,
        mut saved: BTreeMap<String, Tensor>,
    ) -> Result<BestWeights, Error> {
        for (name, tensor) in &mut saved {
            *tensor = tensor
                .to_device(&self.device)
                .context(format!("cannot move `{name}` to the device"))?;
        }
        Ok(BestWeights(saved))
    }

    /// Copies the values in `best` to the parameters, in place.
    ///
    /// Models built from these parameters change too, except for values precomputed by a layer from
    /// its weights (see [`frozen_var_builder`](Self::frozen_var_builder)).
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownParameter`] if a parameter does not exist or has never been
    /// trainable. In this case nothing changes. Returns an error if a value cannot be copied.
    pub fn restore(&self, best: &BestWeights) -> Result<(), Error> {
        let entries = self.lock();
        let mut pairs = Vec::with_capacity(best.0.len());
        for (name, copy) in &best.0 {
            let Some(Value::Variable(var)) = entries.get(name).map(|entry| &entry.value) else {
                // The most similar name to that of a frozen parameter is its own.
                let nearest = pattern::nearest(name, entries.keys().map(String::as_str));
                return Err(Error::UnknownParameter {
                    name: name.clone(),
                    suggestion: nearest.filter(|nearest| nearest != name),
                });
            };
            pairs.push((name, var, copy));
        }
        for (name, var, copy) in pairs {
            let restored = self
                .snapshots
                .copy_before_write(name)
                .and_then(|()| var.set(copy));
            restored.context(format!("cannot restore `{name}`"))?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // A poisoned mutex still guards a valid map: a panic cannot leave a partial change.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
