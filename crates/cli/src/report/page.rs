//! The page: its frame, its order, and the sections of one or two elements.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::settings::{command, settings};
use super::svg::{Chart, Series, reliability};
use super::{Report, Section, confusion, findings, tables, text};
use crate::escape::printable;
use crate::metrics::{EpochRow, Score};
use crate::ui::text::{loss, percent, pluralize};

const STYLE: &str = include_str!("style.css");
/// Most epochs in the table of values below the curves.
const MAX_EPOCHS: usize = 200;

/// A page that may load nothing: its policy allows this style sheet and images in data URIs.
pub fn shell(title: &str, content: Markup) -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'"
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (content) }
        }
    };
    page.into_string()
}

impl Report {
    /// The page, at most [`MAX_BYTES`](super::MAX_BYTES) long.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings cannot be listed.
    pub fn page(&self) -> anyhow::Result<String> {
        let settings = settings(&self.config)?;
        let sections = [
            ("curves", "Training", self.curves()),
            ("confusion", "Confusion matrix", confusion::section(self)),
            ("classes", "Classes", tables::classes(self)),
            ("confidence", "Confidence", self.confidence()),
            ("mistakes", "Worst mistakes", confusion::mistakes(self)),
            ("labels", "Suspected label errors", confusion::labels(self)),
            ("data", "Data", findings::section(self)),
            (
                "settings",
                "Settings",
                html! {
                    p { "This command repeats the run:" }
                    pre { code {
                    @for (index, word) in printable(&command(&self.config)).split(' ').enumerate() {
                        @if index > 0 { " " }
                        span { (word) }
                    }
                } }
                    (tables::settings(&settings))
                },
            ),
        ];
        let config = &self.config;
        let content = html! {
            header {
                h1 { (text::name(&self.title)) }
                p {
                    (text::name(&config.network.architecture)) ", " (config.network.input_size) " px, "
                    (pluralize(self.classes.len(), "class")) ", "
                    (pluralize(config.data.train_images, "train image")) ", "
                    (pluralize(config.data.val_images, "val image"))
                }
                @if let Some(notice) = &self.notice {
                    p { strong { (text::plain(notice)) } }
                }
                nav aria-label="Sections" {
                    @for (id, title, _) in &sections { a href=(format!("#{id}")) { (title) } " " }
                }
            }
            main {
                section aria-label="Summary" { (self.summary()) }
                @for (id, title, content) in &sections {
                    section id=(id) { h2 { (title) } (content) }
                }
            }
        };
        Ok(shell(&text::plain(&self.title), content))
    }

    fn summary(&self) -> Markup {
        html! {
            dl.figures {
                @for figure in &self.headline {
                    div { dt { (figure.name) } dd { strong { (figure.value) } small { (figure.note.replace(" %", "\u{a0}%")) } } }
                }
            }
            ul.answers {
                @if let Some((index, class)) = tables::worst(&self.classes) {
                    li {
                        "Worst class: " a href=(format!("#class-{index}")) { (text::name(&class.name)) } ", "
                        (class.correct) " of " (class.images) " val images are correct."
                    }
                }
                @if let Section::Shown(labels) = &self.labels && let Some(image) = labels.images.first() {
                    li {
                        "Most doubtful label: " a href="#labels" { (text::path(&image.path)) } ", labeled "
                        (text::name(&image.label)) "; the other images suggest " (text::name(&image.suggested)) "."
                    }
                }
                @if let Some(mistake) = self.mistakes.first() {
                    li {
                        "Worst mistake: " a href="#mistakes" { (text::path(&mistake.image.path)) } ", predicted "
                        (text::name(&self.classes[mistake.image.predicted].name)) " with "
                        (percent(mistake.image.confidence)) "."
                    }
                }
            }
        }
    }

    fn curves(&self) -> Markup {
        let seconds = self.rows.iter().map(|row| row.seconds).sum();
        html! {
            p {
                (pluralize(self.rows.len(), "epoch")) " in " (crate::ui::text::duration(seconds))
                ". The first epoch of each stage is a baseline that only validates."
            }
            div.plots {
                (chart("loss", "Loss", &self.rows, |score| score.loss).draw())
                (chart("accuracy", "Accuracy", &self.rows, |score| score.accuracy).draw())
            }
            details {
                summary { "Values by epoch" }
                (tables::epochs(&self.rows, MAX_EPOCHS))
            }
        }
    }

    fn confidence(&self) -> Markup {
        let filled = self.reliability.iter().filter(|bin| bin.images > 0);
        let description = filled.map(|bin| {
            format!(
                "confidence {}: accuracy {}, {}",
                percent(bin.confidence),
                percent(bin.accuracy),
                pluralize(bin.images as usize, "image")
            )
        });
        let description: Vec<_> = description.collect();
        html! {
            p {
                "A bar is the accuracy of the val images whose confidence, the probability of the predicted class, \
                 lies in its range; the line through it is the 95 % interval. Bars below the diagonal are \
                 overconfident, bars above it underconfident."
            }
            div.plots { (reliability(&self.reliability, &description.join("; "))) }
        }
    }
}

/// The train and val curves of a value.
fn chart<'a>(id: &'a str, title: &'a str, rows: &[EpochRow], of: fn(&Score) -> f64) -> Chart<'a> {
    let val = series("val", rows, |row| Some(of(&row.val)));
    let train = series("train", rows, |row| row.train.as_ref().map(of));
    let is_fraction = id == "accuracy";
    let show = |value: f64| match is_fraction {
        true => percent(value),
        false => loss(value),
    };
    let value = |row: &EpochRow| of(&row.val);
    let description = match (rows.first().map(value), rows.last().map(value)) {
        (Some(first), Some(last)) => format!(
            "{title} on val from {} in the first epoch to {} in the last, and on train, over {}.",
            show(first),
            show(last),
            pluralize(rows.len(), "epoch")
        ),
        _ => String::new(),
    };
    Chart {
        id,
        title,
        description,
        series: vec![val, train],
        stages: stages(rows),
        is_fraction,
    }
}

/// A value over all epochs, with a line for each stage.
pub fn series(name: &str, rows: &[EpochRow], value: impl Fn(&EpochRow) -> Option<f64>) -> Series {
    let mut lines: Vec<Vec<(f64, f64)>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if index == 0 || rows[index - 1].stage != row.stage {
            lines.push(Vec::new());
        }
        if let (Some(line), Some(value)) = (lines.last_mut(), value(row)) {
            line.push(((index + 1) as f64, value));
        }
    }
    Series {
        name: name.to_string(),
        lines,
    }
}

/// The epoch at which each stage begins, counted over all stages, and its name.
fn stages(rows: &[EpochRow]) -> Vec<(f64, String)> {
    let starts = |index: &usize| *index == 0 || rows[index - 1].stage != rows[*index].stage;
    let starts = (0..rows.len()).filter(starts);
    starts
        .map(|index| ((index + 1) as f64, rows[index].stage.as_str().to_string()))
        .collect()
}
