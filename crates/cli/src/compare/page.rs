//! The comparison as a page.

use maud::{Markup, html};

use super::Comparison;
use crate::metrics::Score;
use crate::report::page::{series, shell};
use crate::report::scroll::scroll;
use crate::report::svg::Chart;
use crate::report::text;
use crate::ui::text::pluralize;

impl Comparison {
    /// The page: results, curves, tests and settings.
    pub fn page(&self) -> String {
        let title = format!("Comparison of {}", pluralize(self.runs.len(), "run"));
        let content = html! {
            header { h1 { (title) } }
            main {
                section { h2 { "Results" } (table(&self.results(), 1)) }
                section {
                    h2 { "Curves" }
                    p { "Epochs of all stages, on val." }
                    div.plots {
                        (self.chart("loss", "Loss", |score| score.loss).draw())
                        (self.chart("accuracy", "Accuracy", |score| score.accuracy).draw())
                    }
                }
                section {
                    h2 { "McNemar's test" }
                    p {
                        "Val images that only one of two runs classifies correctly. A small p-value means that the \
                         difference in accuracy is unlikely to be chance."
                    }
                    @if self.has_tests() { (table(&self.test_table(), 2)) }
                    @for (_, _, test) in &self.tests {
                        @if let Err(reason) = test { p { "No test: " (text::sentence(reason)) "." } }
                    }
                }
                section {
                    h2 { "Settings that differ" }
                    @if self.settings.is_empty() { p { "None." } } @else { (self.settings_table()) }
                }
            }
        };
        shell(&title, content)
    }

    fn settings_table(&self) -> Markup {
        html! {
            (scroll("Settings that differ", html! {
                table {
                    thead { tr {
                        th scope="col" { "Setting" }
                        @for name in self.names() { th scope="col" { (text::path(name)) } }
                    } }
                    tbody {
                        @for (name, values) in &self.settings {
                            tr {
                                th scope="row" { (text::name(name)) }
                                @for value in values { td { (text::path(value.as_deref().unwrap_or("–"))) } }
                            }
                        }
                    }
                }
            }))
        }
    }

    fn chart<'a>(&self, id: &'a str, title: &'a str, value: fn(&Score) -> f64) -> Chart<'a> {
        let series = self
            .runs
            .iter()
            .map(|run| series(&run.name, &run.rows, |row| Some(value(&row.val))));
        let names: Vec<_> = self.names().collect();
        Chart {
            id,
            title,
            description: format!(
                "{title} on val by epoch of {}. The table of results has the best epochs.",
                names.join(", ")
            ),
            series: series.collect(),
            stages: Vec::new(),
            is_fraction: id == "accuracy",
        }
    }
}

/// A table with a heading row. The first `names` columns are names, the others numbers.
fn table(rows: &[Vec<String>], names: usize) -> Markup {
    let class = |column: usize| (column >= names).then_some("number");
    html! {
        div.scroll {
            table {
                thead { tr {
                    @for (column, cell) in rows[0].iter().enumerate() { th class=[class(column)] scope="col" { (cell) } }
                } }
                tbody {
                    @for row in &rows[1..] {
                        tr { @for (column, cell) in row.iter().enumerate() { td class=[class(column)] {
                            @if column < names { (text::path(cell)) } @else { (cell) }
                        } } }
                    }
                }
            }
        }
    }
}
