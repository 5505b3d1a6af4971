//! Heat maps of the worst mistakes.

use std::path::Path;

use candle_core::Device;
use dataset::transform::apply;
use dataset::{DecodeOptions, Normalize, Transform};
use image::RgbImage;
use vgg::{HeatMapMethod, Metadata, Vgg};

use crate::plots::heat_map;

/// Largest side in pixels of an image with a heat map, before small images are enlarged.
const SIDE: u32 = 224;

/// Draws heat maps with a network.
pub struct HeatMaps<'a> {
    network: &'a Vgg,
    device: &'a Device,
    normalize: Normalize,
    size: u32,
    /// The last ReLU. `None` if the configuration is invalid.
    layer: Option<String>,
    decode: &'a DecodeOptions,
}

impl<'a> HeatMaps<'a> {
    /// Uses `network`, whose weights have to be frozen.
    pub fn new(
        network: &'a Vgg,
        device: &'a Device,
        metadata: &Metadata,
        decode: &'a DecodeOptions,
    ) -> Self {
        let config = &metadata.config;
        Self {
            network,
            device,
            normalize: Normalize {
                mean: metadata.mean,
                std: metadata.std,
            },
            // `Metadata::validate` limits the size to 4096 pixels.
            size: config.input_size as u32,
            layer: config.last_relu().ok(),
            decode,
        }
    }

    /// Width and height of the network's input in pixels.
    pub fn input_size(&self) -> u32 {
        self.size
    }

    /// Draws the regions of the image at `path` that raise the logit of `class`. `None` if the image
    /// cannot be read or the map cannot be computed.
    pub fn draw(&self, path: &Path, class: usize) -> Option<RgbImage> {
        let image = dataset::decode(path, self.decode).ok()?;
        let input = Transform::eval(self.size)
            .prepare_image(&image, &self.normalize, self.device)
            .ok()?;
        let method = HeatMapMethod::default();
        let layer = self.layer.as_deref()?;
        let map = self.network.heat_map(&input, Some(class), layer, method);
        let shown = Transform::eval(self.size.min(SIDE));
        let plan = shown.eval_plan(image.width(), image.height());
        let shown = heat_map::enlarged(&apply(&image, &plan).ok()?);
        let map = map
            .ok()?
            .resized(shown.width() as usize, shown.height() as usize);
        heat_map::overlay(&shown, &map).ok()
    }
}
