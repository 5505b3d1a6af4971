//! The session of a run: the parameters and the run directory, and the stages in order, from the
//! start or from a checkpoint.

mod finish;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use candle_core::Tensor;
use candle_nn::VarBuilder;
use dataset::path_text;
use trainer::{
    Data, Evaluation, FitConfig, FrozenCache, Group, Outcome, Params, Progress, SgdConfig, Stage,
};
use vgg::{Metadata, Precision, Vgg};

use super::non_finite::NonFiniteLossReport;
use super::observer::TrainObserver;
use crate::bad_images;
use crate::calibration::Calibration;
use crate::checkpoint::{Checkpoint, Checkpointer, Identity};
use crate::config::{Config, StageConfig};
use crate::metrics::Metrics;
use crate::model_file;
use crate::plan::{Origin, Plan};
use crate::report;
use crate::run_dir::{Difference, RunDir};
use crate::signals::Signals;
use crate::splits::Splits;
use crate::tensorboard::{DIRECTORY, EventWriter};
use crate::ui::{Message, PlannedStage, Renderer};

/// A run that is ready to train.
pub struct Session {
    identity: Identity,
    params: Params,
    metadata: Metadata,
    /// The folder of the data set.
    root: PathBuf,
    splits: Splits,
    precision: Precision,
    run: RunDir,
    /// The checkpoint from which the run resumes.
    checkpoint: Option<Checkpoint>,
    /// Whether to write event files for TensorBoard.
    tensorboard: bool,
}

impl Session {
    /// Loads the parameters of the plan, checks that every stage can run, and creates the run directory
    /// of a new run. Also writes `config.toml` and `train_batch.png`, for new and resumed runs, and shows
    /// a message if the `config.toml` of a resumed run was missing or changed. With `tensorboard`, or if
    /// a resumed run has event files, training writes event files.
    ///
    /// # Errors
    ///
    /// Returns an error if a stage cannot run, if the parameters cannot be created on the device, if
    /// the batch cannot be loaded or drawn, or if the run directory cannot be created or written to.
    /// Errors of `ui` are returned.
    pub fn open(plan: Plan, tensorboard: bool, ui: &mut dyn Renderer) -> anyhow::Result<Self> {
        let Plan {
            identity,
            folder,
            splits,
            mut initial,
            device,
            mut origin,
        } = plan;
        let config = &identity.config;
        let metadata = initial.metadata(folder.classes());
        if let Origin::Resumed(_, checkpoint) = &mut origin {
            initial.tensors.append(&mut checkpoint.weights);
        }
        let params =
            Params::from_tensors(initial.tensors, &device)?.with_buffers(vgg::config::is_buffer);
        for stage in &config.stages {
            prepare(&params, config, stage, None)?;
        }
        let (mut existing, mut difference) = (None, None);
        let (run, checkpoint) = match origin {
            Origin::New(out) => {
                let run = RunDir::create(&out)?;
                existing = (run.path() != out).then(|| path_text::encode(&out));
                (run, None)
            }
            Origin::Resumed(run, checkpoint) => {
                difference = config_difference(&run, &checkpoint)?;
                (run, Some(*checkpoint))
            }
        };
        run.write(Config::FILE, config.to_toml()?.as_bytes())?;
        if let Some(difference) = difference {
            let file = path_text::encode(&run.file(Config::FILE));
            ui.show(&Message::Restored { file, difference })?;
        }
        let stages = config.stages.iter().map(|stage| PlannedStage {
            stage: stage.name,
            epochs: stage.epochs,
        });
        ui.show(&Message::Run {
            directory: path_text::encode(run.path()),
            existing,
            stages: stages.collect(),
        })?;
        splits.draw_batch(&folder, &run)?;
        let precision = config.machine.precision.parse();
        Ok(Self {
            precision: precision.map_err(anyhow::Error::msg)?,
            identity,
            params,
            metadata,
            root: folder.root,
            splits,
            tensorboard: tensorboard || run.file(DIRECTORY).is_dir(),
            run,
            checkpoint,
        })
    }

    /// The path of the run directory.
    pub fn directory(&self) -> &Path {
        self.run.path()
    }

    /// Class names, by index.
    pub fn classes(&self) -> &[String] {
        &self.metadata.classes
    }

    /// Runs the stages, evaluates the best weights on val, stores the temperature in the model file,
    /// writes `confusion_matrix.png`, `predictions.csv` and `report.html`, marks the run as finished and
    /// removes its checkpoints. Within an epoch, a checkpoint is due every `every`, or never if it is
    /// `None`.
    ///
    /// Returns the evaluation, and the calibration unless the run does without. Returns `None` if a
    /// signal stopped the run. It can then be resumed.
    ///
    /// # Errors
    ///
    /// Returns an error if training or the evaluation fails, if a file of the run cannot be written
    /// or removed, or if a message cannot be shown.
    pub fn train(
        &mut self,
        every: Option<Duration>,
        signals: &Signals,
        ui: &mut dyn Renderer,
    ) -> anyhow::Result<Option<(Evaluation, Option<Calibration>)>> {
        let checkpoint = self.checkpoint.take();
        let model = self.run.file(model_file::FILE);
        let save = || self.save(&self.params.tensors());
        let (run, from) = (&self.run, checkpoint.as_ref());
        let rows = from.map_or(&[][..], |from| &from.progress.rows);
        let config = &self.identity.config;
        let events = self
            .tensorboard
            .then(|| EventWriter::create(run.path(), config, rows));
        let mut observer = TrainObserver {
            renderer: ui,
            run: &self.run,
            metrics: Metrics::default(),
            training: None,
            save: &save,
            saved: false,
            checkpointer: Checkpointer::new(run, from, &self.identity, &self.params, every)?,
            events: events.transpose()?,
            signals,
        };
        let evaluation = match self.run_stages(&mut observer, &model, checkpoint)? {
            Outcome::Paused => None,
            Outcome::Finished { .. } => self.evaluate(signals)?,
        };
        observer.finish_checkpoint()?;
        let (events, epochs) = (observer.events.take(), observer.metrics.rows().len());
        drop(observer);
        let Some(evaluation) = evaluation else {
            return Ok(None);
        };
        let what = format!("writing {}", report::FILE);
        ui.show(&Message::Working { what })?;
        let finished = self.finish(&evaluation, events, epochs);
        let calibration = finished.map_err(|error| self.run.resumable(error))?;
        Ok(Some((evaluation, calibration)))
    }

