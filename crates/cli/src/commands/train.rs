//! `waggle train`: what can fail early is tried before the first step, then the stages run.

use std::io;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use candle_core::Device;
use dataset::{DecodeOptions, Loader, LoaderConfig, Sample};
use trainer::{Data, Evaluation, FitConfig, Flow, FrozenCache, Group, Params, SgdConfig, Stage};

use crate::adapters::{Network, Pictures};
use crate::args::TrainArgs;
use crate::bad_pictures::{self, Skipped};
use crate::config::{
    self, CANDLE_VERSION, Config, DataConfig, MachineConfig, NetworkConfig, StageConfig,
    TrainingConfig, Versions,
};
use crate::data_source::{Folder, Source};
use crate::message::Message;
use crate::metrics::{Metrics, Score};
use crate::render::{JsonLines, Quiet, Renderer, Terminal};
use crate::run_dir::RunDir;
use crate::start::Start;
use crate::watch::Watch;
use crate::{device, model_file, plots};

/// Runs the command.
pub fn run(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    let mut renderer: Box<dyn Renderer> = match (args.quiet, args.json) {
        (true, _) => Box::new(Quiet::new(io::stdout())),
        (_, true) => Box::new(JsonLines::new(io::stdout())),
        _ => Box::new(Terminal::new(io::stdout())),
    };
    let renderer = renderer.as_mut();
    let threads = super::start_threads(&args.machine)?;
    let opened = device::open(&args.machine)?;

    let source = Source::choose(args.data.as_deref());
    if source == Source::Sample {
        renderer.show(&Message::Working {
            what: "drawing the built-in sample".to_string(),
        })?;
    }
    let mut folder = source.open()?;
    let skipped = bad_pictures::sort_out(args, &mut folder, renderer)?;
    renderer.show(&folder.message())?;
    renderer.show(&Message::Device {
        device: &opened.name,
        threads,
        fallback: opened.fallback.as_deref(),
    })?;
    let start = Start::choose(
        args,
        &folder.source,
        folder.classes(),
        &opened.device,
        renderer,
    )?;
    let config = resolve(args, &folder, skipped, &start, &opened.name, threads)?;
    renderer.show(&Message::Working {
        what: format!("reading all {} pictures", folder.pictures()),
    })?;
    let splits = Splits::new(args, &folder, &start, &opened.device)?;
    splits.verify(&folder)?;

    tell(&start, renderer)?;
    let metadata = start.metadata(folder.classes());
    let params =
        Params::from_tensors(start.tensors, &opened.device)?.with_state(vgg::config::is_statistic);
    for stage in &config.stages {
        // What a stage cannot do is found now, not after the stage before it has run.
        prepare(stage, &params, config.training.momentum)?;
    }
    let run = RunDir::create(&args.out)?;
    run.write(Config::FILE, config.to_toml()?.as_bytes())?;
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
        save: &save,
        saved: false,
    };
    let (train, val) = (
        Pictures::new(splits.train.clone()),
        Pictures::new(splits.val.clone()),
    );
    let precision = args.machine.precision;
    let build =
        |vb| Network::new(&metadata.config, vb).map(|network| network.in_precision(precision));
    for stage in &config.stages {
        let mut state = prepare(stage, &params, config.training.momentum)?;
        let fit = FitConfig {
            epochs: stage.epochs,
            seed: args.seed,
            ..FitConfig::default()
        };
        let data = Data {
            train: &train,
            val: &val,
        };
        watch
            .follow(stage.name, |observer| {
                trainer::fit(&params, build, data, &fit, &mut state, observer)
            })?
            .map_err(|error| explain(error, &splits))?;
    }

    let network = build(params.frozen_var_builder())?;
    let found = trainer::evaluate(&network, &val, &mut FrozenCache::off(), &mut |_| {
        Flow::Continue
    })?;
    finish(
        &found.context("the last evaluation did not end")?,
        folder.classes(),
        &run,
        watch.renderer,
    )?;
    Ok(ExitCode::SUCCESS)
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

