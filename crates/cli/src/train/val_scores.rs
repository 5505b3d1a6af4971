//! The scores of the val split with the kept weights.

use insight::Scores;
use trainer::Evaluation;

/// The logits and labels of an evaluation of the val split, in the order of its images.
///
/// They are a function of the kept weights and the images, so an interrupted run and its uninterrupted
/// counterpart derive the same files from them.
///
/// # Errors
///
/// Returns an error if a logit is not finite.
pub fn val_scores(evaluation: &Evaluation, classes: usize) -> insight::Result<Scores> {
    let labels = evaluation.predictions.iter();
    let labels = labels.map(|prediction| prediction.target).collect();
    Scores::new(classes, evaluation.logits.clone(), labels)
}
