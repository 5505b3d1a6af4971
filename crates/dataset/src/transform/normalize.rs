//! Normalization of pixels per channel: (x / 255 − mean) / std.

use image::RgbImage;

use crate::error::{Error, Result};

/// Mean and standard deviation per channel, in RGB order, for values in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalize {
    /// Mean, subtracted from each value.
    pub mean: [f32; 3],
    /// Standard deviation, by which the difference is divided.
    pub std: [f32; 3],
}

impl Normalize {
    /// ImageNet statistics, as expected by the pretrained networks of torchvision and timm.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };

    /// Appends the normalized image to `out`, shape (3, height, width).
    pub fn append(&self, image: &RgbImage, out: &mut Vec<f32>) {
        Table::new(*self).append(image.as_raw(), out);
    }

    /// Converts normalized values of shape (3, `height`, `width`) to an image, clamped and rounded
    /// to bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if the number of values does not match the shape.
    pub fn denormalize(&self, values: &[f32], width: u32, height: u32) -> Result<RgbImage> {
        let plane = width as usize * height as usize;
        if values.len() != 3 * plane {
            return Err(Error::Setting {
                setting: "number of normalized values",
                value: values.len().to_string(),
                expected: "3 × height × width",
            });
        }
        let byte = |channel: usize, at: usize| {
            let value = values[channel * plane + at] * self.std[channel] + self.mean[channel];
            (value.clamp(0.0, 1.0) * 255.0).round() as u8
        };
        let pixels = (0..plane)
            .flat_map(|at| [byte(0, at), byte(1, at), byte(2, at)])
            .collect();
        Ok(RgbImage::from_raw(width, height, pixels).expect("three bytes per pixel"))
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.std.iter().all(|&std| std.is_finite() && std > 0.0)
            && self.mean.iter().all(|mean| mean.is_finite())
        {
            return Ok(());
        }
        Err(Error::Setting {
            setting: "normalization",
            value: format!("mean {:?}, std {:?}", self.mean, self.std),
            expected: "finite values with positive std",
        })
    }
}

/// A lookup table of the 256 normalized values per channel, computed with torchvision's arithmetic.
#[derive(Clone, Debug)]
pub(crate) struct Table([[f32; 256]; 3]);

impl Table {
    pub(crate) fn new(normalize: Normalize) -> Self {
        let value = |channel: usize, byte: usize| {
            (byte as f32 / 255.0 - normalize.mean[channel]) / normalize.std[channel]
        };
        Self([0, 1, 2].map(|channel| std::array::from_fn(|byte| value(channel, byte))))
    }

    /// Appends interleaved RGB bytes to `out` as three planes.
    pub(crate) fn append(&self, pixels: &[u8], out: &mut Vec<f32>) {
        let (pixels, _) = pixels.as_chunks::<3>();
        for (channel, table) in self.0.iter().enumerate() {
            out.extend(
                pixels
                    .iter()
                    .map(|pixel| table[usize::from(pixel[channel])]),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denormalizing_restores_the_bytes() {
        let image = RgbImage::from_fn(16, 16, |x, y| {
            image::Rgb([(x + 16 * y) as u8, 255 - y as u8, 7 * x as u8])
        });
        let mut values = vec![42.0];
        Normalize::IMAGENET.append(&image, &mut values);
        assert_eq!(values.len(), 1 + 3 * 256);
        assert_eq!(values[0], 42.0, "an existing value was changed");
        let expected = (f32::from(image.get_pixel(3, 2).0[1]) / 255.0 - 0.456) / 0.224;
        assert_eq!(values[1 + 256 + 2 * 16 + 3], expected);
        assert_eq!(
            Normalize::IMAGENET
                .denormalize(&values[1..], 16, 16)
                .unwrap(),
            image
        );
        assert!(Normalize::IMAGENET.denormalize(&values, 16, 16).is_err());
    }
}
