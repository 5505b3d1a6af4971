//! The result of an evaluation.

use dataset::image_folder::KindCount;
use insight::{
    Average, CALIBRATION_BINS, ClassMetrics, ClassificationReport, OneVsRest, ReliabilityBin,
    Scores, macro_mean,
};
use serde::Serialize;

use crate::config::Skipped;

/// Number of classes above which the top-5 accuracy is reported.
const TOP_5_ABOVE: usize = 10;

/// The result of an evaluation, as `--json` prints it. [`insight`] defines the metrics.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    pub images: u64,
    pub correct: u64,
    /// Mean cross-entropy loss in nats, without the temperature, as in training.
    pub loss: f64,
    /// Temperature of the model. The metrics of probabilities are calibrated with it.
    pub temperature: f64,
    /// Mean loss in nats of the calibrated probabilities.
    pub log_loss: f64,
    pub accuracy: f64,
    pub accuracy_interval: [f64; 2],
    /// `None` with at most [`TOP_5_ABOVE`] classes.
    pub top5_accuracy: Option<f64>,
    pub balanced_accuracy: f64,
    pub matthews_correlation: f64,
    pub macro_average: Average,
    pub weighted_average: Average,
    /// Mean over the classes where it is defined.
    pub roc_auc: Option<f64>,
    /// Mean over the classes where it is defined.
    pub average_precision: Option<f64>,
    pub brier_score: f64,
    pub expected_calibration_error: f64,
    pub classes: &'a [String],
    pub per_class: Vec<ClassReport<'a>>,
    /// Image counts. Rows are the true classes, columns the predicted ones.
    pub confusion: Vec<Vec<u64>>,
    pub reliability: Vec<ReliabilityBin>,
    /// Images that could not be decoded and were left out.
    pub skipped: Vec<Skipped>,
    /// Files of the split that are not used, by kind, without hidden ones.
    pub unused: Vec<KindCount>,
}

/// The metrics of one class.
#[derive(Debug, Serialize)]
pub struct ClassReport<'a> {
    pub class: &'a str,
    #[serde(flatten)]
    pub metrics: ClassMetrics,
    #[serde(flatten)]
    pub one_vs_rest: OneVsRest,
}

impl<'a> Report<'a> {
    /// Computes all metrics of `scores`, whose probabilities are calibrated with `temperature`.
    pub fn new(
        scores: Scores,
        temperature: f64,
        classes: &'a [String],
        skipped: Vec<Skipped>,
        unused: Vec<KindCount>,
    ) -> Self {
        let loss = insight::log_loss(&scores);
        let scores = &scores.with_temperature(temperature);
        let confusion = scores.confusion_matrix();
        let report = ClassificationReport::new(&confusion);
        let one_vs_rest = insight::one_vs_rest(scores);
        let shows_top5 = classes.len() > TOP_5_ABOVE;
        Self {
            images: report.samples,
            correct: report.correct,
            loss,
            temperature,
            log_loss: insight::log_loss(scores),
            accuracy: report.accuracy,
            accuracy_interval: report.accuracy_interval,
            top5_accuracy: shows_top5.then(|| insight::top_k_accuracy(scores, 5)),
            balanced_accuracy: report.balanced_accuracy,
            matthews_correlation: report.matthews_correlation,
            macro_average: report.macro_average,
            weighted_average: report.weighted_average,
            roc_auc: macro_mean(one_vs_rest.iter().map(|class| class.roc_auc)),
            average_precision: macro_mean(one_vs_rest.iter().map(|class| class.average_precision)),
            brier_score: insight::brier_score(scores),
            expected_calibration_error: insight::expected_calibration_error(
                scores,
                CALIBRATION_BINS,
            ),
            classes,
            per_class: classes
                .iter()
                .zip(report.per_class)
                .zip(one_vs_rest)
                .map(|((class, metrics), one_vs_rest)| ClassReport {
                    class,
                    metrics,
                    one_vs_rest,
                })
                .collect(),
            confusion,
            reliability: insight::reliability_bins(scores, CALIBRATION_BINS),
            skipped,
            unused,
        }
    }
}
