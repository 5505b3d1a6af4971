//! What becomes of a image on its way into a batch: cut, resized, perhaps flipped, normalized.
//!
//! The geometry is decided first, as a pure function of the image's size and a random stream: a [`Plan`]. Applying
//! a plan is deterministic and gives what torchvision gives on a Pillow image, to the bit.
//!
//! Sources: `torchvision/transforms/transforms.py` (`RandomResizedCrop`), `functional.py` (`resize`, `center_crop`).

mod normalize;
mod plan;
mod random_box;
mod resample;

pub use normalize::Normalize;
pub(crate) use normalize::Table;
pub use plan::{Plan, Region, resized_size};
pub use random_box::random_resized_crop;
pub use resample::{Resampler, apply};

use rand::Rng;

use crate::rng;

/// How a split's images are turned into the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// `RandomResizedCrop(size)`, then a horizontal flip with probability one half.
    Train {
        /// Height and width of the result, in pixels.
        size: u32,
    },
    /// `Resize(resize)`, then `CenterCrop(size)`.
    Eval {
        /// What the shorter side becomes, in pixels.
        resize: u32,
        /// Height and width of the result, in pixels.
        size: u32,
    },
}

impl Transform {
    /// Random boxes and flips, for training.
    pub fn train(size: u32) -> Self {
        Self::Train { size }
    }

    /// The middle of the image, for validation and prediction: resized to 256/224 of `size`, as usual for ImageNet.
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

    /// The geometry for a image of `width` × `height`. Only [`Transform::Train`] draws from `rng`.
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
