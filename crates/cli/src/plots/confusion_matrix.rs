//! `confusion_matrix.png`: a row for each true class, a column for each predicted class.

use anyhow::ensure;
use dataset::contact_sheet::text::{Line, blend, shorten};
use image::{Rgb, RgbImage, imageops};

use super::encode_png;
use crate::ui::text::percent;

/// Maximum number of classes for which names and counts are drawn. With more, they would be too
/// small to read, so only colors are drawn.
const MAX_NAMED_CLASSES: usize = 40;
/// Maximum width of class names in pixels. Longer names are shortened.
const MAX_NAME_WIDTH: f32 = 180.0;
/// Smallest cell size, in pixels, with room for a percentage below the count and for a horizontal
/// column name.
const LARGE_CELL: u32 = 90;
/// Space around names, in pixels.
const GAP: u32 = 10;
/// Minimum width, in pixels, of the area to the right of the row labels, so that the title fits.
const MIN_WIDTH: u32 = 340;

const INK: Rgb<u8> = Rgb([38; 3]);
const GRAY: Rgb<u8> = Rgb([110; 3]);
const FAINT: Rgb<u8> = Rgb([225; 3]);
const WHITE: Rgb<u8> = Rgb([255; 3]);

/// The labels of the matrix, and its position and cell size in pixels.
struct Layout {
    left: u32,
    top: u32,
    cell: u32,
    /// Row labels: class names with image counts. No labels if there are more than
    /// [`MAX_NAMED_CLASSES`] classes.
    rows: Vec<Line>,
    /// Column labels: class names. Empty if `rows` is empty.
    columns: Vec<Line>,
}

impl Layout {
    fn new(classes: &[String], confusion: &[Vec<u64>]) -> Self {
        let cell = (720 / classes.len() as u32).clamp(4, 180);
        let size = (cell as f32 * 0.4).clamp(11.0, 20.0);
        let is_large = cell >= LARGE_CELL;
        let (mut rows, mut columns) = (Vec::new(), Vec::new());
        if classes.len() <= MAX_NAMED_CLASSES {
            let column_width = if is_large {
                cell as f32 - 8.0
            } else {
                MAX_NAME_WIDTH
            };
            for (name, row) in classes.iter().zip(confusion) {
                let name = shorten(name, size, MAX_NAME_WIDTH);
                let images: u64 = row.iter().sum();
                rows.push(Line::new(&format!("{name} ({images})"), size));
                columns.push(Line::new(&shorten(&name, size, column_width), size));
            }
        }
        let widest = |lines: &[Line]| {
            let widths = lines.iter().map(|line| line.width().ceil() as u32);
            widths.max().map_or(0, |width| width + GAP)
        };
        let name_height = match columns.first() {
            Some(line) if is_large => line.height() + GAP / 2,
            _ => widest(&columns),
        };
        Self {
            left: 56 + widest(&rows),
            top: 92 + name_height,
            cell,
            rows,
            columns,
        }
    }
}

/// Draws the confusion matrix as a PNG. The color of a cell shows its share of the row. With up to
/// `MAX_NAMED_CLASSES` classes, cells also show the count, and large cells the share in percent.
///
/// `confusion[true][predicted]` counts images, in the order of `classes`.
///
/// # Errors
///
/// Returns an error if there are no classes, if the matrix is not `classes × classes`, or if the
/// PNG cannot be encoded.
pub fn draw(classes: &[String], confusion: &[Vec<u64>]) -> anyhow::Result<Vec<u8>> {
    let n = classes.len();
    ensure!(
        n > 0 && confusion.len() == n && confusion.iter().all(|row| row.len() == n),
        "a confusion matrix of {n} classes needs {n} rows of {n}"
    );
    let layout = Layout::new(classes, confusion);
    let side = layout.cell * n as u32;
    let (width, height) = (
        layout.left + side.max(MIN_WIDTH) + 40,
        layout.top + side + 40,
    );
    let mut image = RgbImage::from_pixel(width, height, WHITE);
    draw_titles(&mut image, &layout, confusion, side);
    for (truth, row) in confusion.iter().enumerate() {
        for predicted in 0..row.len() {
            draw_cell(&mut image, &layout, row, truth, predicted);
        }
    }
    draw_names(&mut image, &layout);
    encode_png(&image)
}

fn draw_titles(image: &mut RgbImage, layout: &Layout, confusion: &[Vec<u64>], side: u32) {
    let total: u64 = confusion.iter().flatten().sum();
    let diagonal = confusion.iter().enumerate().map(|(class, row)| row[class]);
    let correct: u64 = diagonal.sum();
    let accuracy = percent(correct as f64 / total.max(1) as f64);
    let title = Line::new(&format!("{correct} of {total} correct ({accuracy})"), 26.0);
    let middle = layout.left + side.max(MIN_WIDTH) / 2;
    centered(image, &title, middle, 34, INK);
    centered(
        image,
        &Line::new("predicted class", 19.0),
        layout.left + side / 2,
        70,
        GRAY,
    );
    let truth = imageops::rotate270(&Line::new("true class", 19.0).mask());
    let top = i64::from(layout.top + side / 2) - i64::from(truth.height() / 2);
    blend(image, &truth, 14, top, GRAY);
}