    /// Runs the stages. Afterwards, the parameters hold the best weights of the last stage, unless
    /// the observer paused training. The best weights so far are saved to `model`.
    fn run_stages(
        &self,
        observer: &mut TrainObserver<'_>,
        model: &Path,
        mut from: Option<Checkpoint>,
    ) -> anyhow::Result<Outcome> {
        let config = &self.identity.config;
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
        for (index, stage) in config.stages.iter().enumerate().skip(first) {
            let resumes = from.is_some();
            let mut state = prepare(&self.params, config, stage, from.take())?;
            if resumes {
                observer.saved = self.save_best(index, &state)?;
            }
            let fit = FitConfig {
                // A run counts the baseline as an epoch.
                epochs: stage.epochs.saturating_sub(1),
                seed: config.training.seed,
                ..FitConfig::default()
            };
            let result = observer.run_stage(index, stage.name, |on_event| {
                let build = |vb| self.build(vb);
                trainer::fit(&self.params, build, data, &fit, &mut state, on_event)
            })?;
            outcome = result.map_err(|error| {
                let report = NonFiniteLossReport {
                    stage: stage.name,
                    train: self.splits.train.samples(),
                    val: self.splits.val.samples(),
                    best: state.best(),
                    model: observer.saved.then_some(model),
                };
                match error {
                    trainer::Error::NonFiniteLoss(_) => report.explain(error),
                    error => bad_images::explain_batch(error, Some((stage.name, self.run.path()))),
                }
            })?;
            if outcome == Outcome::Paused {
                break;
            }
        }
        Ok(outcome)
    }

    /// Evaluates the current weights on val. Returns `None` if a signal stops the evaluation.
    fn evaluate(&self, signals: &Signals) -> anyhow::Result<Option<Evaluation>> {
        let network = self.build(self.params.frozen_var_builder())?;
        let mut observe = |_: &Progress| match signals.pending() {
            None => ControlFlow::Continue(()),
            Some(_) => ControlFlow::Break(()),
        };
        let mut cache = FrozenCache::off();
        let val = &self.splits.val;
        let last = self.identity.config.stages.last();
        let run = last.map(|stage| (stage.name, self.run.path()));
        trainer::evaluate(&network, val, &mut cache, &mut observe)
            .map_err(|error| bad_images::explain_batch(error, run))
    }

    fn build(&self, vb: VarBuilder<'_>) -> Result<Vgg, vgg::Error> {
        let network = Vgg::new(&self.metadata.config, vb)?.with_grad_sink();
        Ok(network.with_precision(self.precision))
    }

    /// Saves the best weights of a resumed run: those of this stage, else the result of the
    /// previous stage. This replaces a model file that may come from a later epoch than the
    /// checkpoint.
    ///
    /// Returns whether there are such weights.
    fn save_best(&self, index: usize, stage: &Stage) -> anyhow::Result<bool> {
        let mut tensors = self.params.tensors();
        match stage.best() {
            Some(best) => {
                let best = best.weights.tensors().iter();
                tensors.extend(best.map(|(name, tensor)| (name.clone(), tensor.clone())));
            }
            None if index == 0 => return Ok(false),
            None => {}
        }
        self.save(&tensors)?;
        Ok(true)
    }

    /// Writes the model file of the run.
    fn save(&self, tensors: &BTreeMap<String, Tensor>) -> anyhow::Result<()> {
        let path = self.run.file(model_file::FILE);
        let write = |out: &mut dyn Write| Ok(vgg::save_to(out, &path, tensors, &self.metadata)?);
        self.run.write_with(model_file::FILE, write)
    }
}

/// The difference between `config.toml` and what the run had written, if any.
fn config_difference(run: &RunDir, checkpoint: &Checkpoint) -> anyhow::Result<Option<Difference>> {
    let recorded = checkpoint.identity.config.to_toml()?;
    // One byte more, to notice additions at the end.
    Ok(run.difference(Config::FILE, recorded.as_bytes(), recorded.len() + 1))
}

/// Sets the trainable parameters of a stage and creates its state, at its start or from a
/// checkpoint.
fn prepare(
    params: &Params,
    config: &Config,
    stage: &StageConfig,
    from: Option<Checkpoint>,
) -> anyhow::Result<Stage> {
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
        momentum: config.training.momentum,
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
        .with_context(|| format!("cannot run stage {}", stage.name.as_str()))
}
