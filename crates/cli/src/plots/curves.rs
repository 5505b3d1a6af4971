//! `curves.png`: loss and accuracy of train and val over the epochs of all stages.

use anyhow::ensure;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Canvas, FAINT, FONT, GRAY, INK, plot_error, px, smooth_png};
use crate::config::StageName;
use crate::metrics::{EpochRow, Score};
use crate::ui::text::percent;

const TRAIN: RGBColor = RGBColor(222, 120, 20);
const VAL: RGBColor = RGBColor(31, 105, 180);

/// Draws the loss and accuracy panels as a PNG. The stages share one axis: the epochs of the second
/// stage follow those of the first, after a dashed line.
///
/// # Errors
///
/// Returns an error if `rows` is empty, or if drawing fails.
pub fn draw(rows: &[EpochRow]) -> anyhow::Result<Vec<u8>> {
    ensure!(!rows.is_empty(), "there is no epoch to plot");
    smooth_png(1400, 560, |canvas| {
        let (left, right) = canvas.split_horizontally(px(700));
        let loss = Panel {
            title: "Loss".to_string(),
            legend: SeriesLabelPosition::UpperRight,
            best: None,
            label: |loss| format!("{loss:.2}"),
        };
        draw_panel(&left, rows, loss, |score| score.loss)?;
        let best = best(rows);
        let title = best.map_or_else(
            || "Accuracy".to_string(),
            |(_, accuracy)| format!("Accuracy (best val {})", percent(accuracy)),
        );
        let accuracy = Panel {
            title,
            legend: SeriesLabelPosition::LowerRight,
            best,
            // The axis may extend above 100 % to leave space for the names of the stages. No label
            // is drawn there.
            label: |accuracy| match accuracy {
                1.001.. => String::new(),
                _ => percent(accuracy),
            },
        };
        draw_panel(&right, rows, accuracy, |score| score.accuracy)
    })
}

struct Panel {
    title: String,
    legend: SeriesLabelPosition,
    /// The point to mark with a ring: the epoch whose weights the run keeps.
    best: Option<(f64, f64)>,
    /// Formats a value for the labels of the vertical axis.
    label: fn(f64) -> String,
}

fn draw_panel(
    canvas: &Canvas<'_>,
    rows: &[EpochRow],
    panel: Panel,
    value: impl Fn(&Score) -> f64,
) -> anyhow::Result<()> {
    let (low, high) = span(rows, &value);
    let last = rows.len() as f64;

    let mut chart = ChartBuilder::on(canvas)
        .margin(px(16))
        .margin_right(px(24))
        .caption(panel.title, (FONT, px(26)).into_font().color(&INK))
        .x_label_area_size(px(48))
        .y_label_area_size(px(72))
        .build_cartesian_2d(0.5..last + 0.5, low..high)
        .map_err(plot_error)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT.stroke_width(px(1)))
        .light_line_style(TRANSPARENT)
        .axis_style(GRAY.stroke_width(px(1)))
        .x_labels(rows.len().min(12))
        .y_labels(8)
        .x_label_formatter(&|x| {
            if x.fract() == 0.0 {
                format!("{x:.0}")
            } else {
                String::new()
            }
        })
        .y_label_formatter(&|y| (panel.label)(*y))
        .label_style((FONT, px(17)).into_font().color(&INK))
        .axis_desc_style((FONT, px(18)).into_font().color(&INK))
        .x_desc("epoch")
        .draw()
        .map_err(plot_error)?;

    let stage_style = |anchor| {
        (FONT, px(16))
            .into_font()
            .color(&GRAY)
            .pos(Pos::new(anchor, VPos::Top))
    };
    for (at, stage) in stages(rows) {
        if at > 0.5 {
            let line = [(at, low), (at, high)];
            chart
                .draw_series(DashedLineSeries::new(
                    line,
                    px(5),
                    px(4),
                    GRAY.stroke_width(px(1)),
                ))
                .map_err(plot_error)?;
        }
        let place = (at + 0.01 * last, high - 0.01 * (high - low));
        chart
            .draw_series([Text::new(stage.as_str(), place, stage_style(HPos::Left))])
            .map_err(plot_error)?;
    }

    // Draw a separate line for each stage: the second stage starts from the best weights of the
    // first, which need not be its last.
    for (name, color, score_of) in [
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
                .filter_map(|(x, row)| score_of(row).map(|score| (x, value(&score))))
                .filter(|(_, y)| y.is_finite())
                .collect();
            let line = chart
                .draw_series(LineSeries::new(
                    points.iter().copied(),
                    color.stroke_width(px(2)),
                ))
                .map_err(plot_error)?;
            if std::mem::take(&mut first) {
                line.label(name).legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + px(24) as i32, y)], color.stroke_width(px(3)))
                });
            }
            chart
                .draw_series(
                    points
                        .iter()
                        .map(|&point| Circle::new(point, px(3), color.filled())),
                )
                .map_err(plot_error)?;
        }
    }

    if let Some(best) = panel.best {
        chart
            .draw_series([Circle::new(best, px(7), VAL.stroke_width(px(2)))])
            .map_err(plot_error)?;
    }
    chart
        .configure_series_labels()
        .position(panel.legend)
        .margin(px(14))
        .legend_area_size(px(32))
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT.stroke_width(px(1)))
        .label_font((FONT, px(18)).into_font().color(&INK))
        .draw()
        .map_err(plot_error)
}

