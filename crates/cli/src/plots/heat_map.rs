//! Heat maps: drawn over the image, and as an array for NumPy.

use anyhow::ensure;
use image::imageops::{self, FilterType};
use image::{Luma, Rgb, RgbImage};
use plotters::style::RGBColor;
use plotters::style::colors::colormaps::ViridisRGB;

/// Overlays of smaller images are enlarged to at least this width.
const MIN_WIDTH: u32 = 224;
/// Brightness of the image under the map.
const BRIGHTNESS: f32 = 0.85;
/// Opacity of the map at its maximum.
const OPACITY: f32 = 0.75;
/// The outline encloses values of at least this.
const OUTLINED: f32 = 0.5;

/// Enlarges an image by an integer factor, if it is small, so that a map over it can be seen.
pub fn enlarged(image: &RgbImage) -> RgbImage {
    let (width, height) = image.dimensions();
    let factor = MIN_WIDTH.div_ceil(width.max(1));
    match factor {
        0 | 1 => image.clone(),
        _ => imageops::resize(image, width * factor, height * factor, FilterType::Nearest),
    }
}

/// Draws `map`, which has a value from 0 to 1 for each pixel, over `image`: the image is gray, and the
/// larger a value, the more opaque its color from viridis, whose lightness increases with the value.
/// An outline encloses the pixels of at least half the maximum, so that the overlay can be read
/// without colors.
///
/// # Errors
///
/// Returns an error if the map does not have the size of the image.
pub fn overlay(image: &RgbImage, map: &[f32]) -> anyhow::Result<RgbImage> {
    let (width, height) = image.dimensions();
    let pixels = width as usize * height as usize;
    ensure!(
        map.len() == pixels,
        "the map has another size than the image"
    );
    let gray = imageops::grayscale(image);
    let at = |x: u32, y: u32| map[y as usize * width as usize + x as usize];
    let mut overlay = RgbImage::from_fn(width, height, |x, y| {
        let value = at(x, y);
        let RGBColor(red, green, blue) = ViridisRGB::get_color(value);
        let Luma([light]) = *gray.get_pixel(x, y);
        let alpha = OPACITY * value;
        let blend = |color: u8| {
            let under = BRIGHTNESS * f32::from(light);
            (under + alpha * (f32::from(color) - under)).round() as u8
        };
        Rgb([blend(red), blend(green), blend(blue)])
    });
    let is_inside = |x: u32, y: u32| at(x, y) >= OUTLINED;
    let is_edge = |x: u32, y: u32| {
        let right = x + 1 < width && is_inside(x, y) != is_inside(x + 1, y);
        right || (y + 1 < height && is_inside(x, y) != is_inside(x, y + 1))
    };
    let coordinates = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let edge: Vec<(u32, u32)> = coordinates().filter(|&(x, y)| is_edge(x, y)).collect();
    // White with a black border, to be visible on every color.
    for &(x, y) in &edge {
        let (xs, ys) = (x.saturating_sub(1)..=x + 1, y.saturating_sub(1)..=y + 1);
        for y in ys.filter(|&y| y < height) {
            for x in xs.clone().filter(|&x| x < width) {
                overlay.put_pixel(x, y, Rgb([0; 3]));
            }
        }
    }
    for (x, y) in edge {
        overlay.put_pixel(x, y, Rgb([255; 3]));
    }
    Ok(overlay)
}

/// The contents of a file for `numpy.load`: rows of `width` f32 values, in the npy format 1.0.
pub fn npy(values: &[f32], width: usize) -> Vec<u8> {
    let shape = format!("({}, {width})", values.len() / width);
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    // The magic string, the version and the length of the header take 10 bytes. The values start at
    // a multiple of 64 bytes, after a line break.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{header:<0$}\n", length - 1).bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;

    #[test]
    fn the_map_is_opaque_where_it_is_large_and_outlined_at_half_its_maximum() {
        let image = RgbImage::from_pixel(9, 5, Rgb([100, 200, 50]));
        let values: Vec<f32> = (0..45).map(|pixel| (pixel % 9) as f32 / 8.0).collect();
        let overlay = overlay(&image, &values).unwrap();
        let [red, green, blue] = overlay.get_pixel(0, 2).0;
        assert!(
            red == green && green == blue,
            "the image is gray: {red} {green} {blue}"
        );
        let [red, _, blue] = overlay.get_pixel(8, 2).0;
        assert!(
            red > 200 && blue < 80,
            "the maximum of viridis is yellow: {red} {blue}"
        );
        // 0.5 is in column 4.
        for y in 0..5 {
            assert_eq!(overlay.get_pixel(3, y).0, [255; 3]);
            assert_eq!(overlay.get_pixel(2, y).0, [0; 3]);
            assert_eq!(overlay.get_pixel(4, y).0, [0; 3]);
        }
    }

    #[test]
    fn a_constant_map_has_no_outline() {
        let image = RgbImage::from_pixel(4, 4, Rgb([100; 3]));
        for value in [0.0, 1.0] {
            let overlay = overlay(&image, &[value; 16]).unwrap();
            let first = overlay.get_pixel(0, 0);
            assert!(overlay.pixels().all(|pixel| pixel == first));
        }
        assert!(overlay(&image, &[0.0; 15]).is_err());
    }

    #[test]
    fn small_images_are_enlarged_by_an_integer_factor() {
        for (side, enlarged_side) in [(32, 224), (64, 256), (223, 446), (224, 224), (500, 500)] {
            let image = RgbImage::from_fn(side, side, |x, y| Rgb([x as u8, y as u8, 0]));
            let large = enlarged(&image);
            assert_eq!(large.dimensions(), (enlarged_side, enlarged_side));
            let factor = enlarged_side / side;
            assert_eq!(large.get_pixel(3 * factor, 5 * factor).0, [3, 5, 0]);
        }
    }

    #[test]
    fn arrays_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map.npy");
        for (height, width) in [(1, 1), (3, 2), (224, 224), (4096, 4)] {
            let values: Vec<f32> = (0..height * width).map(|i| i as f32 / 7.0).collect();
            let bytes = npy(&values, width);
            assert_eq!((bytes.len() - 4 * values.len()) % 64, 0);
            std::fs::write(&path, bytes).unwrap();
            let read = Tensor::read_npy(&path).unwrap();
            assert_eq!(read.dims(), [height, width]);
            let read: Vec<f32> = read.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(read, values);
        }
    }
}
