//! Collects the data of the report from a run.

use std::path::Path;

use anyhow::Context;
use candle_core::Device;
use dataset::{DecodeOptions, InspectOptions, Sample, path_text};
use insight::{
    CALIBRATION_BINS, ClassificationReport, Scores, expected_calibration_error, reliability_bins,
    wilson_interval,
};
use trainer::Evaluation;
use vgg::{Metadata, Vgg};

use super::heat_maps::HeatMaps;
use super::images::{choose_cells, show_cells, show_labels, show_mistakes};
use super::svg::Bin;
use super::thumbnails::Budget;
use super::{ClassRow, Figure, Image, Labels, MAX_BYTES, Report, Section};
use crate::bad_images;
use crate::config::Config;
use crate::data_source::Source;
use crate::label_issues::{self, LabelIssues};
use crate::metrics::EpochRow;
use crate::model_file;
use crate::scores::scores;
use crate::shell::quote;
use crate::ui::text::{loss, percent, percent_range, pluralize};

/// Bytes for images. The other parts of the page have limits that add up to less than the rest.
const IMAGE_BYTES: usize = MAX_BYTES - 1_800_000;
/// Largest number of images that are searched for duplicates. The comparisons grow with its square.
const MAX_INSPECTED: usize = 20_000;

/// What a report is made from.
pub struct Sources<'a> {
    /// The run directory.
    pub run: &'a Path,
    /// Configuration of the run.
    pub config: &'a Config,
    /// Rows of `metrics.csv`.
    pub rows: Vec<EpochRow>,
    /// Path of the data set.
    pub root: &'a Path,
    /// Images of val, without those that were skipped.
    pub val: &'a [Sample],
    /// Result of the final evaluation on `val`.
    pub evaluation: &'a Evaluation,
    /// The network with the weights of the model, without trainable weights.
    pub network: &'a Vgg,
    /// Device of the network.
    pub device: &'a Device,
    /// Normalization of the images, and the temperature that calibrates the probabilities.
    pub metadata: &'a Metadata,
    /// Decoder settings.
    pub decode: DecodeOptions,
    /// Number of threads that decode images.
    pub workers: usize,
}

impl Report {
    /// Collects the report of a run. Reads the images of the data set; those that cannot be read are
    /// left out.
    ///
    /// # Errors
    ///
    /// Returns an error if the evaluation does not fit the classes and images, or if a logit is not
    /// finite.
    pub fn collect(sources: Sources<'_>) -> anyhow::Result<Self> {
        let Sources {
            run,
            config,
            rows,
            root,
            val,
            evaluation,
            network,
            device,
            metadata,
            decode,
            workers,
        } = sources;
        let (names, temperature) = (&config.data.classes, metadata.temperature);
        let scores = scores(evaluation, names.len())?;
        let before = expected_calibration_error(&scores, CALIBRATION_BINS);
        let scores = scores.with_temperature(temperature);
        let mut images = Vec::new();
        for (prediction, log) in evaluation
            .predictions
            .iter()
            .zip(scores.log_probabilities())
        {
            let sample = val.get(prediction.sample);
            let sample = sample.context("the evaluation has more images than val")?;
            let (truth, predicted) = (prediction.target as usize, prediction.prediction as usize);
            images.push((
                sample.path.as_path(),
                Image {
                    path: path_text::relative(root, &sample.path),
                    truth,
                    predicted,
                    confidence: log[predicted].exp(),
                    of_truth: log[truth].exp(),
                    thumbnail: None,
                },
            ));
        }
        let confusion = evaluation.confusion.rows().to_vec();
        let metrics = ClassificationReport::new(&confusion);
        let calibration = match temperature {
            1.0 => "not calibrated".to_string(),
            _ => format!(
                "{} before calibration with temperature {temperature:.3}",
                percent(before)
            ),
        };
        let headline = headline(evaluation, &metrics, &scores, &calibration);
        // The highest loss first. The sort is stable.
        images.sort_by(|(_, a), (_, b)| a.of_truth.total_cmp(&b.of_truth));
        let mut budget = Budget(IMAGE_BYTES);
        let wrong: Vec<_> = images
            .iter()
            .filter(|(_, i)| i.truth != i.predicted)
            .collect();
        let heat_maps = HeatMaps::new(network, device, metadata, &decode);
        let mistakes = show_mistakes(&wrong, &heat_maps, &decode, &mut budget);
        let wrong = wrong.len();
        let chosen = choose_cells(&images);
        let cells = show_cells(chosen, config.network.input_size, &decode, &mut budget);
        // `labels` and `data` use the same inspection.
        let is_inspected = config.data.train_images <= MAX_INSPECTED;
        let inspected = is_inspected.then(|| inspect(root, &decode, workers));
        let known = inspected.as_ref().and_then(|report| report.as_ref().ok());
        let issues =
            is_inspected.then(|| judge_labels(run, config, root, known, device, &decode, workers));
        let labels = labels(run, config, root, issues, &decode, &mut budget);
        let title = run.canonicalize().unwrap_or_else(|_| run.to_path_buf());
        let title = title.file_name().unwrap_or(run.as_os_str());
        Ok(Self {
            title: path_text::encode(title.as_ref()),
            notice: None,
            classes: classes(names, &metrics),
            data: data(config, root, inspected),
            labels,
            config: config.clone(),
            rows,
            headline,
            confusion,
            cells,
            reliability: bins(&scores),
            mistakes,
            wrong,
        })
    }
}

