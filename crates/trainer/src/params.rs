//! The parameters of a model: ordered by name, each trainable or frozen.
//!
//! [`Params`] is a backend for candle's `VarBuilder`, so any candle model can be built on it. What trains is
//! a [`Var`] that autograd tracks; what is frozen is handed out detached, and since candle records no graph
//! that no variable leads to, frozen layers cost no gradient.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use serde::Serialize;

use crate::error::{Error, ResultExt};
use crate::pattern;
use crate::snapshot::{Snapshot, SnapshotRegistry};
use crate::var_builder::ParamsBackend;

/// A name-ordered set of parameters. Clones share the parameters, as candle's tensors share their storage.
#[derive(Clone, Debug)]
pub struct Params {
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
    pub(crate) device: Device,
    /// Draws parameters that a model asks for and that do not exist; `None` makes that an error.
    pub(crate) init_seed: Option<u64>,
    /// Who reads parameters while training goes on.
    pub(crate) snapshots: SnapshotRegistry,
}

/// A parameter and whether it trains; a trainable one is always a variable.
#[derive(Debug)]
pub(crate) struct Entry {
    value: Value,
    trainable: bool,
    /// Never trains; see [`Params::with_buffers`].
    buffer: bool,
}

/// A tensor becomes a variable, which copies it, only when it first trains: what stays frozen is held once.
#[derive(Debug)]
enum Value {
    Constant(Tensor),
    Variable(Var),
}

impl Entry {
    /// A parameter that trains from the start.
    pub(crate) fn trainable(var: Var) -> Self {
        Self {
            value: Value::Variable(var),
            trainable: true,
            buffer: false,
        }
    }

    /// The value without a way back to the variable; it shares its storage.
    pub(crate) fn detached(&self) -> Tensor {
        match &self.value {
            Value::Constant(tensor) => tensor.clone(),
            Value::Variable(var) => var.as_detached_tensor(),
        }
    }

    /// The variable itself if it trains, else the value detached.
    pub(crate) fn tracked(&self) -> Tensor {
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

/// How much of a model trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Numbers (not tensors) that train.
    pub trainable: usize,
    /// Numbers that are frozen.
    pub frozen: usize,
}

/// Copies of the parameters that trained when it was taken; see [`Params::copy_trainable`].
#[derive(Debug)]
pub struct BestWeights(BTreeMap<String, Tensor>);

impl BestWeights {
    /// The copied values by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.0
    }
}

