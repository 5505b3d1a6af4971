//! `confusion_matrix.png`: rows are the true classes, columns what the network said.

use anyhow::ensure;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Canvas, FAINT, FONT, GREY, INK, drawing, png, shortened};

/// Above this many classes a name would be smaller than a line of text, so only colours are drawn.
const MOST_NAMED: usize = 40;
/// Longer names are cut.
const LONGEST_NAME: usize = 16;
/// From this width on, a column has room for its name and a cell for two lines.
const WIDE_CELL: i32 = 90;

/// Where things are, in pixels.
struct Layout {
    left: i32,
    top: i32,
    cell: i32,
    named: bool,
}

impl Layout {
    fn of(classes: &[String]) -> Self {
        let cell = (720 / classes.len() as i32).clamp(4, 180);
        let named = classes.len() <= MOST_NAMED;
        let longest = classes
            .iter()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0)
            .min(LONGEST_NAME) as i32;
        let left = if named { 120 + 9 * longest } else { 80 };
        let top = match (named, cell >= WIDE_CELL) {
            (true, true) => 130,
            (true, false) => 110 + 8 * longest,
            (false, _) => 96,
        };
        Self {
            left,
            top,
            cell,
            named,
        }
    }
}

/// Draws the matrix: colour is the share of the row, the number is the count.
///
/// `confusion[true][said]` counts pictures, in the order of `classes`.
///
/// # Errors
///
/// When the matrix is not `classes × classes`, or drawing fails.
pub fn draw(classes: &[String], confusion: &[Vec<u64>]) -> anyhow::Result<Vec<u8>> {
    let n = classes.len();
    ensure!(
        n > 0 && confusion.len() == n && confusion.iter().all(|row| row.len() == n),
        "a confusion matrix of {n} classes needs {n} rows of {n}"
    );
    let layout = Layout::of(classes);
    let side = layout.cell * n as i32;
    // At least as wide as the title.
    let (width, height) = (layout.left + side.max(300) + 40, layout.top + side + 40);
    png(width as u32, height as u32, |canvas| {
        titles(canvas, &layout, confusion, side)?;
        for (truth, row) in confusion.iter().enumerate() {
            let pictures: u64 = row.iter().sum();
            for (said, &count) in row.iter().enumerate() {
                let share = if pictures == 0 {
                    0.0
                } else {
                    count as f64 / pictures as f64
                };
                draw_cell(canvas, &layout, (truth, said), count, share)?;
            }
        }
        if layout.named {
            names(canvas, &layout, classes, confusion)
        } else {
            Ok(())
        }
    })
}

fn titles(
    canvas: &Canvas<'_>,
    layout: &Layout,
    confusion: &[Vec<u64>],
    side: i32,
) -> anyhow::Result<()> {
    let all: u64 = confusion.iter().flatten().sum();
    let right: u64 = confusion
        .iter()
        .enumerate()
        .map(|(class, row)| row[class])
        .sum();
    let title = format!(
        "{right} of {all} right ({:.1} %)",
        100.0 * right as f64 / all.max(1) as f64
    );
    let middle = layout.left + side.max(300) / 2;
    let centred = |size: i32, colour: &RGBColor| {
        (FONT, size)
            .into_font()
            .color(colour)
            .pos(Pos::new(HPos::Center, VPos::Top))
    };
    canvas
        .draw(&Text::new(title, (middle, 18), centred(26, &INK)))
        .map_err(drawing)?;
    canvas
        .draw(&Text::new("predicted", (middle, 58), centred(19, &GREY)))
        .map_err(drawing)?;
    let sideways = centred(19, &GREY).transform(FontTransform::Rotate270);
    canvas
        .draw(&Text::new("true", (16, layout.top + side / 2), sideways))
        .map_err(drawing)
}

