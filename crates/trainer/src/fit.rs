//! The training loop of one stage.
//!
//! ```text
//! for each epoch:
//!     train: for each batch: forward, loss, backward, SGD step (skipped in the baseline)
//!     val:   evaluate; copy the weights if the accuracy is strictly greater than the previous best
//! restore the best weights
//! ```
//!
//! This is the loop of the PyTorch transfer-learning notebook. By default, epoch 0 is a baseline
//! that only validates, so the weights at the start of a stage are the first candidate for the best
//! weights. For a second stage, make other layers trainable, create a new [`Stage`] and call
//! [`fit`] again. The second stage starts from the best weights of the first, without velocities.
//!
//! As in PyTorch, losses are averaged over samples rather than batches, and dropout is active in
//! frozen layers during training. Unlike in PyTorch, frozen leading layers run without a graph,
//! validation caches their outputs, and a missing gradient or a non-finite loss is an error.
//!
//! The loop prints nothing and writes no files. It reports [`Event`]s to an observer, which can
//! pause it until the last validation is done. A paused stage continues with bit-identical results.
//!
//! The crate documentation has a runnable example.

use std::ops::ControlFlow;
use std::time::Instant;

use candle_core::Var;
use candle_nn::VarBuilder;

use crate::data::{Batch, Data};
use crate::error::{BoxError, Error, NonFiniteLoss, ResultExt};
use crate::evaluate::{FrozenCache, evaluate, run_frozen};
use crate::event::{Best, Event, Flow};
use crate::gradients::Gradients;
use crate::loss;
use crate::metrics::{EpochMetrics, Phase, Progress};
use crate::model::{Mode, Model, first_trainable_layer};
use crate::params::Params;
use crate::schedule::Schedule;
use crate::stage::Stage;

/// The settings of a stage, passed to [`fit`].
#[derive(Clone, Debug, PartialEq)]
pub struct FitConfig {
    /// Number of training epochs. 0 runs only the baseline.
    pub epochs: u64,
    /// Seed for the dropout masks.
    pub seed: u64,
    /// Schedule that scales the learning rates of all groups in each epoch.
    pub schedule: Schedule,
    /// Whether a baseline, which only validates, runs before the first training epoch.
    pub baseline: bool,
    /// Maximum size of the [`FrozenCache`] in bytes. 0 disables it.
    pub cache_bytes: usize,
}

/// A baseline and 25 training epochs, seed 1234, constant learning rates, and a cache of at most
/// 1 GiB.
impl Default for FitConfig {
    fn default() -> Self {
        Self {
            epochs: 25,
            seed: 1234,
            schedule: Schedule::Constant,
            baseline: true,
            cache_bytes: 1 << 30,
        }
    }
}

/// The outcome of a call to [`fit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// The stage is complete and the best weights are restored.
    Finished {
        /// The epoch with the best validation accuracy.
        best: Best,
        /// Validation accuracy of the best epoch, as a fraction.
        accuracy: f64,
    },
    /// The observer paused the stage.
    ///
    /// To continue, call [`fit`] again with this stage or with a [resumed](Stage::resume) one. The
    /// result is the same as without the pause.
    Paused,
}

/// A callback that receives each event of a stage, and the state of the stage at this event.
///
/// It may save the state at any event except [`Event::StageEnd`]. A stage [resumed](Stage::resume)
/// from a saved state ends with the same result as one that was never paused.
pub type Observer<'a> = dyn FnMut(&Event, &Stage) -> Flow + 'a;

