//! The training observer: prints progress, writes metrics, curves, the best model and checkpoints,
//! and pauses training after a signal.

use dataset::path_text;
use trainer::{Event, Flow, Phase, Stage};

use crate::checkpoint::{CheckpointWritten, Checkpointer, RunProgress};
use crate::config::StageName;
use crate::metrics::{EpochRow, Metrics, Pass, Score};
use crate::plots;
use crate::run_dir::RunDir;
use crate::signals::Signals;
use crate::tensorboard::EventWriter;
use crate::ui::{Message, Renderer, StageEvent};

/// Observes all stages of a run and writes its files.
pub struct TrainObserver<'a> {
    /// Prints the messages.
    pub renderer: &'a mut dyn Renderer,
    /// Run directory for metrics and curves.
    pub run: &'a RunDir,
    /// Metrics of the completed epochs.
    pub metrics: Metrics,
    /// Result of the current epoch's train phase, once it is complete.
    pub training: Option<Pass>,
    /// Writes the current model to the run directory.
    pub save: &'a dyn Fn() -> anyhow::Result<()>,
    /// Whether a model has been written to the run directory.
    pub saved: bool,
    /// Writes the checkpoints of the run.
    pub checkpointer: Checkpointer<'a>,
    /// Writes event files for TensorBoard.
    pub events: Option<EventWriter>,
    /// Signals that stop training after the current batch.
    pub signals: &'a Signals,
}

