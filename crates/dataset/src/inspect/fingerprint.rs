//! One image read whole: whether it can be used, what it is, and what it is recognized by.

use std::path::Path;

use image::RgbImage;
use sha2::{Digest, Sha256};

use super::perceptual::Perceptual;
use crate::decode::{self, DecodeOptions, ImageInfo};
use crate::error::Result;
use crate::loader::panic::catch_panic;

/// A image that can be used.
#[derive(Debug)]
pub(super) struct Inspected {
    pub stored: ImageInfo,
    pub hashes: Hashes,
}

/// What a image is recognized by.
#[derive(Debug)]
pub(super) struct Hashes {
    /// SHA-256 of the file.
    pub file: [u8; 32],
    /// SHA-256 of width, height and the upright RGB pixels.
    pub pixels: [u8; 32],
    pub perceptual: Perceptual,
}

/// Looks at images one after the other, and keeps the memory they are read into.
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

    /// Reads the image `path`.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](decode::decode), and a decoder that panicked.
    pub fn inspect(&mut self, path: &Path) -> Result<Inspected> {
        catch_panic(
            || format!("`{}`", path.display()),
            || {
                decode::read_file(path, self.options.max_bytes, &mut self.file)?;
                let reuse = std::mem::take(&mut self.scratch);
                let (image, stored) =
                    decode::decode_with_info(&self.file, path, self.options, reuse)?;
                let mut pixels = Sha256::new();
                pixels.update(image.width().to_le_bytes());
                pixels.update(image.height().to_le_bytes());
                pixels.update(image.as_raw());
                let hashes = Hashes {
                    file: Sha256::digest(&self.file).into(),
                    pixels: pixels.finalize().into(),
                    perceptual: Perceptual::of(&image),
                };
                self.scratch = image;
                Ok(Inspected { stored, hashes })
            },
        )
    }
}
