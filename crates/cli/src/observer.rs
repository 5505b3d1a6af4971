//! Follows a stage while it trains: shows it, writes its rows and curves, saves each best model at once, makes the
//! checkpoints, and stops it when a signal asks to.

use trainer::{Event, Flow, Phase, Stage};

use crate::checkpoint::{CheckpointWritten, Checkpointer, Progress};
use crate::config::StageName;
use crate::message::Message;
use crate::metrics::{EpochRow, Metrics, Pass, Score};
use crate::plots;
use crate::render::Renderer;
use crate::run_dir::RunDir;
use crate::signals::Signals;

/// The observer of all stages of a run.
pub struct TrainObserver<'a> {
    /// Draws.
    pub renderer: &'a mut dyn Renderer,
    /// Where rows and curves go.
    pub run: &'a RunDir,
    /// The rows so far.
    pub metrics: Metrics,
    /// The training pass of the epoch that is being validated.
    pub training: Option<Pass>,
    /// Writes the model as it is now.
    pub save: &'a dyn Fn() -> anyhow::Result<()>,
    /// A model has been written.
    pub saved: bool,
    /// Makes the checkpoints.
    pub checkpointer: Checkpointer<'a>,
    /// Whether to stop.
    pub signals: &'a Signals,
}

impl TrainObserver<'_> {
    /// Runs `stage`, which is number `index` and gets an observer, and returns its result; or what went wrong in
    /// the observer, which stopped it.
    ///
    /// # Errors
    ///
    /// Those of `stage`, and a file that cannot be written.
    pub fn run_stage<T>(
        &mut self,
        index: usize,
        name: StageName,
        stage: impl FnOnce(&mut trainer::Observer<'_>) -> Result<T, trainer::Error>,
    ) -> anyhow::Result<Result<T, trainer::Error>> {
        let mut failed = None;
        let result = stage(&mut |event, stage| {
            let seen = self
                .on_event(name, event)
                .and_then(|()| self.checkpoint(index, event, stage));
            seen.unwrap_or_else(|error| {
                failed = Some(error);
                Flow::Stop
            })
        });
        failed.map_or(Ok(result), Err)
    }

    /// Goes on where a checkpoint was made: with its rows and curves, whatever was written after it.
    ///
    /// # Errors
    ///
    /// When the run directory cannot be written to.
    pub fn restore(&mut self, progress: &Progress) -> anyhow::Result<()> {
        self.metrics = Metrics::restore(progress.rows.clone(), self.run)?;
        self.training = progress.training;
        self.draw_curves()
    }

    fn on_event(&mut self, name: StageName, event: &Event) -> anyhow::Result<()> {
        // The model first: who reads "new best" may rely on the file.
        if let Event::NewBest { epoch, .. } = event {
            // Nothing has trained before the first validation of a later stage: the file holds these weights.
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
                    self.metrics.push(row, self.run)?;
                    self.draw_curves()?;
                }
            }
        }
        self.renderer
            .show(&Message::from_event(name.as_str(), event))
    }

    /// Draws the curves of the rows so far, if there are any.
    ///
    /// # Errors
    ///
    /// When the run directory cannot be written to.
    pub fn draw_curves(&self) -> anyhow::Result<()> {
        if self.metrics.rows().is_empty() {
            return Ok(());
        }
        self.run
            .write("curves.png", &plots::curves::draw(self.metrics.rows())?)
    }

    /// Makes a checkpoint where one is due, and says whether to go on.
    fn checkpoint(&mut self, index: usize, event: &Event, stage: &Stage) -> anyhow::Result<Flow> {
        let kept = self.checkpointer.poll()?;
        self.report(kept)?;
        let due = match event {
            // The first is there before anything can be lost. At the end of an epoch there is one anyway.
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
            // The best weights are restored: that is no state between two batches.
            Event::StageEnd { .. } => return Ok(Flow::Continue),
            _ => false,
        };
        let stop = self.signals.pending().is_some();
        if due || stop {
            let rows = self.metrics.rows();
            let kept = self.checkpointer.save(index, stage, rows, self.training)?;
            self.report(kept)?;
        }
        let starts = matches!(event, Event::StageStart { .. });
        // Before the first stage's there is none to go on from.
        if stop || (starts && index == 0) {
            self.finish_checkpoint()?;
        }
        if stop || starts {
            self.signals.defer();
        }
        Ok(if stop { Flow::Stop } else { Flow::Continue })
    }

    /// Waits for the checkpoint that is being written.
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub fn finish_checkpoint(&mut self) -> anyhow::Result<()> {
        let kept = self.checkpointer.finish()?;
        self.report(kept)
    }

    fn report(&mut self, kept: Option<CheckpointWritten>) -> anyhow::Result<()> {
        kept.map_or(Ok(()), |kept| {
            self.renderer.show(&Message::Checkpoint {
                file: kept.path.display().to_string(),
                bytes: kept.bytes,
                waited: kept.waited.as_secs_f64(),
                written: kept.written.as_secs_f64(),
            })
        })
    }
}

