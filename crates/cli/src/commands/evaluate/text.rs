//! The result of an evaluation as text for a terminal.

use std::cmp::Reverse;
use std::iter;
use std::path::Path;

use insight::CALIBRATION_BINS;

use super::class_table::{MAX_NAME_WIDTH, UNDEFINED, class_table};
use super::report::Report;
use crate::classifier::Classifier;
use crate::escape::{printable, printable_path};
use crate::ui::table::{push_table, width};
use crate::ui::text::{percent, percent_range, pluralize, shorten, unused_files};

/// Maximum number of classes for which the confusion matrix is printed. With more classes, or if
/// the matrix is wider than the terminal, the most confused pairs are printed instead.
const MAX_MATRIX_CLASSES: usize = 12;
/// Maximum number of confused pairs to print.
const MAX_CONFUSED_PAIRS: usize = 10;

/// The report as text for a terminal of `columns` columns.
pub fn text(report: &Report<'_>, model: &Classifier, folder: &Path, columns: usize) -> String {
    let config = &model.metadata.config;
    let unused = unused_files(&report.unused);
    let unused = unused.map_or_else(String::new, |unused| format!("; not used: {unused}"));
    let mut text = format!(
        "Model     {} ({}, {} px)\n\
         Data      {}, {}{unused}\n\
         Loss      {:.4}\n\
         Accuracy  {} ({} of {}; 95 % interval: {})\n\n",
        printable_path(&model.path),
        printable(&config.architecture),
        config.input_size,
        printable_path(folder),
        pluralize(report.images as usize, "image"),
        report.loss,
        percent(report.accuracy),
        report.correct,
        report.images,
        percent_range(report.accuracy_interval),
    );
    push_table(&mut text, &summary(report), 1);
    text.push('\n');
    let classes = report.classes.iter();
    let classes: Vec<String> = classes.map(|class| printable(class).into_owned()).collect();
    push_table(&mut text, &class_table(report, &classes, columns), 1);
    let has_matrix = classes.len() <= MAX_MATRIX_CLASSES;
    let matrix = has_matrix.then(|| confusion_matrix(&classes, &report.confusion));
    if let Some(matrix) = matrix.filter(|matrix| width(matrix) <= columns) {
        text.push_str("\nConfusion matrix (rows: true, columns: predicted)\n");
        push_table(&mut text, &matrix, 1);
    } else {
        let pairs = most_confused(&classes, &report.confusion);
        if pairs.len() > 1 {
            text.push_str("\nMost confused classes\n");
            push_table(&mut text, &pairs, 2);
        }
    }
    text
}

/// The metrics of all classes together, apart from loss and accuracy.
fn summary(report: &Report<'_>) -> Vec<[String; 2]> {
    let optional = |value: Option<f64>| value.map_or(UNDEFINED.to_string(), percent);
    let top5 = report.top5_accuracy.map(percent);
    let top5 = top5.map(|value| ["Top-5 accuracy".to_string(), value]);
    let others = [
        ["Balanced accuracy", &percent(report.balanced_accuracy)],
        [
            "Matthews correlation",
            &format!("{:.3}", report.matthews_correlation),
        ],
        ["ROC-AUC, macro", &optional(report.roc_auc)],
        [
            "Average precision, macro",
            &optional(report.average_precision),
        ],
        [
            &format!("Log loss, temperature {:.3}", report.temperature),
            &format!("{:.4}", report.log_loss),
        ],
        [
            "Brier score (0 to 2)",
            &format!("{:.3}", report.brier_score),
        ],
        [
            &format!("Calibration error ({CALIBRATION_BINS} bins)"),
            &percent(report.expected_calibration_error),
        ],
    ];
    let others = others.map(|row| row.map(String::from));
    top5.into_iter().chain(others).collect()
}

/// The confusion matrix with a heading row and column.
fn confusion_matrix(classes: &[String], rows: &[Vec<u64>]) -> Vec<Vec<String>> {
    let names = || classes.iter().map(|class| shorten(class, 12));
    let mut table = vec![iter::once(String::new()).chain(names()).collect::<Vec<_>>()];
    for (name, row) in names().zip(rows) {
        let counts = row.iter().map(u64::to_string);
        table.push(iter::once(name).chain(counts).collect());
    }
    table
}

/// The pairs of true and predicted class with the most errors, below a heading row.
fn most_confused(classes: &[String], rows: &[Vec<u64>]) -> Vec<[String; 4]> {
    let mut pairs = Vec::new();
    for (truth, row) in rows.iter().enumerate() {
        let errors = row.iter().enumerate();
        let errors = errors.filter(|&(predicted, &count)| predicted != truth && count > 0);
        pairs.extend(errors.map(|(predicted, &count)| (truth, predicted, count)));
    }
    // The sort is stable, so pairs with equal counts stay in class order.
    pairs.sort_by_key(|&(_, _, count)| Reverse(count));
    pairs.truncate(MAX_CONFUSED_PAIRS);
    let mut table = vec![["true class", "predicted class", "images", "share"].map(String::from)];
    for (truth, predicted, count) in pairs {
        let images: u64 = rows[truth].iter().sum();
        table.push([
            shorten(&classes[truth], MAX_NAME_WIDTH),
            shorten(&classes[predicted], MAX_NAME_WIDTH),
            count.to_string(),
            percent(count as f64 / images as f64),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn columns_are_aligned_by_display_width() {
        let mut text = String::new();
        let matrix = confusion_matrix(&names(&["蚂蚁", "bees"]), &[vec![60, 4], vec![3, 80]]);
        push_table(&mut text, &matrix, 1);
        assert_eq!(
            text,
            "      蚂蚁  bees\n\
             蚂蚁    60     4\n\
             bees     3    80\n"
        );
    }

    #[test]
    fn the_most_confused_pairs_come_first() {
        let classes = names(&["a", "b", "c"]);
        let rows = [vec![8, 2, 0], vec![1, 9, 0], vec![0, 5, 0]];
        let mut text = String::new();
        push_table(&mut text, &most_confused(&classes, &rows), 2);
        assert_eq!(
            text,
            "true class  predicted class  images    share\n\
             c           b                     5  100.0 %\n\
             a           b                     2   20.0 %\n\
             b           a                     1   10.0 %\n"
        );
    }
}