impl TrainObserver<'_> {
    /// Runs `stage`, passing it an observer for stage number `index`, and returns its result.
    ///
    /// # Errors
    ///
    /// Returns an error if the observer cannot write a file or show a message, which also pauses the
    /// stage. The inner result is that of `stage`.
    pub fn run_stage<T>(
        &mut self,
        index: usize,
        name: StageName,
        stage: impl FnOnce(&mut trainer::Observer<'_>) -> Result<T, trainer::Error>,
    ) -> anyhow::Result<Result<T, trainer::Error>> {
        let mut failure = None;
        let result = stage(&mut |event, stage| {
            // The stage sends the remaining events of the epoch before it pauses.
            if failure.is_some() {
                return Flow::Pause;
            }
            // There is a checkpoint after the first event of the run.
            let starts = matches!(event, Event::StageStart { .. });
            let flow = self
                .on_event(name, event)
                .map_err(|error| match starts {
                    true => error,
                    false => self.run.resumable(error),
                })
                .and_then(|()| self.checkpoint(index, event, stage));
            flow.unwrap_or_else(|error| {
                failure = Some(error);
                Flow::Pause
            })
        });
        failure.map_or(Ok(result), Err)
    }

    /// Restores the metrics from a checkpoint and rewrites `metrics.csv` and `curves.png`. Rows
    /// written after the checkpoint are dropped. Shows a message if `metrics.csv` was missing or
    /// changed.
    ///
    /// # Errors
    ///
    /// Returns an error if the curves cannot be drawn, the run directory cannot be written to or the
    /// message cannot be shown.
    pub fn restore(&mut self, progress: &RunProgress) -> anyhow::Result<()> {
        let (metrics, difference) = Metrics::restore(progress.rows.clone(), self.run)?;
        self.metrics = metrics;
        if let Some(difference) = difference {
            let file = path_text::encode(&self.run.file(Metrics::FILE));
            self.renderer
                .show(&Message::Restored { file, difference })?;
        }
        self.training = progress.training;
        self.draw_curves()
    }

    fn on_event(&mut self, name: StageName, event: &Event) -> anyhow::Result<()> {
        // Write the model before the message, so that the file exists when "new best" is printed.
        if let Event::NewBest { epoch, .. } = event {
            // At the baseline of the second stage, the weights are those saved by the first stage.
            if *epoch > 0 || !self.saved {
                (self.save)()?;
                self.saved = true;
            }
        }
        if let Event::PhaseEnd {
            phase,
            epoch,
            loss,
            accuracy,
            seconds,
            samples_per_second,
        } = event
        {
            let pass = Pass {
                score: Score {
                    loss: *loss,
                    accuracy: *accuracy,
                },
                seconds: *seconds,
                images: samples_per_second * seconds,
            };
            match phase {
                Phase::Train => self.training = Some(pass),
                Phase::Val => {
                    let row = row(name, *epoch, self.training.take(), pass);
                    if let Some(events) = &mut self.events {
                        events.epoch(self.metrics.rows().len() + 1, &row)?;
                    }
                    self.metrics.push(row, self.run)?;
                    self.draw_curves()?;
                }
            }
        }
        let message = StageEvent { stage: name, event };
        self.renderer.show(&Message::Stage(message))
    }

    /// Draws `curves.png` if there are metrics.
    ///
    /// # Errors
    ///
    /// Returns an error if the curves cannot be drawn or the run directory cannot be written to.
    pub fn draw_curves(&self) -> anyhow::Result<()> {
        if self.metrics.rows().is_empty() {
            return Ok(());
        }
        self.run
            .write("curves.png", &plots::curves::draw(self.metrics.rows())?)
    }

    /// Starts to write a checkpoint if one is due or a signal has arrived. Returns [`Flow::Pause`] after
    /// a signal, except at the end of a stage.
    fn checkpoint(&mut self, index: usize, event: &Event, stage: &Stage) -> anyhow::Result<Flow> {
        let written = self.checkpointer.poll()?;
        self.report(written)?;
        let due = match event {
            // Write a checkpoint before the first step of a stage and at the end of each epoch.
            Event::StageStart { .. }
            | Event::PhaseEnd {
                phase: Phase::Val, ..
            } => true,
            Event::BatchDone {
                phase: Phase::Train,
                ..
            }
            | Event::PhaseEnd {
                phase: Phase::Train,
                ..
            } => self.checkpointer.is_due(),
            // The best weights have been restored, and training cannot resume from them.
            Event::StageEnd { .. } => return Ok(Flow::Continue),
            _ => false,
        };
        let stop = self.signals.pending().is_some();
        if due || stop {
            let rows = self.metrics.rows();
            let written = self.checkpointer.save(index, stage, rows, self.training)?;
            self.report(written)?;
        }
        let starts = matches!(event, Event::StageStart { .. });
        // Wait for the run's first checkpoint, because the run cannot be resumed without one.
        if stop || (starts && index == 0) {
            self.finish_checkpoint()?;
        }
        if stop || starts {
            self.signals.defer();
        }
        Ok(if stop { Flow::Pause } else { Flow::Continue })
    }

    /// Waits until the background thread has written the current checkpoint, if any, and shows its
    /// message.
    ///
    /// # Errors
    ///
    /// Returns an error if the checkpoint could not be written or the message cannot be shown.
    pub fn finish_checkpoint(&mut self) -> anyhow::Result<()> {
        let written = self.checkpointer.finish()?;
        self.report(written)
    }

    fn report(&mut self, checkpoint: Option<CheckpointWritten>) -> anyhow::Result<()> {
        checkpoint.map_or(Ok(()), |checkpoint| {
            self.renderer.show(&Message::Checkpoint {
                file: path_text::encode(&checkpoint.path),
                bytes: checkpoint.bytes,
                waited: checkpoint.waited.as_secs_f64(),
                written: checkpoint.written.as_secs_f64(),
            })
        })
    }
}

