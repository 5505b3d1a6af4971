//! Evaluation of a model on a split, without computing gradients.

use std::ops::ControlFlow;

use candle_core::Tensor;
use serde::Serialize;

use crate::data::{Batch, DataLoader};
use crate::error::{Error, NonFiniteLoss, ResultExt};
use crate::loss;
use crate::metrics::{ConfusionMatrix, EpochMetrics, Phase, Progress};
use crate::model::{Mode, Model};

/// The result of [`evaluate`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Loss and accuracy, accumulated over all samples.
    pub metrics: EpochMetrics,
    /// Number of samples for each pair of true and predicted class.
    pub confusion: ConfusionMatrix,
    /// One prediction per sample, in the order of the data loader.
    pub predictions: Vec<Prediction>,
    /// The logits of the predictions, shape (samples, classes) in row-major order.
    pub logits: Vec<f32>,
}

impl Evaluation {
    /// Mean loss over the samples.
    pub fn loss(&self) -> f64 {
        self.metrics.mean_loss()
    }

    /// Fraction of correct predictions.
    pub fn accuracy(&self) -> f64 {
        self.metrics.accuracy()
    }
}

/// The prediction for one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Prediction {
    /// Index of the sample in its split.
    pub sample: usize,
    /// Index of the true class.
    pub target: u32,
    /// Index of the predicted class, which has the largest logit. The first class wins a tie.
    pub prediction: u32,
}

/// A cache of the outputs of the frozen leading layers across validation epochs.
///
/// The outputs are the same in every epoch, and so are the validation batches (see
/// [`DataLoader::epoch`]). The cache stores one output per batch, so the results are bit-identical
/// with and without it. It stores as many of the split's first batches as fit in its size limit.
/// Later epochs load only the remaining batches.
#[derive(Debug)]
pub struct FrozenCache {
    layers: usize,
    limit: usize,
    used: usize,
    batches: Vec<Batch>,
    full: bool,
}

impl FrozenCache {
    /// Creates a cache of at most `limit` bytes for the outputs of the first `layers` layers.
    ///
    /// Use each cache for a single split, and only as long as the weights of these layers do not
    /// change.
    pub fn new(layers: usize, limit: usize) -> Self {
        Self {
            layers,
            limit,
            used: 0,
            batches: Vec::new(),
            full: layers == 0,
        }
    }

    /// Creates a cache that stores nothing, for a single evaluation.
    pub fn off() -> Self {
        Self::new(0, 0)
    }

    fn samples(&self) -> usize {
        self.batches.iter().map(|batch| batch.indices.len()).sum()
    }

    /// Caches `batch`, whose inputs are outputs of the frozen layers, if it fits.
    ///
    /// After the first batch that does not fit, no batch is cached, because a data loader can skip
    /// only the first batches.
    fn add(&mut self, batch: &Batch) -> candle_core::Result<()> {
        let bytes = batch.inputs.elem_count() * batch.inputs.dtype().size_in_bytes();
        self.full |= bytes > self.limit - self.used;
        if !self.full {
            // The output may be a view of a larger tensor, which would stay in memory.
            let inputs = batch.inputs.force_contiguous()?;
            self.batches.push(Batch {
                inputs,
                ..batch.clone()
            });
            self.used += bytes;
        }
        Ok(())
    }
}

