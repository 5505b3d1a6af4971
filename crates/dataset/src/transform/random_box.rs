//! The random box of torchvision's `RandomResizedCrop`, with scale (0.08, 1) and ratio (3/4, 4/3).

use crate::plan::Region;
use crate::rng::Stream;

/// Minimum and maximum area of the box as a fraction of the image area.
const SCALE: (f64, f64) = (0.08, 1.0);
/// Minimum and maximum ratio of width to height.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// Draws a random box in an image of `width` × `height`, like torchvision's
/// `RandomResizedCrop.get_params`.
///
/// Makes up to ten attempts: area = U(0.08, 1) · W · H and ratio = exp(U(ln 3/4, ln 4/3)), so that
/// w = √(area · ratio) and h = √(area / ratio), rounded half to even. The first box that fits is
/// placed uniformly. If no box fits, the result is the largest centered box of an allowed ratio.
///
/// The box of a nonempty image has at least one pixel.
pub fn random_resized_crop(width: u32, height: u32, stream: &mut Stream) -> Region {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = area * stream.uniform(SCALE.0, SCALE.1);
        let ratio = stream.uniform(RATIO.0.ln(), RATIO.1.ln()).exp();
        let w = (target * ratio).sqrt().round_ties_even();
        let h = (target / ratio).sqrt().round_ties_even();
        if w < 1.0 || w > f64::from(width) || h < 1.0 || h > f64::from(height) {
            continue;
        }
        let (w, h) = (w as u32, h as u32);
        let top = stream.below(height - h + 1);
        let left = stream.below(width - w + 1);
        return Region {
            top,
            left,
            height: h,
            width: w,
        };
    }
    largest_centered(width, height)
}

fn largest_centered(width: u32, height: u32) -> Region {
    let ratio = f64::from(width) / f64::from(height);
    let (w, h) = if ratio < RATIO.0 {
        (width, (f64::from(width) / RATIO.0).round_ties_even() as u32)
    } else if ratio > RATIO.1 {
        (
            (f64::from(height) * RATIO.1).round_ties_even() as u32,
            height,
        )
    } else {
        (width, height)
    };
    Region {
        top: (height - h) / 2,
        left: (width - w) / 2,
        height: h,
        width: w,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns all sizes up to 40 × 40, and some large or thin ones.
    fn sizes() -> impl Iterator<Item = (u32, u32)> {
        let small = (1..=40).flat_map(|w| (1..=40).map(move |h| (w, h)));
        small.chain([
            (1, 65_535),
            (65_535, 1),
            (4_000, 3),
            (500, 375),
            (65_535, 65_535),
        ])
    }

    #[test]
    fn boxes_are_within_the_image() {
        for (w, h) in sizes() {
            for index in 0..20 {
                let region = random_resized_crop(w, h, &mut Stream::new(7, u64::from(w), index));
                assert!(
                    region.width >= 1 && region.height >= 1,
                    "{region:?} in {w} × {h}"
                );
                assert!(
                    region.left + region.width <= w && region.top + region.height <= h,
                    "{region:?} in {w} × {h}"
                );
            }
        }
    }

    #[test]
    fn area_and_ratio_are_within_their_limits() {
        for (w, h) in [(500, 375), (375, 500), (1000, 1000)] {
            let (mut first, mut last) = (false, false);
            for index in 0..4000 {
                let b = random_resized_crop(w, h, &mut Stream::new(3, 0, index));
                let fraction = f64::from(b.width * b.height) / f64::from(w * h);
                let ratio = f64::from(b.width) / f64::from(b.height);
                // The tolerance allows for rounding both sides by half a pixel.
                assert!(
                    (0.078..=1.0).contains(&fraction) && (0.74..=1.35).contains(&ratio),
                    "{b:?}"
                );
                first |= b.left == 0;
                last |= b.left + b.width == w;
            }
            assert!(first && last, "no box touches the left or the right edge");
        }
    }

    #[test]
    fn fallback_is_the_largest_centered_box() {
        assert_eq!(
            largest_centered(3000, 200),
            Region {
                top: 0,
                left: 1366,
                height: 200,
                width: 267
            }
        );
        assert_eq!(
            largest_centered(30, 200),
            Region {
                top: 80,
                left: 0,
                height: 40,
                width: 30
            }
        );
        assert_eq!(
            largest_centered(20, 20),
            Region {
                top: 0,
                left: 0,
                height: 20,
                width: 20
            }
        );
        assert_eq!(
            random_resized_crop(3000, 200, &mut Stream::new(0, 0, 0)),
            largest_centered(3000, 200)
        );
    }
}
