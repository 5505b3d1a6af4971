//! What a image looks like in a few bytes: copies that were scaled or compressed anew still look the same.
//!
//! Two measures. The first finds candidates fast: the signs of the lowest frequencies of the cosine transform of a
//! 32 × 32 gray thumbnail, 64 bits that are compared by counting differences (C. Zauner, "Implementation and
//! Benchmarking of Perceptual Image Hash Functions", 2010, which compares with the median as we do). Many different
//! images agree in many signs by chance, so the second confirms: the mean difference of two 16 × 16 color
//! thumbnails.

use std::f32::consts::PI;
use std::sync::OnceLock;

use image::RgbImage;

/// Side of the thumbnail that is transformed.
const SIDE: usize = 32;
/// Side of the block of lowest frequencies that is kept.
const KEPT: usize = 8;
/// Side of the thumbnail that confirms.
const SMALL: usize = SIDE / 2;

/// The most bits of 64 by which two near-duplicates differ.
///
/// Among 397 photographs of ants and bees no two differ in fewer than 14 bits. The same photographs scaled to half or
/// compressed to quality 40 differ from themselves in 4 at most, without 3 % of each border in 10 for nineteen of
/// twenty.
pub(super) const MOST_BITS: u32 = 10;
/// The largest mean difference of the thumbnails of two near-duplicates, in levels of 0 to 255.
///
/// Those of the photographs above that come nearest in bits differ by 44 and more, their changed copies by less than
/// 27.
pub(super) const MOST_LEVELS: f32 = 24.0;

/// What a image looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Perceptual {
    hash: u64,
    thumbnail: Box<[u8; SMALL * SMALL * 3]>,
}

impl Perceptual {
    /// Of a image with at least one pixel.
    pub fn of(image: &RgbImage) -> Self {
        let means = thumbnail(image);
        let mut gray = [0.0; SIDE * SIDE];
        for (gray, [r, g, b]) in gray.iter_mut().zip(&means) {
            // Rec. 601, as JPEG's own luma.
            *gray = 0.299 * r + 0.587 * g + 0.114 * b;
        }
        let mut small = Box::new([0; SMALL * SMALL * 3]);
        for (place, value) in small.iter_mut().enumerate() {
            let (y, x, channel) = (place / (SMALL * 3), place / 3 % SMALL, place % 3);
            let at = |dy: usize, dx: usize| means[(2 * y + dy) * SIDE + 2 * x + dx][channel];
            let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0;
            *value = mean.round() as u8;
        }
        Self {
            hash: hash(&gray),
            thumbnail: small,
        }
    }

    /// In how many of the 64 bits two images differ.
    pub fn bits(&self, other: &Self) -> u32 {
        (self.hash ^ other.hash).count_ones()
    }

    /// How much the thumbnails of two images differ: the mean over pixels and channels, in levels.
    pub fn levels(&self, other: &Self) -> f32 {
        let pairs = self.thumbnail.iter().zip(other.thumbnail.iter());
        let sum: u32 = pairs.map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
        sum as f32 / self.thumbnail.len() as f32
    }
}

/// The mean color of each cell of a 32 × 32 grid over the image. Cells of images with fewer pixels than that
/// repeat them.
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

/// One bit for each of the lowest 8 × 8 frequencies: whether its coefficient is above their median. The very lowest,
/// the mean, has the place of the first bit and is above it in all but a black image.
fn hash(gray: &[f32; SIDE * SIDE]) -> u64 {
    let basis = basis();
    // Rows first: SIDE rows of KEPT coefficients.
    let mut rows = [0.0; SIDE * KEPT];
    for (y, row) in gray.chunks_exact(SIDE).enumerate() {
        for (u, wave) in basis.chunks_exact(SIDE).enumerate() {
            rows[y * KEPT + u] = row.iter().zip(wave).map(|(a, b)| a * b).sum();
        }
    }
    let mut coefficients = [0.0f32; KEPT * KEPT];
    for (v, wave) in basis.chunks_exact(SIDE).enumerate() {
        for u in 0..KEPT {
            let column = (0..SIDE).map(|y| rows[y * KEPT + u] * wave[y]);
            coefficients[v * KEPT + u] = column.sum();
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

/// cos(π (2 x + 1) u ÷ 64) for the frequencies u below 8 and the places x below 32.
fn basis() -> &'static [f32; KEPT * SIDE] {
    static BASIS: OnceLock<[f32; KEPT * SIDE]> = OnceLock::new();
    BASIS.get_or_init(|| {
        std::array::from_fn(|place| {
            let (u, x) = ((place / SIDE) as f32, (place % SIDE) as f32);
            (PI * (2.0 * x + 1.0) * u / (2.0 * SIDE as f32)).cos()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A image whose colors follow a few waves.
    fn waves(width: u32, height: u32, phase: f32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
            let wave = |k: f32| (127.0 + 90.0 * (k * x + (7.0 - k) * y + phase).sin()) as u8;
            image::Rgb([wave(3.0), wave(5.0), wave(9.0)])
        })
    }

    #[test]
    fn a_scaled_copy_looks_the_same_and_another_image_does_not() {
        let image = Perceptual::of(&waves(640, 480, 0.0));
        let scaled = Perceptual::of(&waves(200, 150, 0.0));
        assert!(image.bits(&scaled) <= 2, "{}", image.bits(&scaled));
        assert!(image.levels(&scaled) < 2.0);
        let other = Perceptual::of(&waves(640, 480, 2.0));
        assert!(image.bits(&other) > MOST_BITS || image.levels(&other) > MOST_LEVELS);
        assert_eq!(image.levels(&image), 0.0);
    }

    #[test]
    fn a_single_pixel_and_a_line_have_prints_too() {
        for (width, height) in [(1, 1), (1, 500), (33, 1), (31, 33)] {
            let print = Perceptual::of(&waves(width, height, 0.5));
            assert_eq!(print.bits(&print), 0, "{width} × {height}");
        }
    }

    #[test]
    fn the_transform_finds_the_wave_that_is_there() {
        // Light that follows the third wave from left to right: its coefficient alone stands out.
        let gray: [f32; SIDE * SIDE] = std::array::from_fn(|place| {
            128.0 + 100.0 * (PI * (2.0 * (place % SIDE) as f32 + 1.0) * 3.0 / 64.0).cos()
        });
        let hash = hash(&gray);
        assert_eq!(
            hash & 0b1001,
            0b1001,
            "{hash:b}: the mean and the third wave"
        );
    }
}
