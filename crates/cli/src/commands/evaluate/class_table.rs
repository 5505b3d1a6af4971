//! The table of classes, with as many columns as fit the terminal.

use std::iter;

use console::measure_text_width;
use insight::Average;

use super::report::{ClassReport, Report};
use crate::ui::table::width;
use crate::ui::text::{percent, percent_range, shorten};

/// Maximum width in columns of class names. Longer names are shortened.
pub const MAX_NAME_WIDTH: usize = 24;
/// Minimum width to which class names are shortened in a narrow terminal.
const MIN_NAME_WIDTH: usize = 8;
/// Stands for a value that is not defined, such as the recall of a class without images.
pub const UNDEFINED: &str = "-";

/// A column of the table.
struct Column {
    heading: &'static str,
    class: fn(&ClassReport<'_>) -> Option<String>,
    average: fn(&Average) -> Option<f64>,
    /// Columns with a lower rank are left out first if the terminal is narrow.
    rank: u8,
}

/// The largest rank of a column.
const MAX_RANK: u8 = 3;

const COLUMNS: [Column; 8] = [
    Column {
        heading: "images",
        class: |class| Some(class.metrics.support.to_string()),
        average: |_| None,
        rank: MAX_RANK,
    },
    Column {
        heading: "correct",
        class: |class| Some(class.metrics.correct.to_string()),
        average: |_| None,
        rank: 1,
    },
    Column {
        heading: "precision",
        class: |class| defined(class.metrics.precision, class.metrics.predicted),
        average: |average| Some(average.precision),
        rank: MAX_RANK,
    },
    Column {
        heading: "recall",
        class: |class| defined(class.metrics.recall, class.metrics.support),
        average: |average| Some(average.recall),
        rank: MAX_RANK,
    },
    Column {
        heading: "95 % interval",
        class: |class| {
            let interval = percent_range(class.metrics.recall_interval);
            (class.metrics.support > 0).then_some(interval)
        },
        average: |_| None,
        rank: 2,
    },
    Column {
        heading: "F1",
        class: |class| {
            let count = class.metrics.support + class.metrics.predicted;
            defined(class.metrics.f1, count)
        },
        average: |average| Some(average.f1),
        rank: MAX_RANK,
    },
    Column {
        heading: "ROC-AUC",
        class: |class| class.one_vs_rest.roc_auc.map(percent),
        average: |_| None,
        rank: 0,
    },
    Column {
        heading: "avg prec",
        class: |class| class.one_vs_rest.average_precision.map(percent),
        average: |_| None,
        rank: 0,
    },
];

/// A percentage of `count` images, or `None` if there are none.
fn defined(fraction: f64, count: u64) -> Option<String> {
    (count > 0).then(|| percent(fraction))
}

/// A row for each class, with the names `classes`, and for the averages. Leaves out columns, and then
/// shortens names, until the table fits into `columns` columns of the terminal.
pub fn class_table(report: &Report<'_>, classes: &[String], columns: usize) -> Vec<Vec<String>> {
    let mut rank = 0;
    let mut rows = table(report, classes, rank, MAX_NAME_WIDTH);
    while width(&rows) > columns && rank < MAX_RANK {
        rank += 1;
        rows = table(report, classes, rank, MAX_NAME_WIDTH);
    }
    let overflow = width(&rows).saturating_sub(columns);
    if overflow > 0 {
        let names = rows.iter().map(|row| measure_text_width(&row[0]));
        let name_width = names.max().unwrap_or(0).saturating_sub(overflow);
        rows = table(report, classes, rank, name_width.max(MIN_NAME_WIDTH));
    }
    rows
}

/// The table with the columns of at least `rank`, and names of at most `name_width` columns.
fn table(report: &Report<'_>, classes: &[String], rank: u8, name_width: usize) -> Vec<Vec<String>> {
    let columns = || COLUMNS.iter().filter(|column| column.rank >= rank);
    let row = |name: &str, cell: &dyn Fn(&Column) -> String| {
        let name = iter::once(shorten(name, name_width));
        name.chain(columns().map(cell)).collect()
    };
    let mut rows = vec![row("class", &|column| column.heading.to_string())];
    for (name, class) in classes.iter().zip(&report.per_class) {
        let cell = |column: &Column| (column.class)(class).unwrap_or(UNDEFINED.to_string());
        rows.push(row(name, &cell));
    }
    for (name, average) in [
        ("macro average", &report.macro_average),
        ("weighted average", &report.weighted_average),
    ] {
        let cell = |column: &Column| (column.average)(average).map_or(String::new(), percent);
        rows.push(row(name, &cell));
    }
    rows
}

#[cfg(test)]
mod tests {
    use insight::Scores;

    use super::*;
    use crate::ui::table::push_table;

    #[test]
    fn the_table_of_classes_fits_the_terminal() {
        let classes = ["ants", "bees", "a very long name of a class, of 43 columns"];
        let classes = classes.map(String::from);
        let logits = vec![3.0, 0.0, 0.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0];
        let scores = Scores::new(3, logits, vec![0, 1, 1]).unwrap();
        let report = Report::new(scores, 1.0, &classes, Vec::new(), Vec::new());
        let table = |columns: usize| {
            let mut text = String::new();
            push_table(&mut text, &class_table(&report, &classes, columns), 1);
            text
        };
        for columns in [60, 80, 120] {
            let rows = class_table(&report, &classes, columns);
            assert!(width(&rows) <= columns, "{rows:?}");
        }
        assert!(table(120).contains("correct") && table(120).contains("ROC-AUC"));
        assert!(table(80).contains("95 % interval") && !table(80).contains("correct"));
        // The last class has neither images nor predictions.
        assert_eq!(
            table(60),
            "class                     images  precision   recall      F1\n\
             ants                           1     50.0 %  100.0 %  66.7 %\n\
             bees                           2    100.0 %   50.0 %  66.7 %\n\
             a very long name of a c…       0          -        -       -\n\
             macro average                        75.0 %   75.0 %  66.7 %\n\
             weighted average                     83.3 %   66.7 %  66.7 %\n"
        );
        assert!(table(40).contains("a very …"), "{}", table(40));
    }
}
