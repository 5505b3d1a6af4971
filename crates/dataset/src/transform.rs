//! Crops, resizes, flips and normalizes images.
//!
//! The geometry is a [`Plan`], a pure function of the image size and a random stream. Applying a
//! plan gives the same bytes as torchvision does on a Pillow image. [`Transform::prepare`] does
//! everything from the bytes of a file to the network's input.
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

use candle_core::{Device, Tensor};
use image::RgbImage;

use crate::decode::{DecodeOptions, decode_bytes};
use crate::error::Result;
use crate::rng::Stream;

/// The transform from an image to a square of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
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
    /// 224, rounded, as in torchvision's ImageNet recipes.
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
    /// from `stream`.
    pub fn plan(self, width: u32, height: u32, stream: &mut Stream) -> Plan {
        match self {
            Self::Train { size } => {
                let region = random_resized_crop(width, height, stream);
                let flip = stream.unit() < 0.5;
                Plan::resized_crop(region, size, flip)
            }
            Self::Eval { .. } => self.eval_plan(width, height),
        }
    }

    /// Returns the center crop for an image of `width` × `height`. For [`Transform::Train`], it is
    /// the crop of [`Transform::eval`] with the same size.
    pub fn eval_plan(self, width: u32, height: u32) -> Plan {
        match self {
            Self::Train { size } => Self::eval(size).eval_plan(width, height),
            Self::Eval { resize, size } => Plan::center_crop(width, height, resize, size),
        }
    }

    /// Decodes the image file contents `bytes` and applies [`prepare_image`](Self::prepare_image).
    /// Errors report `image` as the path.
    ///
    /// ```
    /// use dataset::{DecodeOptions, Normalize, Transform};
    /// # use candle_core::Device;
    /// # let mut bytes = std::io::Cursor::new(Vec::new());
    /// # image::RgbImage::new(300, 200).write_to(&mut bytes, image::ImageFormat::Png)?;
    /// # let bytes = bytes.into_inner();
    ///
    /// let (decode, normalize) = (DecodeOptions::default(), Normalize::IMAGENET);
    /// let input = Transform::eval(224).prepare(&bytes, &decode, &normalize, &Device::Cpu)?;
    /// assert_eq!(input.dims(), [1, 3, 224, 224]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error in the cases of [`decode_bytes`] and of
    /// [`prepare_image`](Self::prepare_image).
    pub fn prepare(
        self,
        bytes: &[u8],
        decode: &DecodeOptions,
        normalize: &Normalize,
        device: &Device,
    ) -> Result<Tensor> {
        let image = decode_bytes(bytes, "image", decode, RgbImage::default())?;
        self.prepare_image(&image, normalize, device)
    }

    /// Applies the [`eval_plan`](Self::eval_plan) to `image`, normalizes the result, and returns it
    /// as a batch of one image, shape (1, 3, size, size), f32.
    ///
    /// [`Tensor::cat`] joins such batches.
    ///
    /// # Errors
    ///
    /// Returns an error if the image has no pixels, if a size of the transform is 0, or if the
    /// tensor cannot be created.
    pub fn prepare_image(
        self,
        image: &RgbImage,
        normalize: &Normalize,
        device: &Device,
    ) -> Result<Tensor> {
        let square = apply(image, &self.eval_plan(image.width(), image.height()))?;
        let mut values = Vec::with_capacity(square.as_raw().len());
        normalize.append(&square, &mut values);
        let side = self.size() as usize;
        Ok(Tensor::from_vec(values, (1, 3, side, side), device)?)
    }
}