/// The rows with their positions on the epoch axis, counted from 1 over all stages.
fn numbered(rows: &[EpochRow]) -> impl DoubleEndedIterator<Item = (f64, &EpochRow)> {
    rows.iter()
        .enumerate()
        .map(|(index, row)| ((index + 1) as f64, row))
}

/// The point of the epoch whose weights are kept: the first with the highest accuracy in the last
/// stage.
fn best(rows: &[EpochRow]) -> Option<(f64, f64)> {
    let last = rows.last()?.stage;
    numbered(rows)
        .filter(|(_, row)| row.stage == last)
        .map(|(x, row)| (x, row.val.accuracy))
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// The name of each stage and its start on the axis, half an epoch before its first epoch.
fn stages(rows: &[EpochRow]) -> Vec<(f64, StageName)> {
    let mut stages: Vec<(f64, StageName)> = Vec::new();
    for (x, row) in numbered(rows) {
        if stages.last().is_none_or(|(_, name)| *name != row.stage) {
            stages.push((x - 0.5, row.stage));
        }
    }
    stages
}

/// The range of the vertical axis: that of the values plus a margin, which is larger at the top for
/// the stage names.
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
    fn both_colors_are_drawn_from_the_first_epoch_on() {
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
            let image = image::load_from_memory(&png).unwrap().to_rgb8();
            assert_eq!(image.dimensions(), (1400, 560));
            let has = |color: RGBColor| {
                image
                    .pixels()
                    .any(|pixel| pixel.0 == [color.0, color.1, color.2])
            };
            assert!(has(VAL), "{count} epochs");
            // The baseline has no train value, but the legend shows the train color.
            assert!(has(TRAIN), "{count} epochs");
        }
    }

    #[test]
    fn a_constant_or_non_finite_curve_has_a_range() {
        let (low, high) = span(&[row(StageName::Transfer, 1, 0.5)], |score| score.loss);
        assert!(low < 0.5 && high > 0.5);
        assert_eq!(
            span(&[row(StageName::Transfer, 1, f64::NAN)], |score| score.loss),
            (0.0, 1.0)
        );
        assert!(draw(&[]).is_err());
    }

    #[test]
    fn the_best_epoch_is_the_first_maximum_of_the_last_stage() {
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
    fn the_second_stage_starts_where_the_first_ends() {
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
