//! Perceptual hashes and thumbnails, which are similar for scaled and recompressed copies of an
//! image.
//!
//! The hash finds candidates quickly. Each of its 64 bits states whether one of the lowest
//! frequencies of the cosine transform of a 32 × 32 gray thumbnail is above the median. Hashes are
//! compared by Hamming distance (C. Zauner, "Implementation and Benchmarking of Perceptual Image
//! Hash Functions", 2010). Different images may have similar hashes by chance, so candidates are
//! confirmed by the mean difference of 16 × 16 color thumbnails.

use std::f32::consts::PI;
use std::sync::OnceLock;

use image::RgbImage;

/// Side of the thumbnail for the cosine transform.
const SIDE: usize = 32;
/// Side of the block of lowest frequencies in the hash.
const LOWEST: usize = 8;
/// Side of the thumbnail for the confirmation.
const THUMBNAIL: usize = SIDE / 2;

/// Maximum Hamming distance between the hashes of near duplicates, out of 64 bits.
///
/// Any two of 397 photographs of ants and bees differ in at least 14 bits. Scaling a photograph to
/// half size or compressing it at quality 40 changes at most 4 bits. Cropping 3 % from each
/// border changes at most 10 bits in 19 of 20 photographs.
pub(super) const MAX_BITS: u32 = 10;
/// Maximum mean difference of the thumbnails of near duplicates, in levels of 255.
///
/// Among the photographs above, the pairs with the most similar hashes differ by at least 44
/// levels. Modified copies differ from their originals by less than 27.
pub(super) const MAX_LEVELS: f32 = 24.0;

/// Perceptual hash and thumbnail of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Perceptual {
    hash: u64,
    thumbnail: Box<[u8; THUMBNAIL * THUMBNAIL * 3]>,
}

impl Perceptual {
    /// Computes the hash and thumbnail of an image with at least one pixel.
    pub fn new(image: &RgbImage) -> Self {
        let means = thumbnail(image);
        let mut gray = [0.0; SIDE * SIDE];
        for (gray, [r, g, b]) in gray.iter_mut().zip(&means) {
            // Luma of Rec. 601, as in JPEG.
            *gray = 0.299 * r + 0.587 * g + 0.114 * b;
        }
        let mut small = Box::new([0; THUMBNAIL * THUMBNAIL * 3]);
        for (index, value) in small.iter_mut().enumerate() {
            let (y, x, channel) = (index / (THUMBNAIL * 3), index / 3 % THUMBNAIL, index % 3);
            let at = |dy: usize, dx: usize| means[(2 * y + dy) * SIDE + 2 * x + dx][channel];
            let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0;
            *value = mean.round() as u8;
        }
        Self {
            hash: hash(&gray),
            thumbnail: small,
        }
    }

    /// Returns the Hamming distance between the hashes.
    pub fn hamming_distance(&self, other: &Self) -> u32 {
        (self.hash ^ other.hash).count_ones()
    }

    /// Returns the mean absolute difference of the thumbnails over pixels and channels, in levels
    /// of 255.
    pub fn mean_difference(&self, other: &Self) -> f32 {
        let pairs = self.thumbnail.iter().zip(other.thumbnail.iter());
        let sum: u32 = pairs.map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
        sum as f32 / self.thumbnail.len() as f32
    }
}

/// Returns the mean color of each cell of a 32 × 32 grid over the image.
///
/// In images smaller than the grid, cells share pixels.
fn thumbnail(image: &RgbImage) -> Vec<[f32; 3]> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let cell = |index: usize, length: usize| {
        let from = (index * length / SIDE).min(length - 1);
        from..((index + 1) * length / SIDE).max(from + 1)
    };
    let columns: Vec<_> = (0..SIDE).map(|x| cell(x, width)).collect();
    let mut means = Vec::with_capacity(SIDE * SIDE);
    for y in 0..SIDE {
        let rows = cell(y, height);
        let mut sums = [[0u64; 3]; SIDE];
        for row in rows.clone() {
            let row = &image.as_raw()[row * width * 3..][..width * 3];
            for (sum, column) in sums.iter_mut().zip(&columns) {
                for pixel in row[column.start * 3..column.end * 3].chunks_exact(3) {
                    for (sum, &value) in sum.iter_mut().zip(pixel) {
                        *sum += u64::from(value);
                    }
                }
            }
        }
        for (sum, column) in sums.iter().zip(&columns) {
            let count = (rows.len() * column.len()) as f32;
            means.push(sum.map(|sum| sum as f32 / count));
        }
    }
    means
}

