//! The plan of a run: everything that is decided and checked before training starts, from the
//! arguments of a new run or from the checkpoint of an interrupted one.

mod resume;
mod stages;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use candle_core::Device;
use dataset::{DecodeOptions, path_text};
use trainer::pattern;
use vgg::kernels::Isa;
use vgg::{Summary, VggConfig};

use crate::args::TrainArgs;
use crate::args::types::{DeviceChoice, OnBad, WeightsSource};
use crate::bad_images;
use crate::checkpoint::{Checkpoint, Identity};
use crate::config::{
    Config, DataConfig, MachineConfig, NetworkConfig, Skipped, StageConfig, TrainingConfig,
    Versions,
};
use crate::data_source::{Folder, Source};
use crate::dataset_hash::DatasetHash;
use crate::device;
use crate::error::Diagnostic;
use crate::initial_model::{InitialModel, ModelSpec};
use crate::memory_limit;
use crate::run_dir::RunDir;
use crate::splits::Splits;
use crate::ui::text::pluralize;
use crate::ui::{DataSet, Message, Renderer};

/// The resolved configuration of a run, with its inputs opened.
pub struct Plan {
    /// The configuration, and the hashes of the images.
    pub identity: Identity,
    /// The data set, without skipped images.
    pub folder: Folder,
    /// Loaders for the images of `folder`. All have been decoded once without an error.
    pub splits: Splits,
    /// The network and its weights before training.
    pub initial: InitialModel,
    /// The compute device.
    pub device: Device,
    /// The run directory, and the checkpoint of a resumed run.
    pub origin: Origin,
}

/// The run directory, to be created or already locked.
pub enum Origin {
    /// A new run, and the directory to create for it. If it exists, a number is appended.
    New(PathBuf),
    /// A resumed run: its directory, locked by this process, and the checkpoint to resume from.
    Resumed(RunDir, Box<Checkpoint>),
}

impl Plan {
    /// Resolves the plan of a new run, or of the run passed with `--resume`. Returns `None` if that
    /// run is already finished.
    ///
    /// # Errors
    ///
    /// Returns an error if the device, the data set or the weights cannot be used, if an image cannot
    /// be decoded and is not skipped, or if a prefix matches no layer of the network. For `--resume`,
    /// also returns an error if the run directory cannot be used, has no intact checkpoint, or would
    /// give another result. Errors of `ui` are returned.
    pub fn resolve(args: &TrainArgs, ui: &mut dyn Renderer) -> anyhow::Result<Option<Self>> {
        memory_limit::check_cache(args.cache_images.unwrap_or(0))?;
        match &args.resume {
            None => Self::new(args, ui).map(Some),
            Some(path) => match resume::open(path, ui)? {
                None => Ok(None),
                Some((run, checkpoint)) => Self::resumed(args, run, checkpoint, ui).map(Some),
            },
        }
    }

    fn new(args: &TrainArgs, ui: &mut dyn Renderer) -> anyhow::Result<Self> {
        let source = Source::choose(args.data.as_deref());
        let machine = &args.machine;
        let mut machine = MachineConfig {
            device: machine.device.to_string(),
            precision: machine.precision.to_string(),
            kernels: Isa::selected()?.name().to_string(),
            threads: device::start_threads(machine.threads)?,
            workers: machine.workers(),
            cache_images: args.cache_images.unwrap_or(1 << 30),
            max_pixels: args.machine.decode.max_pixels(),
        };
        let opened = open_device(&mut machine)?;
        if source == Source::Sample {
            let what = "drawing the built-in sample images".to_string();
            ui.show(&Message::Working { what })?;
        }
        let mut folder = source.open()?;
        folder.refuse_run_directory(&args.out)?;
        folder.require_two_classes()?;
        let (on_bad, ignore_exif) = (args.on_bad, args.machine.decode.ignore_exif);
        let decode = args.machine.decode.options();
        let skipped = skip_bad_images(&mut folder, on_bad, &decode, machine.workers, ui)?;
        let hint = folder.source.hint().filter(|_| args.data.is_none());
        describe_inputs(&folder, &machine, opened.fallback.as_deref(), hint, ui)?;
        let spec = ModelSpec::from_args(args, &folder.source);
        check_arguments(args, &spec, &folder, &machine)?;
        if spec.needs_download()? {
            verify_images(&folder, on_bad, &decode, machine.workers, ui)?;
        }
        let initial = InitialModel::load(&spec, folder.classes(), &opened.device, ui)?;
        let network = network_config(&initial);
        let config = Config {
            versions: Versions::current(),
            data: data_config(&folder, on_bad, ignore_exif, skipped),
            training: TrainingConfig {
                seed: args.seed,
                batch_size: args.batch_size.get(),
                momentum: args.momentum,
                calibration: !args.no_calibration,
            },
            stages: stages::stages(
                args,
                &stages::layer_names(&initial.config)?,
                &network.initialized_layers,
            )?,
            network,
            machine,
        };
        let origin = Origin::New(args.out.clone());
        Self::with_checked_data(config, folder, initial, opened.device, origin, ui)
    }

