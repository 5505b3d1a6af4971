//! The training loop of one stage.
//!
//! ```text
//! for each epoch:
//!     train: for each batch: forward, loss, backward, SGD step (skipped in the baseline epoch)
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
//! stop it at any of them. A stopped stage continues with bit-identical results.
//!
//! The crate documentation has a runnable example.

use std::ops::ControlFlow;
use std::time::Instant;

use candle_core::Var;
use candle_nn::VarBuilder;

use crate::data::{Batch, Data};
use crate::error::{Error, NonFiniteLoss, ResultExt};
use crate::evaluate::{FrozenCache, evaluate, run_frozen};
use crate::event::{Event, Flow, Observer, Phase};
use crate::gradients::Gradients;
use crate::loss;
use crate::metrics::{EpochMetrics, Progress};
use crate::model::{Mode, Model, first_trainable_layer};
use crate::params::Params;
use crate::schedule::Schedule;
use crate::stage::Stage;

/// The settings of a stage, passed to [`fit`].
#[derive(Clone, Debug, PartialEq)]
pub struct FitConfig {
    /// Number of epochs, including the baseline epoch.
    pub epochs: u64,
    /// Seed for the dropout masks.
    pub seed: u64,
    /// Schedule that scales the learning rates of all groups in each epoch.
    pub schedule: Schedule,
    /// Whether the first epoch is a baseline, which only validates.
    pub baseline: bool,
    /// Maximum size of the [`FrozenCache`] in bytes. 0 disables it.
    pub cache_bytes: usize,
}

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
    /// All epochs are done and the best weights are restored.
    Finished {
        /// The epoch with the best validation accuracy, counted from 0.
        best_epoch: u64,
        /// Validation accuracy of the best epoch, as a fraction.
        best_accuracy: f64,
    },
    /// The observer stopped the stage.
    ///
    /// To continue, call [`fit`] again with this stage or with a [resumed](Stage::resume) one. The
    /// result is the same as without the stop.
    Stopped,
}

/// Trains one stage and restores its best weights.
///
/// [`Params::set_trainable`] determines which parameters are trained, and [`Stage::new`] assigns
/// them to groups. `build` builds the model from a `VarBuilder`. It is called once for training and
/// once for each validation. The loss is the mean [cross entropy](crate::cross_entropy).
///
/// `observer` is called with each event. If it returns [`Flow::Stop`], `fit` returns
/// [`Outcome::Stopped`], except at the events after the last validation: the stage is complete
/// then, so `fit` finishes it.
///
/// # Errors
///
/// Returns an error if a setting is out of range, if other parameters are trainable than when the
/// stage was created, if a split is empty, if a batch cannot be loaded or is invalid, if the model
/// fails, if the loss is not finite, or if the first step computes no gradient for a trainable
/// parameter. In these cases the best weights are not restored, but remain available from
/// [`Stage::best`].
pub fn fit<M: Model>(
    params: &Params,
    build: impl Fn(VarBuilder<'static>) -> candle_core::Result<M>,
    data: Data<'_>,
    config: &FitConfig,
    stage: &mut Stage,
    observer: &mut Observer<'_>,
) -> Result<Outcome, Error> {
    let started = Instant::now();
    check(config, data)?;
    let model = build(params.var_builder()).context("cannot build the model")?;
    let parameters = params.trainable();
    stage.sgd.check_parameters(&parameters)?;
    let first_trainable = first_trainable_layer(params, model.layer_names())?;
    let training = Training {
        model: &model,
        parameters: &parameters,
        first_trainable,
        data,
        config,
    };
    let mut cache = FrozenCache::new(first_trainable, config.cache_bytes);

    let start = Event::StageStart {
        epochs: config.epochs,
        epoch: stage.epoch,
        counts: params.counts(),
        groups: stage.sgd.learning_rates(1.0),
        first_trainable_layer: first_trainable,
        train_samples: data.train.samples(),
        val_samples: data.val.samples(),
    };
    if observer(&start, stage) == Flow::Stop {
        return Ok(Outcome::Stopped);
    }

    while stage.epoch < config.epochs {
        let (epoch, epochs) = (stage.epoch, config.epochs);
        let baseline = config.baseline && epoch == 0;
        let factor = config
            .schedule
            .factor(epoch - u64::from(config.baseline && epoch > 0));
        let learning_rates = stage.sgd.learning_rates(factor);
        let start = Event::EpochStart {
            epoch,
            epochs,
            baseline,
            learning_rates: learning_rates.clone(),
        };
        if observer(&start, stage) == Flow::Stop {
            return Ok(Outcome::Stopped);
        }

        if stage.phase == Phase::Train {
            if !baseline && training.epoch(stage, factor, observer)?.is_break() {
                return Ok(Outcome::Stopped);
            }
            stage.end_training();
        }

        let phase = Instant::now();
        // Build a new model, because layers may have precomputed values from the old weights.
        let eval_model = build(params.frozen_var_builder()).context("cannot build the model")?;
        let mut observe = |progress: &Progress| {
            let event = Event::BatchDone {
                phase: Phase::Val,
                epoch,
                progress: *progress,
            };
            observer(&event, stage)
        };
        let evaluation = evaluate(&eval_model, data.val, &mut cache, &mut observe)
            .map_err(|error| error.in_epoch(epoch, learning_rates))?;
        let Some(evaluation) = evaluation else {
            return Ok(Outcome::Stopped);
        };
        let is_best = stage.keep_if_best(evaluation.accuracy(), params)?;
        stage.end_epoch();

        // These events come after `end_epoch`, so a stage stopped at one of them does not repeat
        // the validation when it resumes.
        let end = phase_end(
            Phase::Val,
            epoch,
            &evaluation.metrics,
            data.val.samples(),
            phase,
        );
        let mut flow = observer(&end, stage);
        let best = Event::NewBest {
            epoch,
            accuracy: evaluation.accuracy(),
        };
        if is_best && observer(&best, stage) == Flow::Stop {
            flow = Flow::Stop;
        }
        if flow == Flow::Stop && stage.epoch < config.epochs {
            return Ok(Outcome::Stopped);
        }
    }

    let best = stage
        .best
        .as_ref()
        .expect("every completed epoch sets or keeps the best epoch");
    params.restore(&best.weights)?;
    let (best_epoch, best_accuracy) = (best.epoch, best.accuracy);
    let end = Event::StageEnd {
        best_epoch,
        best_accuracy,
        seconds: started.elapsed().as_secs_f64(),
    };
    observer(&end, stage);
    Ok(Outcome::Finished {
        best_epoch,
        best_accuracy,
    })
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
            if observer(&event, stage) == Flow::Stop {
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
        match observer(&end, stage) {
            Flow::Stop => Ok(ControlFlow::Break(())),
            Flow::Continue => Ok(ControlFlow::Continue(())),
        }
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
        let batch_loss = loss::batch_loss(&logits, &batch.targets, &batch.indices)?;
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
    if config.epochs == 0 {
        return Err(Error::Setting {
            setting: "the number of epochs".into(),
            value: "0".into(),
            expected: "at least 1",
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