/// Trains one stage and restores its best weights.
///
/// [`Params::set_trainable`] determines which parameters are trained, and [`Stage::new`] assigns
/// them to groups. `build` builds the model from a `VarBuilder`. It is called once for training and
/// once for each validation. The loss is [`Model::loss`].
///
/// `observer` is called with each event. If it returns [`Flow::Pause`], `fit` returns
/// [`Outcome::Paused`], except at the events after the last validation: the stage is complete
/// then, so `fit` finishes it. If it returns [`Flow::Finish`], the current epoch is the last one.
///
/// # Errors
///
/// Returns an error if a setting is out of range, if other parameters are trainable than when the
/// stage was created, if a trainable parameter belongs to no layer of the model, if a split is
/// empty, if a batch cannot be loaded or is invalid, if the model cannot be built or run, if the
/// loss is not finite, if the first step computes no gradient for a trainable parameter, if a
/// candle operation fails, or if a resumed stage has completed an epoch but has no best epoch. In
/// these cases the best weights are not restored. If an epoch was validated, they are available
/// from [`Stage::best`].
pub fn fit<M: Model, E: Into<BoxError>>(
    params: &Params,
    build: impl Fn(VarBuilder<'static>) -> Result<M, E>,
    data: Data<'_>,
    config: &FitConfig,
    stage: &mut Stage,
    observer: &mut Observer<'_>,
) -> Result<Outcome, Error> {
    let started = Instant::now();
    check(config, data)?;
    let build = |vb| {
        build(vb).map_err(|error| Error::Build {
            source: error.into(),
        })
    };
    let model = build(params.var_builder())?;
    let parameters = params.trainable();
    stage.sgd.check_parameters(&parameters)?;
    stage.start(config.baseline)?;
    let first_trainable = first_trainable_layer(params, model.layer_names())?;
    let training = Training {
        model: &model,
        parameters: &parameters,
        first_trainable,
        data,
        config,
    };
    let mut cache = FrozenCache::new(first_trainable, config.cache_bytes);

    let first_epoch = stage.epoch;
    let start = Event::StageStart {
        epochs: config.epochs,
        epoch: first_epoch,
        counts: params.counts(),
        groups: stage.sgd.learning_rates(1.0),
        first_trainable_layer: first_trainable,
        train_samples: data.train.samples(),
        val_samples: data.val.samples(),
    };
    if emit(observer, &start, first_epoch, stage).is_break() {
        return Ok(Outcome::Paused);
    }

    while !stage.is_complete(config.epochs) {
        let epoch = stage.epoch;
        let baseline = epoch == 0;
        let factor = config.schedule.factor(epoch.saturating_sub(1));
        let learning_rates = stage.sgd.learning_rates(factor);
        let start = Event::EpochStart {
            epoch,
            epochs: config.epochs,
            baseline,
            learning_rates: learning_rates.clone(),
        };
        if emit(observer, &start, epoch, stage).is_break() {
            return Ok(Outcome::Paused);
        }

        if stage.phase == Phase::Train {
            if !baseline && training.epoch(stage, factor, observer)?.is_break() {
                return Ok(Outcome::Paused);
            }
            stage.end_training();
        }

        let phase = Instant::now();
        // Build a new model, because layers may have precomputed values from the old weights.
        let eval_model = build(params.frozen_var_builder())?;
        let mut observe = |progress: &Progress| {
            let event = Event::BatchDone {
                phase: Phase::Val,
                epoch,
                progress: *progress,
            };
            emit(observer, &event, epoch, stage)
        };
        let evaluation = evaluate(&eval_model, data.val, &mut cache, &mut observe)
            .map_err(|error| error.at_epoch(epoch, learning_rates))?;
        let Some(evaluation) = evaluation else {
            return Ok(Outcome::Paused);
        };
        let is_best = stage.keep_if_best(evaluation.accuracy(), params)?;
        stage.end_epoch();

        // These events come after `end_epoch`, so a stage paused at one of them does not repeat
        // the validation when it resumes.
        let end = phase_end(
            Phase::Val,
            epoch,
            &evaluation.metrics,
            data.val.samples(),
            phase,
        );
        let mut pause = emit(observer, &end, epoch, stage).is_break();
        if is_best {
            let best = Event::NewBest {
                epoch,
                accuracy: evaluation.accuracy(),
            };
            pause |= emit(observer, &best, epoch, stage).is_break();
        }
        if pause && !stage.is_complete(config.epochs) {
            return Ok(Outcome::Paused);
        }
    }

    let best = stage
        .best
        .as_ref()
        .expect("every completed epoch sets or keeps the best epoch");
    params.restore(&best.weights)?;
    let accuracy = best.accuracy;
    let best = match best.epoch {
        0 => Best::Baseline,
        epoch => Best::Epoch(epoch),
    };
    let end = Event::StageEnd {
        best,
        accuracy,
        seconds: started.elapsed().as_secs_f64(),
    };
    // The stage is complete, so the answer to its last event has no effect.
    let _ = observer(&end, stage);
    Ok(Outcome::Finished { best, accuracy })
}

/// Passes an event of `epoch` to the observer. Breaks if the observer pauses the stage.
fn emit(
    observer: &mut Observer<'_>,
    event: &Event,
    epoch: u64,
    stage: &mut Stage,
) -> ControlFlow<()> {
    match observer(event, stage) {
        Flow::Continue => {}
        Flow::Finish => stage.finish_after(epoch),
        Flow::Pause => return ControlFlow::Break(()),
    }
    ControlFlow::Continue(())
}

/// The arguments shared by all training steps of a stage.
struct Training<'a, M> {
    model: &'a M,
    parameters: &'a [(String, Var)],
    /// Index of the first trainable layer.
    first_trainable: usize,
    data: Data<'a>,
    config: &'a FitConfig,
}

