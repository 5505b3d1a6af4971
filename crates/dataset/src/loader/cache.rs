//! A cache of decoded images across epochs, with a memory limit.

use std::mem;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;

use crate::error::Result;

/// Decoded images by sample, up to a total number of bytes.
///
/// The choice of cached images may depend on thread timing. The contents of batches do not.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<OnceLock<RgbImage>>,
    free: AtomicUsize,
}

impl Cache {
    pub(crate) fn new(samples: usize, bytes: usize) -> Self {
        Self {
            slots: (0..samples).map(|_| OnceLock::new()).collect(),
            free: AtomicUsize::new(bytes),
        }
    }

    /// Returns the cached image of `sample`, or calls `decode` and caches the result if it fits.
    ///
    /// `decode` receives the image in `scratch`, so that it can reuse the buffer. An image that
    /// does not fit in the cache is returned from `scratch`.
    pub(crate) fn get<'a>(
        &'a self,
        sample: usize,
        scratch: &'a mut RgbImage,
        decode: impl FnOnce(RgbImage) -> Result<RgbImage>,
    ) -> Result<&'a RgbImage> {
        let slot = &self.slots[sample];
        if let Some(image) = slot.get() {
            return Ok(image);
        }
        *scratch = decode(mem::take(scratch))?;
        let bytes = scratch.as_raw().len();
        if !self.reserve(bytes) {
            return Ok(scratch);
        }
        let (width, height) = scratch.dimensions();
        let mut pixels = mem::take(scratch).into_raw();
        // The recycled buffer may be larger than the image.
        pixels.shrink_to_fit();
        let image = RgbImage::from_raw(width, height, pixels)
            .expect("the buffer holds width × height pixels");
        if slot.set(image).is_err() {
            // Another thread cached the image first, so the reserved memory is released.
            self.free.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(slot.get().expect("the slot has just been filled"))
    }

    fn reserve(&self, bytes: usize) -> bool {
        let take = |free: usize| free.checked_sub(bytes);
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn image(side: u32) -> RgbImage {
        RgbImage::from_pixel(side, side, image::Rgb([side as u8; 3]))
    }

    #[test]
    fn images_that_fit_are_decoded_once() {
        // Two images of 4 × 4 × 3 bytes fit, a third does not.
        let cache = Cache::new(3, 2 * 48 + 47);
        let mut scratch = RgbImage::default();
        let mut decoded = Vec::new();
        for _ in 0..2 {
            for sample in 0..3 {
                let cached = cache.get(sample, &mut scratch, |_| {
                    decoded.push(sample);
                    Ok(image(4))
                });
                assert_eq!(cached.unwrap(), &image(4));
            }
        }
        assert_eq!(decoded, [0, 1, 2, 2]);
    }

    #[test]
    fn spare_capacity_of_the_recycled_buffer_is_released() {
        let cache = Cache::new(1, 1000);
        let mut scratch = image(100);
        let cached = cache.get(0, &mut scratch, |reuse| {
            let mut pixels = reuse.into_raw();
            pixels.truncate(48);
            Ok(RgbImage::from_raw(4, 4, pixels).unwrap())
        });
        assert_eq!(cached.unwrap().dimensions(), (4, 4));
        let cached = cache
            .slots
            .into_iter()
            .next()
            .unwrap()
            .into_inner()
            .unwrap()
            .into_raw();
        assert!(cached.capacity() < 1000, "{}", cached.capacity());
    }

    #[test]
    fn a_failed_decode_is_not_cached() {
        let cache = Cache::new(1, 1000);
        let mut scratch = RgbImage::default();
        assert!(
            cache
                .get(0, &mut scratch, |_| Err(Error::Truncated {
                    path: "x".into()
                }))
                .is_err()
        );
        assert_eq!(
            cache.get(0, &mut scratch, |_| Ok(image(2))).unwrap(),
            &image(2)
        );
    }
}