/// Sets what trains in a stage and makes its optimizer, without momentum yet.
fn prepare(stage: &StageConfig, params: &Params, momentum: f64) -> anyhow::Result<Stage> {
    let groups: Vec<Group> = stage
        .groups
        .iter()
        .map(|group| Group::new(group.layers.clone(), group.rate))
        .collect();
    let layers: Vec<&str> = stage
        .groups
        .iter()
        .map(|group| group.layers.as_str())
        .collect();
    let optimizer = SgdConfig {
        momentum,
        ..SgdConfig::default()
    };
    params
        .set_trainable(&layers)
        .and_then(|()| Stage::new(params, optimizer, groups))
        .with_context(|| format!("the {} stage cannot run", stage.name.as_str()))
}

/// Both splits as batches.
struct Splits {
    train: Loader,
    val: Loader,
}

impl Splits {
    fn new(
        args: &TrainArgs,
        folder: &Folder,
        start: &Start,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let size = u32::try_from(start.config.input_size).context("the input size is too large")?;
        let budget = usize::try_from(args.cache_images.get()).unwrap_or(usize::MAX);
        // Both get the share of the memory that their pictures are of all.
        let share =
            |split: usize| (budget as f64 * split as f64 / folder.pictures() as f64) as usize;
        let loader = |samples: &[Sample], config: LoaderConfig| {
            let config = LoaderConfig {
                batch_size: args.batch_size.get(),
                workers: args.machine.workers.get(),
                seed: args.seed,
                normalize: start.normalize,
                device: device.clone(),
                cache_bytes: share(samples.len()),
                decode: DecodeOptions {
                    ignore_exif: args.machine.ignore_exif,
                    ..DecodeOptions::default()
                },
                ..config
            };
            Loader::new(samples, config)
        };
        Ok(Self {
            train: loader(folder.train.samples(), LoaderConfig::train(size))?,
            val: loader(folder.val.samples(), LoaderConfig::eval(size))?,
        })
    }

    /// Decodes every picture once: one that cannot be is known now, not in epoch 7. All of them are listed.
    fn verify(&self, folder: &Folder) -> anyhow::Result<()> {
        let mut bad = Vec::new();
        for split in [&self.train, &self.val] {
            match split.preload() {
                Ok(()) => {}
                Err(dataset::Error::BadPictures { errors, .. }) => bad.extend(errors),
                Err(error) => return Err(error.into()),
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        let error = dataset::Error::BadPictures {
            errors: bad,
            checked: folder.pictures(),
        };
        Err(anyhow::Error::new(error).context(
            "there are pictures that cannot be decoded; mend or remove them, or leave them out with --on-bad skip",
        ))
    }

    /// `train_batch.png`: the first batch that trains, as the network sees it.
    fn draw_batch(&self, folder: &Folder, run: &RunDir) -> anyhow::Result<()> {
        let batch = self
            .train
            .epoch(1)
            .next()
            .context("there is no training batch")??;
        let normalize = self.train.config().normalize;
        run.write(
            "train_batch.png",
            &plots::batch::draw(&batch, folder.classes(), normalize)?,
        )
    }
}

/// Adds the pictures of the batch to a loss that is not finite: the trainer knows them by number only.
fn explain(error: trainer::Error, splits: &Splits) -> anyhow::Error {
    const SHOWN: usize = 8;
    let trainer::Error::NonFiniteLoss(loss) = &error else {
        return error.into();
    };
    let samples = match loss.phase {
        trainer::Phase::Train => splits.train.samples(),
        trainer::Phase::Val => splits.val.samples(),
    };
    let mut pictures: Vec<String> = loss
        .samples
        .iter()
        .take(SHOWN)
        .filter_map(|&index| samples.get(index))
        .map(|sample| sample.path.display().to_string())
        .collect();
    if loss.samples.len() > SHOWN {
        pictures.push(format!("and {} more", loss.samples.len() - SHOWN));
    }
    let context = anyhow!(
        "training stopped: the loss is no longer a number. The best weights so far are in the run directory. \
         The batch: {}",
        pictures.join(", ")
    );
    anyhow::Error::new(error).context(context.to_string())
}

/// The confusion matrix and the last words.
fn finish(
    found: &Evaluation,
    classes: &[String],
    run: &RunDir,
    renderer: &mut dyn Renderer,
) -> anyhow::Result<()> {
    let picture = plots::confusion_matrix::draw(classes, found.confusion.rows())?;
    run.write("confusion_matrix.png", &picture)?;
    renderer.show(&Message::Done {
        directory: run.path().display().to_string(),
        model: run.file(model_file::FILE).display().to_string(),
        score: Score {
            loss: found.loss(),
            accuracy: found.accuracy(),
        },
    })
}