fn row(stage: StageName, epoch: u64, train: Option<Pass>, val: Pass) -> EpochRow {
    let passes = [train, Some(val)].into_iter().flatten();
    let (pictures, seconds) = passes.fold((0.0, 0.0), |(pictures, seconds), pass| {
        (pictures + pass.images, seconds + pass.seconds)
    });
    EpochRow {
        stage,
        epoch: epoch as usize + 1,
        train: train.map(|pass| pass.score),
        val: val.score,
        images_per_second: if seconds > 0.0 {
            pictures / seconds
        } else {
            0.0
        },
        seconds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, Identity};
    use crate::config::Config;
    use crate::render::Quiet;
    use candle_core::{DType, Device, Tensor};
    use trainer::{Group, Params, SgdConfig};

    /// A stage of one number.
    fn stage() -> (Params, Stage) {
        let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let tensors = [("features.0.bias".to_string(), one)].into();
        let params = Params::from_tensors(tensors, &Device::Cpu).unwrap();
        params.set_trainable(&["features"]).unwrap();
        let groups = vec![Group::everything(0.1)];
        let stage = Stage::new(&params, SgdConfig::default(), groups).unwrap();
        (params, stage)
    }

    fn checkpointer<'a>(run: &RunDir, params: &'a Params) -> Checkpointer<'a> {
        let identity = Identity::example(Config::example());
        Checkpointer::new(run.path(), None, &identity, params, None).unwrap()
    }

    fn end(phase: Phase, epoch: u64, accuracy: f64) -> Event {
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
    fn rows_curves_and_model_are_written_as_they_come() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("train")).unwrap();
        let saves = std::cell::Cell::new(0);
        let save = || {
            saves.set(saves.get() + 1);
            Ok(())
        };
        let mut renderer = Quiet::new(Vec::new());
        let (params, state) = stage();
        let mut observer = TrainObserver {
            renderer: &mut renderer,
            run: &run,
            metrics: Metrics::default(),
            training: None,
            save: &save,
            saved: false,
            checkpointer: checkpointer(&run, &params),
            signals: &Signals::install().unwrap(),
        };
        let events = [
            end(Phase::Val, 0, 0.5),
            Event::NewBest {
                epoch: 0,
                accuracy: 0.5,
            },
            end(Phase::Train, 1, 0.75),
            end(Phase::Val, 1, 0.75),
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
            "the second stage starts from what is on disk"
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
        let (checkpoint, damaged) = Checkpoint::newest(run.path()).unwrap();
        let progress = checkpoint.unwrap().progress;
        assert_eq!((progress.stage, damaged.len()), (1, 0));
    }

    #[test]
    fn a_file_that_cannot_be_written_stops_the_stage() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("train")).unwrap();
        let mut renderer = Quiet::new(Vec::new());
        let save = || Ok(());
        let (params, state) = stage();
        let mut observer = TrainObserver {
            renderer: &mut renderer,
            run: &run,
            metrics: Metrics::default(),
            training: None,
            save: &save,
            saved: false,
            checkpointer: checkpointer(&run, &params),
            signals: &Signals::install().unwrap(),
        };
        std::fs::remove_dir_all(run.path()).unwrap();
        let result = observer.run_stage(0, StageName::Transfer, |observer| {
            Ok(observer(&end(Phase::Val, 0, 0.5), &state))
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("metrics.csv"));
    }
}
