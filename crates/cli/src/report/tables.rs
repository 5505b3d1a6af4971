//! Tables of classes, epochs and settings.

use maud::{Markup, html};

use super::scroll::scroll;
use super::{ClassRow, Report, Section, svg, text};
use crate::metrics::{EpochRow, Score};
use crate::ui::text::{loss, percent, percent_range};

/// Most rows in the table of classes.
const MAX_CLASSES: usize = 500;

/// The class with the lowest recall, of the classes with val images. The first wins a tie.
pub fn worst(classes: &[ClassRow]) -> Option<(usize, &ClassRow)> {
    let recall = |class: &ClassRow| class.recall.map(|(recall, _)| recall);
    let classes = classes.iter().enumerate();
    let measured = classes.filter_map(|(index, class)| Some((recall(class)?, index, class)));
    let worst = measured.min_by(|(a, ..), (b, ..)| a.total_cmp(b));
    worst.map(|(_, index, class)| (index, class))
}

/// The classes, lowest recall first and those without val images last.
pub fn classes(report: &Report) -> Markup {
    let mut rows: Vec<(usize, &ClassRow)> = report.classes.iter().enumerate().collect();
    rows.sort_by(|(_, a), (_, b)| {
        let key = |row: &ClassRow| row.recall.map_or(2.0, |(recall, _)| recall);
        key(a).total_cmp(&key(b))
    });
    let train = |index: usize| match &report.data {
        Section::Shown(data) => data.splits[0].classes.get(index).map(|class| class.images),
        Section::Missing(_) => None,
    };
    let optional = |value: Option<f64>| value.map_or_else(|| "–".to_string(), percent);
    html! {
        p { "Lowest recall first. Recall has its 95 % interval." }
        (scroll("Classes", html! {
            table {
                thead { tr {
                    th scope="col" { "Class" }
                    th scope="col" { "Recall" }
                    th.number scope="col" { "Precision" }
                    th.number scope="col" { "F1" }
                    th.number scope="col" { "Correct" }
                    th.number scope="col" { "Val images" }
                    th.number scope="col" { "Train images" }
                } }
                tbody {
                    @for (index, class) in rows.iter().take(MAX_CLASSES) {
                        tr id=(format!("class-{index}")) {
                            th scope="row" { (text::name(&class.name)) }
                            td.recall {
                                @match class.recall {
                                    Some((recall, interval)) => {
                                        (svg::fraction_bar(recall, interval)) " " (percent(recall)) " "
                                        small { (percent_range(interval)) }
                                    }
                                    None => "–",
                                }
                            }
                            td.number { (optional(class.precision)) }
                            td.number { (optional(class.f1)) }
                            td.number { (class.correct) }
                            td.number { (class.images) }
                            td.number { @match train(*index) { Some(images) => (images), None => "–" } }
                        }
                    }
                }
            }
        }))
        @if rows.len() > MAX_CLASSES {
            p { (rows.len() - MAX_CLASSES) " more classes: " code { "waggle evaluate" } " prints all." }
        }
    }
}

/// Loss and accuracy of the last `limit` epochs.
pub fn epochs(rows: &[EpochRow], limit: usize) -> Markup {
    let score = |score: Option<Score>| {
        html! {
            @match score {
                Some(score) => { td.number { (loss(score.loss)) } td.number { (percent(score.accuracy)) } }
                None => { td.number { "–" } td.number { "–" } }
            }
        }
    };
    html! {
        (scroll("Values by epoch", html! {
            table {
                thead { tr {
                    th scope="col" { "Stage" }
                    th.number scope="col" { "Epoch" }
                    th.number scope="col" { "Train loss" }
                    th.number scope="col" { "Train accuracy" }
                    th.number scope="col" { "Val loss" }
                    th.number scope="col" { "Val accuracy" }
                } }
                tbody {
                    @for row in &rows[rows.len().saturating_sub(limit)..] {
                        tr {
                            th scope="row" { (row.stage.as_str()) }
                            td.number { (row.epoch) }
                            (score(row.train))
                            (score(Some(row.val)))
                        }
                    }
                }
            }
        }))
        @if rows.len() > limit { p { "Earlier epochs are in metrics.csv." } }
    }
}

/// Names and values.
pub fn settings(settings: &[(String, String)]) -> Markup {
    html! {
        (scroll("Settings", html! {
            table.settings {
                tbody {
                    @for (name, value) in settings {
                        tr { th scope="row" { (text::name(name)) } td { (text::path(value)) } }
                    }
                }
            }
        }))
    }
}
