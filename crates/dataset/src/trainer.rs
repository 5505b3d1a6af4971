//! [`trainer::DataLoader`] for [`Loader`], with the feature `trainer`.

use crate::Loader;

impl trainer::DataLoader for Loader {
    fn samples(&self) -> usize {
        self.samples().len()
    }

    fn epoch(&self, epoch: u64, first_batch: usize) -> trainer::Batches<'_> {
        let batches = self.epoch_from(epoch, first_batch);
        Box::new(batches.map(|batch| {
            let batch = batch?;
            Ok(trainer::Batch {
                inputs: batch.images,
                targets: batch.labels,
                indices: batch.indices,
            })
        }))
    }
}