fn draw_cell(image: &mut RgbImage, layout: &Layout, row: &[u64], truth: usize, predicted: usize) {
    let count = row[predicted];
    let share = count as f64 / row.iter().sum::<u64>().max(1) as f64;
    let cell = layout.cell;
    let left = layout.left + cell * predicted as u32;
    let top = layout.top + cell * truth as u32;
    let has_border = !layout.rows.is_empty();
    for y in 0..cell {
        for x in 0..cell {
            let is_border = has_border && (x == 0 || y == 0 || x == cell - 1 || y == cell - 1);
            let color = if is_border { FAINT } else { shade(share) };
            image.put_pixel(left + x, top + y, color);
        }
    }
    if !has_border {
        return;
    }
    let color = match count {
        0 => GRAY,
        _ if share > 0.5 => WHITE,
        _ => INK,
    };
    let (x, y) = (left + cell / 2, top + cell / 2);
    if cell < LARGE_CELL {
        let size = (cell as f32 * 0.4).clamp(9.0, 26.0);
        centered(image, &Line::new(&count.to_string(), size), x, y, color);
    } else {
        centered(
            image,
            &Line::new(&count.to_string(), 34.0),
            x,
            y - 12,
            color,
        );
        centered(image, &Line::new(&percent(share), 18.0), x, y + 24, color);
    }
}

fn draw_names(image: &mut RgbImage, layout: &Layout) {
    let cell = layout.cell;
    for (class, (row, column)) in layout.rows.iter().zip(&layout.columns).enumerate() {
        let middle = cell * class as u32 + cell / 2;
        let left = layout.left as f32 - GAP as f32 - row.width();
        let top = i64::from(layout.top + middle) - i64::from(row.height() / 2);
        row.draw(image, left as i64, top, INK);
        if cell >= LARGE_CELL {
            let y = layout.top - GAP / 2 - column.height() / 2;
            centered(image, column, layout.left + middle, y, INK);
        } else {
            // The column is too narrow for a horizontal name, so the name runs upward.
            let name = imageops::rotate270(&column.mask());
            let left = i64::from(layout.left + middle) - i64::from(name.width() / 2);
            let top = i64::from(layout.top) - i64::from(GAP / 2 + name.height());
            blend(image, &name, left, top, INK);
        }
    }
}

/// Draws a line of text with its center at `(x, y)`.
fn centered(image: &mut RgbImage, line: &Line, x: u32, y: u32, color: Rgb<u8>) {
    let left = x as f32 - line.width() / 2.0;
    let top = i64::from(y) - i64::from(line.height() / 2);
    line.draw(image, left.round() as i64, top, color);
}

/// The color of a cell, from almost white at a share of 0 to dark blue at 1.
fn shade(share: f64) -> Rgb<u8> {
    let mix = |from: f64, to: f64| (from + (to - from) * share).round() as u8;
    Rgb([mix(250.0, 24.0), mix(251.0, 92.0), mix(253.0, 166.0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_cell_is_as_dark_as_its_share_of_the_row() {
        let classes = names(&["ants", "bees"]);
        let confusion = [vec![60, 20], vec![0, 0]];
        let png = draw(&classes, &confusion).unwrap();
        let image = image::load_from_memory(&png).unwrap().to_rgb8();
        let layout = Layout::new(&classes, &confusion);
        let at = |truth: u32, predicted: u32| {
            let x = layout.left + layout.cell * predicted + 10;
            let y = layout.top + layout.cell * truth + 10;
            *image.get_pixel(x, y)
        };
        assert_eq!(at(0, 0), shade(0.75));
        assert_eq!(at(0, 1), shade(0.25));
        assert_eq!(at(1, 0), shade(0.0), "the class has no images");
    }

    #[test]
    fn any_number_of_classes_can_be_drawn() {
        for n in [1, 3, 12, 40, 41, 300] {
            let classes: Vec<String> = (0..n)
                .map(|class| format!("a rather long class name {class}"))
                .collect();
            let mut confusion = vec![vec![0; n]; n];
            confusion
                .iter_mut()
                .enumerate()
                .for_each(|(class, row)| row[class] = 7);
            assert!(draw(&classes, &confusion).is_ok(), "{n}");
        }
    }

    #[test]
    fn a_matrix_without_classes_or_of_another_size_is_an_error() {
        assert!(draw(&[], &[]).is_err());
        assert!(draw(&names(&["a", "b"]), &[vec![1, 2]]).is_err());
    }
}
