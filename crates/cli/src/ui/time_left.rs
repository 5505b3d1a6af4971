//! Estimates the remaining time of a run.

use trainer::Phase;

use super::PlannedStage;
use crate::config::StageName;

/// Cost of a training step relative to a forward pass: the backward pass takes about twice as long
/// as the forward pass.
const STEP_PER_FORWARD: f64 = 3.0;

/// Estimates the time left from the speeds of the phases so far.
///
/// A stage that has not started yet is estimated from the first val phase, which computes all
/// layers. Later val phases may reuse the outputs of the frozen layers.
#[derive(Debug, Default)]
pub struct TimeLeft {
    stages: Vec<PlannedStage>,
    train_images: f64,
    val_images: f64,
    /// Duration of a forward pass in seconds per image, from the first val phase.
    forward: Option<f64>,
    /// Duration in seconds of a whole train phase at the speed of the last one in the current stage.
    train: Option<f64>,
    /// Duration in seconds of a whole val phase at the speed of the last one in the current stage.
    val: Option<f64>,
}

impl TimeLeft {
    /// Sets the planned stages of the run.
    pub fn plan(&mut self, stages: &[PlannedStage]) {
        self.stages = stages.to_vec();
    }

    /// Starts a stage and drops the stages before it from the plan.
    pub fn start_stage(&mut self, stage: StageName, train_images: u64, val_images: u64) {
        let current = self.stages.iter().position(|plan| plan.stage == stage);
        self.stages.drain(..current.unwrap_or(0));
        (self.train_images, self.val_images) = (train_images as f64, val_images as f64);
        (self.train, self.val) = (None, None);
    }

    /// Records the speed of a complete phase. Speeds that are not positive are ignored.
    pub fn record(&mut self, phase: Phase, images_per_second: f64) {
        if images_per_second <= 0.0 {
            return;
        }
        match phase {
            Phase::Train => self.train = Some(self.train_images / images_per_second),
            Phase::Val => {
                self.val = Some(self.val_images / images_per_second);
                self.forward.get_or_insert(1.0 / images_per_second);
            }
        }
    }

    /// Estimated seconds left in the run after `epoch` of the current stage, counted from 1. `None`
    /// without a plan, or before the first val phase has been recorded.
    pub fn after(&self, epoch: u64) -> Option<f64> {
        let (current, later) = self.stages.split_first()?;
        let forward = self.forward?;
        // In the transfer stage, a training step is mostly the frozen layers' forward pass.
        let step = if later.is_empty() && current.stage == StageName::Finetune {
            STEP_PER_FORWARD
        } else {
            1.0
        };
        let train = self.train.unwrap_or(step * forward * self.train_images);
        let val = self.val.unwrap_or(forward * self.val_images);
        let here = current.epochs.saturating_sub(epoch) as f64 * (train + val);
        let train = STEP_PER_FORWARD * forward * self.train_images;
        let val = forward * self.val_images;
        // The baseline epoch of a stage only validates.
        let there: f64 = later
            .iter()
            .map(|stage| stage.epochs as f64 * val + stage.epochs.saturating_sub(1) as f64 * train)
            .sum();
        Some(here + there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> TimeLeft {
        let mut left = TimeLeft::default();
        let stage = |stage, epochs| PlannedStage { stage, epochs };
        left.plan(&[stage(StageName::Transfer, 3), stage(StageName::Finetune, 2)]);
        left
    }

    #[test]
    fn later_stages_are_estimated_from_the_first_validation() {
        let mut left = plan();
        left.start_stage(StageName::Transfer, 100, 50);
        assert_eq!(left.after(0), None);
        left.record(Phase::Val, 10.0);
        // Transfer: 2 more epochs of 10 s + 5 s. Finetune: 2 val phases of 5 s and 1 train phase of
        // 3 × 10 s.
        assert_eq!(left.after(1), Some(2.0 * 15.0 + 40.0));
        left.record(Phase::Train, 50.0);
        left.record(Phase::Val, 50.0);
        assert_eq!(left.after(2), Some(2.0 + 1.0 + 40.0));
    }

    #[test]
    fn nothing_is_left_after_the_last_epoch() {
        let mut left = plan();
        left.start_stage(StageName::Finetune, 100, 50);
        left.record(Phase::Val, 10.0);
        assert_eq!(left.after(2), Some(0.0));
    }
}
