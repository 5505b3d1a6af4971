//! Suspected label errors in the train split of a data set.
//!
//! The backbone of a model computes the features of each image, averaged over all positions, without
//! augmentation. For each of five folds, a logistic regression on the other folds predicts the classes,
//! so that no head judges an image that it was trained on. Near duplicates are in the same fold.
//! [`insight::LabeledProbabilities`] finds the doubtful labels in these predictions.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, bail};
use candle_core::{DType, Device, Tensor};
use dataset::{DecodeOptions, InspectOptions, Loader, LoaderConfig, Normalize, Report, path_text};
use insight::{LabeledProbabilities, held_out_probabilities};
use serde::Serialize;
use vgg::{Features, Precision};

use crate::bad_images;
use crate::data_source::Folder;
use crate::error::Diagnostic;
use crate::folds;
use crate::memory_limit;
use crate::non_finite_logit::NonFiniteLogit;

/// Number of folds.
const FOLDS: usize = 5;

/// The images of a train split, with the doubts about their labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelIssues {
    /// Path of the data set, as [`path_text`] writes paths.
    pub data: String,
    /// Path of the weights file with the backbone, as [`path_text`] writes paths.
    pub model: String,
    /// Class names, by index.
    pub classes: Vec<String>,
    /// Number of folds.
    pub folds: usize,
    /// Share of the images whose label is the most probable class.
    pub accuracy: f64,
    /// Classes that cannot be judged, because all their images are in one fold: those with a single
    /// image, or with copies of one.
    pub unjudged_classes: Vec<String>,
    /// Number of suspected images, the first ones in `images`.
    pub suspected: usize,
    /// The images of all other classes, most doubtful first: the suspected ones, then the others, each
    /// by ascending self-confidence.
    pub images: Vec<JudgedImage>,
}

/// An image with the doubts about its label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgedImage {
    /// Path relative to the data set, as [`path_text`] writes paths.
    pub path: String,
    /// The class whose folder contains the image.
    pub label: String,
    /// The most probable class.
    pub suggested: String,
    /// Probability of the label, from 0 to 1.
    pub self_confidence: f64,
    /// (p − q + 1) / 2 with the probabilities p of the label and q of the most probable other class.
    pub normalized_margin: f64,
    /// Whether the image is suspected by the estimated noise rates:
    /// [`LabeledProbabilities::prune_by_noise_rate`].
    pub prune_by_noise_rate: bool,
    /// Whether the image is suspected because it confidently belongs to another class:
    /// [`LabeledProbabilities::confident_learning`].
    pub confident_learning: bool,
}

impl JudgedImage {
    /// Whether a method suspects the label.
    pub fn is_suspected(&self) -> bool {
        self.prune_by_noise_rate || self.confident_learning
    }
}

/// How to compute the features.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Compute device of the backbone.
    pub device: Device,
    /// Compute precision of the backbone.
    pub precision: Precision,
    /// Images per batch.
    pub batch_size: usize,
    /// Threads that decode images.
    pub workers: usize,
    /// Decoder settings.
    pub decode: DecodeOptions,
    /// Seed that assigns the images to folds.
    pub seed: u64,
}

