//! What the trainer needs of a data set: splits that are cut into batches, the same way every time.

use candle_core::Tensor;

use crate::error::BoxError;

/// Some samples of a split.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The model's input, (B, …).
    pub inputs: Tensor,
    /// The classes, (B) u32.
    pub targets: Tensor,
    /// Which samples of the split these are.
    pub indices: Vec<usize>,
}

/// The batches of one pass over a split.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Batch, BoxError>> + 'a>;

/// One split of a data set, train or val.
pub trait DataLoader {
    /// How many samples a pass has.
    fn samples(&self) -> usize;

    /// The batches of pass `epoch`, from batch `first` on.
    ///
    /// Batch `b` is a function of (the split's seed, `epoch`, `b`): a stopped pass goes on where it stopped,
    /// and a validation split, which is always asked for epoch 0, is cut into the same batches every time.
    /// The last, smaller batch is kept.
    fn epoch(&self, epoch: u64, first: usize) -> Batches<'_>;
}

/// The two splits that a stage works on.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// What the model learns from.
    pub train: &'a dyn DataLoader,
    /// What decides which weights are best.
    pub val: &'a dyn DataLoader,
}
