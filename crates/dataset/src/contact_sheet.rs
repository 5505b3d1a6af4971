//! Several pictures in one: what the network sees, for a person to look at.
//!
//! [`make_grid`] is torchvision's (`torchvision/utils.py`); [`titled`] adds a line of text above each picture.

mod text;

use image::{GenericImage, Rgb, RgbImage};

use crate::error::{Error, Result};

/// The layout of [`make_grid`], with torchvision's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Pictures in a row: `nrow` in torchvision.
    pub per_row: usize,
    /// Pixels around and between the pictures.
    pub padding: u32,
    /// The colour of the padding and of empty places.
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

/// Lays out pictures of one size in rows, as `torchvision.utils.make_grid` does, to the pixel.
///
/// A single picture is returned as it is, without padding.
///
/// # Errors
///
/// No pictures, pictures of different sizes, or rows of no pictures.
pub fn make_grid(pictures: &[RgbImage], grid: &Grid) -> Result<RgbImage> {
    let (width, height) = common_size(pictures)?;
    if let [single] = pictures {
        return Ok(single.clone());
    }
    let columns = grid.per_row.min(pictures.len());
    if columns == 0 {
        return Err(layout(pictures, "a row must have at least one picture"));
    }
    let rows = pictures.len().div_ceil(columns);
    let (cell_width, cell_height) = (width + grid.padding, height + grid.padding);
    let extent = |cell: u32, count: usize| {
        let pixels = u32::try_from(count)
            .ok()
            .and_then(|count| cell.checked_mul(count));
        pixels.and_then(|pixels| pixels.checked_add(grid.padding))
    };
    let (Some(sheet_width), Some(sheet_height)) =
        (extent(cell_width, columns), extent(cell_height, rows))
    else {
        return Err(layout(pictures, "the sheet would be too large"));
    };
    let mut sheet = RgbImage::from_pixel(sheet_width, sheet_height, grid.background);
    for (place, picture) in pictures.iter().enumerate() {
        let left = grid.padding + (place % columns) as u32 * cell_width;
        let top = grid.padding + (place / columns) as u32 * cell_height;
        sheet
            .copy_from(picture, left, top)
            .expect("the sheet was made for all cells");
    }
    Ok(sheet)
}

/// A white sheet with a title above each picture; titles that are too long are shortened.
///
/// # Errors
///
/// Those of [`make_grid`], and another number of titles than of pictures.
pub fn titled(pictures: &[RgbImage], titles: &[&str], per_row: usize) -> Result<RgbImage> {
    let (width, height) = common_size(pictures)?;
    if titles.len() != pictures.len() {
        return Err(layout(
            pictures,
            &format!("there are {} titles", titles.len()),
        ));
    }
    let white = Rgb([255; 3]);
    let line = text::Line::for_width(width);
    let cells: Vec<RgbImage> = pictures
        .iter()
        .zip(titles)
        .map(|(picture, title)| {
            let mut cell = RgbImage::from_pixel(width, height + line.height(), white);
            line.draw(&mut cell, title);
            cell.copy_from(picture, 0, line.height())
                .expect("the cell was made for the picture");
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

fn common_size(pictures: &[RgbImage]) -> Result<(u32, u32)> {
    let first = pictures
        .first()
        .ok_or_else(|| layout(pictures, "there are none"))?;
    match pictures
        .iter()
        .find(|picture| picture.dimensions() != first.dimensions())
    {
        None => Ok(first.dimensions()),
        Some(other) => {
            let ((w, h), (v, g)) = (first.dimensions(), other.dimensions());
            Err(layout(
                pictures,
                &format!("their sizes differ: {w} × {h} and {v} × {g}"),
            ))
        }
    }
}

fn layout(pictures: &[RgbImage], reason: &str) -> Error {
    Error::Layout {
        pictures: pictures.len(),
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
    fn rows_are_filled_from_the_left_and_padded_all_around() {
        let pictures = [plain(10), plain(20), plain(30)];
        let sheet = make_grid(
            &pictures,
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
    fn fewer_pictures_than_a_row_make_a_narrow_sheet_and_one_is_left_alone() {
        assert_eq!(
            make_grid(&[plain(1), plain(2)], &Grid::default())
                .unwrap()
                .dimensions(),
            (12, 6)
        );
        assert_eq!(make_grid(&[plain(1)], &Grid::default()).unwrap(), plain(1));
    }

    #[test]
    fn what_cannot_be_laid_out_is_an_error() {
        let message =
            |pictures: &[RgbImage], grid| make_grid(pictures, &grid).unwrap_err().to_string();
        assert!(message(&[], Grid::default()).contains("there are none"));
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
            padding: u32::MAX / 2,
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

    #[test]
    fn titles_are_drawn_above_the_pictures_and_leave_them_alone() {
        let picture = RgbImage::from_fn(120, 40, |x, y| Rgb([x as u8, y as u8, 0]));
        let sheet = titled(&[picture.clone(), picture.clone()], &["ants", ""], 2).unwrap();
        let dark = |left: u32, title_rows: u32| {
            let pixels = (left..left + 120).flat_map(|x| (0..title_rows).map(move |y| (x, y)));
            pixels
                .filter(|&(x, y)| sheet.get_pixel(x, y).0[0] < 128)
                .count()
        };
        let title_rows = sheet.height() - 40 - 8;
        assert!(dark(8, title_rows) > 20, "the first has a title");
        assert_eq!(
            dark(8 + 120 + 8, title_rows),
            0,
            "the second has an empty one"
        );
        for (x, y, pixel) in picture.enumerate_pixels() {
            assert_eq!(sheet.get_pixel(8 + x, title_rows + y), pixel);
        }
    }

    #[test]
    fn a_long_title_stays_above_its_own_picture() {
        let picture = RgbImage::from_pixel(64, 8, Rgb([255; 3]));
        let long = "a class with a very long name that cannot fit";
        let sheet = titled(&[picture.clone(), picture], &[long, ""], 2).unwrap();
        let dark = |x: u32| (0..sheet.height()).any(|y| sheet.get_pixel(x, y).0[0] < 200);
        assert!(
            (0..8).chain(72..sheet.width()).all(|x| !dark(x)),
            "it does not run over"
        );
        assert!((8..72).any(dark));
    }
}