fn draw_cell(
    canvas: &Canvas<'_>,
    layout: &Layout,
    (truth, said): (usize, usize),
    count: u64,
    share: f64,
) -> anyhow::Result<()> {
    let cell = layout.cell;
    let (x, y) = (
        layout.left + cell * said as i32,
        layout.top + cell * truth as i32,
    );
    let corners = [(x, y), (x + cell, y + cell)];
    canvas
        .draw(&Rectangle::new(corners, shade(share).filled()))
        .map_err(drawing)?;
    if !layout.named {
        return Ok(());
    }
    canvas
        .draw(&Rectangle::new(corners, FAINT.stroke_width(1)))
        .map_err(drawing)?;
    let colour = match count {
        0 => GREY,
        _ if share > 0.5 => WHITE,
        _ => INK,
    };
    let (x, y) = (x + cell / 2, y + cell / 2);
    let text = |text: String, y: i32, size: i32| {
        let style = (FONT, size)
            .into_font()
            .color(&colour)
            .pos(Pos::new(HPos::Center, VPos::Center));
        canvas
            .draw(&Text::new(text, (x, y), style))
            .map_err(drawing)
    };
    if cell < WIDE_CELL {
        return text(count.to_string(), y, (cell * 2 / 5).clamp(9, 26));
    }
    text(count.to_string(), y - 12, 34)?;
    text(format!("{:.1} %", 100.0 * share), y + 24, 18)
}

fn names(
    canvas: &Canvas<'_>,
    layout: &Layout,
    classes: &[String],
    confusion: &[Vec<u64>],
) -> anyhow::Result<()> {
    let cell = layout.cell;
    let size = (cell * 2 / 5).clamp(11, 20);
    for (class, name) in classes.iter().enumerate() {
        let middle = cell * class as i32 + cell / 2;
        let pictures: u64 = confusion[class].iter().sum();
        let name = shortened(name, LONGEST_NAME);
        let left = (FONT, size)
            .into_font()
            .color(&INK)
            .pos(Pos::new(HPos::Right, VPos::Center));
        let row = Text::new(
            format!("{name} ({pictures})"),
            (layout.left - 10, layout.top + middle),
            left,
        );
        canvas.draw(&row).map_err(drawing)?;
        // A column too narrow for its name has it written upwards.
        let above = if cell >= WIDE_CELL {
            (FONT, size)
                .into_font()
                .color(&INK)
                .pos(Pos::new(HPos::Center, VPos::Bottom))
        } else {
            let upwards = (FONT, size.min(15))
                .into_font()
                .color(&INK)
                .transform(FontTransform::Rotate270);
            upwards.pos(Pos::new(HPos::Left, VPos::Center))
        };
        canvas
            .draw(&Text::new(
                name,
                (layout.left + middle, layout.top - 8),
                above,
            ))
            .map_err(drawing)?;
    }
    Ok(())
}

/// White at 0 to a strong blue at 1.
fn shade(share: f64) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * share).round() as u8;
    RGBColor(mix(250.0, 24.0), mix(251.0, 92.0), mix(253.0, 166.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(classes: &[&str], confusion: &[Vec<u64>]) -> image::RgbImage {
        let classes: Vec<String> = classes.iter().map(|name| name.to_string()).collect();
        image::load_from_memory(&draw(&classes, confusion).unwrap())
            .unwrap()
            .to_rgb8()
    }

    #[test]
    fn a_cell_is_as_dark_as_its_share_of_the_row() {
        let picture = picture(&["ants", "bees"], &[vec![60, 20], vec![0, 0]]);
        let layout = Layout::of(&["ants".to_string(), "bees".to_string()]);
        let at = |truth: i32, said: i32| {
            let (x, y) = (
                layout.left + layout.cell * said,
                layout.top + layout.cell * truth,
            );
            let pixel = picture.get_pixel((x + 10) as u32, (y + 10) as u32);
            RGBColor(pixel.0[0], pixel.0[1], pixel.0[2])
        };
        assert_eq!(at(0, 0), shade(0.75));
        assert_eq!(at(0, 1), shade(0.25));
        assert_eq!(
            at(1, 0),
            shade(0.0),
            "a class without pictures is white, not a division by zero"
        );
    }

    #[test]
    fn any_number_of_classes_is_drawn_or_refused() {
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
        assert!(draw(&[], &[]).is_err());
        assert!(draw(&["a".into(), "b".into()], &[vec![1, 2]]).is_err());
    }
}
