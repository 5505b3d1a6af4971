//! `waggle train`: what can fail early is tried before the first step, then the stages run.

mod stages;

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use trainer::{Evaluation, Outcome, Params};

use crate::args::TrainArgs;
use crate::bad_pictures::{self, Skipped};
use crate::checkpoint::{Identity, Keeper};
use crate::config::{
    self, CANDLE_VERSION, Config, DataConfig, MachineConfig, NetworkConfig, TrainingConfig,
    Versions,
};
use crate::data_source::{Folder, Source};
use crate::fingerprint::Fingerprint;
use crate::interrupt::Interrupts;
use crate::message::Message;
use crate::metrics::{Metrics, Score};
use crate::render::{JsonLines, Quiet, Renderer, Terminal};
use crate::resume::{Found, Resume};
use crate::run_dir::RunDir;
use crate::splits::Splits;
use crate::start::Start;
use crate::watch::Watch;
use crate::words::quoted;
use crate::{device, model_file, plots};
use stages::Stages;

/// Runs the command.
pub fn run(typed: &TrainArgs) -> anyhow::Result<ExitCode> {
    let interrupts = Interrupts::catch()?;
    let mut renderer: Box<dyn Renderer> = match (typed.quiet, typed.json) {
        (true, _) => Box::new(Quiet::new(io::stdout())),
        (_, true) => Box::new(JsonLines::new(io::stdout())),
        _ => Box::new(Terminal::new(io::stdout())),
    };
    let renderer = renderer.as_mut();
    let resumed = match &typed.resuming.resume {
        None => None,
        Some(path) => match Resume::open(path, typed, renderer)? {
            Found::Unfinished(resumed) => Some(*resumed),
            Found::Finished => {
                let directory = path.display().to_string();
                renderer.show(&Message::AlreadyDone { directory })?;
                return Ok(ExitCode::SUCCESS);
            }
        },
    };
    let args = &resumed
        .as_ref()
        .map_or_else(|| typed.clone(), |resumed| resumed.args.clone());
    let threads = super::start_threads(&args.machine)?;
    let opened = device::open(&args.machine)?;

    let mut folder = match &resumed {
        Some(resumed) => resumed.folder()?,
        None => open_folder(args, renderer)?,
    };
    let skipped = bad_pictures::sort_out(args, &mut folder, renderer)?;
    renderer.show(&folder.message())?;
    let classes = &folder.unmeasured()[..];
    if !classes.is_empty() {
        renderer.show(&Message::UnmeasuredClasses { classes })?;
    }
    renderer.show(&Message::Device {
        device: &opened.name,
        threads,
        fallback: opened.fallback.as_deref(),
    })?;
    let mut start = Start::choose(
        args,
        &folder.source,
        folder.classes(),
        &opened.device,
        renderer,
    )?;
    renderer.show(&Message::Working {
        what: format!("reading all {} pictures", folder.pictures()),
    })?;
    let splits = Splits::new(args, &folder, &start, &opened.device)?;
    splits.verify(&folder)?;
    let identity = Identity {
        weights_sha256: start.sha256.clone(),
        arguments: args.resuming.typed.clone(),
        config: resolve(args, &folder, skipped, &start, &opened.name, threads)?,
        data: Fingerprint::of(&folder)?,
    };
    if let Some(resumed) = &resumed {
        resumed.check(&identity, renderer)?;
    }

    tell(&start, renderer)?;
    let metadata = start.metadata(folder.classes());
    let (run, mut checkpoint) = match resumed {
        Some(resumed) => {
            renderer.show(&resumed.message())?;
            (Some(resumed.run), Some(resumed.checkpoint))
        }
        None => (None, None),
    };
    if let Some(checkpoint) = &mut checkpoint {
        start.tensors.append(&mut checkpoint.weights);
    }
    let params =
        Params::from_tensors(start.tensors, &opened.device)?.with_buffers(vgg::config::is_buffer);
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
    })?;
    splits.draw_batch(&folder, &run)?;

    let model = run.file(model_file::FILE);
    let save = || Ok(vgg::save(&model, &params.tensors(), &metadata)?);
    let mut watch = Watch {
        renderer,
        run: &run,
        metrics: Metrics::default(),
        training: None,
        save: &save,
        saved: false,
        keeper: Keeper::new(
            run.path(),
            checkpoint.as_ref(),
            &identity,
            &params,
            args.resuming.checkpoint_every.get(),
        )?,
        interrupts: &interrupts,
    };
    let found = match stages.run(&mut watch, &model, checkpoint)? {
        Outcome::Stopped => None,
        Outcome::Finished { .. } => stages.evaluate(&interrupts)?,
    };
    watch.finish_checkpoint()?;
    let Some(found) = found else {
        return interrupted(args, &interrupts, &run, watch.renderer);
    };
    draw_confusion(&found, folder.classes(), &run)?;
    watch.keeper.clear()?;
    watch.renderer.show(&Message::Done {
        directory: run.path().display().to_string(),
        model: model.display().to_string(),
        score: Score {
            loss: found.loss(),
            accuracy: found.accuracy(),
        },
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The pictures that the arguments mean.
fn open_folder(args: &TrainArgs, renderer: &mut dyn Renderer) -> anyhow::Result<Folder> {
    let source = Source::choose(args.data.as_deref());
    if source == Source::Sample {
        renderer.show(&Message::Working {
            what: "drawing the built-in sample".to_string(),
        })?;
    }
    let folder = source.open()?;
    folder.refuse_one_class()?;
    Ok(folder)
}

/// A new run directory that says what it is.
fn create_run(args: &TrainArgs, config: &Config) -> anyhow::Result<RunDir> {
    let run = RunDir::create(&args.out)?;
    run.write(Config::FILE, config.to_toml()?.as_bytes())?;
    Ok(run)
}

/// Everything that decides the result, in one place.
fn resolve(
    args: &TrainArgs,
    folder: &Folder,
    skipped: Vec<Skipped>,
    start: &Start,
    device: &str,
    threads: usize,
) -> anyhow::Result<Config> {
    let fresh = start.report.fresh_layers();
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
            train_pictures: folder.train.len(),
            val_pictures: folder.val.len(),
            ignore_exif: args.machine.ignore_exif,
            on_bad: args.on_bad,
            skipped,
        },
        network: NetworkConfig {
            architecture: start.config.architecture.clone(),
            input_size: start.config.input_size,
            weights: start.source.clone(),
            fresh_layers: fresh.clone(),
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
        stages: config::stages(args, &start.layer_names()?, &fresh)?,
    })
}

