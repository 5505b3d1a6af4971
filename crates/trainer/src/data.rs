//! Data for training and validation: batches, and the trait for loaders that produce them.

use candle_core::Tensor;

use crate::error::BoxError;

/// A batch of samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Model inputs: (B, …).
    pub inputs: Tensor,
    /// Class indices: (B), u32.
    pub targets: Tensor,
    /// Index of each sample in its split, used in errors and predictions.
    pub indices: Vec<usize>,
}

/// An iterator over the batches of one epoch, returned by [`DataLoader::epoch`].
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Batch, BoxError>> + 'a>;

/// Loads one split of a data set in batches.
pub trait DataLoader {
    /// Number of samples in the split.
    fn samples(&self) -> usize;

    /// Loads the batches of epoch `epoch`, starting with batch `first_batch`, counted from 0.
    /// Training epochs count from 1.
    ///
    /// Batch `b` must be a function of (loader seed, `epoch`, `b`), so that a paused epoch can
    /// resume at any batch. Validation always loads epoch 0 and therefore sees the same batches
    /// every time. The last batch may be smaller, but must not be dropped.
    fn epoch(&self, epoch: u64, first_batch: usize) -> Batches<'_>;
}

/// The data loaders for training and validation.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// Training split.
    pub train: &'a dyn DataLoader,
    /// Validation split. The accuracy on it selects the best weights.
    pub val: &'a dyn DataLoader,
}
