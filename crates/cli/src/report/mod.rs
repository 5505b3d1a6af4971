//! `report.html`: what a run learned, in one file that loads nothing from elsewhere.
//!
//! [`Report`] is the data, collected from a run by [`collect`](Report::collect); [`Report::page`] is
//! the page. A part that could not be computed is a [`Section::Missing`] with the reason.

mod collect;
mod confusion;
mod findings;
mod heat_maps;
mod images;
pub mod page;
pub mod scroll;
pub mod settings;
pub mod svg;
mod tables;
pub mod text;
mod thumbnails;

pub use collect::Sources;

use crate::config::Config;
use crate::error::{Diagnostic, warn};
use crate::metrics::EpochRow;
use crate::run_dir::RunDir;

/// Name of the file in the run directory.
pub const FILE: &str = "report.html";

/// Largest size of the page in bytes.
pub const MAX_BYTES: usize = 5_000_000;

/// Writes the report of a run that ends. If there can be none, because a logit is not finite, prints a
/// warning instead, so that the run still ends.
///
/// # Errors
///
/// Returns an error if the file cannot be written.
pub fn write(run: &RunDir, sources: Sources<'_>) -> anyhow::Result<()> {
    match Report::collect(sources) {
        Ok(report) => run.write(FILE, report.page()?.as_bytes()),
        Err(error) => {
            warn(Diagnostic::new(format!("the run has no {FILE}")).caused_by(error));
            Ok(())
        }
    }
}

/// A part of the report.
#[derive(Debug)]
pub enum Section<T> {
    /// The content.
    Shown(T),
    /// Why there is no content, and how to get it.
    Missing(String),
}

/// The content of `report.html`.
#[derive(Debug)]
pub struct Report {
    /// Name of the run directory.
    pub title: String,
    /// What a reader has to know before the figures.
    pub notice: Option<String>,
    /// Configuration of the run.
    pub config: Config,
    /// Rows of `metrics.csv`.
    pub rows: Vec<EpochRow>,
    /// Figures for all val images.
    pub headline: Vec<Figure>,
    /// The classes, by index.
    pub classes: Vec<ClassRow>,
    /// Number of val images by true and predicted class.
    pub confusion: Vec<Vec<u64>>,
    /// Images of the confusion matrix, by true and predicted class.
    pub cells: Vec<Cell>,
    /// Accuracy by confidence, in bins of equal width.
    pub reliability: Vec<svg::Bin>,
    /// The wrong predictions with the highest loss, worst first.
    pub mistakes: Vec<Mistake>,
    /// Number of wrong predictions, shown or not.
    pub wrong: usize,
    /// Suspected label errors of train.
    pub labels: Section<Labels>,
    /// Problems of the data set.
    pub data: Section<dataset::Report>,
}

/// A figure of the headline.
#[derive(Debug)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// The value as text.
    pub value: String,
    /// The interval or an explanation, as text.
    pub note: String,
}

/// A class and its results on val.
#[derive(Debug)]
pub struct ClassRow {
    /// Name of the class.
    pub name: String,
    /// Number of val images.
    pub images: u64,
    /// Number of val images that are classified correctly.
    pub correct: u64,
    /// Correct images ÷ images of the class, with its 95 % interval. `None` without val images.
    pub recall: Option<(f64, [f64; 2])>,
    /// Correct images ÷ images predicted as the class. `None` if there are none.
    pub precision: Option<f64>,
    /// Harmonic mean of precision and recall. `None` if one of them is.
    pub f1: Option<f64>,
}

/// A val image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Path relative to the data set.
    pub path: String,
    /// Index of the true class.
    pub truth: usize,
    /// Index of the predicted class.
    pub predicted: usize,
    /// Probability of the predicted class.
    pub confidence: f64,
    /// Probability of the true class.
    pub of_truth: f64,
    /// The image as a data URI. `None` if it cannot be read or the page has no space for it.
    pub thumbnail: Option<String>,
}

/// Images of a cell of the confusion matrix, highest loss first.
#[derive(Debug)]
pub struct Cell {
    /// Index of the true class.
    pub truth: usize,
    /// Index of the predicted class.
    pub predicted: usize,
    /// The images, not all of them if there are many.
    pub images: Vec<Image>,
}

/// The suspected label errors of train.
#[derive(Debug)]
pub struct Labels {
    /// Number of suspected images, shown or not.
    pub suspected: usize,
    /// The most doubtful images.
    pub images: Vec<DoubtfulLabel>,
}

/// A train image whose label is doubtful.
#[derive(Debug)]
pub struct DoubtfulLabel {
    /// Path relative to the data set.
    pub path: String,
    /// The class whose folder contains the image.
    pub label: String,
    /// The most probable class.
    pub suggested: String,
    /// Probability of the label, by a classifier that was not trained on the image.
    pub self_confidence: f64,
    /// The image as a data URI. `None` if it cannot be read or the page has no space for it.
    pub thumbnail: Option<String>,
}

/// A wrong prediction.
#[derive(Debug)]
pub struct Mistake {
    /// The image.
    pub image: Image,
    /// The image with a heat map of the regions that speak for the predicted class, as a data URI.
    pub heat_map: Option<String>,
}
