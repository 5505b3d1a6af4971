//! SVG plots: curves over epochs and the reliability diagram.
//!
//! The colors come from the style sheet, so that plots follow the color scheme of the page. Series
//! also differ in dashes and markers. Text is text, and each plot has a title and a description for
//! screen readers.

use maud::{Markup, html};

use super::text;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = HEIGHT - 46.0;
/// Number of series styles in the style sheet. Further series repeat them.
const STYLES: usize = 8;
/// Longest line in points. Longer lines are thinned, so that a million epochs fit in a page.
const MAX_POINTS: usize = 600;
/// Longest line with a marker at each point.
const MAX_MARKERS: usize = 40;

/// A named set of lines with one style.
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// The lines. The stages of a run are not connected.
    pub lines: Vec<Vec<(f64, f64)>>,
}

/// A plot of series over epochs.
pub struct Chart<'a> {
    /// Prefix of the element ids; unique in the page.
    pub id: &'a str,
    /// Heading.
    pub title: &'a str,
    /// What the plot shows, for screen readers.
    pub description: String,
    /// The series, of which the first is drawn last and on top.
    pub series: Vec<Series>,
    /// Epochs at which a stage begins, with the name of the stage.
    pub stages: Vec<(f64, String)>,
    /// Whether the values are fractions, shown as percentages.
    pub is_fraction: bool,
}

impl Chart<'_> {
    /// Draws the plot with its legend.
    pub fn draw(&self) -> Markup {
        let points = || {
            self.series
                .iter()
                .flat_map(|series| &series.lines)
                .flatten()
        };
        let last = points().map(|(x, _)| *x).fold(1.0, f64::max);
        let (low, high) = range(points().map(|(_, y)| *y), self.is_fraction);
        let frame = Frame {
            x: (0.5, last + 0.5),
            y: (low, high),
        };
        let y_ticks = ticks(low, high, 6);
        let step = y_ticks.get(1).map_or(1.0, |second| second - y_ticks[0]);
        let x_ticks = ticks(1.0, last, 6).into_iter();
        let x_ticks = x_ticks.filter(|tick| tick.fract() == 0.0 && *tick >= 1.0);
        html! {
            figure.plot {
                figcaption { (self.title) }
                (open(self.id, self.title, &self.description, HEIGHT, html! {
                    @for tick in &y_ticks {
                        (horizontal(&frame, *tick))
                        (label(LEFT - 8.0, frame.y(*tick) + 5.0, "end", &value(*tick, step, self.is_fraction)))
                    }
                    @for tick in x_ticks {
                        (label(frame.x(tick), BOTTOM + 20.0, "middle", &format!("{tick:.0}")))
                    }
                    (label((LEFT + RIGHT) / 2.0, HEIGHT - 6.0, "middle", "epoch"))
                    @for (start, name) in &self.stages {
                        @if *start > 1.0 {
                            line.boundary x1=(n(frame.x(start - 0.5))) x2=(n(frame.x(start - 0.5))) y1=(n(TOP)) y2=(n(BOTTOM)) {}
                        }
                        (label(frame.x(start - 0.5) + 5.0, TOP + 8.0, "start", name))
                    }
                    @for (index, series) in self.series.iter().enumerate().rev() {
                        g class=(style(index)) {
                            @for line in &series.lines {
                                @let line = thin(line);
                                path.line d=(path(&frame, &line)) {}
                                @if line.len() <= MAX_MARKERS {
                                    @for (x, y) in line { (marker(index, frame.x(x), frame.y(y))) }
                                }
                            }
                        }
                    }
                }))
                (legend(self.series.iter().map(|series| series.name.as_str())))
            }
        }
    }
}

/// The names of the series, each with its line and marker.
fn legend<'a>(names: impl Iterator<Item = &'a str>) -> Markup {
    html! {
        ul.legend {
            @for (index, name) in names.enumerate() {
                li {
                    svg viewBox="0 0 34 14" width="34" height="14" aria-hidden="true" {
                        g class=(style(index)) {
                            path.line d="M1 7H33" {}
                            (marker(index, 17.0, 7.0))
                        }
                    }
                    bdi { (text::plain(name)) }
                }
            }
        }
    }
}

/// The samples of a bin of the reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Number of images.
    pub images: u64,
    /// Mean probability of the predicted class.
    pub confidence: f64,
    /// Fraction of correct predictions.
    pub accuracy: f64,
    /// 95 % interval of the accuracy.
    pub interval: [f64; 2],
}

