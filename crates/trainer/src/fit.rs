//! The training loop: one stage, from its first epoch to the restored best weights.
//!
//! It follows the loop of PyTorch's transfer-learning tutorial: each epoch trains and validates, the first
//! only validates (that is where the stage starts from), and the weights of the best val accuracy win. A
//! second stage is a second call: other layers trainable, a new [`Stage`], the weights where the first one
//! left them.

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

/// How long and by which rules a stage trains.
#[derive(Clone, Debug, PartialEq)]
pub struct FitConfig {
    /// Epochs in all, the one that only validates included.
    pub epochs: u64,
    /// The seed that dropout draws from.
    pub seed: u64,
    /// The learning rates over the training epochs.
    pub schedule: Schedule,
    /// Whether the first epoch only validates.
    pub baseline: bool,
    /// Bytes in which validation may remember the outputs of frozen layers; 0 for none.
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

/// How a call of [`fit`] ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done, and the best weights are restored.
    Finished {
        /// The epoch whose weights these are.
        best_epoch: u64,
        /// Their val accuracy.
        best_accuracy: f64,
    },
    /// The observer stopped it. Weights and stage are as they are after the last batch: call [`fit`] again, with
    /// this stage or one that was [resumed](Stage::resume), to go on to the same result as if it had not stopped.
    Stopped,
}

/// Trains one stage.
///
/// `build` makes the model: it is called for the tracked parameters and, for each validation pass, for the
/// detached ones. What trains, and in which groups, was decided with [`Params::set_trainable`] and
/// [`Stage::new`]. The loss is the mean cross entropy; losses and accuracies are means over samples.
///
/// Errors stop the stage as it is; the best weights so far stay in [`Stage::best`].
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
    let model = build(params.var_builder()).context("building the model")?;
    let parameters = params.trainable();
    stage.sgd.check_parameters(&parameters)?;
    let frozen = first_trainable_layer(params, model.layer_names())?;
    let training = Training {
        model: &model,
        parameters: &parameters,
        frozen,
        data,
        config,
    };
    let mut cache = FrozenCache::new(frozen, config.cache_bytes);

    let start = Event::StageStart {
        epochs: config.epochs,
        epoch: stage.epoch,
        counts: params.counts(),
        groups: stage.sgd.learning_rates(1.0),
        first_trainable_layer: frozen,
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
        // Built anew, because layers may derive something from their weights when they are built.
        let evaluated = build(params.frozen_var_builder()).context("building the model")?;
        let mut observe = |progress: &Progress| {
            let event = Event::BatchDone {
                phase: Phase::Val,
                epoch,
                progress: *progress,
            };
            observer(&event, stage)
        };
        let found = evaluate(&evaluated, data.val, &mut cache, &mut observe)
            .map_err(|error| error.in_epoch(epoch, learning_rates))?;
        let Some(found) = found else {
            return Ok(Outcome::Stopped);
        };
        let is_best = stage.keep_if_best(found.accuracy(), params)?;
        stage.end_epoch();

        // From here on the epoch is done: stopping at any of these events loses nothing.
        let end = phase_end(Phase::Val, epoch, &found.metrics, data.val.samples(), phase);
        let mut flow = observer(&end, stage);
        let best = Event::NewBest {
            epoch,
            accuracy: found.accuracy(),
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
        .expect("the first epoch that ends is the best so far");
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

/// What stays the same over the steps of a stage.
struct Training<'a, M> {
    model: &'a M,
    parameters: &'a [(String, Var)],
    frozen: usize,
    data: Data<'a>,
    config: &'a FitConfig,
}

impl<M: Model> Training<'_, M> {
    /// The training phase of an epoch, from the batch where the stage stands.
    fn epoch(
        &self,
        stage: &mut Stage,
        factor: f64,
        observer: &mut Observer<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        let started = Instant::now();
        let (epoch, total, before) = (
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
        let done = (stage.metrics.samples - before) as usize;
        let metrics = stage.metrics;
        stage.end_training();
        let end = phase_end(Phase::Train, epoch, &metrics, done, started);
        match observer(&end, stage) {
            Flow::Stop => Ok(ControlFlow::Break(())),
            Flow::Continue => Ok(ControlFlow::Continue(())),
        }
    }

    /// One step: forward, loss, backward, update. Returns the batch's loss.
    fn step(&self, stage: &mut Stage, batch: &Batch, factor: f64) -> Result<f64, Error> {
        loss::check_batch(batch)?;
        let mode = Mode::Train {
            seed: self.config.seed,
            step: stage.step,
        };
        let features = run_frozen(self.model, &batch.inputs, self.frozen, mode)?;
        let layers = self.frozen..self.model.layer_names().len();
        let logits = self
            .model
            .forward_layers(&features, layers, mode)
            .context("the forward pass")?;
        let scored = loss::score(&logits, &batch.targets, &batch.indices)?;
        // The graph keeps what backward needs; these handles would keep it longer.
        drop((features, logits));
        if !scored.value.is_finite() {
            return Err(Error::NonFiniteLoss(Box::new(NonFiniteLoss {
                loss: scored.value,
                phase: Phase::Train,
                epoch: Some(stage.epoch),
                batch: stage.batch,
                samples: batch.indices.clone(),
                learning_rates: stage.sgd.learning_rates(factor),
            })));
        }
        let (value, correct) = (scored.value, scored.correct());
        let take = |parameter: &_| self.model.take_gradient(parameter);
        let gradients = Gradients::backward_with(scored.loss, self.parameters, take)?;
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
