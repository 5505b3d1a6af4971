//! `--resume`: opens a run that was interrupted, and makes sure that what goes on is the same run.

mod finished;

use std::path::Path;

use anyhow::{Context, anyhow, bail};

use crate::args::TrainArgs;
use crate::checkpoint::{Checkpoint, Identity};
use crate::config::{Config, StageConfig, StageName};
use crate::data_source::{Folder, Source};
use crate::device::DeviceChoice;
use crate::error::CliError;
use crate::message::Message;
use crate::model_file;
use crate::render::Renderer;
use crate::run_dir::RunDir;

/// What is in a run directory.
pub enum RunState {
    /// A run that can go on.
    Unfinished(Box<ResumedRun>),
    /// One that is done.
    Finished,
}

/// A run that goes on.
#[derive(Debug)]
pub struct ResumedRun {
    /// The arguments that it was started with, with what may be given anew.
    pub args: TrainArgs,
    /// Its directory.
    pub run: RunDir,
    /// Its last whole checkpoint.
    pub checkpoint: Checkpoint,
}

impl ResumedRun {
    /// Opens the run directory `path`. A damaged checkpoint is told of, and the one before it taken.
    ///
    /// # Errors
    ///
    /// No run directory, none that this process may use, or one without a whole checkpoint.
    pub fn open(
        path: &Path,
        typed: &TrainArgs,
        renderer: &mut dyn Renderer,
    ) -> anyhow::Result<RunState> {
        check_is_run(path)?;
        let run = RunDir::open(path)?;
        let (checkpoint, damaged) = Checkpoint::newest(path)?;
        for one in &damaged {
            renderer.show(&Message::DamagedCheckpoint {
                file: one.path.display().to_string(),
                reason: &one.reason,
            })?;
        }
        let Some(checkpoint) = checkpoint else {
            if damaged.is_empty()
                && let Some(config) = finished::configuration(&run)
            {
                refuse_changes(&run, &config, &finished::with_typed(&config, typed))?;
                return Ok(RunState::Finished);
            }
            bail!(
                "{} holds no checkpoint{}, so that it cannot be resumed; start it again without --resume{}",
                path.display(),
                if damaged.is_empty() {
                    ""
                } else {
                    " that is whole"
                },
                if run.file(model_file::FILE).exists() {
                    ", for example from its best weights so far (--weights)"
                } else {
                    ""
                }
            );
        };
        run.remove_leftovers()?;
        let identity = &checkpoint.identity;
        let all = identity.arguments.overridden_by(&typed.resuming.explicit);
        let mut args = all.parse().with_context(|| {
            format!(
                "{} was written by another version of waggle",
                checkpoint.path.display()
            )
        })?;
        args.data = typed.data.clone();
        args.resuming.allow_changed_data = typed.resuming.allow_changed_data;
        (args.quiet, args.json) = (typed.quiet, typed.json);
        // What the machine decided then is decided the same now.
        let machine = &identity.config.machine;
        if !all.contains("threads") {
            args.machine.threads = machine.threads.try_into().ok();
        }
        if !all.contains("device") {
            let device: Result<DeviceChoice, String> = machine.device.parse();
            args.machine.device = device.unwrap_or(args.machine.device);
        }
        Ok(RunState::Unfinished(Box::new(Self {
            args,
            run,
            checkpoint,
        })))
    }

    /// Where it goes on, for the user.
    pub fn message(&self) -> Message<'static> {
        let progress = &self.checkpoint.progress;
        let stage = &self.checkpoint.identity.config.stages[progress.stage];
        Message::Resumed {
            file: self.checkpoint.path.display().to_string(),
            stage: stage.name.as_str(),
            // After the last epoch of a stage there is none to go on with.
            epoch: (progress.state.epoch + 1).min(stage.epochs),
            batches: progress.state.batch,
        }
    }

    /// The run's pictures: where they were, or where `--data` says that they are now.
    ///
    /// # Errors
    ///
    /// When they cannot be listed.
    pub fn folder(&self) -> anyhow::Result<Folder> {
        let data = &self.checkpoint.identity.config.data;
        let before = Path::new(&data.root);
        let source = Source::named(&data.source, before);
        if source == Source::Sample && self.args.data.is_none() {
            dataset::sample::write(before).context("the built-in sample cannot be drawn")?;
        }
        let root = self.args.data.as_deref().unwrap_or(before);
        source.open_at(root.to_path_buf())
    }

    /// Whether `now` is the same run.
    ///
    /// # Errors
    ///
    /// Everything that differs and could change the result, named.
    pub fn check(&self, now: &Identity, renderer: &mut dyn Renderer) -> anyhow::Result<()> {
        let before = &self.checkpoint.identity;
        refuse_changes(&self.run, &before.config, &now.config)?;
        if before.weights_sha256 != now.weights_sha256 {
            bail!(
                "the weights {} are not those that the run {} began with (their SHA-256 differs); \
                 name the right file with --weights",
                now.config.network.weights,
                self.run.path().display()
            );
        }
        if let Some(changes) = before.data.changes(&now.data) {
            if !self.args.resuming.allow_changed_data {
                bail!(
                    "the pictures are not those that the run began with; put them right, or go on all the same with \
                     --allow-changed-data:\n{changes}"
                );
            }
            renderer.show(&Message::ChangedData { changes: &changes })?;
        }
        Ok(())
    }
}

