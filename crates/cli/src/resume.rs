//! `--resume`: opens an interrupted run, and checks that resuming it does not change its result.

mod finished;

use std::path::Path;

use anyhow::{Context, anyhow, bail};

use crate::args::TrainArgs;
use crate::checkpoint::{Checkpoint, Identity};
use crate::config::{Config, StageConfig, StageName};
use crate::data_source::{Folder, Source};
use crate::device::DeviceChoice;
use crate::error::Diagnostic;
use crate::message::Message;
use crate::model_file;
use crate::render::Renderer;
use crate::run_dir::RunDir;
use crate::shell::quote;

/// State of the run passed with `--resume`.
pub enum RunState {
    /// The run has a checkpoint to resume from.
    Unfinished(Box<ResumedRun>),
    /// The run has finished, so there is nothing to resume.
    Finished,
}

/// An interrupted run, opened to be resumed.
#[derive(Debug)]
pub struct ResumedRun {
    /// The original arguments, overridden by those given with `--resume`.
    pub args: TrainArgs,
    /// The run directory, locked by this process.
    pub run: RunDir,
    /// The newest intact checkpoint, from which the run resumes.
    pub checkpoint: Checkpoint,
}

impl ResumedRun {
    /// Opens the run directory `path`. Shows a message for each damaged checkpoint and falls back
    /// to the one before it.
    ///
    /// # Errors
    ///
    /// Returns an error if `path` is not a run directory, if another process uses it, if it has no
    /// intact checkpoint and is not finished, if its newest intact checkpoint has another format
    /// version, or if the given arguments would change the result of a finished run.
    pub fn open(
        path: &Path,
        given: &TrainArgs,
        renderer: &mut dyn Renderer,
    ) -> anyhow::Result<RunState> {
        check_is_run(path)?;
        let run = RunDir::open(path)?;
        let (checkpoint, damaged) = Checkpoint::newest(path)?;
        for checkpoint in &damaged {
            renderer.show(&Message::DamagedCheckpoint {
                file: checkpoint.path.display().to_string(),
                reason: &checkpoint.reason,
            })?;
        }
        let Some(checkpoint) = checkpoint else {
            if damaged.is_empty()
                && let Some(config) = finished::configuration(&run)
            {
                check_result_unchanged(&run, &config, &finished::with_given(&config, given))?;
                return Ok(RunState::Finished);
            }
            let model = run.file(model_file::FILE);
            let help = if model.exists() {
                let weights = quote(&model.display().to_string());
                format!(
                    "start a new run, for example from its best weights with `--weights {weights}`"
                )
            } else {
                "start a new run with `waggle train`, without `--resume`".to_string()
            };
            bail!(
                Diagnostic::new(format!(
                    "{} has no intact checkpoint to resume from",
                    path.display()
                ))
                .help(help)
            );
        };
        run.remove_leftovers()?;
        let identity = &checkpoint.identity;
        let explicit = identity.arguments.overridden_by(&given.resuming.explicit);
        let mut args = explicit.parse().with_context(|| {
            format!(
                "cannot parse the arguments in {}",
                checkpoint.path.display()
            )
        })?;
        args.data = given.data.clone();
        args.resuming.allow_changed_data = given.resuming.allow_changed_data;
        (args.quiet, args.json) = (given.quiet, given.json);
        // Defaults that depend on the machine keep the values recorded in the run.
        let machine = &identity.config.machine;
        if !explicit.contains("threads") {
            args.machine.threads = machine.threads.try_into().ok();
        }
        if !explicit.contains("device") {
            let device: Result<DeviceChoice, String> = machine.device.parse();
            args.machine.device = device.unwrap_or(args.machine.device);
        }
        Ok(RunState::Unfinished(Box::new(Self {
            args,
            run,
            checkpoint,
        })))
    }

