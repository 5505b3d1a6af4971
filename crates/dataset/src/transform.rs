//! Crops, resizes, flips and normalizes images.
//!
//! The geometry is a [`Plan`], a pure function of the image size and a random stream. Applying a
//! plan gives the same bytes as torchvision does on a Pillow image.
//!
//! Sources: `torchvision/transforms/transforms.py` (`RandomResizedCrop`) and `functional.py`
//! (`resize`, `center_crop`).

mod normalize;
mod random_box;

pub use crate::plan::{Plan, Region, resized_size};
pub use crate::resample::{Resampler, apply};
pub use normalize::Normalize;
pub(crate) use normalize::Table;
pub use random_box::random_resized_crop;

use rand::Rng;

use crate::rng;

/// The transform from an image to the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// `RandomResizedCrop(size)`, then `RandomHorizontalFlip(0.5)`.
    Train {
        /// Height and width of the result, in pixels.
        size: u32,
    },
    /// `Resize(resize)`, then `CenterCrop(size)`.
    Eval {
        /// Length of the shorter side after resizing, in pixels.
        resize: u32,
        /// Height and width of the result, in pixels.
        size: u32,
    },
}

impl Transform {
    /// Random crops and flips, for training.
    pub fn train(size: u32) -> Self {
        Self::Train { size }
    }

    /// Center crops, for validation and prediction. The shorter side is resized to `size` · 256 /
    /// 224, as in torchvision's ImageNet recipes.
    pub fn eval(size: u32) -> Self {
        Self::Eval {
            resize: (f64::from(size) * 256.0 / 224.0).round() as u32,
            size,
        }
    }

    /// Height and width of the result, in pixels.
    pub fn size(self) -> u32 {
        match self {
            Self::Train { size } | Self::Eval { size, .. } => size,
        }
    }

    /// Returns the geometry for an image of `width` × `height`. Only [`Transform::Train`] draws
    /// from `rng`.
    pub fn plan(self, width: u32, height: u32, rng: &mut impl Rng) -> Plan {
        match self {
            Self::Train { size } => {
                let region = random_resized_crop(width, height, rng);
                let flip = rng::unit(rng) < 0.5;
                Plan::resized_crop(region, size, flip)
            }
            Self::Eval { resize, size } => Plan::center_crop(width, height, resize, size),
        }
    }
}
