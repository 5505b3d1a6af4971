//! Arranges images in a grid, for inspecting the network's input.
//!
//! [`make_grid`] is a port of `make_grid` in `torchvision/utils.py`. With the feature `titles`,
//! `titled` adds a line of text above each image.

#[cfg(feature = "titles")]
pub mod text;
#[cfg(feature = "titles")]
mod titles;

use image::{GenericImage, Rgb, RgbImage};

use crate::error::{Error, Result};
#[cfg(feature = "titles")]
pub use titles::titled;

/// Layout of the grid drawn by [`make_grid`]. The defaults are torchvision's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grid {
    /// Images per row (`nrow` in torchvision).
    pub per_row: usize,
    /// Pixels around and between the images.
    pub padding: u32,
    /// Color of the padding and of empty cells.
    pub background: Rgb<u8>,
}

impl Default for Grid {
    fn default() -> Self {
        Self {
            per_row: 8,
            padding: 2,
            background: Rgb([0; 3]),
        }
    }
}

impl Grid {
    setters! {
        per_row: usize,
        padding: u32,
        background: Rgb<u8>,
    }
}

/// Lays out images of equal size in rows. The pixels equal those of
/// `torchvision.utils.make_grid`.
///
/// A single image is returned unchanged, without padding.
///
/// # Errors
///
/// Returns an error if there are no images or if their sizes differ. For two or more images, also
/// returns an error if `grid.per_row` is 0, or if the width or height of the grid exceeds
/// `u32::MAX`.
pub fn make_grid(images: &[RgbImage], grid: &Grid) -> Result<RgbImage> {
    let (width, height) = common_size(images)?;
    if let [single] = images {
        return Ok(single.clone());
    }
    let columns = grid.per_row.min(images.len());
    if columns == 0 {
        return Err(grid_error(images, "a row must have at least one image"));
    }
    let rows = images.len().div_ceil(columns);
    let (cell_width, cell_height) = (
        width.saturating_add(grid.padding),
        height.saturating_add(grid.padding),
    );
    let extent = |cell: u32, count: usize| {
        let pixels = u32::try_from(count)
            .ok()
            .and_then(|count| cell.checked_mul(count));
        pixels.and_then(|pixels| pixels.checked_add(grid.padding))
    };
    let (Some(sheet_width), Some(sheet_height)) =
        (extent(cell_width, columns), extent(cell_height, rows))
    else {
        return Err(grid_error(images, "the sheet would be too large"));
    };
    let mut sheet = RgbImage::from_pixel(sheet_width, sheet_height, grid.background);
    for (cell, image) in images.iter().enumerate() {
        let left = grid.padding + (cell % columns) as u32 * cell_width;
        let top = grid.padding + (cell / columns) as u32 * cell_height;
        sheet
            .copy_from(image, left, top)
            .expect("the sheet has room for all cells");
    }
    Ok(sheet)
}

fn common_size(images: &[RgbImage]) -> Result<(u32, u32)> {
    let first = images
        .first()
        .ok_or_else(|| grid_error(images, "a grid needs at least one image"))?;
    match images
        .iter()
        .find(|image| image.dimensions() != first.dimensions())
    {
        None => Ok(first.dimensions()),
        Some(other) => {
            let ((w, h), (v, g)) = (first.dimensions(), other.dimensions());
            Err(grid_error(
                images,
                &format!("their sizes differ: {w} × {h} and {v} × {g}"),
            ))
        }
    }
}

fn grid_error(images: &[RgbImage], reason: &str) -> Error {
    Error::Grid {
        images: images.len(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(level: u8) -> RgbImage {
        RgbImage::from_pixel(3, 2, Rgb([level; 3]))
    }

    #[test]
    fn rows_are_filled_from_the_left_and_padded_on_all_sides() {
        let images = [plain(10), plain(20), plain(30)];
        let sheet = make_grid(
            &images,
            &Grid {
                per_row: 2,
                ..Grid::default()
            },
        )
        .unwrap();
        assert_eq!(sheet.dimensions(), (2 + 3 + 2 + 3 + 2, 2 + 2 + 2 + 2 + 2));
        let level = |x, y| sheet.get_pixel(x, y).0[0];
        assert_eq!(
            [level(2, 2), level(4, 3), level(7, 2), level(2, 6)],
            [10, 10, 20, 30]
        );
        assert_eq!(
            [
                level(1, 2),
                level(5, 2),
                level(6, 3),
                level(7, 6),
                level(11, 9)
            ],
            [0; 5]
        );
    }

    #[test]
    fn a_grid_is_no_wider_than_its_images_and_one_image_is_unchanged() {
        assert_eq!(
            make_grid(&[plain(1), plain(2)], &Grid::default())
                .unwrap()
                .dimensions(),
            (12, 6)
        );
        assert_eq!(make_grid(&[plain(1)], &Grid::default()).unwrap(), plain(1));
    }

    #[test]
    fn an_impossible_layout_is_an_error() {
        let message = |images: &[RgbImage], grid| make_grid(images, &grid).unwrap_err().to_string();
        assert!(message(&[], Grid::default()).contains("a grid needs at least one image"));
        assert!(
            message(&[plain(1), RgbImage::new(2, 2)], Grid::default()).contains("3 × 2 and 2 × 2")
        );
        assert!(
            message(
                &[plain(1), plain(2)],
                Grid {
                    per_row: 0,
                    ..Grid::default()
                }
            )
            .contains("at least one")
        );
        let wide = Grid {
            padding: u32::MAX,
            ..Grid::default()
        };
        assert!(message(&[plain(1), plain(2)], wide).contains("too large"));
        assert!(
            titled(&[plain(1)], &[], 4)
                .unwrap_err()
                .to_string()
                .contains("0 titles")
        );
    }
}
