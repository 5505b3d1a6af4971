//! `waggle train`: checks everything that can fail early, then runs the stages.

mod stages;

use std::io;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use trainer::{Evaluation, Outcome, Params, pattern};

use crate::args::TrainArgs;
use crate::bad_images::{self, Skipped};
use crate::checkpoint::{Checkpointer, Identity};
use crate::config::{
    self, CANDLE_VERSION, Config, DataConfig, MachineConfig, NetworkConfig, TrainingConfig,
    Versions,
};
use crate::data_source::{Folder, Source};
use crate::dataset_hash::DatasetHash;
use crate::error::{self, Diagnostic, warn};
use crate::initial_model::InitialModel;
use crate::message::{ClassRecall, Message, PlannedStage};
use crate::metrics::{Metrics, Score, wilson_interval};
use crate::observer::TrainObserver;
use crate::render::{JsonLines, Quiet, Renderer, Terminal};
use crate::resume::{ResumedRun, RunState};
use crate::run_dir::RunDir;
use crate::shell::quote;
use crate::signals::Signals;
use crate::splits::Splits;
use crate::{device, model_file, plots};
use stages::Stages;

/// Names of the files in the directory of a finished run.
const FILES: [&str; 6] = [
    model_file::FILE,
    Config::FILE,
    Metrics::FILE,
    "curves.png",
    "confusion_matrix.png",
    "train_batch.png",
];

