//! The end of a run: the files that describe its result.

use insight::Scores;
use trainer::Evaluation;
use vgg::Vgg;

use super::Session;
use crate::calibration::Calibration;
use crate::metrics::Metrics;
use crate::report::{self, Sources};
use crate::scores::scores;
use crate::tensorboard::EventWriter;
use crate::{checkpoint, plots, predictions};

impl Session {
    /// Writes `confusion_matrix.png`, calibrates the model, writes `predictions.csv` and `report.html`,
    /// marks the run as finished and removes its checkpoints. The event files for TensorBoard end with
    /// `epochs`.
    pub(super) fn finish(
        &mut self,
        evaluation: &Evaluation,
        events: Option<EventWriter>,
        epochs: usize,
    ) -> anyhow::Result<Option<Calibration>> {
        let rows = evaluation.confusion.rows();
        let png = plots::confusion_matrix::draw(self.classes(), rows)?;
        self.run.write("confusion_matrix.png", &png)?;
        if let Some(mut events) = events {
            events.image(epochs, "confusion_matrix", &png)?;
            events.finish(epochs)?;
        }
        let scores = scores(evaluation, self.classes().len());
        let is_finite = scores.is_ok();
        let calibration = match self.identity.config.training.calibration {
            true => Some(self.calibrate(scores)?),
            false => None,
        };
        self.run.write_with(predictions::FILE, |out| {
            let (temperature, samples) = (self.metadata.temperature, self.splits.val.samples());
            predictions::write(
                out,
                evaluation,
                temperature,
                self.classes(),
                &self.root,
                samples,
            )
        })?;
        // The loss is finite although the logit of a wrong class is −∞. Such a run ends without a report.
        if is_finite {
            self.write_report(evaluation)?;
        }
        self.run.finish()?;
        checkpoint::remove_all(&self.run)?;
        Ok(calibration)
    }

    fn write_report(&self, evaluation: &Evaluation) -> anyhow::Result<()> {
        let val = &self.splits.val;
        let network = Vgg::new(&self.metadata.config, self.params.frozen_var_builder())?;
        let network = network.with_precision(self.precision);
        let sources = Sources {
            run: self.run.path(),
            config: &self.identity.config,
            // As they are in the file, so that `waggle report` writes the same page.
            rows: Metrics::read(&self.run.file(Metrics::FILE))?,
            root: &self.root,
            val: val.samples(),
            evaluation,
            network: &network,
            device: &val.config().device,
            metadata: &self.metadata,
            decode: val.config().decode.clone(),
            workers: val.config().workers,
        };
        report::write(&self.run, sources)
    }

    /// Fits the temperature, and writes the model file again if there is one. The tensors stay the
    /// same.
    fn calibrate(&mut self, scores: insight::Result<Scores>) -> anyhow::Result<Calibration> {
        let calibration = Calibration::fit(scores);
        if let Calibration::Fitted { temperature, .. } = calibration {
            self.metadata.temperature = temperature;
            self.save(&self.params.tensors())?;
        }
        Ok(calibration)
    }
}
