//! `curves.png`: loss and accuracy of training and validation over the epochs of both stages.

use anyhow::ensure;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Canvas, FAINT, FONT, GREY, INK, drawing, png};
use crate::config::StageName;
use crate::metrics::{EpochRow, Score};

const TRAIN: RGBColor = RGBColor(222, 120, 20);
const VAL: RGBColor = RGBColor(31, 105, 180);

/// Draws both panels. The epochs of the second stage go on where those of the first end; a line between
/// them marks the change.
///
/// # Errors
///
/// When there is no row, or drawing fails.
pub fn draw(rows: &[EpochRow]) -> anyhow::Result<Vec<u8>> {
    ensure!(!rows.is_empty(), "there is no epoch to draw a curve of");
    png(1400, 560, |canvas| {
        let (left, right) = canvas.split_horizontally(700);
        let loss = Panel {
            title: "Loss".to_string(),
            legend: SeriesLabelPosition::UpperRight,
            ringed: None,
        };
        panel(&left, rows, loss, |score| score.loss)?;
        let best = best(rows);
        let title = best.map_or_else(
            || "Accuracy".to_string(),
            |(_, y)| format!("Accuracy (best val {y:.4})"),
        );
        let accuracy = Panel {
            title,
            legend: SeriesLabelPosition::LowerRight,
            ringed: best,
        };
        panel(&right, rows, accuracy, |score| score.accuracy)
    })
}

struct Panel {
    title: String,
    legend: SeriesLabelPosition,
    /// The point of the epoch whose weights the run keeps.
    ringed: Option<(f64, f64)>,
}

fn panel(
    canvas: &Canvas<'_>,
    rows: &[EpochRow],
    about: Panel,
    value: impl Fn(&Score) -> f64,
) -> anyhow::Result<()> {
    let (low, high) = span(rows, &value);
    let last = rows.len() as f64;

    let mut chart = ChartBuilder::on(canvas)
        .margin(16)
        .margin_right(24)
        .caption(about.title, (FONT, 26).into_font().color(&INK))
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0.5..last + 0.5, low..high)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(GREY)
        .x_labels(rows.len().min(12))
        .y_labels(8)
        .x_label_formatter(&|x| {
            if x.fract() == 0.0 {
                format!("{x:.0}")
            } else {
                String::new()
            }
        })
        .y_label_formatter(&|y| format!("{y:.2}"))
        .label_style((FONT, 17).into_font().color(&INK))
        .axis_desc_style((FONT, 18).into_font().color(&INK))
        .x_desc("epoch")
        .draw()
        .map_err(drawing)?;

    let top = |anchor| {
        (FONT, 16)
            .into_font()
            .color(&GREY)
            .pos(Pos::new(anchor, VPos::Top))
    };
    for (at, stage) in stages(rows) {
        if at > 0.5 {
            let line = [(at, low), (at, high)];
            chart
                .draw_series(DashedLineSeries::new(line, 5, 4, GREY.stroke_width(1)))
                .map_err(drawing)?;
        }
        let place = (at + 0.01 * last, high - 0.01 * (high - low));
        chart
            .draw_series([Text::new(stage.as_str(), place, top(HPos::Left))])
            .map_err(drawing)?;
    }

    // Each stage is a line of its own: the second starts from the best weights of the first, not from the last.
    for (name, colour, of) in [
        (
            "train",
            TRAIN,
            &(|row: &EpochRow| row.train) as &dyn Fn(&EpochRow) -> Option<Score>,
        ),
        ("val", VAL, &|row| Some(row.val)),
    ] {
        let mut first = true;
        for (start, stage) in stages(rows) {
            let points: Vec<(f64, f64)> = numbered(rows)
                .filter(|(x, row)| *x > start && row.stage == stage)
                .filter_map(|(x, row)| of(row).map(|score| (x, value(&score))))
                .filter(|(_, y)| y.is_finite())
                .collect();
            let line = chart
                .draw_series(LineSeries::new(
                    points.iter().copied(),
                    colour.stroke_width(2),
                ))
                .map_err(drawing)?;
            if std::mem::take(&mut first) {
                line.label(name).legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 24, y)], colour.stroke_width(3))
                });
            }
            chart
                .draw_series(
                    points
                        .iter()
                        .map(|&point| Circle::new(point, 3, colour.filled())),
                )
                .map_err(drawing)?;
        }
    }

    if let Some(best) = about.ringed {
        chart
            .draw_series([Circle::new(best, 7, VAL.stroke_width(2))])
            .map_err(drawing)?;
    }
    chart
        .configure_series_labels()
        .position(about.legend)
        .margin(14)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .label_font((FONT, 18).into_font().color(&INK))
        .draw()
        .map_err(drawing)
}