/// Evaluates `model` on all samples of `split`, without dropout.
///
/// Build the model from [`Params::frozen_var_builder`](crate::Params::frozen_var_builder).
/// Otherwise, its layers record a graph. Rebuild it whenever the weights change. `observe` is
/// called after each batch. If it breaks, the evaluation ends and the result is `None`.
///
/// # Errors
///
/// Returns an error if the split is empty, if a batch cannot be loaded, has an invalid shape or
/// dtype, or cannot be cached, if the model fails, if a target is not a class, or if the loss is
/// not finite.
pub fn evaluate<M: Model>(
    model: &M,
    split: &dyn DataLoader,
    cache: &mut FrozenCache,
    observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Option<Evaluation>, Error> {
    let total = split.samples();
    if total == 0 {
        return Err(Error::EmptySplit { phase: Phase::Val });
    }
    let mut evaluator = Evaluator {
        model,
        first_layer: cache.layers,
        total,
        batch: 0,
        evaluation: None,
    };
    for batch in &cache.batches {
        if evaluator.add(batch, observe)?.is_break() {
            return Ok(None);
        }
    }
    if cache.samples() < total {
        for batch in split.epoch(0, cache.batches.len()) {
            let mut batch = batch.map_err(|source| Error::Data {
                phase: Phase::Val,
                epoch: None,
                batch: evaluator.batch,
                source,
            })?;
            loss::check_batch(&batch)?;
            batch.inputs = run_frozen(model, &batch.inputs, cache.layers, Mode::Eval)?;
            cache
                .add(&batch)
                .context("cannot cache the output of the frozen layers")?;
            if evaluator.add(&batch, observe)?.is_break() {
                return Ok(None);
            }
        }
    }
    evaluator
        .evaluation
        .map(Some)
        .ok_or(Error::EmptySplit { phase: Phase::Val })
}

/// Runs the first `layers` layers without a graph.
pub(crate) fn run_frozen<M: Model>(
    model: &M,
    inputs: &Tensor,
    layers: usize,
    mode: Mode,
) -> Result<Tensor, Error> {
    if layers == 0 {
        return Ok(inputs.clone());
    }
    let output = model
        .forward_layers(inputs, 0..layers, mode)
        .context("the forward pass of the frozen layers failed")?;
    Ok(output.detach())
}

/// The state of an evaluation in progress.
struct Evaluator<'a, M> {
    model: &'a M,
    first_layer: usize,
    total: usize,
    batch: usize,
    evaluation: Option<Evaluation>,
}

impl<M: Model> Evaluator<'_, M> {
    /// Runs the layers after the frozen ones on a batch and adds its loss and predictions to the
    /// results.
    fn add(
        &mut self,
        batch: &Batch,
        observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let layers = self.first_layer..self.model.layer_names().len();
        let logits = self
            .model
            .forward_layers(&batch.inputs, layers, Mode::Eval)
            .context("the forward pass failed")?;
        let batch_loss = loss::batch_loss(
            &logits,
            &batch.targets,
            &batch.indices,
            true,
            |logits, targets| self.model.loss(logits, targets),
        )?;
        if !batch_loss.value.is_finite() {
            return Err(Error::NonFiniteLoss(Box::new(NonFiniteLoss {
                loss: batch_loss.value,
                phase: Phase::Val,
                epoch: None,
                batch: self.batch,
                samples: batch.indices.clone(),
                learning_rates: Vec::new(),
            })));
        }
        let evaluation = self.evaluation.get_or_insert_with(|| Evaluation {
            metrics: EpochMetrics::default(),
            confusion: ConfusionMatrix::new(batch_loss.classes),
            predictions: Vec::with_capacity(self.total),
            logits: Vec::with_capacity(self.total * batch_loss.classes),
        });
        evaluation.logits.extend_from_slice(&batch_loss.logits);
        evaluation
            .metrics
            .add(batch_loss.value, batch_loss.correct(), batch.indices.len());
        for ((&sample, &target), &prediction) in batch
            .indices
            .iter()
            .zip(&batch_loss.targets)
            .zip(&batch_loss.predictions)
        {
            evaluation
                .confusion
                .add(target as usize, prediction as usize);
            evaluation.predictions.push(Prediction {
                sample,
                target,
                prediction,
            });
        }
        let progress = Progress::new(
            self.batch,
            batch_loss.value,
            &evaluation.metrics,
            self.total,
        );
        self.batch += 1;
        Ok(observe(&progress))
    }
}
