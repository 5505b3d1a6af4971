//! Stochastic gradient descent with momentum and parameter groups, as in `torch.optim.SGD`.
//!
//! The update of a parameter w with gradient g (torch/optim/sgd.py):
//!
//! ```text
//! g ← g + weight_decay·w
//! v ← g                                   in the first step of the parameter
//! v ← momentum·v + (1 − dampening)·g      in later steps
//! d = g + momentum·v with Nesterov momentum, v with momentum, g otherwise
//! w ← w − lr·d
//! ```
//!
//! `update.rs` implements it. `candle_nn::SGD` has neither momentum nor parameter groups.

mod fused;
mod low_rank;
mod update;

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ResultExt};
use crate::gradients::Gradients;
use crate::group::{Group, GroupLr};
use crate::params::Params;
use crate::pattern;
use crate::snapshot::{Snapshot, SnapshotRegistry};
use update::Velocity;

/// The settings of [`Sgd`] that apply to all groups. All numbers must be finite and at least 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SgdConfig {
    /// Factor of the old velocity in the new one. 0 disables momentum.
    pub momentum: f64,
    /// The gradient is multiplied by 1 − `dampening` before it is added to the velocity.
    pub dampening: f64,
    /// L2 penalty: `weight_decay`·w is added to the gradient.
    pub weight_decay: f64,
    /// Whether to use Nesterov momentum, which requires momentum and no dampening.
    pub nesterov: bool,
}

impl SgdConfig {
    fn check(&self) -> Result<(), Error> {
        for (setting, value) in [
            ("the momentum", self.momentum),
            ("the dampening", self.dampening),
            ("the weight decay", self.weight_decay),
        ] {
            check_number(setting.to_owned(), value)?;
        }
        if self.nesterov && (self.momentum <= 0.0 || self.dampening != 0.0) {
            return Err(Error::Setting {
                setting: "Nesterov momentum".to_owned(),
                value: format!(
                    "used with momentum {} and dampening {}",
                    self.momentum, self.dampening
                ),
                expected: "used with momentum and without dampening",
            });
        }
        Ok(())
    }
}

/// The SGD optimizer: parameter groups and the velocities of their parameters.
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    groups: Vec<Group>,
    states: Vec<ParamState>,
    snapshots: SnapshotRegistry,
}

/// The optimizer state of one parameter.
#[derive(Debug)]
struct ParamState {
    name: String,
    var: Var,
    /// Index of the parameter's group.
    group: usize,
    /// The velocity. `None` before the parameter's first step, and without momentum.
    velocity: Option<Velocity>,
}

impl Sgd {
    /// Creates an optimizer without velocities for the currently trainable parameters.
    ///
    /// A parameter belongs to the group with the longest pattern that covers it.
    ///
    /// # Errors
    ///
    /// Returns an error if a setting is out of range, if no parameter is trainable, if a pattern
    /// occurs twice or covers no parameter, if a group has no trainable parameters, or if a
    /// trainable parameter has no group.
    pub fn new(params: &Params, config: SgdConfig, groups: Vec<Group>) -> Result<Self, Error> {
        config.check()?;
        let parameters = params.trainable();
        if parameters.is_empty() {
            return Err(match params.tensors().is_empty() {
                true => Error::NoParameters,
                false => Error::NothingTrainable,
            });
        }
        for (index, group) in groups.iter().enumerate() {
            check_number(
                format!("the learning rate of `{}`", group.pattern),
                group.lr,
            )?;
            if groups[..index]
                .iter()
                .any(|earlier| earlier.pattern == group.pattern)
            {
                return Err(Error::DuplicateGroup {
                    pattern: group.pattern.clone(),
                });
            }
        }

        let (mut states, mut uncovered) = (Vec::new(), Vec::new());
        for (name, var) in parameters {
            let covering = groups
                .iter()
                .enumerate()
                .filter(|(_, group)| pattern::covers(&group.pattern, &name));
            match covering.max_by_key(|(_, group)| group.pattern.len()) {
                Some((group, _)) => states.push(ParamState {
                    name,
                    var,
                    group,
                    velocity: None,
                }),
                None => uncovered.push(name),
            }
        }
        for (index, group) in groups.iter().enumerate() {
            if !states.iter().any(|state| state.group == index) {
                return Err(empty_group(params, group));
            }
        }
        if !uncovered.is_empty() {
            return Err(Error::Uncovered { names: uncovered });
        }
        Ok(Self {
            config,
            groups,
            states,
            snapshots: params.snapshots.clone(),
        })
    }

