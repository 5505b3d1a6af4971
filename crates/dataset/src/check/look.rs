//! One picture read whole: whether it can be used, what it is, and what it is recognised by.

use std::path::Path;

use image::RgbImage;
use sha2::{Digest, Sha256};

use super::perceptual::Perceptual;
use crate::decode::{self, DecodeOptions, Stored};
use crate::error::Result;
use crate::loader::guard::guarded;

/// A picture that can be used.
#[derive(Debug)]
pub(super) struct Seen {
    pub stored: Stored,
    pub prints: Prints,
}

/// What a picture is recognised by.
#[derive(Debug)]
pub(super) struct Prints {
    /// SHA-256 of the file.
    pub file: [u8; 32],
    /// SHA-256 of width, height and the upright RGB pixels.
    pub pixels: [u8; 32],
    pub perceptual: Perceptual,
}

/// Looks at pictures one after the other, and keeps the memory they are read into.
#[derive(Debug)]
pub(super) struct Looker<'a> {
    options: &'a DecodeOptions,
    file: Vec<u8>,
    scratch: RgbImage,
}

impl<'a> Looker<'a> {
    pub fn new(options: &'a DecodeOptions) -> Self {
        Self {
            options,
            file: Vec::new(),
            scratch: RgbImage::default(),
        }
    }

    /// Reads the picture `path`.
    ///
    /// # Errors
    ///
    /// Those of [`decode`](decode::decode), and a decoder that panicked.
    pub fn look(&mut self, path: &Path) -> Result<Seen> {
        guarded(
            || format!("`{}`", path.display()),
            || {
                decode::read_file(path, self.options.max_bytes, &mut self.file)?;
                let reuse = std::mem::take(&mut self.scratch);
                let (picture, stored) =
                    decode::decode_with_facts(&self.file, path, self.options, reuse)?;
                let mut pixels = Sha256::new();
                pixels.update(picture.width().to_le_bytes());
                pixels.update(picture.height().to_le_bytes());
                pixels.update(picture.as_raw());
                let prints = Prints {
                    file: Sha256::digest(&self.file).into(),
                    pixels: pixels.finalize().into(),
                    perceptual: Perceptual::of(&picture),
                };
                self.scratch = picture;
                Ok(Seen { stored, prints })
            },
        )
    }
}
