//! Collects the data of the report from a run.

use std::path::Path;

use anyhow::Context;
use dataset::{DecodeOptions, InspectOptions, Sample, path_text};
use insight::{Scores, log_softmax};
use trainer::Evaluation;

use super::images::{choose_cells, show_cells, show_mistakes};
use super::svg::Bin;
use super::thumbnails::Budget;
use super::{ClassRow, Figure, Image, MAX_BYTES, Report, Section};
use crate::config::Config;
use crate::metrics::{EpochRow, wilson_interval};
use crate::ui::text::{percent, percent_range};

/// Bytes for images. The other parts of the page have limits that add up to less than the rest.
const IMAGE_BYTES: usize = MAX_BYTES - 1_800_000;
/// Number of bins of the reliability diagram, as in the expected calibration error.
const BINS: usize = 15;
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
            decode,
            workers,
        } = sources;
        let names = &config.data.classes;
        let targets = evaluation.predictions.iter().map(|p| p.target).collect();
        let scores = Scores::new(names.len(), evaluation.logits.clone(), targets)?;
        let mut images = Vec::new();
        for (prediction, logits) in evaluation.predictions.iter().zip(scores.rows()) {
            let sample = val.get(prediction.sample);
            let sample = sample.context("the evaluation has more images than val")?;
            let log = log_softmax(logits, 1.0);
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
        let reliability = bins(images.iter().map(|(_, image)| image));
        let headline = headline(evaluation, &confusion, &reliability);
        // The highest loss first. The sort is stable.
        images.sort_by(|(_, a), (_, b)| a.of_truth.total_cmp(&b.of_truth));
        let mut budget = Budget(IMAGE_BYTES);
        let wrong: Vec<_> = images
            .iter()
            .filter(|(_, i)| i.truth != i.predicted)
            .collect();
        let mistakes = show_mistakes(&wrong, config.network.input_size, &decode, &mut budget);
        let wrong = wrong.len();
        let chosen = choose_cells(&images);
        let cells = show_cells(chosen, config.network.input_size, &decode, &mut budget);
        let title = run.canonicalize().unwrap_or_else(|_| run.to_path_buf());
        let title = title.file_name().unwrap_or(run.as_os_str());
        Ok(Self {
            title: path_text::encode(title.as_ref()),
            classes: classes(names, &confusion),
            data: data(config, root, &decode, workers),
            config: config.clone(),
            rows,
            headline,
            confusion,
            cells,
            reliability,
            mistakes,
            wrong,
        })
    }
}

fn headline(evaluation: &Evaluation, confusion: &[Vec<u64>], bins: &[Bin]) -> Vec<Figure> {
    let (correct, images) = (evaluation.metrics.correct, evaluation.metrics.samples);
    let recalls: Vec<f64> = evaluation
        .confusion
        .recall()
        .into_iter()
        .flatten()
        .collect();
    let balanced = recalls.iter().sum::<f64>() / recalls.len().max(1) as f64;
    let gap = |bin: &Bin| bin.images as f64 * (bin.accuracy - bin.confidence).abs();
    let ece = bins.iter().map(gap).sum::<f64>() / images.max(1) as f64;
    let classes = confusion.len();
    vec![
        Figure {
            name: "Accuracy",
            value: percent(evaluation.accuracy()),
            note: format!(
                "95 % interval: {}; {correct} of {images} val images",
                percent_range(wilson_interval(correct, images))
            ),
        },
        Figure {
            name: "Balanced accuracy",
            value: percent(balanced),
            note: format!("mean recall of {} of {classes} classes", recalls.len()),
        },
        Figure {
            name: "Loss",
            value: format!("{:.4}", evaluation.loss()),
            note: "mean cross-entropy per image, in nats".to_string(),
        },
        Figure {
            name: "Calibration error",
            value: percent(ece),
            note: format!("mean gap between confidence and accuracy, {BINS} bins"),
        },
    ]
}

fn classes(names: &[String], confusion: &[Vec<u64>]) -> Vec<ClassRow> {
    let rows = names.iter().zip(confusion).enumerate();
    rows.map(|(class, (name, row))| {
        let (correct, images) = (row[class], row.iter().sum::<u64>());
        let predicted: u64 = confusion.iter().map(|row| row[class]).sum();
        let ratio = |of: u64| (of > 0).then(|| correct as f64 / of as f64);
        let sum = images + predicted;
        ClassRow {
            name: name.clone(),
            images,
            correct,
            recall: ratio(images).map(|recall| (recall, wilson_interval(correct, images))),
            precision: ratio(predicted),
            f1: (images > 0 && predicted > 0).then(|| 2.0 * correct as f64 / sum as f64),
        }
    })
    .collect()
}

/// Accuracy in bins of confidence: bin `i` of `n` has the images with a confidence in
/// (`i / n`, `(i + 1) / n`].
fn bins<'a>(images: impl Iterator<Item = &'a Image>) -> Vec<Bin> {
    let mut sums = vec![(0u64, 0u64, 0.0); BINS];
    for image in images {
        let bin = (image.confidence * BINS as f64).ceil() as usize;
        let sum = &mut sums[bin.clamp(1, BINS) - 1];
        sum.0 += 1;
        sum.1 += u64::from(image.truth == image.predicted);
        sum.2 += image.confidence;
    }
    let bin = |(images, correct, confidence): (u64, u64, f64)| Bin {
        images,
        confidence: confidence / images.max(1) as f64,
        accuracy: correct as f64 / images.max(1) as f64,
        interval: wilson_interval(correct, images),
    };
    sums.into_iter().map(bin).collect()
}

/// Inspects the data set.
fn data(
    config: &Config,
    root: &Path,
    decode: &DecodeOptions,
    workers: usize,
) -> Section<dataset::Report> {
    let images = config.data.train_images + config.data.val_images;
    let root_text = crate::shell::quote(root);
    if images > MAX_INSPECTED {
        return Section::Missing(format!(
            "The data set has more than {MAX_INSPECTED} images, so it was not searched for problems. Run \
             `waggle check {root_text}`."
        ));
    }
    let options = InspectOptions::default()
        .workers(workers)
        .decode(decode.clone());
    match dataset::inspect(root, &options, &|_, _| {}) {
        Ok(mut report) => {
            report.ignored.retain(|file| file.path != sample::STAMP);
            Section::Shown(report)
        }
        Err(error) => Section::Missing(format!("The data set cannot be read: {error}.")),
    }
}