/// Judges the labels of the train split of `folder` with the backbone in the weights file `weights`. The
/// classes of the file need not be those of the data set.
///
/// `inspected` is the report about the data set, if there is one already. `progress` is called with a verb, the number of finished images and the total.
///
/// # Errors
///
/// Returns an error if there is only one class, if no class can be judged, if an image cannot be
/// decoded, if the weights cannot be read or need more memory than there is, or if a feature is not finite.
pub fn find(
    weights: &Path,
    folder: &Folder,
    inspected: Option<&Report>,
    settings: &Settings,
    progress: &(dyn Fn(&'static str, usize, usize) + Sync),
) -> anyhow::Result<LabelIssues> {
    folder.require_two_classes()?;
    let backbone = Features::load(weights, &settings.device).context("cannot load the model")?;
    let backbone = backbone.with_precision(settings.precision);
    let normalize = match vgg::read_metadata(weights)? {
        Some(metadata) => Normalize {
            mean: metadata.mean,
            std: metadata.std,
        },
        None => Normalize::IMAGENET,
    };
    let samples = folder.train.samples();
    let labels: Vec<u32> = samples.iter().map(|sample| sample.label).collect();
    let groups = match inspected {
        Some(report) => duplicates(folder, report),
        None => {
            let options = InspectOptions::default()
                .workers(settings.workers)
                .decode(settings.decode.clone());
            let report = dataset::inspect(&folder.root, &options, &|done, images| {
                progress("comparing", done, images);
            })?;
            duplicates(folder, &report)
        }
    };
    let folds = folds::stratified(&labels, &groups, FOLDS, settings.seed);
    let (judged, unjudged_classes) = judged(folder, &labels, &folds)?;

    let features = features(&backbone, normalize, folder, settings, &|done, images| {
        progress("computing features", done, images);
    })?;
    let classes = folder.classes();
    let held_out = held_out_probabilities(&features, &labels, classes.len(), &folds)?;
    let row = |sample: usize| &held_out.probabilities[sample * classes.len()..][..classes.len()];
    let probabilities = LabeledProbabilities::new(
        classes.len(),
        judged
            .iter()
            .flat_map(|&sample| row(sample))
            .copied()
            .collect(),
        judged.iter().map(|&sample| labels[sample]).collect(),
    )?;

    let by_noise_rate: BTreeSet<usize> = probabilities.prune_by_noise_rate().into_iter().collect();
    let confident: BTreeSet<usize> = probabilities.confident_learning().into_iter().collect();
    let scores = probabilities.self_confidence().into_iter();
    let scores = scores.zip(probabilities.normalized_margin());
    let scores = scores.zip(probabilities.predictions());
    let mut images: Vec<JudgedImage> = judged
        .iter()
        .zip(scores)
        .enumerate()
        .map(
            |(index, (&sample, ((self_confidence, normalized_margin), class)))| JudgedImage {
                path: path_text::relative(&folder.root, &samples[sample].path),
                label: classes[labels[sample] as usize].clone(),
                suggested: classes[class as usize].clone(),
                self_confidence,
                normalized_margin,
                prune_by_noise_rate: by_noise_rate.contains(&index),
                confident_learning: confident.contains(&index),
            },
        )
        .collect();
    let correct = images.iter().filter(|image| image.suggested == image.label);
    let accuracy = correct.count() as f64 / images.len() as f64;
    // The sort is stable, so equal images stay in the order of the folder.
    images.sort_by(doubt);
    Ok(LabelIssues {
        data: path_text::encode(&folder.root),
        model: path_text::encode(weights),
        classes: classes.to_vec(),
        folds: FOLDS,
        accuracy,
        unjudged_classes,
        suspected: images.iter().filter(|image| image.is_suspected()).count(),
        images,
    })
}

/// The more doubtful image is less: a suspected one, or one with lower self-confidence.
fn doubt(a: &JudgedImage, b: &JudgedImage) -> Ordering {
    let by_suspicion = b.is_suspected().cmp(&a.is_suspected());
    by_suspicion.then(a.self_confidence.total_cmp(&b.self_confidence))
}

/// The samples of classes with images in several folds, and the names of the other classes.
fn judged(
    folder: &Folder,
    labels: &[u32],
    folds: &[usize],
) -> anyhow::Result<(Vec<usize>, Vec<String>)> {
    let mut folds_of_class = vec![BTreeSet::new(); folder.classes().len()];
    for (&label, &fold) in labels.iter().zip(folds) {
        folds_of_class[label as usize].insert(fold);
    }
    let can_judge = |label: usize| folds_of_class[label].len() > 1;
    let judged: Vec<usize> = (0..labels.len())
        .filter(|&sample| can_judge(labels[sample] as usize))
        .collect();
    if judged.is_empty() {
        bail!(
            Diagnostic::new(format!(
                "no class in `{}` has two different images, so its labels cannot be judged",
                folder.train.root().display()
            ))
            .help("add images to the classes")
        );
    }
    let names = folder.classes().iter().enumerate();
    let unjudged = names.filter(|(label, _)| !can_judge(*label));
    Ok((judged, unjudged.map(|(_, name)| name.clone()).collect()))
}

/// A group number for each train image. Images in the same group are duplicates or near duplicates.
fn duplicates(folder: &Folder, report: &Report) -> Vec<usize> {
    let samples = folder.train.samples();
    let index: HashMap<String, usize> = (0..)
        .zip(samples)
        .map(|(index, sample)| (path_text::relative(&folder.root, &sample.path), index))
        .collect();
    let mut groups: Vec<usize> = (0..samples.len()).collect();
    // A later group that shares an image with an earlier one contains all of it.
    for group in &report.duplicates {
        let members = group.images.iter();
        let members: Vec<usize> = members
            .filter_map(|image| index.get(&image.path).copied())
            .collect();
        for &member in &members {
            groups[member] = members[0];
        }
    }
    groups
}

/// The features of all train images, shape (images, channels), averaged over all positions.
fn features(
    backbone: &Features,
    normalize: Normalize,
    folder: &Folder,
    settings: &Settings,
    progress: &dyn Fn(usize, usize),
) -> anyhow::Result<Vec<f32>> {
    let config = backbone.config();
    let samples = folder.train.samples();
    memory_limit::check_batch(config, settings.batch_size.min(samples.len()), false)?;
    let (decode, workers) = (settings.decode.clone(), settings.workers);
    // `VggConfig` limits the size to 4096 pixels.
    let loader = LoaderConfig::eval(config.input_size as u32)
        .batch_size(settings.batch_size)
        .workers(workers)
        .normalize(normalize)
        .device(settings.device.clone())
        // A single pass reads each image only once, so a cache would not help.
        .cache_bytes(0)
        .decode(decode.clone());
    let mut features = Vec::new();
    let mut done = 0;
    for batch in Loader::new(samples, loader)?.epoch(0) {
        let batch = batch
            .map_err(|error| bad_images::explain(error.into(), &folder.train, &decode, workers))?;
        let mean = pooled(backbone, &batch.images)?;
        let non_finite = NonFiniteLogit::of_rows(&mean)?
            .into_iter()
            .zip(&batch.indices);
        for (error, &sample) in non_finite {
            if let Some(error) = error {
                let path = samples[sample].path.display();
                return Err(anyhow::Error::new(error).context(format!("cannot judge {path}")));
            }
        }
        features.extend(mean.flatten_all()?.to_vec1::<f32>()?);
        done += batch.indices.len();
        progress(done, samples.len());
    }
    Ok(features)
}

/// The features of a batch in f32, averaged over all positions: (B, 3, H, W) → (B, C).
fn pooled(backbone: &Features, images: &Tensor) -> candle_core::Result<Tensor> {
    let features = backbone.forward(images)?;
    features.to_dtype(DType::F32)?.mean((2, 3))
}