/// Rows with their place on the axis: 1, 2, … over both stages.
fn numbered(rows: &[EpochRow]) -> impl DoubleEndedIterator<Item = (f64, &EpochRow)> {
    rows.iter()
        .enumerate()
        .map(|(at, row)| ((at + 1) as f64, row))
}

/// The epoch whose weights were kept: the first with the highest accuracy in the last stage.
fn best(rows: &[EpochRow]) -> Option<(f64, f64)> {
    let last = rows.last()?.stage;
    numbered(rows)
        .filter(|(_, row)| row.stage == last)
        .map(|(x, row)| (x, row.val.accuracy))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// Where each stage starts on the axis, half an epoch before its first, and its name.
fn stages(rows: &[EpochRow]) -> Vec<(f64, StageName)> {
    let mut stages: Vec<(f64, StageName)> = Vec::new();
    for (x, row) in numbered(rows) {
        if stages.last().is_none_or(|(_, name)| *name != row.stage) {
            stages.push((x - 0.5, row.stage));
        }
    }
    stages
}

/// The values' range with a margin: room at the top for the stage names.
fn span(rows: &[EpochRow], value: impl Fn(&Score) -> f64) -> (f64, f64) {
    let values = rows
        .iter()
        .flat_map(|row| [Some(row.val), row.train])
        .flatten()
        .map(|score| value(&score))
        .filter(|value| value.is_finite());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let room = ((high - low) * 0.1).max(1e-3);
    (low - room, high + 2.5 * room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(stage: StageName, epoch: usize, loss: f64) -> EpochRow {
        let score = Score {
            loss,
            accuracy: 1.0 - loss / 2.0,
        };
        EpochRow {
            stage,
            epoch,
            train: (epoch > 1).then_some(score),
            val: score,
            images_per_second: 1.0,
            seconds: 1.0,
        }
    }

    #[test]
    fn both_colours_appear_and_one_epoch_is_enough() {
        let rows = [
            row(StageName::Transfer, 1, 0.7),
            row(StageName::Transfer, 2, 0.4),
            row(StageName::Transfer, 3, 0.3),
            row(StageName::Finetune, 1, 0.3),
            row(StageName::Finetune, 2, 0.1),
            row(StageName::Finetune, 3, 0.05),
        ];
        for count in 1..=rows.len() {
            let png = draw(&rows[..count]).unwrap();
            let picture = image::load_from_memory(&png).unwrap().to_rgb8();
            assert_eq!(picture.dimensions(), (1400, 560));
            let has = |colour: RGBColor| {
                picture
                    .pixels()
                    .any(|pixel| pixel.0 == [colour.0, colour.1, colour.2])
            };
            assert!(has(VAL), "{count} epochs");
            // The legend shows the train colour also before there is a train value.
            assert!(has(TRAIN), "{count} epochs");
        }
    }

    #[test]
    fn a_constant_or_broken_curve_still_has_a_range() {
        let (low, high) = span(&[row(StageName::Transfer, 1, 0.5)], |score| score.loss);
        assert!(low < 0.5 && high > 0.5);
        assert_eq!(
            span(&[row(StageName::Transfer, 1, f64::NAN)], |score| score.loss),
            (0.0, 1.0)
        );
        assert!(draw(&[]).is_err());
    }

    #[test]
    fn the_first_of_equals_in_the_last_stage_is_the_best() {
        let rows = [
            row(StageName::Transfer, 1, 0.1),
            row(StageName::Finetune, 1, 0.3),
            row(StageName::Finetune, 2, 0.2),
            row(StageName::Finetune, 3, 0.2),
        ];
        assert_eq!(best(&rows), Some((3.0, 0.9)));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn the_second_stage_goes_on_where_the_first_ends() {
        let rows = [
            row(StageName::Transfer, 1, 0.7),
            row(StageName::Transfer, 2, 0.4),
            row(StageName::Finetune, 1, 0.4),
        ];
        assert_eq!(
            stages(&rows),
            [(0.5, StageName::Transfer), (2.5, StageName::Finetune)]
        );
    }
}