impl<M: Model> Training<'_, M> {
    /// Runs the training phase of the current epoch, starting with batch `stage.batch`.
    fn epoch(
        &self,
        stage: &mut Stage,
        factor: f64,
        observer: &mut Observer<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        let started = Instant::now();
        let (epoch, total, samples_before) = (
            stage.epoch,
            self.data.train.samples(),
            stage.metrics.samples,
        );
        for batch in self.data.train.epoch(epoch, stage.batch) {
            let (phase, index) = (Phase::Train, stage.batch);
            let batch = batch.map_err(|source| Error::Data {
                phase,
                epoch: Some(epoch),
                batch: index,
                source,
            })?;
            let loss = self.step(stage, &batch, factor)?;
            let progress = Progress::new(index, loss, &stage.metrics, total);
            let event = Event::BatchDone {
                phase,
                epoch,
                progress,
            };
            if emit(observer, &event, epoch, stage).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if stage.metrics.samples == 0 {
            return Err(Error::EmptySplit {
                phase: Phase::Train,
            });
        }
        let samples = (stage.metrics.samples - samples_before) as usize;
        let metrics = stage.metrics;
        stage.end_training();
        let end = phase_end(Phase::Train, epoch, &metrics, samples, started);
        Ok(emit(observer, &end, epoch, stage))
    }

    /// Runs one training step: forward, loss, backward, update. Returns the mean loss of the batch.
    fn step(&self, stage: &mut Stage, batch: &Batch, factor: f64) -> Result<f64, Error> {
        loss::check_batch(batch)?;
        let mode = Mode::Train {
            seed: self.config.seed,
            step: stage.step,
        };
        let features = run_frozen(self.model, &batch.inputs, self.first_trainable, mode)?;
        let layers = self.first_trainable..self.model.layer_names().len();
        let logits = self
            .model
            .forward_layers(&features, layers, mode)
            .context("the forward pass failed")?;
        let batch_loss = loss::batch_loss(
            &logits,
            &batch.targets,
            &batch.indices,
            false,
            |logits, targets| self.model.loss(logits, targets),
        )?;
        // The graph frees each tensor as soon as the backward pass no longer needs it. Drop these
        // handles, which would keep their tensors in memory longer.
        drop((features, logits));
        if !batch_loss.value.is_finite() {
            return Err(Error::NonFiniteLoss(Box::new(NonFiniteLoss {
                loss: batch_loss.value,
                phase: Phase::Train,
                epoch: Some(stage.epoch),
                batch: stage.batch,
                samples: batch.indices.clone(),
                learning_rates: stage.sgd.learning_rates(factor),
            })));
        }
        let (value, correct) = (batch_loss.value, batch_loss.correct());
        let take = |parameter: &_| self.model.take_gradient(parameter);
        let gradients = Gradients::backward_with(batch_loss.loss, self.parameters, take)?;
        if stage.step == 0 {
            gradients.check_complete(self.parameters)?;
        }
        stage.sgd.step(gradients, factor)?;
        stage.metrics.add(value, correct, batch.indices.len());
        stage.batch += 1;
        stage.step += 1;
        Ok(value)
    }
}

fn check(config: &FitConfig, data: Data<'_>) -> Result<(), Error> {
    config.schedule.check()?;
    if config.epochs == 0 && !config.baseline {
        return Err(Error::Setting {
            setting: "the number of epochs".into(),
            value: "0".into(),
            expected: "at least 1 without a baseline",
        });
    }
    for (phase, split) in [(Phase::Train, data.train), (Phase::Val, data.val)] {
        if split.samples() == 0 {
            return Err(Error::EmptySplit { phase });
        }
    }
    Ok(())
}

fn phase_end(
    phase: Phase,
    epoch: u64,
    metrics: &EpochMetrics,
    samples: usize,
    started: Instant,
) -> Event {
    let seconds = started.elapsed().as_secs_f64();
    let samples_per_second = samples as f64 / seconds.max(f64::MIN_POSITIVE);
    Event::PhaseEnd {
        phase,
        epoch,
        loss: metrics.mean_loss(),
        accuracy: metrics.accuracy(),
        seconds,
        samples_per_second,
    }
}
