//! Decoded images that are kept between epochs, as long as there is room.

use std::mem;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::RgbImage;

use crate::error::Result;

/// A place for each sample's image, and a budget of bytes for all of them.
///
/// Which images find room may depend on which worker comes first; what a batch contains does not.
#[derive(Debug)]
pub(crate) struct Cache {
    places: Vec<OnceLock<RgbImage>>,
    room: AtomicUsize,
}

impl Cache {
    pub(crate) fn new(samples: usize, bytes: usize) -> Self {
        Self {
            places: (0..samples).map(|_| OnceLock::new()).collect(),
            room: AtomicUsize::new(bytes),
        }
    }

    /// The image of a sample: the kept one, or what `decode` makes, which is kept if there is room.
    ///
    /// `decode` gets the memory of `scratch`, which also holds the image if there was no room for it.
    pub(crate) fn get<'a>(
        &'a self,
        sample: usize,
        scratch: &'a mut RgbImage,
        decode: impl FnOnce(RgbImage) -> Result<RgbImage>,
    ) -> Result<&'a RgbImage> {
        let place = &self.places[sample];
        if let Some(image) = place.get() {
            return Ok(image);
        }
        *scratch = decode(mem::take(scratch))?;
        let bytes = scratch.as_raw().len();
        if !self.reserve(bytes) {
            return Ok(scratch);
        }
        let (width, height) = scratch.dimensions();
        let mut pixels = mem::take(scratch).into_raw();
        // Recycled memory may be larger than the image; what is kept must not be.
        pixels.shrink_to_fit();
        let image =
            RgbImage::from_raw(width, height, pixels).expect("the buffer has the image's size");
        if place.set(image).is_err() {
            // Another epoch that runs at the same time was faster.
            self.room.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(place.get().expect("it has just been filled"))
    }

    fn reserve(&self, bytes: usize) -> bool {
        let take = |room: usize| room.checked_sub(bytes);
        self.room
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
    fn images_are_decoded_once_while_there_is_room() {
        // Room for two images of 4 × 4 × 3 bytes and not for a third.
        let cache = Cache::new(3, 2 * 48 + 47);
        let mut scratch = RgbImage::default();
        let mut decoded = Vec::new();
        for _ in 0..2 {
            for sample in 0..3 {
                let found = cache.get(sample, &mut scratch, |_| {
                    decoded.push(sample);
                    Ok(image(4))
                });
                assert_eq!(found.unwrap(), &image(4));
            }
        }
        assert_eq!(decoded, [0, 1, 2, 2]);
    }

    #[test]
    fn recycled_memory_is_not_kept() {
        let cache = Cache::new(1, 1000);
        let mut scratch = image(100);
        let kept = cache.get(0, &mut scratch, |reuse| {
            let mut pixels = reuse.into_raw();
            pixels.truncate(48);
            Ok(RgbImage::from_raw(4, 4, pixels).unwrap())
        });
        assert_eq!(kept.unwrap().dimensions(), (4, 4));
        let kept = cache
            .places
            .into_iter()
            .next()
            .unwrap()
            .into_inner()
            .unwrap()
            .into_raw();
        assert!(kept.capacity() < 1000, "{}", kept.capacity());
    }

    #[test]
    fn a_failure_is_not_kept() {
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
