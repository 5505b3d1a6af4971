//! A grid of images with titles.

use image::{GenericImage, Rgb, RgbImage};

use super::text::{Line, shorten};
use super::{Grid, common_size, grid_error, make_grid};
use crate::error::Result;

/// Lays out images on white with a title above each. Titles that are too long are shortened.
///
/// # Errors
///
/// Returns an error under the conditions of [`make_grid`], or if `titles` and `images` differ in
/// length.
pub fn titled(images: &[RgbImage], titles: &[&str], per_row: usize) -> Result<RgbImage> {
    let (width, height) = common_size(images)?;
    if titles.len() != images.len() {
        return Err(grid_error(
            images,
            &format!("there are {} titles", titles.len()),
        ));
    }
    let white = Rgb([255; 3]);
    let size = (width as f32 / 10.0).clamp(12.0, 28.0);
    let title_height = Line::new("", size).height();
    let cells: Vec<RgbImage> = images
        .iter()
        .zip(titles)
        .map(|(image, title)| {
            let mut cell = RgbImage::from_pixel(width, height + title_height, white);
            let line = Line::new(&shorten(title, size, width as f32), size);
            let left = ((width as f32 - line.width()) / 2.0).round().max(0.0);
            line.draw(&mut cell, left as i64, 0, Rgb([0; 3]));
            cell.copy_from(image, 0, title_height)
                .expect("the cell has room for the title and the image");
            cell
        })
        .collect();
    let grid = Grid {
        per_row,
        padding: 8,
        background: white,
    };
    make_grid(&cells, &grid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_drawn_above_the_images() {
        let image = RgbImage::from_fn(120, 40, |x, y| Rgb([x as u8, y as u8, 0]));
        let sheet = titled(&[image.clone(), image.clone()], &["ants", ""], 2).unwrap();
        let dark = |left: u32, title_rows: u32| {
            let pixels = (left..left + 120).flat_map(|x| (0..title_rows).map(move |y| (x, y)));
            pixels
                .filter(|&(x, y)| sheet.get_pixel(x, y).0[0] < 128)
                .count()
        };
        let title_rows = sheet.height() - 40 - 8;
        assert!(dark(8, title_rows) > 20, "the first title was not drawn");
        assert_eq!(
            dark(8 + 120 + 8, title_rows),
            0,
            "the empty title was drawn"
        );
        for (x, y, pixel) in image.enumerate_pixels() {
            assert_eq!(sheet.get_pixel(8 + x, title_rows + y), pixel);
        }
    }

    #[test]
    fn a_long_title_does_not_overlap_the_next_image() {
        let image = RgbImage::from_pixel(64, 8, Rgb([255; 3]));
        let long = "a class with a very long name that cannot fit";
        let sheet = titled(&[image.clone(), image], &[long, ""], 2).unwrap();
        let dark = |x: u32| (0..sheet.height()).any(|y| sheet.get_pixel(x, y).0[0] < 200);
        assert!(
            (0..8).chain(72..sheet.width()).all(|x| !dark(x)),
            "the title overlaps the next image"
        );
        assert!((8..72).any(dark));
    }
}
