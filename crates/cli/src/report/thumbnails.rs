//! Images in the page, as data URIs within a limit of bytes.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dataset::transform::apply;
use dataset::{DecodeOptions, Transform};
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;

/// JPEG quality of images in the page.
const QUALITY: u8 = 80;

/// The bytes that are left for images.
pub struct Budget(pub usize);

impl Budget {
    /// Encodes an image as the value of `src`. `None` if the bytes are used up.
    pub fn encode(&mut self, image: &RgbImage) -> Option<String> {
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
            .encode_image(image)
            .ok()?;
        let uri = format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg));
        self.0 = self.0.checked_sub(uri.len())?;
        Some(uri)
    }
}

/// Reads images as the network sees them, resized and cropped to `side` × `side` pixels. An image that
/// cannot be read is `None`.
pub fn read(paths: &[&Path], side: u32, decode: &DecodeOptions) -> Vec<Option<RgbImage>> {
    let transform = Transform::eval(side);
    let read = |path: &&Path| {
        let image = dataset::decode(path, decode).ok()?;
        apply(&image, &transform.eval_plan(image.width(), image.height())).ok()
    };
    paths.par_iter().map(read).collect()
}
