//! Runs the stages of a run in order, from the start or from a checkpoint.

use std::ops::ControlFlow;
use std::path::Path;

use candle_nn::VarBuilder;
use trainer::{
    Data, Evaluation, FitConfig, FrozenCache, Group, Outcome, Params, Progress, SgdConfig, Stage,
};
use vgg::{Metadata, Precision, Vgg};

use crate::checkpoint::Checkpoint;
use crate::config::{Config, StageConfig, StageName};
use crate::error::Diagnostic;
use crate::non_finite::NonFiniteLossReport;
use crate::observer::TrainObserver;
use crate::signals::Signals;
use crate::splits::Splits;

/// Inputs shared by all stages of a run.
pub(super) struct Stages<'a> {
    pub(super) config: &'a Config,
    pub(super) params: &'a Params,
    pub(super) metadata: &'a Metadata,
    pub(super) splits: &'a Splits,
    pub(super) precision: Precision,
}

impl Stages<'_> {
    /// Runs the stages. Afterwards, the parameters hold the best weights of the last stage, unless
    /// the observer stopped training. The best weights so far are saved to `model`.
    pub(super) fn run(
        &self,
        observer: &mut TrainObserver<'_>,
        model: &Path,
        mut from: Option<Checkpoint>,
    ) -> anyhow::Result<Outcome> {
        let data = Data {
            train: &self.splits.train,
            val: &self.splits.val,
        };
        let mut first = 0;
        if let Some(checkpoint) = &from {
            observer.restore(&checkpoint.progress)?;
            first = checkpoint.progress.stage;
        }
        let mut outcome = Outcome::Paused;
        for (index, stage) in self.config.stages.iter().enumerate().skip(first) {
            let resumes = from.is_some();
            let mut state = self.prepare(stage, from.take())?;
            if resumes {
                observer.saved = self.save_best(index, &state, model)?;
            }
            let fit = FitConfig {
                // A run counts the baseline as an epoch.
                epochs: stage.epochs.saturating_sub(1),
                seed: self.config.training.seed,
                ..FitConfig::default()
            };
            let result = observer.run_stage(index, stage.name, |on_event| {
                let build = |vb| self.build(vb);
                trainer::fit(self.params, build, data, &fit, &mut state, on_event)
            })?;
            outcome = result.map_err(|error| {
                let report = NonFiniteLossReport {
                    stage: stage.name,
                    train: self.splits.train.samples(),
                    val: self.splits.val.samples(),
                    best: state.best(),
                    model: observer.saved.then_some(model),
                };
                report.explain(error)
            })?;
            if outcome == Outcome::Paused {
                break;
            }
        }
        Ok(outcome)
    }

    /// Checks that every stage can run, before the first one starts.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let mut stages = self.config.stages.iter();
        stages.try_for_each(|stage| self.prepare(stage, None).map(drop))
    }

    /// Evaluates the current weights on val. Returns `None` if a signal stops the evaluation.
    pub(super) fn evaluate(&self, signals: &Signals) -> anyhow::Result<Option<Evaluation>> {
        let network = self.build(self.params.frozen_var_builder())?;
        let mut observe = |_: &Progress| match signals.pending() {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        };
        let mut cache = FrozenCache::off();
        let val = &self.splits.val;
        Ok(trainer::evaluate(&network, val, &mut cache, &mut observe)?)
    }

    fn build(&self, vb: VarBuilder<'_>) -> Result<Vgg, vgg::Error> {
        let network = Vgg::new(&self.metadata.config, vb)?.with_grad_sink();
        Ok(network.with_precision(self.precision))
    }

    /// Sets the trainable parameters of a stage and creates its state, at its start or from a
    /// checkpoint.
    fn prepare(&self, stage: &StageConfig, from: Option<Checkpoint>) -> anyhow::Result<Stage> {
        let params = self.params;
        let groups: Vec<Group> = stage
            .groups
            .iter()
            .map(|group| Group::new(group.layers.clone(), group.lr))
            .collect();
        let layers: Vec<&str> = stage
            .groups
            .iter()
            .map(|group| group.layers.as_str())
            .collect();
        let optimizer = SgdConfig {
            momentum: self.config.training.momentum,
            ..SgdConfig::default()
        };
        let make = || match from {
            None => Stage::new(params, optimizer, groups),
            Some(Checkpoint {
                progress,
                velocities,
                best,
                ..
            }) => Stage::resume(params, optimizer, groups, progress.state, velocities, best),
        };
        params
            .set_trainable(&layers)
            .and_then(|()| make())
            .map_err(|error| explain(error, stage.name))
    }

    /// Saves the best weights of a resumed run: those of this stage, else the result of the
    /// previous stage. This replaces a model file that may come from a later epoch than the
    /// checkpoint.
    ///
    /// Returns whether there are such weights.
    fn save_best(&self, index: usize, stage: &Stage, model: &Path) -> anyhow::Result<bool> {
        let mut tensors = self.params.tensors();
        match stage.best() {
            Some(best) => {
                let best = best.weights.tensors().iter();
                tensors.extend(best.map(|(name, tensor)| (name.clone(), tensor.clone())));
            }
            None if index == 0 => return Ok(false),
            None => {}
        }
        vgg::save(model, &tensors, self.metadata)?;
        Ok(true)
    }
}

/// Adds help to the error for a prefix left without parameters because longer prefixes match all of
/// its layers. The help names the flag that sets the prefix.
fn explain(error: trainer::Error, stage: StageName) -> anyhow::Error {
    let name = stage.as_str();
    let trainer::Error::EmptyGroup { pattern, .. } = error else {
        return anyhow::Error::new(error).context(format!("cannot run stage {name}"));
    };
    let flag = match stage {
        StageName::Transfer => "--transfer-layers",
        StageName::Finetune => "--finetune-lr",
    };
    let message = format!("stage {name} has no parameters to train under `{pattern}`");
    let help = format!("longer prefixes cover all its layers; remove `{pattern}` from `{flag}`");
    Diagnostic::new(message).help(help).into()
}