    fn resumed(
        args: &TrainArgs,
        run: RunDir,
        checkpoint: Checkpoint,
        ui: &mut dyn Renderer,
    ) -> anyhow::Result<Self> {
        let recorded = checkpoint.identity.clone();
        let mut config = recorded.config.clone();
        config.versions = Versions::current();
        let machine = &mut config.machine;
        machine.kernels = Isa::selected()?.name().to_string();
        if let Some(workers) = args.machine.workers {
            machine.workers = workers.get();
        }
        if let Some(size) = args.cache_images {
            machine.cache_images = size;
        }
        if let Some(pixels) = args.machine.decode.max_pixels {
            machine.max_pixels = pixels;
        }
        device::check_threads(machine.workers, "--workers")?;
        device::start_threads(NonZeroUsize::new(machine.threads))?;
        let opened = open_device(machine).map_err(|error| {
            let message = format!("cannot open {}, the device of the run", machine.device);
            Diagnostic::new(message)
                .help("resume the run on a machine with this device, or start a new run")
                .caused_by(error)
        })?;
        let mut folder = resume::folder(&config.data, args.data.as_deref())?;
        let (on_bad, ignore_exif) = (config.data.on_bad, config.data.ignore_exif);
        let (decode, workers) = (config.decode_options(), config.machine.workers);
        let skipped = skip_bad_images(&mut folder, on_bad, &decode, workers, ui)?;
        config.data = data_config(&folder, on_bad, ignore_exif, skipped);
        describe_inputs(&folder, &config.machine, None, None, ui)?;
        let mut spec = ModelSpec::of_run(&config);
        spec.weights = args.weights.clone().unwrap_or(spec.weights);
        resume::check_same_result(run.path(), &recorded.config, &config)?;
        if spec.needs_download()? {
            verify_images(&folder, on_bad, &decode, workers, ui)?;
            let now = DatasetHash::read(&folder.root, [&folder.train, &folder.val])?;
            resume::accepted_changes(&recorded.data, &now, args.allow_changed_data)?;
        }
        let initial = InitialModel::load(&spec, folder.classes(), &opened.device, ui)?;
        config.network = network_config(&initial);
        let origin = Origin::Resumed(run, Box::new(checkpoint));
        let plan = Self::with_checked_data(config, folder, initial, opened.device, origin, ui)?;
        let now = &plan.identity.data;
        let changes = resume::accepted_changes(&recorded.data, now, args.allow_changed_data)?;
        if let Some(changes) = changes {
            ui.show(&Message::ChangedData { changes: &changes })?;
        }
        Ok(plan)
    }

    /// Decodes and hashes all images, each from one read of its file, so that errors are reported before
    /// training starts. Returns the plan.
    fn with_checked_data(
        config: Config,
        folder: Folder,
        initial: InitialModel,
        device: Device,
        origin: Origin,
        ui: &mut dyn Renderer,
    ) -> anyhow::Result<Self> {
        memory_limit::check_image(&initial.config)?;
        let batch_size = config.training.batch_size;
        check_batch(
            &initial.config,
            &config.stages,
            batch_size,
            &folder,
            &config.machine,
        )?;
        let what = format!("decoding {}", pluralize(folder.images(), "image"));
        ui.show(&Message::Working { what })?;
        let splits = Splits::new(&config, &folder, initial.normalize, &device)?;
        splits.verify(&folder)?;
        let data = DatasetHash::of(&folder.root, [&splits.train, &splits.val]);
        Ok(Self {
            identity: Identity { config, data },
            folder,
            splits,
            initial,
            device,
            origin,
        })
    }
}

/// Returns an error if a training batch needs more than the available memory.
fn check_batch(
    network: &VggConfig,
    stages: &[StageConfig],
    batch_size: usize,
    folder: &Folder,
    machine: &MachineConfig,
) -> anyhow::Result<()> {
    let trains_all = |stage: &StageConfig| {
        let mut groups = stage.groups.iter();
        groups.any(|group| pattern::covers(&group.layers, "features.0.weight"))
    };
    // On a GPU, only the input of the batch is in this memory.
    let on_cpu = machine.device == DeviceChoice::Cpu.to_string();
    let images = batch_size.min(folder.train.len());
    memory_limit::check_batch(network, images, on_cpu && stages.iter().any(trains_all))
}