fn headline(
    evaluation: &Evaluation,
    metrics: &ClassificationReport,
    scores: &Scores,
    calibration: &str,
) -> Vec<Figure> {
    let measured = metrics.per_class.iter().filter(|class| class.support > 0);
    vec![
        Figure {
            name: "Accuracy",
            value: percent(metrics.accuracy),
            note: format!(
                "95 % interval: {}; {} of {} val images",
                percent_range(metrics.accuracy_interval),
                metrics.correct,
                metrics.samples
            ),
        },
        Figure {
            name: "Balanced accuracy",
            value: percent(metrics.balanced_accuracy),
            note: format!(
                "mean recall of {}; F1 {}, precision {}",
                pluralize(measured.count(), "class"),
                percent(metrics.macro_average.f1),
                percent(metrics.macro_average.precision)
            ),
        },
        Figure {
            name: "Loss",
            value: loss(evaluation.loss()),
            note: "mean cross-entropy per val image in nats, without calibration".to_string(),
        },
        Figure {
            name: "Calibration error",
            value: percent(expected_calibration_error(scores, CALIBRATION_BINS)),
            note: format!("mean gap between confidence and accuracy; {calibration}"),
        },
    ]
}

fn classes(names: &[String], metrics: &ClassificationReport) -> Vec<ClassRow> {
    let rows = names.iter().zip(&metrics.per_class);
    rows.map(|(name, class)| {
        let (has_images, has_predictions) = (class.support > 0, class.predicted > 0);
        ClassRow {
            name: name.clone(),
            images: class.support,
            correct: class.correct,
            recall: has_images.then_some((class.recall, class.recall_interval)),
            precision: has_predictions.then_some(class.precision),
            f1: (has_images && has_predictions).then_some(class.f1),
        }
    })
    .collect()
}

/// The bins of the reliability diagram.
fn bins(scores: &Scores) -> Vec<Bin> {
    let bins = reliability_bins(scores, CALIBRATION_BINS).into_iter();
    bins.map(|bin| Bin {
        images: bin.count,
        confidence: bin.confidence,
        accuracy: bin.accuracy,
        interval: wilson_interval((bin.accuracy * bin.count as f64).round() as u64, bin.count),
    })
    .collect()
}

/// Judges the labels of train, with the inspection of the data set if it succeeded.
fn judge_labels(
    run: &Path,
    config: &Config,
    root: &Path,
    inspected: Option<&dataset::Report>,
    device: &Device,
    decode: &DecodeOptions,
    workers: usize,
) -> anyhow::Result<LabelIssues> {
    let mut folder = Source::from_name(&config.data.source, root).open_at(root.to_path_buf())?;
    let skipped = bad_images::recorded(&folder.train, root, config.data.skipped.clone());
    bad_images::leave_out(&mut folder.train, &skipped)?;
    let precision = config.machine.precision.parse();
    let settings = label_issues::Settings {
        device: device.clone(),
        precision: precision.map_err(anyhow::Error::msg)?,
        batch_size: config.training.batch_size,
        workers,
        decode: decode.clone(),
        seed: config.training.seed,
    };
    let model = run.join(model_file::FILE);
    label_issues::find(&model, &folder, inspected, &settings, &|_, _, _| {})
}

/// The section of suspected labels. `issues` is `None` if train has too many images.
fn labels(
    run: &Path,
    config: &Config,
    root: &Path,
    issues: Option<anyhow::Result<LabelIssues>>,
    decode: &DecodeOptions,
    budget: &mut Budget,
) -> Section<Labels> {
    let command = format!("`waggle labels {}`", quote(run));
    match issues {
        None => Section::Missing(format!(
            "train has more than {MAX_INSPECTED} images, so its labels were not judged. {command} lists those that \
             are probably wrong."
        )),
        Some(Ok(issues)) => Section::Shown(show_labels(issues, root, config, decode, budget)),
        Some(Err(error)) => Section::Missing(format!(
            "The labels could not be judged: {error}. See {command}."
        )),
    }
}

/// Searches the data set for problems.
fn inspect(
    root: &Path,
    decode: &DecodeOptions,
    workers: usize,
) -> Result<dataset::Report, dataset::Error> {
    let options = InspectOptions::default()
        .workers(workers)
        .decode(decode.clone());
    dataset::inspect(root, &options, &|_, _| {})
}

/// The section of the data set. `inspected` is `None` if train alone has too many images.
fn data(
    config: &Config,
    root: &Path,
    inspected: Option<Result<dataset::Report, dataset::Error>>,
) -> Section<dataset::Report> {
    let images = config.data.train_images + config.data.val_images;
    match inspected.filter(|_| images <= MAX_INSPECTED) {
        None => Section::Missing(format!(
            "The data set has more than {MAX_INSPECTED} images, so it was not searched for problems. Run \
             `waggle check {}`.",
            quote(root)
        )),
        Some(Ok(mut report)) => {
            report.ignored.retain(|file| file.path != sample::STAMP);
            Section::Shown(report)
        }
        Some(Err(error)) => Section::Missing(format!("The data set cannot be read: {error}.")),
    }
}
