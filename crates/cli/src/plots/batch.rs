//! `train_batch.png`: a training batch as the network sees it, with class names as titles.

use candle_core::Device;
use dataset::Batch;
use dataset::contact_sheet::titled;
use dataset::transform::Normalize;

use super::encode_png;

/// Images per row, as in torchvision's `make_grid`.
const PER_ROW: usize = 8;

/// Draws the images of `batch` as a PNG, with the normalization undone.
///
/// # Errors
///
/// Returns an error if the batch cannot be copied to the CPU, or if drawing fails.
pub fn draw(batch: &Batch, classes: &[String], normalize: Normalize) -> anyhow::Result<Vec<u8>> {
    let (size, _, height, width) = batch.images.dims4()?;
    let labels: Vec<u32> = batch.labels.to_vec1()?;
    let (mut images, mut titles) = (Vec::new(), Vec::new());
    for (index, &label) in labels.iter().enumerate().take(size) {
        let values: Vec<f32> = batch
            .images
            .get(index)?
            .flatten_all()?
            .to_device(&Device::Cpu)?
            .to_vec1()?;
        images.push(normalize.denormalize(&values, width as u32, height as u32)?);
        titles.push(classes.get(label as usize).map_or("?", String::as_str));
    }
    encode_png(&titled(&images, &titles, PER_ROW)?)
}