/// Checks everything about the arguments of a new run that does not depend on the content of the
/// weights, so that no download precedes the error.
fn check_arguments(
    args: &TrainArgs,
    spec: &ModelSpec,
    folder: &Folder,
    machine: &MachineConfig,
) -> anyhow::Result<()> {
    let mut bytes = 0;
    let classes = folder.classes().len();
    memory_limit::check_confusion_matrix(classes)?;
    memory_limit::check_logits(folder.val.len(), classes)?;
    if let Some(network) = spec.imagenet_network(folder.classes())? {
        memory_limit::check_image(&network)?;
        let stages = stages::stages(args, &stages::layer_names(&network)?, &[])?;
        check_batch(&network, &stages, args.batch_size.get(), folder, machine)?;
        bytes = 4 * Summary::new(&network)?.parameters() as u64;
    }
    RunDir::check(&args.out, bytes)
}

/// Decodes all images before a download, so that it does not precede their errors. With `--on-bad
/// skip`, they have already been decoded.
fn verify_images(
    folder: &Folder,
    on_bad: OnBad,
    decode: &DecodeOptions,
    workers: usize,
    ui: &mut dyn Renderer,
) -> anyhow::Result<()> {
    if on_bad == OnBad::Skip {
        return Ok(());
    }
    let what = format!("checking {}", pluralize(folder.images(), "image"));
    ui.show(&Message::Working { what })?;
    bad_images::verify(folder, decode, workers)
}

/// Opens the device named in `machine`, and replaces the name with that of the opened device.
fn open_device(machine: &mut MachineConfig) -> anyhow::Result<device::Opened> {
    let choice = machine.device.parse().map_err(anyhow::Error::msg)?;
    let precision = machine.precision.parse().map_err(anyhow::Error::msg)?;
    let opened = device::open(choice, precision)?;
    machine.device = opened.name.clone();
    Ok(opened)
}

/// With `--on-bad skip`, removes the images of `folder` that cannot be decoded, shows a message for
/// each, and returns them. With `--on-bad fail`, does nothing and returns no images.
fn skip_bad_images(
    folder: &mut Folder,
    on_bad: OnBad,
    decode: &DecodeOptions,
    workers: usize,
    ui: &mut dyn Renderer,
) -> anyhow::Result<Vec<Skipped>> {
    if on_bad == OnBad::Fail {
        return Ok(Vec::new());
    }
    let what = format!("checking {}", pluralize(folder.images(), "image"));
    ui.show(&Message::Working { what })?;
    let mut skipped = Vec::new();
    for split in [&mut folder.train, &mut folder.val] {
        let bad = bad_images::find(split, &folder.root, decode, workers)?;
        for (_, image) in &bad {
            ui.show(&Message::SkippedImage(image))?;
        }
        bad_images::leave_out(split, &bad)?;
        skipped.extend(bad.into_iter().map(|(_, image)| image));
    }
    Ok(skipped)
}

/// Shows the data set with `hint`, advice on how to use other images, warnings about its val split, and the device.
fn describe_inputs(
    folder: &Folder,
    machine: &MachineConfig,
    fallback: Option<&str>,
    hint: Option<&'static str>,
    ui: &mut dyn Renderer,
) -> anyhow::Result<()> {
    ui.show(&Message::Data(DataSet {
        source: folder.source.name(),
        root: path_text::encode(&folder.root),
        classes: folder.classes(),
        train_images: folder.train.len(),
        val_images: folder.val.len(),
        unused: &folder.unused(),
        hint,
    }))?;
    let classes = &folder.classes_without_val()[..];
    if !classes.is_empty() {
        ui.show(&Message::ClassesWithoutVal { classes })?;
    }
    if let Some([train, val]) = folder.train.shared_folder(&folder.val) {
        let [train, val] = [train, val].map(path_text::encode);
        ui.show(&Message::SharedFolder { train, val })?;
    }
    ui.show(&Message::Device {
        device: &machine.device,
        threads: machine.threads,
        fallback,
    })
}

fn data_config(
    folder: &Folder,
    on_bad: OnBad,
    ignore_exif: bool,
    skipped: Vec<Skipped>,
) -> DataConfig {
    DataConfig {
        root: path_text::encode(&absolute(&folder.root)),
        source: folder.source.name().to_string(),
        classes: folder.classes().to_vec(),
        train_images: folder.train.len(),
        val_images: folder.val.len(),
        ignore_exif,
        on_bad,
        skipped,
    }
}

fn network_config(initial: &InitialModel) -> NetworkConfig {
    NetworkConfig {
        architecture: initial.config.architecture.clone(),
        input_size: initial.config.input_size,
        weights: match &initial.weights {
            WeightsSource::File(path) => WeightsSource::File(absolute(path)),
            other => other.clone(),
        },
        weights_sha256: initial.sha256.clone(),
        initialized_layers: initial.report.initialized_layers(),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