    /// Updates all parameters that have a gradient.
    ///
    /// The learning rate of each group is multiplied by `factor` (see
    /// [`Schedule::factor`](crate::Schedule::factor)). A parameter without a gradient is skipped,
    /// and its velocity does not change. Each gradient is freed after its update.
    ///
    /// # Errors
    ///
    /// Returns an error if a gradient does not have the shape and dtype of its parameter, or if a
    /// candle operation fails. Parameters that were already updated keep their new values.
    pub fn step(&mut self, mut gradients: Gradients, factor: f64) -> Result<(), Error> {
        for state in &mut self.states {
            let Some(gradient) = gradients.take(&state.name) else {
                continue;
            };
            let lr = self.groups[state.group].lr * factor;
            let (var, velocity) = (&state.var, &mut state.velocity);
            let copied = self.snapshots.copy_before_write(&state.name);
            copied
                .and_then(|()| update::apply(var, &gradient, velocity, &self.config, lr))
                .context(format!("cannot update `{}`", state.name))?;
        }
        Ok(())
    }

    /// Returns the groups with their learning rates multiplied by `factor`.
    pub fn learning_rates(&self, factor: f64) -> Vec<GroupLr> {
        let parameters = |index| {
            let states = self.states.iter().filter(|state| state.group == index);
            states.map(|state| state.var.elem_count()).sum()
        };
        let lr = |(index, group): (usize, &Group)| GroupLr {
            pattern: group.pattern.clone(),
            parameters: parameters(index),
            lr: group.lr * factor,
        };
        self.groups.iter().enumerate().map(lr).collect()
    }

    /// Takes copy-on-write snapshots of the velocities, by parameter name.
    ///
    /// Parameters without a velocity have no entry. [`Params::snapshot`] describes how to use
    /// snapshots.
    ///
    /// # Errors
    ///
    /// Returns an error if a velocity cannot be copied.
    pub fn snapshot_velocities(&self) -> Result<BTreeMap<String, Snapshot>, Error> {
        let snapshot = |state: &ParamState| {
            let snapshot = state.velocity.as_ref()?.snapshot(&state.var);
            let snapshot = snapshot.context(format!(
                "cannot take a snapshot of the velocity of `{}`",
                state.name
            ));
            Some(snapshot.map(|snapshot| (state.name.clone(), snapshot)))
        };
        self.states.iter().filter_map(snapshot).collect()
    }

    /// Sets the velocities of the parameters in `velocities`. Shapes and dtypes must match.
    pub(crate) fn set_velocities(
        &mut self,
        mut velocities: BTreeMap<String, Tensor>,
    ) -> Result<(), Error> {
        for state in &mut self.states {
            if let Some(velocity) = velocities.remove(&state.name) {
                let velocity = Velocity::new(velocity, &state.var)
                    .context(format!("cannot restore the velocity of `{}`", state.name))?;
                state.velocity = Some(velocity);
            }
        }
        Ok(())
    }

    /// The settings that apply to all groups.
    pub fn config(&self) -> &SgdConfig {
        &self.config
    }

    /// Checks that the optimizer was created for exactly these `parameters`.
    pub(crate) fn check_parameters(&self, parameters: &[(String, Var)]) -> Result<(), Error> {
        let in_optimizer = |name: &str| self.states.iter().any(|state| state.name == name);
        let in_model = |name: &str| parameters.iter().any(|(other, _)| other == name);
        let only_in_model = parameters
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !in_optimizer(name));
        let only_in_optimizer = self
            .states
            .iter()
            .map(|state| &state.name)
            .filter(|name| !in_model(name));
        let names: Vec<String> = only_in_model.chain(only_in_optimizer).cloned().collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(Error::OptimizerMismatch { names })
        }
    }
}

/// Creates the error for a group without parameters. Either its pattern covers no parameter, or all
/// covered parameters are frozen or in other groups.
fn empty_group(params: &Params, group: &Group) -> Error {
    let tensors = params.tensors();
    let names = || tensors.keys().map(String::as_str);
    let pattern = group.pattern.clone();
    if names().any(|name| pattern::covers(&pattern, name)) {
        let trainable = params.trainable();
        let layers = pattern::layers(trainable.iter().map(|(name, _)| name.as_str()));
        Error::EmptyGroup { pattern, layers }
    } else {
        let suggestion = pattern::nearest(&pattern, names());
        Error::UnknownPattern {
            pattern,
            suggestion,
            layers: pattern::layers(names()),
        }
    }
}

fn check_number(setting: String, value: f64) -> Result<(), Error> {
    // Updates are computed in f32.
    if (value as f32).is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::Setting {
        setting,
        value: value.to_string(),
        expected: "finite in f32 and at least 0",
    })
}
