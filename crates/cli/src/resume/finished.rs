//! A run that is done: how it is recognised, and what cannot be asked of it any more.
//!
//! Its checkpoints are gone, and with them the arguments that it was started with. What was typed is put over its
//! `config.toml` and compared with that, so that the same things are refused as of a run that can go on.

use std::fs;

use crate::args::TrainArgs;
use crate::config::{Config, StageConfig, StageName};
use crate::device::DeviceChoice;
use crate::metrics::Metrics;
use crate::model_file;
use crate::run_dir::RunDir;
use crate::values::{LayerRate, StageChoice};

/// The configuration of a run all of whose epochs are done: its checkpoints go when it is, and only then.
pub(super) fn configuration(run: &RunDir) -> Option<Config> {
    let config = Config::read(&run.file(Config::FILE)).ok()?;
    let epochs: u64 = config.stages.iter().map(|stage| stage.epochs).sum();
    let rows = fs::read_to_string(run.file(Metrics::FILE)).unwrap_or_default();
    let is_done = run.file(model_file::FILE).exists() && rows.lines().count() as u64 == epochs + 1;
    is_done.then_some(config)
}

/// The configuration `run` with what was typed now.
pub(super) fn with_typed(run: &Config, args: &TrainArgs) -> Config {
    let typed = |name: &str| args.resuming.explicit.contains(name);
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
    if typed("device") && args.machine.device != DeviceChoice::Auto {
        now.machine.device = args.machine.device.to_string();
    }
    if typed("precision") {
        now.machine.precision = args.machine.precision.to_string();
    }
    now.data.ignore_exif |= args.machine.ignore_exif;
    if typed("on-bad") {
        now.data.on_bad = args.on_bad;
    }
    if typed("seed") {
        now.training.seed = args.seed;
    }
    if typed("batch-size") {
        now.training.batch_size = args.batch_size.get();
    }
    if typed("momentum") {
        now.training.momentum = args.momentum.get();
    }
    if typed("stage") {
        now.stages = stages(&now.stages, args.stage);
    }
    for stage in &mut now.stages {
        match stage.name {
            StageName::Transfer => {
                if typed("transfer-epochs") {
                    stage.epochs = args.transfer_epochs.get() as u64;
                }
                if let Some(names) = &args.transfer_layers {
                    let lr = stage.groups.first().map_or(0.0, |group| group.lr);
                    let groups = names.iter().cloned();
                    stage.groups = groups.map(|layers| LayerRate { layers, lr }).collect();
                }
                if typed("lr") {
                    let lr = args.lr.get();
                    stage.groups.iter_mut().for_each(|group| group.lr = lr);
                }
            }
            StageName::Finetune => {
                if typed("finetune-epochs") {
                    stage.epochs = args.finetune_epochs.get() as u64;
                }
                if typed("finetune-lr") {
                    stage.groups = args.finetune_lr.iter().cloned().collect();
                }
            }
        }
    }
    now
}

/// The stages of `choice`: those that ran as they were, another one by its name alone.
fn stages(ran: &[StageConfig], choice: StageChoice) -> Vec<StageConfig> {
    let names: &[StageName] = match choice {
        StageChoice::Both => &[StageName::Transfer, StageName::Finetune],
        StageChoice::Transfer => &[StageName::Transfer],
        StageChoice::Finetune => &[StageName::Finetune],
    };
    let stage = |&name: &StageName| {
        let same = ran.iter().find(|stage| stage.name == name).cloned();
        same.unwrap_or(StageConfig {
            name,
            epochs: 0,
            groups: Vec::new(),
        })
    };
    names.iter().map(stage).collect()
}
