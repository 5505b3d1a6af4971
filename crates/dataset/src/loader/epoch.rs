//! The iterator over the batches of one epoch.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use candle_core::Tensor;

use super::Loader;
use super::batch_builder::{BatchBuilder, Worker};
use super::ordered_pool::OrderedPool;
use crate::error::{Error, Result};

/// A batch of images and labels.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batch {
    /// Normalized images, shape (samples, 3, size, size), f32.
    pub images: Tensor,
    /// Class indices, shape (samples), u32.
    pub labels: Tensor,
    /// Indices into [`Loader::samples`].
    pub indices: Vec<usize>,
}

/// Iterator over the batches of an epoch, in order. It ends after the first error.
pub struct Epoch {
    builder: Arc<BatchBuilder>,
    epoch: u64,
    order: Arc<[usize]>,
    next: usize,
    source: Source,
}

/// Produces the pixel values of an epoch's batches.
enum Source {
    Threads(OrderedPool<Vec<f32>>),
    /// The calling thread builds each batch on demand.
    Caller(Box<Worker>),
    Failed(Error),
    Finished,
}

impl Epoch {
    pub(super) fn start(loader: &Loader, epoch: u64, first: usize) -> Self {
        let builder = loader.builder.clone();
        let order: Arc<[usize]> = loader.order(epoch).into();
        let batches = loader.batches();
        let first = first.min(batches);
        let source = if builder.config.workers == 0 {
            Source::Caller(Box::new(builder.worker()))
        } else {
            let (shared, for_state, order) = (builder.clone(), builder.clone(), order.clone());
            let config = &builder.config;
            let started = OrderedPool::start(
                first..batches,
                config.workers,
                config.prefetch,
                move || for_state.worker(),
                move |worker, batch, stop| {
                    let samples = samples_of(&order, batch, shared.config.batch_size);
                    shared.batch(worker, epoch, samples, &|| stop.load(Ordering::Relaxed))
                },
            );
            started.map_or_else(Source::Failed, Source::Threads)
        };
        Self {
            builder,
            epoch,
            order,
            next: first,
            source,
        }
    }

    fn values(&mut self) -> Option<Result<Vec<f32>>> {
        match &mut self.source {
            Source::Threads(pool) => pool.next(),
            Source::Caller(worker) => {
                let samples = samples_of(&self.order, self.next, self.builder.config.batch_size);
                (!samples.is_empty())
                    .then(|| self.builder.batch(worker, self.epoch, samples, &|| false))
            }
            Source::Failed(_) => match std::mem::replace(&mut self.source, Source::Finished) {
                Source::Failed(error) => Some(Err(error)),
                _ => None,
            },
            Source::Finished => None,
        }
    }

    /// Creates the tensors in the consumer's thread, because candle has one CUDA stream per thread.
    fn assemble(&self, values: Vec<f32>) -> Result<Batch> {
        let config = &self.builder.config;
        let indices = samples_of(&self.order, self.next, config.batch_size).to_vec();
        let side = config.transform.size() as usize;
        let labels: Vec<u32> = indices
            .iter()
            .map(|&sample| self.builder.samples[sample].label)
            .collect();
        Ok(Batch {
            images: Tensor::from_vec(values, (indices.len(), 3, side, side), &config.device)?,
            labels: Tensor::from_vec(labels, indices.len(), &config.device)?,
            indices,
        })
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Result<Batch>> {
        let batch = self
            .values()
            .map(|values| values.and_then(|values| self.assemble(values)));
        self.next += 1;
        if !matches!(batch, Some(Ok(_))) {
            self.source = Source::Finished;
        }
        batch
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch")
            .field("epoch", &self.epoch)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Returns the samples of a batch, or an empty slice after the last batch.
fn samples_of(order: &[usize], batch: usize, batch_size: usize) -> &[usize] {
    order.chunks(batch_size).nth(batch).unwrap_or_default()
}
