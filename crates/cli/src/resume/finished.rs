//! `--resume` of a finished run.
//!
//! A finished run has no checkpoints, and therefore no record of the arguments it was started with.
//! The explicit arguments are applied to the configuration in `config.toml`, and the two
//! configurations are compared. The same arguments are then refused as for an unfinished run.

use std::fs;

use crate::args::TrainArgs;
use crate::config::{Config, StageConfig, StageName};
use crate::device::DeviceChoice;
use crate::metrics::Metrics;
use crate::model_file;
use crate::run_dir::RunDir;
use crate::values::{LayerRate, StageChoice};

/// The configuration of a run that has its model and the metrics of all epochs, or `None` for other
/// runs. A run does not remove its checkpoints before that.
pub(super) fn configuration(run: &RunDir) -> Option<Config> {
    let config = Config::read(&run.file(Config::FILE)).ok()?;
    let epochs: u64 = config.stages.iter().map(|stage| stage.epochs).sum();
    let rows = fs::read_to_string(run.file(Metrics::FILE)).unwrap_or_default();
    let is_done = run.file(model_file::FILE).exists() && rows.lines().count() as u64 == epochs + 1;
    is_done.then_some(config)
}

/// The configuration `run` with the explicit arguments applied.
pub(super) fn with_given(run: &Config, args: &TrainArgs) -> Config {
    let is_given = |name: &str| args.resuming.explicit.contains(name);
    let mut now = run.clone();
    if let Some(arch) = &args.arch {
        now.network.architecture = arch.clone();
    }
    if let Some(size) = args.input_size {
        now.network.input_size = size.get();
    }
    if let Some(threads) = args.machine.threads {
        now.machine.threads = threads.get();
    }
    if is_given("device") && args.machine.device != DeviceChoice::Auto {
        now.machine.device = args.machine.device.to_string();
    }
    if is_given("precision") {
        now.machine.precision = args.machine.precision.to_string();
    }
    now.data.ignore_exif |= args.machine.ignore_exif;
    if is_given("on-bad") {
        now.data.on_bad = args.on_bad;
    }
    if is_given("seed") {
        now.training.seed = args.seed;
    }
    if is_given("batch-size") {
        now.training.batch_size = args.batch_size.get();
    }
    if is_given("momentum") {
        now.training.momentum = args.momentum.get();
    }
    if is_given("stage") {
        now.stages = stages(&now.stages, args.stage);
    }
    for stage in &mut now.stages {
        match stage.name {
            StageName::Transfer => {
                if is_given("transfer-epochs") {
                    stage.epochs = args.transfer_epochs.get() as u64;
                }
                if let Some(names) = &args.transfer_layers {
                    let lr = stage.groups.first().map_or(0.0, |group| group.lr);
                    let groups = names.iter().cloned();
                    stage.groups = groups.map(|layers| LayerRate { layers, lr }).collect();
                }
                if is_given("lr") {
                    let lr = args.lr.get();
                    stage.groups.iter_mut().for_each(|group| group.lr = lr);
                }
            }
            StageName::Finetune => {
                if is_given("finetune-epochs") {
                    stage.epochs = args.finetune_epochs.get() as u64;
                }
                if is_given("finetune-lr") {
                    stage.groups = args.finetune_lr.iter().cloned().collect();
                }
            }
        }
    }
    now
}

/// The stages selected by `choice`, with the settings they ran with. A stage that did not run has
/// only its name.
fn stages(ran: &[StageConfig], choice: StageChoice) -> Vec<StageConfig> {
    let names: &[StageName] = match choice {
        StageChoice::Both => &[StageName::Transfer, StageName::Finetune],
        StageChoice::Transfer => &[StageName::Transfer],
        StageChoice::Finetune => &[StageName::Finetune],
    };
    let stage = |&name: &StageName| {
        let stage = ran.iter().find(|stage| stage.name == name).cloned();
        stage.unwrap_or(StageConfig {
            name,
            epochs: 0,
            groups: Vec::new(),
        })
    };
    names.iter().map(stage).collect()
}
