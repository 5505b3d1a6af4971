//! Describes the calibration of a finished run.

use insight::calibration::MAX_TEMPERATURE;

use super::text::{loss, percent};
use crate::calibration::Calibration;

/// One or two lines: the temperature and its effect in cross-validation on `images` val images, or why
/// there is none.
pub fn calibration_text(calibration: &Calibration, images: u64) -> Vec<String> {
    let (temperature, effect) = match calibration {
        Calibration::Fitted {
            temperature,
            effect,
        } => (temperature, effect),
        Calibration::NotFitted { reason } => return vec![format!("not calibrated: {reason}")],
    };
    let mut fitted = format!("calibrated with temperature {temperature:.2}");
    if *temperature >= MAX_TEMPERATURE {
        fitted.push_str(", the largest allowed");
    }
    match effect.as_ref().filter(|effect| effect.conclusive) {
        None => vec![format!(
            "{fitted}; too few val images ({images}) to tell whether that helps"
        )],
        Some(effect) => vec![
            fitted,
            format!(
                "in cross-validation, log loss {} becomes {}, calibration error {} becomes {}",
                loss(effect.log_loss),
                loss(effect.calibrated_log_loss),
                percent(effect.ece),
                percent(effect.calibrated_ece)
            ),
        ],
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
        let [temperature, effect] = &many[..] else {
            panic!("{many:?}");
        };
        assert!(temperature.starts_with("calibrated with temperature "));
        assert!(effect.starts_with("in cross-validation, log loss "));
        assert!(
            effect.contains(", calibration error ") && effect.len() < 100,
            "{effect}"
        );
        for images in [12, 4] {
            let few = line(images);
            let expected = format!("; too few val images ({images}) to tell whether that helps");
            assert!(few.len() == 1 && few[0].ends_with(&expected), "{few:?}");
        }
    }

    #[test]
    fn the_line_says_that_the_temperature_is_at_its_limit() {
        // Every prediction is wrong and certain.
        let scores = insight::Scores::new(2, [40.0, 0.0].repeat(40), vec![1; 40]);
        let lines = calibration_text(&Calibration::fit(scores), 40);
        let start = "calibrated with temperature 20.00, the largest allowed";
        assert!(lines[0].starts_with(start), "{lines:?}");
    }

    #[test]
    fn the_line_says_why_a_model_is_not_calibrated() {
        let line = |logits: [f32; 4]| {
            let scores = insight::Scores::new(2, logits.to_vec(), vec![0, 1]);
            calibration_text(&Calibration::fit(scores), 2)
        };
        assert_eq!(
            line([1.0, 0.0, 0.0, 1.0]),
            [
                "not calibrated: no or too few val images are classified incorrectly (the fit \
              reaches the smallest temperature, 0.05)"
            ]
        );
        assert_eq!(
            line([f32::INFINITY, 0.0, 0.0, 1.0]),
            ["not calibrated: logit 0 of sample 0 is not finite"]
        );
    }
}