fn row(stage: StageName, epoch: u64, train: Option<Pass>, val: Pass) -> EpochRow {
    let passes = [train, Some(val)].into_iter().flatten();
    let (images, seconds) = passes.fold((0.0, 0.0), |(images, seconds), pass| {
        (images + pass.images, seconds + pass.seconds)
    });
    EpochRow {
        stage,
        epoch: epoch as usize + 1,
        train: train.map(|pass| pass.score),
        val: val.score,
        images_per_second: if seconds > 0.0 { images / seconds } else { 0.0 },
        seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, Identity};
    use crate::config::Config;
    use crate::ui::{Lines, Quiet};
    use candle_core::{DType, Device, Tensor};
    use trainer::{Group, Params, SgdConfig};

    /// A bias of one value, and a stage that trains it.
    fn stage() -> (Params, Stage) {
        let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let tensors = [("features.0.bias".to_string(), one)].into();
        let params = Params::from_tensors(tensors, &Device::Cpu).unwrap();
        params.set_trainable(&["features"]).unwrap();
        let groups = vec![Group::everything(0.1)];
        let stage = Stage::new(&params, SgdConfig::default(), groups).unwrap();
        (params, stage)
    }

    fn observer<'a>(
        run: &'a RunDir,
        params: &'a Params,
        renderer: &'a mut dyn Renderer,
        signals: &'a Signals,
        save: &'a dyn Fn() -> anyhow::Result<()>,
    ) -> TrainObserver<'a> {
        let identity = Identity::example(Config::example());
        TrainObserver {
            renderer,
            run,
            metrics: Metrics::default(),
            training: None,
            save,
            saved: false,
            checkpointer: Checkpointer::new(run, None, &identity, params, None).unwrap(),
            events: None,
            signals,
        }
    }

    fn phase_end(phase: Phase, epoch: u64, accuracy: f64) -> Event {
        Event::PhaseEnd {
            phase,
            epoch,
            loss: 0.5,
            accuracy,
            seconds: 2.0,
            samples_per_second: 10.0,
        }
    }

    #[test]
    fn metrics_curves_models_and_checkpoints_are_written() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("train")).unwrap();
        let saves = std::cell::Cell::new(0);
        let save = || {
            saves.set(saves.get() + 1);
            Ok(())
        };
        let mut renderer = Quiet(Lines::new(Vec::new()));
        let (params, state) = stage();
        let signals = Signals::install().unwrap();
        let mut observer = observer(&run, &params, &mut renderer, &signals, &save);
        let events = [
            phase_end(Phase::Val, 0, 0.5),
            Event::NewBest {
                epoch: 0,
                accuracy: 0.5,
            },
            phase_end(Phase::Train, 1, 0.75),
            phase_end(Phase::Val, 1, 0.75),
            Event::NewBest {
                epoch: 1,
                accuracy: 0.75,
            },
        ];
        for (index, stage) in [StageName::Transfer, StageName::Finetune]
            .into_iter()
            .enumerate()
        {
            observer
                .run_stage(index, stage, |observer| {
                    events
                        .iter()
                        .for_each(|event| assert_eq!(observer(event, &state), Flow::Continue));
                    Ok(())
                })
                .unwrap()
                .unwrap();
        }
        assert_eq!(
            saves.get(),
            3,
            "the baseline of the second stage saves no model"
        );
        let rows: Vec<_> = observer
            .metrics
            .rows()
            .iter()
            .map(|row| (row.stage.as_str(), row.epoch, row.seconds))
            .collect();
        assert_eq!(
            rows,
            [
                ("transfer", 1, 2.0),
                ("transfer", 2, 4.0),
                ("finetune", 1, 2.0),
                ("finetune", 2, 4.0)
            ]
        );
        assert_eq!(observer.metrics.rows()[1].images_per_second, 10.0);
        assert!(run.file("curves.png").exists() && run.file("metrics.csv").exists());
        observer.checkpointer.finish().unwrap();
        let (checkpoint, damaged) = Checkpoint::newest(&run).unwrap();
        let progress = checkpoint.unwrap().progress;
        assert_eq!((progress.stage, damaged.len()), (1, 0));
    }

    #[test]
    fn an_unwritable_file_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("train")).unwrap();
        let mut renderer = Quiet(Lines::new(Vec::new()));
        let save = || Ok(());
        let (params, state) = stage();
        let signals = Signals::install().unwrap();
        let mut observer = observer(&run, &params, &mut renderer, &signals, &save);
        std::fs::remove_dir_all(run.path()).unwrap();
        let result = observer.run_stage(0, StageName::Transfer, |observer| {
            Ok(observer(&phase_end(Phase::Val, 0, 0.5), &state))
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("metrics.csv"));
    }
}
