//! The scores of an evaluation.

use insight::Scores;
use trainer::Evaluation;

/// The logits and labels of an evaluation, in the order of its images.
///
/// They are a function of the weights and the images, so an interrupted run and its uninterrupted
/// counterpart derive the same files from them.
///
/// # Errors
///
/// Returns an error if a logit is not finite.
pub fn scores(evaluation: &Evaluation, classes: usize) -> insight::Result<Scores> {
    let labels = evaluation.predictions.iter();
    let labels = labels.map(|prediction| prediction.target).collect();
    Scores::new(classes, evaluation.logits.clone(), labels)
}