/// Returns one bit for each of the lowest 8 × 8 frequencies: whether its coefficient is above the
/// median.
///
/// The lowest bit belongs to frequency 0 (the mean), whose coefficient is above the median unless
/// the image is black.
fn hash(gray: &[f32; SIDE * SIDE]) -> u64 {
    let basis = basis();
    // Transforms the rows first: SIDE rows of LOWEST coefficients.
    let mut rows = [0.0; SIDE * LOWEST];
    for (y, row) in gray.chunks_exact(SIDE).enumerate() {
        for (u, wave) in basis.chunks_exact(SIDE).enumerate() {
            rows[y * LOWEST + u] = row.iter().zip(wave).map(|(a, b)| a * b).sum();
        }
    }
    let mut coefficients = [0.0f32; LOWEST * LOWEST];
    for (v, wave) in basis.chunks_exact(SIDE).enumerate() {
        for u in 0..LOWEST {
            let column = (0..SIDE).map(|y| rows[y * LOWEST + u] * wave[y]);
            coefficients[v * LOWEST + u] = column.sum();
        }
    }
    let mut sorted = coefficients;
    sorted.sort_by(f32::total_cmp);
    let median = (sorted[31] + sorted[32]) / 2.0;
    let bits = coefficients.iter().enumerate();
    bits.fold(0, |hash, (bit, &value)| {
        hash | (u64::from(value > median) << bit)
    })
}

/// Returns cos(π (2x + 1) u / 64) for frequencies u < 8 and positions x < 32.
fn basis() -> &'static [f32; LOWEST * SIDE] {
    static BASIS: OnceLock<[f32; LOWEST * SIDE]> = OnceLock::new();
    BASIS.get_or_init(|| {
        std::array::from_fn(|index| {
            let (u, x) = ((index / SIDE) as f32, (index % SIDE) as f32);
            (PI * (2.0 * x + 1.0) * u / (2.0 * SIDE as f32)).cos()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws an image of sine waves.
    fn waves(width: u32, height: u32, phase: f32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
            let wave = |k: f32| (127.0 + 90.0 * (k * x + (7.0 - k) * y + phase).sin()) as u8;
            image::Rgb([wave(3.0), wave(5.0), wave(9.0)])
        })
    }

    #[test]
    fn scaled_copies_are_similar_and_other_images_are_not() {
        let image = Perceptual::new(&waves(640, 480, 0.0));
        let scaled = Perceptual::new(&waves(200, 150, 0.0));
        assert!(
            image.hamming_distance(&scaled) <= 2,
            "{}",
            image.hamming_distance(&scaled)
        );
        assert!(image.mean_difference(&scaled) < 2.0);
        let other = Perceptual::new(&waves(640, 480, 2.0));
        assert!(
            image.hamming_distance(&other) > MAX_BITS || image.mean_difference(&other) > MAX_LEVELS
        );
        assert_eq!(image.mean_difference(&image), 0.0);
    }

    #[test]
    fn tiny_images_have_hashes() {
        for (width, height) in [(1, 1), (1, 500), (33, 1), (31, 33)] {
            let perceptual = Perceptual::new(&waves(width, height, 0.5));
            assert_eq!(
                perceptual.hamming_distance(&perceptual),
                0,
                "{width} × {height}"
            );
        }
    }

    #[test]
    fn cosine_transform_detects_a_single_wave() {
        // A horizontal cosine wave of frequency 3 has one large coefficient in addition to the
        // mean.
        let gray: [f32; SIDE * SIDE] = std::array::from_fn(|index| {
            128.0 + 100.0 * (PI * (2.0 * (index % SIDE) as f32 + 1.0) * 3.0 / 64.0).cos()
        });
        let hash = hash(&gray);
        assert_eq!(
            hash & 0b1001,
            0b1001,
            "{hash:b}: the bits of the mean and of frequency 3 must be set"
        );
    }
}