impl Params {
    /// An empty set that creates what a model asks for, trainable, as a function of (`seed`, name).
    ///
    /// The values follow the model's own `Init` hints. For `candle_nn::linear` that is Kaiming's normal
    /// distribution, not the default of PyTorch's `nn.Linear`, which is U(−1/√in, 1/√in).
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            entries: Arc::default(),
            device: device.clone(),
            init_seed: Some(seed),
            snapshots: SnapshotRegistry::default(),
        }
    }

    /// Takes over `tensors`, all of them frozen: what came from a checkpoint trains only when asked to.
    ///
    /// Nothing is copied on the same device. A model that asks for a name that is not here gets an error,
    /// unless [`create_missing`](Self::create_missing) is called.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<Self, Error> {
        let mut entries = BTreeMap::new();
        for (name, tensor) in tensors {
            let tensor = tensor
                .to_device(device)
                .context(format!("moving `{name}` to the device"))?
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

    /// Marks what belongs to the model but is no parameter, such as the running statistics of a batch norm: it is
    /// handed out, saved and restored with the rest, but not counted, and no pattern makes it trainable.
    pub fn with_buffers(self, is_buffer: impl Fn(&str) -> bool) -> Self {
        for (name, entry) in self.lock().iter_mut() {
            entry.buffer = is_buffer(name);
        }
        self
    }

    /// From now on, creates what a model asks for and what is missing, trainable, from (`seed`, name).
    pub fn create_missing(mut self, seed: u64) -> Self {
        self.init_seed = Some(seed);
        self
    }

    /// A builder for the model that trains: trainable parameters tracked by autograd, frozen ones detached.
    ///
    /// It sees the flags as they are when the model is built: build again after [`set_trainable`](Self::set_trainable).
    pub fn var_builder(&self) -> VarBuilder<'static> {
        self.builder(true)
    }

    /// A builder for a model that only evaluates: every parameter detached, so that no graph is recorded.
    ///
    /// The values are shared with the trained model, not copied. A layer that derives something from its
    /// weights when it is built (a packed copy, say) does not see later updates: build again after training.
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

    /// Makes exactly the parameters under `patterns` trainable and freezes all others.
    ///
    /// Patterns are layer prefixes (see [`pattern`]). One under which nothing lies is
    /// [`Error::UnknownPattern`]; then nothing changes.
    pub fn set_trainable<S: AsRef<str>>(&self, patterns: &[S]) -> Result<(), Error> {
        let mut entries = self.lock();
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
            let trains = !entry.buffer && patterns.any(|pattern| pattern::covers(pattern, name));
            entry
                .set_trainable(trains)
                .context(format!("making `{name}` trainable"))?;
        }
        Ok(())
    }

    /// The trainable parameters, in the order of their names.
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

    /// All parameters by name, for saving. They share storage with the model: save or copy before training on,
    /// or [`snapshot`](Self::snapshot) them.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.lock()
            .iter()
            .map(|(name, entry)| (name.clone(), entry.detached()))
            .collect()
    }

    /// The `wanted` parameters by name as they are now, to be read by another thread while training goes on.
    ///
    /// Call it between two steps: while another thread updates a parameter, there is no now. Those on a GPU are copied.
    ///
    /// # Errors
    ///
    /// Memory for a copy of parameters on a GPU, or of one that does not lie in one piece.
    pub fn snapshot(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Snapshot>, Error> {
        let snapshot = |(name, tensor): (String, Tensor)| {
            let snapshot = self.snapshots.snapshot(&name, tensor);
            let snapshot = snapshot.context(format!("holding `{name}`"))?;
            Ok((name, snapshot))
        };
        let tensors = self.tensors().into_iter();
        tensors
            .filter(|(name, _)| wanted(name))
            .map(snapshot)
            .collect()
    }

    /// How many numbers train and how many are frozen; what is no parameter is neither.
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

    /// Copies what trains. These are real copies: candle's `clone` and `detach` would follow every update.
    pub fn copy_trainable(&self) -> Result<BestWeights, Error> {
        let mut copies = BTreeMap::new();
        for (name, var) in self.trainable() {
            let copy = var
                .as_detached_tensor()
                .copy()
                .context(format!("copying `{name}`"))?;
            copies.insert(name, copy);
        }
        Ok(BestWeights(copies))
    }

    /// Best weights from `copies`, which an earlier one held: one for each parameter that trains.
    pub(crate) fn best_weights_from(
        &self,
        mut copies: BTreeMap<String, Tensor>,
    ) -> Result<BestWeights, Error> {
        let mut tensors = BTreeMap::new();
        for (name, var) in self.trainable() {
            let copy = take_saved(&mut copies, "the best weights", &name, &var)?;
            let copy = copy
                .to_device(&self.device)
                .context(format!("moving `{name}` to the device"))?;
            tensors.insert(name, copy);
        }
        no_more_saved(&copies, "best weights")?;
        Ok(BestWeights(tensors))
    }

    /// Writes best weights back, in place: models built on these parameters see it, but for what a layer derived from
    /// its weights (a packed copy, say), as with [`frozen_var_builder`](Self::frozen_var_builder).
    ///
    /// A name that is unknown or never trained here is [`Error::UnknownParameter`]; then nothing changes.
    pub fn restore(&self, best: &BestWeights) -> Result<(), Error> {
        let entries = self.lock();
        let mut pairs = Vec::with_capacity(best.0.len());
        for (name, copy) in &best.0 {
            match entries.get(name).map(|entry| &entry.value) {
                Some(Value::Variable(var)) => pairs.push((name, var, copy)),
                _ => {
                    return Err(Error::UnknownParameter {
                        name: name.clone(),
                        suggestion: pattern::nearest(name, entries.keys().map(String::as_str)),
                    });
                }
            }
        }
        for (name, var, copy) in pairs {
            let restored = self
                .snapshots
                .copy_before_write(name)
                .and_then(|()| var.set(copy));
            restored.context(format!("restoring `{name}`"))?;
        }
        Ok(())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Each change is complete before anything can panic, so that a poisoned lock still guards a valid map.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what was saved for the parameter `name` out of `tensors`; it must have the shape and type of `var`.
pub(crate) fn take_saved(
    tensors: &mut BTreeMap<String, Tensor>,
    what: &'static str,
    name: &str,
    var: &Var,
) -> Result<Tensor, Error> {
    let wrong = |problem: String| Error::SavedState {
        what,
        name: name.to_owned(),
        problem,
    };
    let tensor = tensors
        .remove(name)
        .ok_or_else(|| wrong("is missing".to_owned()))?;
    if (tensor.dims(), tensor.dtype()) != (var.dims(), var.dtype()) {
        return Err(wrong(format!(
            "is {:?} {:?}, but the parameter is {:?} {:?}",
            tensor.dtype(),
            tensor.dims(),
            var.dtype(),
            var.dims()
        )));
    }
    Ok(tensor)
}

/// Refuses what was saved for a parameter that does not train here.
pub(crate) fn no_more_saved(
    tensors: &BTreeMap<String, Tensor>,
    what: &'static str,
) -> Result<(), Error> {
    match tensors.keys().next() {
        None => Ok(()),
        Some(name) => Err(Error::SavedState {
            what,
            name: name.clone(),
            problem: "does not belong to a parameter that trains".to_owned(),
        }),
    }
}
