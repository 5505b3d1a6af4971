//! The confusion matrix with the images of its cells, and the worst mistakes.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::scroll::scroll;
use super::{Cell, Image, Report, Section, svg, text};
use crate::ui::text::{percent, pluralize};

/// Most classes for a matrix with names and counts. With more, it is drawn without text.
const MAX_NAMED: usize = 30;
/// Most cells in a matrix without text.
const MAX_CELLS: usize = 5_000;
/// Most pairs in the list of confused classes.
const MAX_PAIRS: usize = 40;
/// Largest number of classes for which names of columns are horizontal.
const MAX_HORIZONTAL: usize = 5;

/// The section of the matrix.
pub fn section(report: &Report) -> Markup {
    html! {
        p { "Rows are true classes, columns predicted classes, and colors shares of the row. Follow a number to its images." }
        @if report.classes.len() <= MAX_NAMED { (matrix(report)) } @else { (colors(report)) }
        @for cell in &report.cells { (images(report, cell)) }
    }
}

/// The matrix as a table.
fn matrix(report: &Report) -> Markup {
    let is_upright = report.classes.len() > MAX_HORIZONTAL;
    html! {
        (scroll("Confusion matrix", html! {
            table.matrix {
                thead { tr {
                    td {}
                    @for class in &report.classes {
                        th scope="col" class=[is_upright.then_some("upright")] { (text::name(&class.name)) }
                    }
                } }
                tbody {
                    @for (truth, row) in report.confusion.iter().enumerate() {
                        tr {
                            th scope="row" { (text::name(&report.classes[truth].name)) }
                            @for (predicted, count) in row.iter().enumerate() {
                                (count_cell(report, truth, predicted, *count))
                            }
                        }
                    }
                }
            }
        }))
    }
}

fn count_cell(report: &Report, truth: usize, predicted: usize, count: u64) -> Markup {
    let share = share(report, truth, count);
    html! {
        td class=(svg::shade(share)) {
            @if has_images(report, truth, predicted) {
                a href=(format!("#cell-{truth}-{predicted}")) { (count) }
            } @else {
                (count)
            }
            @if report.classes.len() <= MAX_HORIZONTAL && count > 0 { small { (percent(share)) } }
        }
    }
}

/// The matrix as colors, and the most confused classes.
fn colors(report: &Report) -> Markup {
    let mut cells: Vec<(usize, usize, u64)> = Vec::new();
    for (truth, row) in report.confusion.iter().enumerate() {
        let row = row.iter().enumerate().filter(|(_, count)| **count > 0);
        cells.extend(row.map(|(predicted, count)| (truth, predicted, *count)));
    }
    // The sorts are stable, so equal counts stay in class order.
    cells.sort_by_key(|(_, _, count)| Reverse(*count));
    let drawn = cells.iter().take(MAX_CELLS);
    let drawn: Vec<_> = drawn
        .map(|(truth, predicted, count)| (*truth, *predicted, share(report, *truth, *count)))
        .collect();
    cells.retain(|(truth, predicted, _)| truth != predicted);
    let description = format!(
        "{} of {} pairs of different classes were confused.",
        cells.len(),
        report.classes.len() * (report.classes.len() - 1)
    );
    html! {
        (svg::matrix(report.classes.len(), &drawn, &description))
        @if cells.is_empty() { p { "No class was confused with another." } } @else {
            h3 { "Most confused classes" }
            (scroll("Most confused classes", html! {
                table {
                    thead { tr { th scope="col" { "True class" } th scope="col" { "Predicted class" }
                        th.number scope="col" { "Images" } th.number scope="col" { "Share" } } }
                    tbody {
                        @for (truth, predicted, count) in cells.iter().take(MAX_PAIRS) {
                            tr {
                                th scope="row" { (text::name(&report.classes[*truth].name)) }
                                td { (text::name(&report.classes[*predicted].name)) }
                                td.number {
                                    @if has_images(report, *truth, *predicted) {
                                        a href=(format!("#cell-{truth}-{predicted}")) { (count) }
                                    } @else { (count) }
                                }
                                td.number { (percent(share(report, *truth, *count))) }
                            }
                        }
                    }
                }
            }))
        }
    }
}