/// Draws accuracy over confidence for bins of equal width in [0, 1], above a histogram.
pub fn reliability(bins: &[Bin], description: &str) -> Markup {
    let frame = Frame {
        x: (0.0, 1.0),
        y: (0.0, 1.0),
    };
    let width = (RIGHT - LEFT) / bins.len().max(1) as f64;
    let most = bins.iter().map(|bin| bin.images).max().unwrap_or(0).max(1) as f64;
    let (top, bottom) = (HEIGHT - 8.0, HEIGHT + 52.0);
    let percents = [0.0, 0.25, 0.5, 0.75, 1.0];
    html! {
        figure.plot {
            figcaption { "Accuracy by confidence" }
            (open("reliability", "Reliability diagram", description, bottom + 40.0, html! {
                @for tick in percents {
                    (horizontal(&frame, tick))
                    (label(LEFT - 8.0, frame.y(tick) + 5.0, "end", &value(tick, 0.25, true)))
                    @let anchor = if tick < 1.0 { "middle" } else { "end" };
                    (label(frame.x(tick), bottom + 18.0, anchor, &value(tick, 0.25, true)))
                }
                @for (index, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.images > 0) {
                    @let left = LEFT + width * index as f64;
                    g class=(style(0)) {
                        rect.bar x=(n(left + 1.0)) y=(n(frame.y(bin.accuracy))) width=(n(width - 2.0)) height=(n(BOTTOM - frame.y(bin.accuracy))) {}
                        (whisker(left + width / 2.0, frame.y(bin.interval[0]), frame.y(bin.interval[1])))
                        @let height = (bottom - top) * bin.images as f64 / most;
                        rect.bar x=(n(left + 1.0)) y=(n(bottom - height)) width=(n(width - 2.0)) height=(n(height)) {}
                    }
                }
                path.boundary d=(path(&frame, &[(0.0, 0.0), (1.0, 1.0)])) {}
                line.axis x1=(n(LEFT)) x2=(n(RIGHT)) y1=(n(bottom)) y2=(n(bottom)) {}
                (label(LEFT, top - 8.0, "start", "images"))
                (label(LEFT - 8.0, top + 5.0, "end", &format!("{most:.0}")))
                (label((LEFT + RIGHT) / 2.0, bottom + 36.0, "middle", "confidence"))
            }))
        }
    }
}

/// Draws a fraction as a bar with its interval, for a cell of a table that also has the number.
pub fn fraction_bar(fraction: f64, [low, high]: [f64; 2]) -> Markup {
    let x = |fraction: f64| n(1.0 + 118.0 * fraction);
    html! {
        svg.fraction viewBox="0 0 120 16" width="120" height="16" aria-hidden="true" {
            g class=(style(0)) {
                rect.track x="1" y="4" width="118" height="8" {}
                rect.bar x="1" y="4" width=(n(118.0 * fraction)) height="8" {}
                path.whisker d=(format!("M{0} 8H{1}M{0} 4V12M{1} 4V12", x(low), x(high))) {}
            }
        }
    }
}

/// Draws a confusion matrix as colors. `cells` are the true class, the predicted class and the share
/// of the row, of the cells that are not empty.
pub fn matrix(classes: usize, cells: &[(usize, usize, f64)], description: &str) -> Markup {
    html! {
        figure.plot {
            svg.matrix viewBox=(format!("0 0 {classes} {classes}")) role="img" aria-labelledby="matrix-title matrix-desc" {
                title #matrix-title { "Confusion matrix" }
                desc #matrix-desc { (description) }
                rect.track width=(classes) height=(classes) {}
                @for (truth, predicted, share) in cells {
                    rect class=(shade(*share)) x=(predicted) y=(truth) width="1" height="1" {}
                }
            }
            figcaption { "Rows: true classes, columns: predicted classes, in alphabetical order." }
        }
    }
}

/// The class of the color for a share of 0 to 1, in steps of a tenth. Only an empty cell is `s0`.
pub fn shade(share: f64) -> String {
    let level = (10.0 * share).round().clamp(0.0, 10.0) as u8;
    format!("s{}", if share > 0.0 { level.max(1) } else { 0 })
}

struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn x(&self, x: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (x - self.x.0) / (self.x.1 - self.x.0)
    }

    fn y(&self, y: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (y - self.y.0) / (self.y.1 - self.y.0)
    }
}

fn open(id: &str, title: &str, description: &str, height: f64, content: Markup) -> Markup {
    let (title_id, description_id) = (format!("{id}-title"), format!("{id}-desc"));
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-labelledby=(format!("{title_id} {description_id}")) {
            title id=(title_id) { (title) }
            desc id=(description_id) { (text::plain(description)) }
            (content)
        }
    }
}

fn label(x: f64, y: f64, anchor: &str, label: &str) -> Markup {
    html! { text x=(n(x)) y=(n(y)) text-anchor=(anchor) { (text::plain(label)) } }
}

fn horizontal(frame: &Frame, y: f64) -> Markup {
    let y = n(frame.y(y));
    html! { line.grid x1=(n(LEFT)) x2=(n(RIGHT)) y1=(y) y2=(y) {} }
}

