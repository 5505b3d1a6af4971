//! A pass without gradients, in which the frozen layers run once per sample.

use candle_core::Tensor;
use serde::Serialize;

use crate::data::{Batch, DataLoader};
use crate::error::{Error, NonFiniteLoss, ResultExt};
use crate::event::{Flow, Phase};
use crate::loss;
use crate::metrics::{ConfusionMatrix, EpochMetrics, Progress};
use crate::model::{Mode, Model};

/// What a pass found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Loss and accuracy as sums over the samples.
    pub metrics: EpochMetrics,
    /// Which class was taken for which.
    pub confusion: ConfusionMatrix,
    /// What was predicted, in the order of the pass.
    pub predictions: Vec<Prediction>,
}

impl Evaluation {
    /// Mean loss over the samples.
    pub fn loss(&self) -> f64 {
        self.metrics.mean_loss()
    }

    /// Correct predictions over all.
    pub fn accuracy(&self) -> f64 {
        self.metrics.accuracy()
    }
}

/// What was predicted for one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Prediction {
    /// Index of the sample in its split.
    pub sample: usize,
    /// Its class.
    pub target: u32,
    /// The class with the largest logit; the first of equals.
    pub prediction: u32,
}

/// Outputs of the frozen leading layers, remembered from one pass to the next.
///
/// The frozen layers map a sample to the same numbers in every epoch. The outputs are kept in the batches
/// they were computed in, which are the same in every pass (see [`DataLoader::epoch`]): the rest of the model then
/// sees the same tensors with and without this memory, bit for bit. What is kept is a leading part of the
/// pass; the split is asked for the rest only, so that a pass that is remembered whole reads no data.
#[derive(Debug)]
pub struct FrozenCache {
    layers: usize,
    limit: usize,
    used: usize,
    batches: Vec<Batch>,
    full: bool,
}

impl FrozenCache {
    /// A memory for the output of the first `layers` layers, of at most `limit` bytes. It is valid for one
    /// split and as long as the weights of these layers do not change.
    pub fn new(layers: usize, limit: usize) -> Self {
        Self {
            layers,
            limit,
            used: 0,
            batches: Vec::new(),
            full: layers == 0,
        }
    }

    /// Remembers nothing: for a single pass.
    pub fn off() -> Self {
        Self::new(0, 0)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> usize {
        self.used
    }

    fn samples(&self) -> usize {
        self.batches.iter().map(|batch| batch.indices.len()).sum()
    }

    /// Keeps a batch of outputs if it fits. After the first that does not, none is kept: a gap could not be
    /// skipped over.
    fn offer(&mut self, batch: &Batch) -> candle_core::Result<()> {
        let bytes = batch.inputs.elem_count() * batch.inputs.dtype().size_in_bytes();
        self.full |= bytes > self.limit - self.used;
        if !self.full {
            // An output may be a view of something larger, which must not stay in memory with it.
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

/// Evaluates `model` on all samples of `split`, with dropout off.
///
/// The model should be built on [`Params::frozen_var_builder`](crate::Params::frozen_var_builder), else every
/// layer records a graph; and built again after the weights changed. `observe` sees each batch; when it asks
/// to stop, the result is `None`.
///
/// Errors: an empty split, data that cannot be read, a target that is not a class, a loss that is not finite.
pub fn evaluate<M: Model>(
    model: &M,
    split: &dyn DataLoader,
    cache: &mut FrozenCache,
    observe: &mut dyn FnMut(&Progress) -> Flow,
) -> Result<Option<Evaluation>, Error> {
    let total = split.samples();
    if total == 0 {
        return Err(Error::EmptySplit { phase: Phase::Val });
    }
    let mut pass = Pass {
        model,
        first_layer: cache.layers,
        total,
        batch: 0,
        found: None,
    };
    for remembered in &cache.batches {
        if pass.add(remembered, observe)? == Flow::Stop {
            return Ok(None);
        }
    }
    if cache.samples() < total {
        for batch in split.epoch(0, cache.batches.len()) {
            let mut batch = batch.map_err(|source| Error::Data {
                phase: Phase::Val,
                epoch: None,
                batch: pass.batch,
                source,
            })?;
            loss::check_batch(&batch)?;
            batch.inputs = run_frozen(model, &batch.inputs, cache.layers, Mode::Eval)?;
            cache
                .offer(&batch)
                .context("remembering the output of the frozen layers")?;
            if pass.add(&batch, observe)? == Flow::Stop {
                return Ok(None);
            }
        }
    }
    pass.found
        .map(Some)
        .ok_or(Error::EmptySplit { phase: Phase::Val })
}

/// The output of the first `layers` layers, without a graph.
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
        .context("the forward pass of the frozen layers")?;
    Ok(output.detach())
}

/// A pass in progress.
struct Pass<'a, M> {
    model: &'a M,
    first_layer: usize,
    total: usize,
    batch: usize,
    found: Option<Evaluation>,
}

impl<M: Model> Pass<'_, M> {
    /// Runs the layers after the frozen ones on a batch and adds up what they say.
    fn add(
        &mut self,
        batch: &Batch,
        observe: &mut dyn FnMut(&Progress) -> Flow,
    ) -> Result<Flow, Error> {
        let layers = self.first_layer..self.model.layer_names().len();
        let logits = self
            .model
            .forward_layers(&batch.inputs, layers, Mode::Eval)
            .context("the forward pass")?;
        let scored = loss::score(&logits, &batch.targets, &batch.indices)?;
        if !scored.value.is_finite() {
            return Err(Error::NonFiniteLoss(Box::new(NonFiniteLoss {
                loss: scored.value,
                phase: Phase::Val,
                epoch: None,
                batch: self.batch,
                samples: batch.indices.clone(),
                learning_rates: Vec::new(),
            })));
        }
        let found = self.found.get_or_insert_with(|| Evaluation {
            metrics: EpochMetrics::default(),
            confusion: ConfusionMatrix::new(scored.classes),
            predictions: Vec::with_capacity(self.total),
        });
        found
            .metrics
            .add(scored.value, scored.correct(), batch.indices.len());
        for ((&sample, &target), &prediction) in batch
            .indices
            .iter()
            .zip(&scored.targets)
            .zip(&scored.predictions)
        {
            found.confusion.add(target as usize, prediction as usize);
            found.predictions.push(Prediction {
                sample,
                target,
                prediction,
            });
        }
        let progress = Progress::new(self.batch, scored.value, &found.metrics, self.total);
        self.batch += 1;
        Ok(observe(&progress))
    }
}