/// Refuses a folder that no run wrote, before anything in it is locked, written or deleted.
///
/// A run writes its `config.toml` before anything else. A run whose file was lost or damaged is recognized by a
/// checkpoint, which holds the same configuration.
fn check_is_run(path: &Path) -> anyhow::Result<()> {
    if !path.is_dir() {
        // `RunDir::open` says so.
        return Ok(());
    }
    let file = path.join(Config::FILE);
    let config = if file.is_file() {
        Config::read(&file).map(drop)
    } else {
        Err(anyhow!("there is no {}", file.display()))
    };
    let Err(error) = config else {
        return Ok(());
    };
    if Checkpoint::newest(path)?.0.is_some() {
        return Ok(());
    }
    Err(
        CliError::new(format!("{} is not a run directory", path.display()))
            .help("pass the directory that `waggle train` wrote, such as runs/train")
            .caused_by(error)
            .into(),
    )
}

/// Refuses a configuration that would change the result of a run.
fn refuse_changes(run: &RunDir, before: &Config, now: &Config) -> anyhow::Result<()> {
    let differences = differences(before, now);
    if !differences.is_empty() {
        bail!(
            "what was given would change the result of the run {}; leave it out, or start another run:\n{}",
            run.path().display(),
            differences.join("\n")
        );
    }
    Ok(())
}

/// What decides the result, by the argument that says it, and its value in a configuration.
type Deciding = (&'static str, fn(&Config) -> String);

const DECIDING: [Deciding; 13] = [
    ("the version of waggle", |config| {
        config.versions.waggle.clone()
    }),
    ("the classes of --data", |config| {
        config.data.classes.join(", ")
    }),
    ("--ignore-exif", |config| {
        config.data.ignore_exif.to_string()
    }),
    ("--on-bad", |config| {
        format!("{:?}", config.data.on_bad).to_lowercase()
    }),
    ("--precision", |config| config.machine.precision.clone()),
    ("--arch", |config| config.network.architecture.clone()),
    ("--input-size", |config| {
        config.network.input_size.to_string()
    }),
    ("the fresh layers of --weights", |config| {
        config.network.initialized_layers.join(", ")
    }),
    ("--seed", |config| config.training.seed.to_string()),
    ("--batch-size", |config| {
        config.training.batch_size.to_string()
    }),
    ("--momentum", |config| config.training.momentum.to_string()),
    ("--threads", |config| config.machine.threads.to_string()),
    (
        "the processor's instruction set (or WAGGLE_KERNELS)",
        |config| config.machine.kernels.clone(),
    ),
];

/// What differs between two configurations and could change the result, by the argument that decides it.
fn differences(run: &Config, now: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, run: String, now: String| {
        if run != now {
            found.push(format!("{what}: {run} in the run, {now} now"));
        }
    };
    for (what, value) in DECIDING {
        compare(what, value(run), value(now));
    }
    let kind = |config: &Config| {
        let device = config.machine.device.split(':').next();
        device.unwrap_or_default().to_string()
    };
    compare("--device", kind(run), kind(now));
    let names = |config: &Config| {
        let names: Vec<_> = config.stages.iter().map(|s| s.name.as_str()).collect();
        names.join(" and ")
    };
    compare("--stage", names(run), names(now));
    for (stage, stage_now) in run.stages.iter().zip(&now.stages) {
        let name = stage.name.as_str();
        compare(
            &format!("--{name}-epochs"),
            stage.epochs.to_string(),
            stage_now.epochs.to_string(),
        );
        let rates = |stage: &StageConfig| {
            let groups = stage.groups.iter();
            let rates: Vec<_> = groups
                .map(|group| format!("{}={:e}", group.layers, group.lr))
                .collect();
            rates.join(",")
        };
        compare(
            match stage.name {
                StageName::Transfer => "--lr, --transfer-layers",
                StageName::Finetune => "--finetune-lr",
            },
            rates(stage),
            rates(stage_now),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_result_is_named_and_the_rest_is_not() {
        let run = Config::example();
        let mut now = run.clone();
        now.machine.workers += 1;
        now.machine.cache_images = 0;
        now.data.root = "/elsewhere".to_string();
        now.network.weights = "/elsewhere/weights".to_string();
        assert_eq!(differences(&run, &now), Vec::<String>::new());
        now.training.seed = 5;
        now.machine.device = "cuda:0".to_string();
        now.stages[1].groups[0].lr = 0.5;
        assert_eq!(
            differences(&run, &now),
            [
                "--seed: 1234 in the run, 5 now",
                "--device: cpu in the run, cuda now",
                "--lr, --transfer-layers: features=1e-3 in the run, features=5e-1 now"
            ]
        );
    }
}