fn whisker(x: f64, low: f64, high: f64) -> Markup {
    let (left, right) = (n(x - 3.0), n(x + 3.0));
    let (x, low, high) = (n(x), n(low), n(high));
    html! { path.whisker d=(format!("M{x} {low}V{high}M{left} {low}H{right}M{left} {high}H{right}")) {} }
}

/// The marker of a series: circle, square, diamond or triangle.
fn marker(index: usize, x: f64, y: f64) -> Markup {
    let d = match index % 4 {
        0 => return html! { circle.marker cx=(n(x)) cy=(n(y)) r="3.2" {} },
        1 => format!("M{} {}h6v6h-6z", n(x - 3.0), n(y - 3.0)),
        2 => format!("M{} {}l4 4l-4 4l-4-4z", n(x), n(y - 4.0)),
        _ => format!("M{} {}l4 7h-8z", n(x), n(y - 4.0)),
    };
    html! { path.marker d=(d) {} }
}

fn path(frame: &Frame, points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (x, y) in points {
        path.push(if path.is_empty() { 'M' } else { 'L' });
        path.push_str(&format!("{} {}", n(frame.x(*x)), n(frame.y(*y))));
    }
    path
}

fn style(index: usize) -> String {
    format!("c{}", index % STYLES)
}

/// Every k-th point, so that at most [`MAX_POINTS`] and the last remain, without values that are not
/// finite.
fn thin(line: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = line.len().div_ceil(MAX_POINTS).max(1);
    let last = line.len().saturating_sub(1);
    let points = line.iter().enumerate();
    points
        .filter(|(index, (_, y))| (index % step == 0 || *index == last) && y.is_finite())
        .map(|(_, point)| *point)
        .collect()
}

/// The range of an axis: that of the finite values, with a margin that leaves space for the names of
/// the stages at the top.
fn range(values: impl Iterator<Item = f64>, is_fraction: bool) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let margin = (0.06 * (high - low)).max(1e-3);
    let low = (low - margin).max(0.0);
    let top = high + 2.5 * margin;
    match is_fraction {
        // Space above 100 %, but no tick: see `ticks`.
        true => (low, top.min(1.0 + 2.5 * margin)),
        false => (low, top),
    }
}

/// Round numbers from `low` to `high`, about `count` of them: multiples of 1, 2 or 5 times a power of
/// ten.
fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    if high <= low {
        return vec![low];
    }
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|index| index as f64 * step).collect()
}

/// A value of an axis whose ticks are `step` apart. Empty for a fraction above 1.
fn value(value: f64, step: f64, is_fraction: bool) -> String {
    let (value, step) = match is_fraction {
        true if value > 1.0 + 1e-9 => return String::new(),
        true => (100.0 * value, 100.0 * step),
        false => (value, step),
    };
    let digits = (-(step + 1e-12).log10().floor()).clamp(0.0, 6.0) as usize;
    let unit = if is_fraction { " %" } else { "" };
    format!("{value:.digits$}{unit}")
}

/// A coordinate with at most one decimal.
fn n(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_in_the_range() {
        assert_eq!(ticks(1.0, 25.0, 6), [5.0, 10.0, 15.0, 20.0, 25.0]);
        assert_eq!(ticks(0.0, 1.0, 5).len(), 6);
        assert_eq!(ticks(1.0, 1.0, 6), [1.0]);
        let labels = |low, high, is_fraction| -> Vec<String> {
            let ticks = ticks(low, high, 5);
            let step = ticks[1] - ticks[0];
            ticks
                .iter()
                .map(|tick| value(*tick, step, is_fraction))
                .collect()
        };
        assert_eq!(
            labels(0.93, 1.02, true),
            ["94 %", "96 %", "98 %", "100 %", ""]
        );
        assert_eq!(labels(0.41, 1.33, false), ["0.6", "0.8", "1.0", "1.2"]);
    }

    #[test]
    fn a_plot_of_no_or_non_finite_values_is_drawn() {
        for values in [
            vec![],
            vec![(1.0, f64::NAN)],
            vec![(1.0, 0.5)],
            vec![(1.0, f64::INFINITY), (2.0, 3.0)],
        ] {
            let series = Series {
                name: "val".to_string(),
                lines: vec![values],
            };
            let chart = Chart {
                id: "loss",
                title: "Loss",
                description: String::new(),
                series: vec![series],
                stages: Vec::new(),
                is_fraction: false,
            };
            let svg = chart.draw().into_string();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_last_point() {
        let line: Vec<(f64, f64)> = (0..1_000_000).map(|x| (f64::from(x), 0.5)).collect();
        let thinned = thin(&line);
        assert!(thinned.len() <= MAX_POINTS + 1);
        assert_eq!(thinned.last(), line.last());
    }

    #[test]
    fn only_an_empty_cell_has_no_color() {
        assert_eq!([0.0, 1e-9, 0.5, 1.0].map(shade), ["s0", "s1", "s5", "s10"]);
    }
}
