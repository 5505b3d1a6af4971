//! Describes the calibration of a finished run.

use super::text::percent;
use crate::calibration::Calibration;

/// One line: the temperature and its effect in cross-validation on `images` val images, or why there
/// is none.
pub fn calibration_text(calibration: &Calibration, images: u64) -> String {
    let (temperature, effect) = match calibration {
        Calibration::Fitted {
            temperature,
            effect,
        } => (temperature, effect),
        Calibration::NotFitted { reason } => return format!("not calibrated: {reason}"),
    };
    let fitted = format!("calibrated with temperature {temperature:.2}");
    let Some(effect) = effect else {
        return format!("{fitted}; too few val images ({images}) to tell whether that helps");
    };
    let change = format!(
        "in cross-validation, log loss {:.4} becomes {:.4}, ECE {} becomes {}",
        effect.log_loss,
        effect.calibrated_log_loss,
        percent(effect.ece),
        percent(effect.calibrated_ece)
    );
    let [low, high] = effect.difference_interval;
    match effect.conclusive {
        true => format!("{fitted}: {change}"),
        false => format!(
            "{fitted}; too few val images ({images}) to tell whether that helps: {change} (95 % \
             interval of the difference in log loss: {low:+.4} to {high:+.4})"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_whether_there_are_enough_images_to_tell() {
        // Half of the images have the probability 0.9, of which half are correct. The others are
        // correct, with the probability 0.99.
        let scores = |images: usize| {
            let logit = |image: usize| if image.is_multiple_of(2) { 2.2 } else { 4.6 };
            let logits = (0..images).flat_map(|image| [logit(image), 0.0]);
            let labels = (0..images).map(|image| u32::from(image.is_multiple_of(4)));
            insight::Scores::new(2, logits.collect(), labels.collect())
        };
        let line = |images: usize| {
            let calibration = Calibration::fit(scores(images));
            calibration_text(&calibration, images as u64)
        };
        let many = line(400);
        assert!(many.starts_with("calibrated with temperature "), "{many}");
        assert!(many.contains(": in cross-validation, log loss "), "{many}");
        for (images, more) in [
            (12, " (95 % interval of the difference in log loss: "),
            (4, ""),
        ] {
            let few = line(images);
            let expected = format!("; too few val images ({images}) to tell whether that helps");
            assert!(few.contains(&expected) && few.contains(more), "{few}");
        }
    }

    #[test]
    fn the_line_says_why_a_model_is_not_calibrated() {
        let line = |logits: [f32; 4]| {
            let scores = insight::Scores::new(2, logits.to_vec(), vec![0, 1]);
            calibration_text(&Calibration::fit(scores), 2)
        };
        assert_eq!(
            line([1.0, 0.0, 0.0, 1.0]),
            "not calibrated: no or too few val images are classified incorrectly"
        );
        assert_eq!(
            line([f32::INFINITY, 0.0, 0.0, 1.0]),
            "not calibrated: logit 0 of sample 0 is not finite"
        );
    }
}
