//! Stochastic gradient descent with momentum and parameter groups, equal to `torch.optim.SGD`.
//!
//! For each parameter w with gradient g (torch/optim/sgd.py):
//!
//! ```text
//! g ← g + weight_decay·w
//! v ← g                                   in the parameter's first step
//! v ← momentum·v + (1 − dampening)·g      later
//! d = g + momentum·v with Nesterov, v with momentum, else g
//! w ← w − lr·d
//! ```
//!
//! `candle_nn::SGD` has neither momentum nor groups. The update itself is in [`crate::update`].

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ResultExt};
use crate::event::GroupLr;
use crate::gradients::Gradients;
use crate::params::{Params, no_more_saved, take_saved};
use crate::pattern;
use crate::snapshot::{Snapshot, SnapshotRegistry};
use crate::update::{self, SgdStep, Velocity};

/// The settings that all groups share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SgdConfig {
    /// How much of the velocity stays from step to step; 0 for plain gradient descent.
    pub momentum: f64,
    /// What share of a new gradient does not enter the velocity.
    pub dampening: f64,
    /// The strength of the pull to zero.
    pub weight_decay: f64,
    /// Nesterov's momentum; needs momentum and no dampening.
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
                setting: "Nesterov's momentum".to_owned(),
                value: format!(
                    "on with momentum {} and dampening {}",
                    self.momentum, self.dampening
                ),
                expected: "used with a momentum above 0 and without dampening",
            });
        }
        Ok(())
    }
}

/// The parameters under a layer pattern, and their learning rate before any schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// A layer prefix (see [`pattern`]); empty for everything.
    pub pattern: String,
    /// The learning rate, 0 or more.
    pub lr: f64,
}

impl Group {
    /// The group of the parameters under `pattern`.
    pub fn new(pattern: impl Into<String>, lr: f64) -> Self {
        Self {
            pattern: pattern.into(),
            lr,
        }
    }

    /// The group of all parameters that no other group covers.
    pub fn everything(lr: f64) -> Self {
        Self::new("", lr)
    }
}

/// The optimizer: which parameters train at which rate, and their velocities.
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    groups: Vec<Group>,
    states: Vec<ParamState>,
    snapshots: SnapshotRegistry,
}

/// One parameter. The velocity belongs to it and exists from its first step on.
#[derive(Debug)]
struct ParamState {
    name: String,
    var: Var,
    group: usize,
    velocity: Option<Velocity>,
}

impl Sgd {
    /// An optimizer without momentum yet, for the parameters that are trainable now.
    ///
    /// A parameter belongs to the group with the longest pattern that covers it. Errors: a setting outside
    /// its range, a pattern twice or unknown, a group without parameters, a parameter without group.
    pub fn new(params: &Params, config: SgdConfig, groups: Vec<Group>) -> Result<Self, Error> {
        config.check()?;
        let parameters = params.trainable();
        if parameters.is_empty() {
            return Err(Error::NothingTrains);
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
                return Err(without_parameters(params, group));
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

    /// Updates every parameter that has a gradient, with its group's rate times `factor` (see
    /// [`Schedule::factor`](crate::Schedule::factor)). A parameter without one is skipped, and so is its
    /// momentum. Each gradient is freed once it is used.
    pub fn step(&mut self, mut gradients: Gradients, factor: f64) -> Result<(), Error> {
        for state in &mut self.states {
            let Some(gradient) = gradients.take(&state.name) else {
                continue;
            };
            let step = SgdStep::new(&self.config, self.groups[state.group].lr * factor);
            let copied = self.snapshots.copy_before_write(&state.name);
            copied
                .and_then(|()| update::apply(&state.var, &gradient, &mut state.velocity, &step))
                .context(format!("the update of `{}`", state.name))?;
        }
        Ok(())
    }

    /// The groups with their learning rates at a schedule's `factor`.
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

    /// The velocities as they are now by parameter, for those that have one; for another thread to read while training
    /// goes on.
    ///
    /// # Errors
    ///
    /// As those of [`Params::snapshot`].
    pub fn snapshot_velocities(&self) -> Result<BTreeMap<String, Snapshot>, Error> {
        let snapshot = |state: &ParamState| {
            let snapshot = state.velocity.as_ref()?.snapshot(&state.var);
            let snapshot = snapshot.context(format!("holding the velocity of `{}`", state.name));
            Some(snapshot.map(|snapshot| (state.name.clone(), snapshot)))
        };
        self.states.iter().filter_map(snapshot).collect()
    }

    /// Takes over what [`snapshot_velocities`](Self::snapshot_velocities) gave: one for each parameter.
    pub(crate) fn set_velocities(
        &mut self,
        mut velocities: BTreeMap<String, Tensor>,
    ) -> Result<(), Error> {
        for state in &mut self.states {
            let velocity = take_saved(&mut velocities, "the velocity", &state.name, &state.var)?;
            let velocity = Velocity::new(velocity, &state.var)
                .context(format!("restoring the velocity of `{}`", state.name))?;
            state.velocity = Some(velocity);
        }
        no_more_saved(&velocities, "a velocity")
    }

    /// The shared settings.
    pub fn config(&self) -> &SgdConfig {
        &self.config
    }

    /// Refuses parameters other than those it was made for.
    pub(crate) fn check_parameters(&self, parameters: &[(String, Var)]) -> Result<(), Error> {
        let own = |name: &str| self.states.iter().any(|state| state.name == name);
        let theirs = |name: &str| parameters.iter().any(|(other, _)| other == name);
        let unknown = parameters
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !own(name));
        let gone = self
            .states
            .iter()
            .map(|state| &state.name)
            .filter(|name| !theirs(name));
        let names: Vec<String> = unknown.chain(gone).cloned().collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(Error::OptimizerMismatch { names })
        }
    }
}

/// A group that claims nothing: either its pattern is unknown, or all under it is frozen or taken.
fn without_parameters(params: &Params, group: &Group) -> Error {
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
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Error::Setting {
        setting,
        value: value.to_string(),
        expected: "a finite number, 0 or more",
    })
}