/// Runs `waggle train`.
pub fn run(cli_args: &TrainArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let signals = Signals::install()?;
    let mut renderer: Box<dyn Renderer> = match (cli_args.quiet, cli_args.json) {
        (true, _) => Box::new(Quiet::new(io::stdout())),
        (_, true) => Box::new(JsonLines::new(io::stdout())),
        _ => Box::new(Terminal::stdout(cli_args.verbose)),
    };
    let renderer = renderer.as_mut();
    notify_of_interrupt(&signals, renderer);
    let resumed = match &cli_args.resuming.resume {
        None => None,
        Some(path) => match ResumedRun::open(path, cli_args, renderer)? {
            RunState::Unfinished(resumed) => Some(*resumed),
            RunState::Finished => {
                let directory = path.display().to_string();
                renderer.show(&Message::AlreadyDone { directory })?;
                return Ok(ExitCode::SUCCESS);
            }
        },
    };
    let args = &resumed
        .as_ref()
        .map_or_else(|| cli_args.clone(), |resumed| resumed.args.clone());
    let threads = super::start_threads(&args.machine)?;
    let opened = device::open(&args.machine)?;

    let mut folder = match &resumed {
        Some(resumed) => resumed.folder()?,
        None => open_folder(args, renderer)?,
    };
    let skipped = bad_images::filter_bad_images(args, &mut folder, renderer)?;
    renderer.show(&folder.message())?;
    let classes = &folder.classes_without_val()[..];
    if !classes.is_empty() {
        renderer.show(&Message::ClassesWithoutVal { classes })?;
    }
    renderer.show(&Message::Device {
        device: &opened.name,
        threads,
        fallback: opened.fallback.as_deref(),
    })?;
    let mut initial = InitialModel::choose(
        args,
        &folder.source,
        folder.classes(),
        &opened.device,
        renderer,
    )?;
    renderer.show(&Message::Working {
        what: format!("decoding {} images", folder.images()),
    })?;
    let splits = Splits::new(args, &folder, &initial, &opened.device)?;
    splits.verify(&folder)?;
    let identity = Identity {
        weights_sha256: initial.sha256.clone(),
        arguments: args.resuming.explicit.clone(),
        config: resolve(args, &folder, skipped, &initial, &opened.name, threads)?,
        data: DatasetHash::of(&folder)?,
    };
    if let Some(resumed) = &resumed {
        resumed.check(&identity, renderer)?;
    }

    describe(&initial, &identity.config, folder.classes().len(), renderer)?;
    let metadata = initial.metadata(folder.classes());
    let (run, mut checkpoint) = match resumed {
        Some(resumed) => {
            renderer.show(&resumed.message())?;
            (Some(resumed.run), Some(resumed.checkpoint))
        }
        None => (None, None),
    };
    if let Some(checkpoint) = &mut checkpoint {
        initial.tensors.append(&mut checkpoint.weights);
    }
    let params =
        Params::from_tensors(initial.tensors, &opened.device)?.with_buffers(vgg::config::is_buffer);
    let stages = Stages {
        config: &identity.config,
        params: &params,
        metadata: &metadata,
        splits: &splits,
        precision: args.machine.precision,
    };
    stages.check()?;
    let run = match run {
        Some(run) => run,
        None => create_run(args, &identity.config)?,
    };
    renderer.show(&Message::Run {
        directory: run.path().display().to_string(),
        stages: planned(&identity.config),
    })?;
    splits.draw_batch(&folder, &run)?;

    let model = run.file(model_file::FILE);
    let save = || Ok(vgg::save(&model, &params.tensors(), &metadata)?);
    let mut observer = TrainObserver {
        renderer,
        run: &run,
        metrics: Metrics::default(),
        training: None,
        save: &save,
        saved: false,
        checkpointer: Checkpointer::new(
            run.path(),
            checkpoint.as_ref(),
            &identity,
            &params,
            args.resuming.checkpoint_every.get(),
        )?,
        signals: &signals,
    };
    let evaluation = match stages.run(&mut observer, &model, checkpoint)? {
        Outcome::Paused => None,
        Outcome::Finished { .. } => stages.evaluate(&signals)?,
    };
    observer.finish_checkpoint()?;
    let Some(evaluation) = evaluation else {
        return interrupted(args, &signals, &run, observer.renderer);
    };
    draw_confusion(&evaluation, folder.classes(), &run)?;
    observer.checkpointer.clear()?;
    let (correct, images) = (evaluation.metrics.correct, evaluation.metrics.samples);
    observer.renderer.show(&Message::Done {
        directory: run.path().display().to_string(),
        model: model.display().to_string(),
        files: &FILES,
        score: Score {
            loss: evaluation.loss(),
            accuracy: evaluation.accuracy(),
        },
        correct,
        images,
        interval: wilson_interval(correct, images),
        worst_class: worst_class(&evaluation, folder.classes()),
        seconds: started.elapsed().as_secs_f64(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Opens the data set of a new run.
fn open_folder(args: &TrainArgs, renderer: &mut dyn Renderer) -> anyhow::Result<Folder> {
    let source = Source::choose(args.data.as_deref());
    if source == Source::Sample {
        renderer.show(&Message::Working {
            what: "drawing the built-in sample images".to_string(),
        })?;
    }
    let folder = source.open()?;
    folder.require_two_classes()?;
    Ok(folder)
}

/// Creates the run directory and writes `config.toml`.
fn create_run(args: &TrainArgs, config: &Config) -> anyhow::Result<RunDir> {
    let run = RunDir::create(&args.out)?;
    run.write(Config::FILE, config.to_toml()?.as_bytes())?;
    Ok(run)
}

/// Resolves everything that determines the result of the run.
fn resolve(
    args: &TrainArgs,
    folder: &Folder,
    skipped: Vec<Skipped>,
    initial: &InitialModel,
    device: &str,
    threads: usize,
) -> anyhow::Result<Config> {
    let initialized = initial.report.initialized_layers();
    let root = std::path::absolute(&folder.root).unwrap_or_else(|_| folder.root.clone());
    Ok(Config {
        versions: Versions {
            waggle: env!("CARGO_PKG_VERSION").to_string(),
            candle: CANDLE_VERSION.to_string(),
        },
        data: DataConfig {
            root: root.display().to_string(),
            source: folder.source.name().to_string(),
            classes: folder.classes().to_vec(),
            train_images: folder.train.len(),
            val_images: folder.val.len(),
            ignore_exif: args.machine.ignore_exif,
            on_bad: args.on_bad,
            skipped,
        },
        network: NetworkConfig {
            architecture: initial.config.architecture.clone(),
            input_size: initial.config.input_size,
            weights: initial.source.clone(),
            initialized_layers: initialized.clone(),
        },
        training: TrainingConfig {
            seed: args.seed,
            batch_size: args.batch_size.get(),
            momentum: args.momentum.get(),
        },
        machine: MachineConfig {
            device: device.to_string(),
            precision: args.machine.precision.to_string(),
            kernels: vgg::kernels::Isa::selected().name().to_string(),
            threads,
            workers: args.machine.workers.get(),
            cache_images: args.cache_images.get(),
        },
        stages: config::stages(args, &initial.layer_names()?, &initialized)?,
    })
}

/// Shows messages that describe the network and the origin of its weights.
fn describe(
    initial: &InitialModel,
    config: &Config,
    classes: usize,
    renderer: &mut dyn Renderer,
) -> anyhow::Result<()> {
    let summary = initial.summary()?;
    let first = config.stages.first().context("the run has no stages")?;
    let shapes = initial.config.tensor_shapes()?;
    let is_trainable = |name: &str| {
        let mut groups = first.groups.iter();
        !vgg::config::is_buffer(name) && groups.any(|group| pattern::covers(&group.layers, name))
    };
    let trainable = shapes.iter().filter(|(name, _)| is_trainable(name));
    renderer.show(&Message::Network {
        architecture: &initial.config.architecture,
        input_size: initial.config.input_size,
        parameters: summary.parameters(),
        trainable_parameters: trainable
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum(),
        table: &summary.to_string(),
    })?;
    renderer.show(&Message::Weights {
        source: &initial.source,
        classes,
        loaded: &initial.report.loaded,
        initialized: &initial.report.initialized,
        replaced: &initial.report.replaced,
        mismatched: &initial.report.mismatched,
    })
}

fn planned(config: &Config) -> Vec<PlannedStage> {
    let stages = config.stages.iter();
    stages
        .map(|stage| PlannedStage {
            stage: stage.name.as_str(),
            epochs: stage.epochs,
        })
        .collect()
}

/// Acknowledges the first signal at once, because training stops only after the current batch.
fn notify_of_interrupt(signals: &Signals, renderer: &dyn Renderer) {
    let progress = renderer.progress();
    signals.on_first(move |signal| {
        let again = match signal.is_ctrl_c() {
            true => "; press Ctrl-C again to stop now",
            false => "",
        };
        progress.suspend(|| error::print(&format!("stopping after this batch{again}\n")));
    });
}

/// The class with the lowest recall, of the classes that have val images. The first one wins a tie.
fn worst_class<'a>(evaluation: &Evaluation, classes: &'a [String]) -> Option<ClassRecall<'a>> {
    let rows = evaluation.confusion.rows();
    let recall = evaluation.confusion.recall();
    let recalls = classes.iter().zip(rows).zip(recall);
    recalls
        .filter_map(|((class, row), recall)| {
            Some(ClassRecall {
                class,
                recall: recall?,
                images: row.iter().sum(),
            })
        })
        .min_by(|a, b| a.recall.total_cmp(&b.recall))
}

/// Reports how to resume a run stopped by a signal, and returns the exit code.
fn interrupted(
    args: &TrainArgs,
    signals: &Signals,
    run: &RunDir,
    renderer: &mut dyn Renderer,
) -> anyhow::Result<ExitCode> {
    let signal = signals
        .pending()
        .context("training stopped unexpectedly (this is a bug)")?;
    let directory = run.path().display().to_string();
    if args.quiet {
        let command = format!("waggle train --resume {}", quote(&directory));
        let warning = Diagnostic::new(format!("stopped by {signal}"));
        warn(warning.help(format!("to resume, run `{command}`")));
    }
    renderer.show(&Message::Interrupted {
        signal: signal.to_string(),
        directory,
    })?;
    Ok(ExitCode::from(signal.exit_code()))
}

/// Writes `confusion_matrix.png`.
fn draw_confusion(evaluation: &Evaluation, classes: &[String], run: &RunDir) -> anyhow::Result<()> {
    let png = plots::confusion_matrix::draw(classes, evaluation.confusion.rows())?;
    run.write("confusion_matrix.png", &png)
}
