//! Decodes an image and computes its properties and hashes.

use std::path::Path;

use image::RgbImage;
use sha2::{Digest, Sha256};

use super::perceptual::Perceptual;
use crate::decode::{self, DecodeOptions, ImageInfo};
use crate::error::Result;
use crate::panic::catch_panic;

/// Properties and hashes of an image that can be decoded.
#[derive(Debug)]
pub(super) struct Inspected {
    pub info: ImageInfo,
    pub hashes: Hashes,
}

/// Hashes that identify duplicates.
#[derive(Debug)]
pub(super) struct Hashes {
    /// SHA-256 of the file contents.
    pub file: [u8; 32],
    /// SHA-256 of the width, the height and the RGB pixels of the decoded image.
    pub pixels: [u8; 32],
    pub perceptual: Perceptual,
}

/// Inspects images and reuses its buffers.
#[derive(Debug)]
pub(super) struct Fingerprinter<'a> {
    options: &'a DecodeOptions,
    file: Vec<u8>,
    scratch: RgbImage,
}

impl<'a> Fingerprinter<'a> {
    pub fn new(options: &'a DecodeOptions) -> Self {
        Self {
            options,
            file: Vec::new(),
            scratch: RgbImage::default(),
        }
    }

    /// Inspects the image file `path`.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or decoded, or if the decoder panics.
    pub fn inspect(&mut self, path: &Path) -> Result<Inspected> {
        catch_panic(
            || path.display().to_string(),
            || {
                // Reserves memory until the image is no longer used.
                let options = self.options.clone();
                decode::read_file(path, &options, &mut self.file)?;
                let reuse = std::mem::take(&mut self.scratch);
                let (image, info) = decode::decode_reserved(&self.file, path, &options, reuse)?;
                let mut pixels = Sha256::new();
                pixels.update(image.width().to_le_bytes());
                pixels.update(image.height().to_le_bytes());
                pixels.update(image.as_raw());
                let hashes = Hashes {
                    file: Sha256::digest(&self.file).into(),
                    pixels: pixels.finalize().into(),
                    perceptual: Perceptual::new(&image),
                };
                self.scratch = image;
                decode::drop_large(&mut self.scratch);
                decode::drop_large_file(&mut self.file);
                Ok(Inspected { info, hashes })
            },
        )
    }
}
