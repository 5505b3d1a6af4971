//! Describes the calibration of a finished run.

use crate::calibration::{Calibration, Effect};

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
    let Effect {
        loss,
        calibrated_loss,
        difference_interval: [low, high],
        conclusive,
    } = effect;
    let change = format!("log loss {loss:.4} becomes {calibrated_loss:.4} in cross-validation");
    match conclusive {
        true => format!("{fitted}: {change}"),
        false => format!(
            "{fitted}; too few val images ({images}) to tell whether that helps: {change}, 95 % interval \
             of the difference {low:+.4} to {high:+.4}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_whether_there_are_enough_images_to_tell() {
        let fitted = |effect: Option<Effect>| Calibration::Fitted {
            temperature: 2.3815,
            effect,
        };
        let effect = |conclusive: bool| Effect {
            loss: 1.39871,
            calibrated_loss: 1.06379,
            difference_interval: [-0.4, 0.0123],
            conclusive,
        };
        let text = |calibration: Calibration| calibration_text(&calibration, 12);
        assert_eq!(
            text(fitted(Some(effect(true)))),
            "calibrated with temperature 2.38: log loss 1.3987 becomes 1.0638 in cross-validation"
        );
        assert_eq!(
            text(fitted(Some(effect(false)))),
            "calibrated with temperature 2.38; too few val images (12) to tell whether that helps: \
             log loss 1.3987 becomes 1.0638 in cross-validation, 95 % interval of the difference \
             -0.4000 to +0.0123"
        );
        assert_eq!(
            text(fitted(None)),
            "calibrated with temperature 2.38; too few val images (12) to tell whether that helps"
        );
        let reason = "the logits are unusual".to_string();
        assert_eq!(
            text(Calibration::NotFitted { reason }),
            "not calibrated: the logits are unusual"
        );
    }
}
