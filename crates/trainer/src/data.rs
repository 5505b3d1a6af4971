//! Data for training and validation: batches, and the trait of the loaders that produce them.

use candle_core::Tensor;

use crate::error::BoxError;

/// A batch of samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Inputs of the model: (B, …).
    pub inputs: Tensor,
    /// Class indices: (B), u32.
    pub targets: Tensor,
    /// Indices of the samples in their split.
    pub indices: Vec<usize>,
}

/// The batches of one epoch.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Batch, BoxError>> + 'a>;

/// Loads one split of a data set in batches.
pub trait DataLoader {
    /// Number of samples in the split.
    fn samples(&self) -> usize;

    /// The batches of epoch `epoch`, starting with batch `first_batch`. Both count from 0.
    ///
    /// Batch `b` must be a function of (seed of the loader, `epoch`, `b`), so that a stopped epoch
    /// can resume at any batch. Validation always loads epoch 0 and therefore sees the same batches
    /// every time. The last batch may be smaller; it is not dropped.
    fn epoch(&self, epoch: u64, first_batch: usize) -> Batches<'_>;
}

/// The splits that a stage uses.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// Training data.
    pub train: &'a dyn DataLoader,
    /// Validation data. Its accuracy selects the best weights.
    pub val: &'a dyn DataLoader,
}
