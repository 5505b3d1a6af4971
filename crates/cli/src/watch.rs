//! Follows a stage while it trains: shows it, writes its rows and curves, and saves each best model at once,
//! so that a crash in epoch 20 costs nothing of what was reached in epoch 19.

use trainer::{Event, Flow, Phase};

use crate::config::StageName;
use crate::message::Message;
use crate::metrics::{EpochRow, Metrics, Score};
use crate::plots;
use crate::render::Renderer;
use crate::run_dir::RunDir;

/// The observer of all stages of a run.
pub struct Watch<'a> {
    /// Draws.
    pub renderer: &'a mut dyn Renderer,
    /// Where rows and curves go.
    pub run: &'a RunDir,
    /// The rows so far.
    pub metrics: Metrics,
    /// Writes the model as it is now.
    pub save: &'a dyn Fn() -> anyhow::Result<()>,
    /// A model has been written.
    pub saved: bool,
}

impl Watch<'_> {
    /// Runs `stage`, which gets an observer, and returns its result; or what went wrong in the observer,
    /// which stopped it.
    ///
    /// # Errors
    ///
    /// Those of `stage`, and a file that cannot be written.
    pub fn follow<T>(
        &mut self,
        name: StageName,
        stage: impl FnOnce(&mut trainer::Observer<'_>) -> Result<T, trainer::Error>,
    ) -> anyhow::Result<Result<T, trainer::Error>> {
        let mut failed = None;
        let mut training = None;
        let result = stage(&mut |event| match self.see(name, event, &mut training) {
            Ok(()) => Flow::Continue,
            Err(error) => {
                failed = Some(error);
                Flow::Stop
            }
        });
        failed.map_or(Ok(result), Err)
    }

    fn see(
        &mut self,
        name: StageName,
        event: &Event,
        training: &mut Option<Pass>,
    ) -> anyhow::Result<()> {
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
                pictures: samples_per_second * seconds,
            };
            match phase {
                Phase::Train => *training = Some(pass),
                Phase::Val => {
                    let row = row(name, *epoch, training.take(), pass);
                    self.metrics.push(row, self.run)?;
                    self.run
                        .write("curves.png", &plots::curves::draw(self.metrics.rows())?)?;
                }
            }
        }
        self.renderer.show(&Message::of_stage(name.as_str(), event))
    }
}

/// A pass over a split.
#[derive(Clone, Copy)]
struct Pass {
    score: Score,
    seconds: f64,
    pictures: f64,
}

fn row(stage: StageName, epoch: u64, train: Option<Pass>, val: Pass) -> EpochRow {
    let passes = [train, Some(val)].into_iter().flatten();
    let (pictures, seconds) = passes.fold((0.0, 0.0), |(pictures, seconds), pass| {
        (pictures + pass.pictures, seconds + pass.seconds)
    });
    EpochRow {
        stage: stage.as_str(),
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
    use crate::render::Quiet;

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
        let mut watch = Watch {
            renderer: &mut renderer,
            run: &run,
            metrics: Metrics::default(),
            save: &save,
            saved: false,
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
        for stage in [StageName::Transfer, StageName::Finetune] {
            watch
                .follow(stage, |observer| {
                    events
                        .iter()
                        .for_each(|event| assert_eq!(observer(event), Flow::Continue));
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
        let rows: Vec<_> = watch
            .metrics
            .rows()
            .iter()
            .map(|row| (row.stage, row.epoch, row.seconds))
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
        assert_eq!(watch.metrics.rows()[1].images_per_second, 10.0);
        assert!(run.file("curves.png").exists() && run.file("metrics.csv").exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_stops_the_stage() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("train")).unwrap();
        std::fs::remove_dir_all(run.path()).unwrap();
        let mut renderer = Quiet::new(Vec::new());
        let save = || Ok(());
        let mut watch = Watch {
            renderer: &mut renderer,
            run: &run,
            metrics: Metrics::default(),
            save: &save,
            saved: false,
        };
        let result = watch.follow(StageName::Transfer, |observer| {
            Ok(observer(&end(Phase::Val, 0, 0.5)))
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("metrics.csv"));
    }
}