/// The network and what became of its weights, for the user.
fn tell(start: &Start, renderer: &mut dyn Renderer) -> anyhow::Result<()> {
    let summary = start.summary()?;
    renderer.show(&Message::Network {
        architecture: &start.config.architecture,
        parameters: summary.parameters(),
        table: &summary.to_string(),
    })?;
    renderer.show(&Message::Weights {
        source: &start.source,
        loaded: &start.report.loaded,
        fresh: &start.report.fresh,
        unused: &start.report.unused,
        mismatched: &start.report.mismatched,
    })
}

/// The last words of a run that a signal stopped, and its exit code.
fn interrupted(
    args: &TrainArgs,
    interrupts: &Interrupts,
    run: &RunDir,
    renderer: &mut dyn Renderer,
) -> anyhow::Result<ExitCode> {
    let signal = interrupts
        .pending()
        .context("the training stopped without being asked to")?;
    let directory = run.path().display().to_string();
    if args.quiet {
        super::warn(&format!(
            "stopped by {signal}; to go on: waggle train --resume {}",
            quoted(&directory)
        ));
    }
    renderer.show(&Message::Interrupted {
        signal: signal.to_string(),
        directory,
    })?;
    Ok(ExitCode::from(signal.exit_code()))
}

/// `confusion_matrix.png`.
fn draw_confusion(found: &Evaluation, classes: &[String], run: &RunDir) -> anyhow::Result<()> {
    let picture = plots::confusion_matrix::draw(classes, found.confusion.rows())?;
    run.write("confusion_matrix.png", &picture)
}