    /// The message that says where the run resumes.
    pub fn message(&self) -> Message<'static> {
        let progress = &self.checkpoint.progress;
        let stage = &self.checkpoint.identity.config.stages[progress.stage];
        Message::Resumed {
            file: self.checkpoint.path.display().to_string(),
            stage: stage.name.as_str(),
            // A checkpoint after the last epoch of a stage has no next epoch.
            epoch: (progress.state.epoch + 1).min(stage.epochs),
            batches: progress.state.batch,
        }
    }

    /// Opens the folder passed with `--data`, by default the data folder recorded in the run. A
    /// recorded sample is written again if files are missing or have other sizes.
    ///
    /// # Errors
    ///
    /// Returns an error if the sample cannot be written or the images cannot be listed.
    pub fn folder(&self) -> anyhow::Result<Folder> {
        let data = &self.checkpoint.identity.config.data;
        let recorded = Path::new(&data.root);
        let source = Source::from_name(&data.source, recorded);
        if source == Source::Sample && self.args.data.is_none() {
            sample::write(recorded).context("cannot write the built-in sample")?;
        }
        let root = self.args.data.as_deref().unwrap_or(recorded);
        source.open_at(root.to_path_buf())
    }

    /// Checks that resuming the run with the inputs `now` gives the same result as an uninterrupted
    /// run. With `--allow-changed-data`, changed images are only reported in a message.
    ///
    /// # Errors
    ///
    /// Returns an error that names the settings, weights or images that differ.
    pub fn check(&self, now: &Identity, renderer: &mut dyn Renderer) -> anyhow::Result<()> {
        let recorded = &self.checkpoint.identity;
        check_result_unchanged(&self.run, &recorded.config, &now.config)?;
        if recorded.weights_sha256 != now.weights_sha256 {
            bail!(
                Diagnostic::new(format!(
                    "the weights {} have changed since the run {} started (their SHA-256 differs)",
                    now.config.network.weights,
                    self.run.path().display()
                ))
                .help("pass the original file with `--weights`")
            );
        }
        if let Some(changes) = recorded.data.changes(&now.data) {
            if !self.args.resuming.allow_changed_data {
                bail!(
                    Diagnostic::new(format!(
                        "the images have changed since the run {} started",
                        self.run.path().display()
                    ))
                    .items(changes.lines())
                    .help(
                        "restore the images, or pass `--allow-changed-data` to accept the changes"
                    )
                );
            }
            renderer.show(&Message::ChangedData { changes: &changes })?;
        }
        Ok(())
    }
}

/// Checks that the folder `path` was created by a run, before anything in it is locked, written or
/// deleted.
///
/// A run writes `config.toml` first. If that file was lost or damaged, the run is recognized by an
/// intact checkpoint, which contains the same configuration.
fn check_is_run(path: &Path) -> anyhow::Result<()> {
    if !path.is_dir() {
        // `RunDir::open` reports this.
        return Ok(());
    }
    let file = path.join(Config::FILE);
    let config = if file.is_file() {
        Config::read(&file).map(drop)
    } else {
        Err(anyhow!("no such file: {}", file.display()))
    };
    let Err(error) = config else {
        return Ok(());
    };
    if Checkpoint::newest(path)?.0.is_some() {
        return Ok(());
    }
    Err(
        Diagnostic::new(format!("{} is not a run directory", path.display()))
            .help("pass a directory that `waggle train` created, such as `runs/train`")
            .caused_by(error)
            .into(),
    )
}

/// Returns an error if the configuration `now` would give a different result from `recorded`.
fn check_result_unchanged(run: &RunDir, recorded: &Config, now: &Config) -> anyhow::Result<()> {
    let differences = differences(recorded, now);
    if differences.is_empty() {
        return Ok(());
    }
    bail!(
        Diagnostic::new(format!(
            "cannot resume the run {} with other settings, because they would change its result",
            run.path().display()
        ))
        .items(differences)
        .help("leave these settings out, or start a new run")
    )
}

/// A setting that affects the result: the argument that sets it, and its value in a configuration.
type Setting = (&'static str, fn(&Config) -> String);

const SETTINGS: [Setting; 13] = [
    ("version of waggle", |config| config.versions.waggle.clone()),
    ("classes of --data", |config| config.data.classes.join(", ")),
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
    ("newly initialized layers", |config| {
        config.network.initialized_layers.join(", ")
    }),
    ("--seed", |config| config.training.seed.to_string()),
    ("--batch-size", |config| {
        config.training.batch_size.to_string()
    }),
    ("--momentum", |config| config.training.momentum.to_string()),
    ("--threads", |config| config.machine.threads.to_string()),
    ("instruction set of the CPU (or WAGGLE_KERNELS)", |config| {
        config.machine.kernels.clone()
    }),
];

/// The settings that affect the result and differ between `run` and `now`, one line for each.
fn differences(run: &Config, now: &Config) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |setting: &str, run: String, now: String| {
        if run != now {
            differences.push(format!("{setting}: {run} in the run, {now} now"));
        }
    };
    for (setting, value) in SETTINGS {
        compare(setting, value(run), value(now));
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
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_affect_the_result_are_listed() {
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