/// The images of a cell, hidden until its link is followed.
fn images(report: &Report, cell: &Cell) -> Markup {
    let (truth, predicted) = (&report.classes[cell.truth], &report.classes[cell.predicted]);
    let count = report.confusion[cell.truth][cell.predicted] as usize;
    let shown = cell.images.len();
    html! {
        div.cell id=(format!("cell-{}-{}", cell.truth, cell.predicted)) {
            h3 {
                (pluralize(count, "image")) " of " (text::name(&truth.name)) " predicted as "
                (text::name(&predicted.name))
            }
            a.close href="#confusion" { "Close" }
            ul.images {
                @for image in &cell.images {
                    li { (figure(image, "96", html! { (percent(image.confidence)) br; (text::path(&image.path)) })) }
                }
            }
            @if shown < count { p { (count - shown) " more are in predictions.csv." } }
        }
    }
}

/// The section of the worst mistakes.
pub fn mistakes(report: &Report) -> Markup {
    let shown = report.mistakes.len();
    html! {
        @if report.mistakes.is_empty() { p { "Every val image is classified correctly." } } @else {
            p {
                (pluralize(report.wrong, "val image")) " "
                @if report.wrong == 1 { "is" } @else { "are" } " wrong. The highest loss comes first. In heat maps, bright colors are regions that speak for the predicted class."
            }
            ol.mistakes {
                @for mistake in &report.mistakes {
                    @let image = &mistake.image;
                    li {
                        (figure(image, "144", html! {}))
                        @if let Some(heat_map) = &mistake.heat_map {
                            img src=(heat_map) width="144" height="144" alt=(format!("Heat map for {}",
                                text::plain(&report.classes[image.predicted].name)));
                        }
                        div {
                            dl {
                                dt { "True" }
                                dd { (text::name(&report.classes[image.truth].name)) " " small { (percent(image.of_truth)) } }
                                dt { "Predicted" }
                                dd { (text::name(&report.classes[image.predicted].name)) " " small { (percent(image.confidence)) } }
                            }
                            (text::path(&image.path))
                        }
                    }
                }
            }
            @if shown < report.wrong { p { (report.wrong - shown) " more are in predictions.csv." } }
        }
    }
}

/// The section of suspected label errors.
pub fn labels(report: &Report) -> Markup {
    let labels = match &report.labels {
        Section::Shown(labels) => labels,
        Section::Missing(reason) => return html! { p { (text::sentence(reason)) } },
    };
    html! {
        p {
            @if labels.suspected == 0 { "No label is suspected. These have the lowest probability: " } @else {
                (pluralize(labels.suspected, "label")) " of train "
                @if labels.suspected == 1 { "is" } @else { "are" } " suspected. The most doubtful come first: "
            }
            "percentages are probabilities of the label, by classifiers that were not trained on the image."
        }
        ol.mistakes {
            @for image in &labels.images {
                li {
                    (thumbnail_or_note(image.thumbnail.as_deref(), &image.path, "144"))
                    div {
                        dl {
                            dt { "Label" }
                            dd { (text::name(&image.label)) " " small { (percent(image.self_confidence)) } }
                            dt { "Suggested" }
                            dd { (text::name(&image.suggested)) }
                        }
                        (text::path(&image.path))
                    }
                }
            }
        }
    }
}

/// An image with its caption, or only the caption if the image cannot be shown.
fn figure(image: &Image, side: &str, caption: Markup) -> Markup {
    html! {
        (thumbnail_or_note(image.thumbnail.as_deref(), &image.path, side))
        (caption)
    }
}

fn thumbnail_or_note(thumbnail: Option<&str>, path: &str, side: &str) -> Markup {
    html! {
        @match thumbnail {
            Some(thumbnail) => img src=(thumbnail) width=(side) height=(side) alt=(text::plain(path));,
            None => span.absent { "no image" },
        }
    }
}

fn has_images(report: &Report, truth: usize, predicted: usize) -> bool {
    let cells = report
        .cells
        .binary_search_by_key(&(truth, predicted), |cell| (cell.truth, cell.predicted));
    cells.is_ok()
}

fn share(report: &Report, truth: usize, count: u64) -> f64 {
    count as f64 / report.classes[truth].images.max(1) as f64
}
