//! The network and its weights before the first training step.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::{Device, Tensor};
use dataset::transform::Normalize;
use vgg::{Head, Metadata, Report, VggConfig};

use crate::args::TrainArgs;
use crate::args::types::WeightsSource;
use crate::config::Config;
use crate::data_source::Source;
use crate::dataset_hash;
use crate::error::Diagnostic;
use crate::ui::Renderer;
use crate::weights_file::{self, LOAD_ERROR};

/// The small network for the built-in sample, pretrained on drawings.
static SAMPLE_BACKBONE: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../data/sample_backbone.safetensors"
));

/// Name of the architecture of the built-in backbone.
const SAMPLE_ARCHITECTURE: &str = "slim_vgg16";

const DEFAULT_ARCHITECTURE: &str = "vgg16";

/// A network with its initial weights.
#[derive(Debug)]
pub struct InitialModel {
    /// Configuration of the network, with one output for each class of the data set.
    pub config: VggConfig,
    /// All weights, keyed by torchvision's tensor names.
    pub tensors: BTreeMap<String, Tensor>,
    /// Which tensors were loaded and which were newly initialized.
    pub report: Report,
    /// Source of the weights, with `hub` and run directories resolved.
    pub weights: WeightsSource,
    /// SHA-256 of the weights file. `None` for random weights.
    pub sha256: Option<String>,
    /// Mean and standard deviation that normalize the input images.
    pub normalize: Normalize,
}

/// The source of the initial weights, and the settings of the network that they do not determine.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// Source of the weights.
    pub weights: WeightsSource,
    /// Name of the architecture. Must agree with the metadata of a weights file. If `None`, the
    /// network is that of the metadata, else detected from the shapes of the convolutions, else
    /// `vgg16`.
    pub architecture: Option<String>,
    /// Width and height of the input in pixels. If `None`, the size recorded with the weights, else
    /// that of the architecture: 64 for the built-in network, 224 for all others.
    pub input_size: Option<usize>,
    /// Seed of the newly initialized layers.
    pub seed: u64,
    /// For a run to resume, the SHA-256 that the weights must have; the inner `None` requires random
    /// weights. `None` for a new run.
    pub required_sha256: Option<Option<String>>,
}

impl ModelSpec {
    /// The weights and the network given by the arguments. The default weights are the built-in
    /// backbone if `data` is the sample and there is no `--arch`, and the ImageNet weights from the
    /// hub otherwise.
    pub fn from_args(args: &TrainArgs, data: &Source) -> Self {
        let is_sample = *data == Source::Sample && args.arch.is_none();
        let default = match is_sample {
            true => WeightsSource::Sample,
            false => WeightsSource::Hub,
        };
        let weights = args.weights.clone().unwrap_or(default);
        // With `--weights none`, the sample uses the same network, so that runs with and without
        // pretraining can be compared.
        let architecture = match is_sample && weights == WeightsSource::None {
            true => Some(SAMPLE_ARCHITECTURE.to_string()),
            false => args.arch.clone(),
        };
        Self {
            weights,
            architecture,
            input_size: args.input_size,
            seed: args.seed,
            required_sha256: None,
        }
    }

    /// The network of the ImageNet weights from the hub. `None` for other weights, which determine
    /// the network themselves.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such architecture.
    pub fn imagenet_network(&self, classes: &[String]) -> anyhow::Result<Option<VggConfig>> {
        if self.weights != WeightsSource::Hub {
            return Ok(None);
        }
        let name = self.architecture.as_deref().unwrap_or(DEFAULT_ARCHITECTURE);
        let config = VggConfig::named(name, 1)?;
        Ok(Some(with_classes_and_size(config, self, classes)))
    }

    /// Whether [`InitialModel::load`] has to download the weights.
    ///
    /// # Errors
    ///
    /// Returns an error if it has to, and the settings of the hub do not allow it.
    pub fn needs_download(&self) -> anyhow::Result<bool> {
        match self.resolved().weights {
            WeightsSource::Repository(address) => Ok(vgg::hub::needs_download(&address)?),
            _ => Ok(false),
        }
    }

    /// Replaces `hub` by the address of the ImageNet weights.
    fn resolved(&self) -> Self {
        let mut spec = self.clone();
        if spec.weights == WeightsSource::Hub {
            let name = spec.architecture.as_deref().unwrap_or(DEFAULT_ARCHITECTURE);
            spec.weights = WeightsSource::Repository(vgg::hub::imagenet(name));
            spec.architecture = Some(name.to_string());
        }
        spec
    }

    /// The weights and the network of a run to resume.
    pub fn of_run(config: &Config) -> Self {
        let network = &config.network;
        Self {
            weights: network.weights.clone(),
            architecture: Some(network.architecture.clone()),
            input_size: Some(network.input_size),
            seed: config.training.seed,
            required_sha256: Some(network.weights_sha256.clone()),
        }
    }
}

impl InitialModel {
    /// Loads or initializes the network for a data set with the given `classes`. The last layer is
    /// replaced unless the weights file was trained on the same classes.
    ///
    /// # Errors
    ///
    /// Returns an error if the weights cannot be downloaded or read, are not those of the run to
    /// resume or do not fit the network, if a network with batch norm would start from random
    /// weights, or if the input size is too small for the network.
    pub fn load(
        spec: &ModelSpec,
        classes: &[String],
        device: &Device,
        renderer: &mut dyn Renderer,
    ) -> anyhow::Result<Self> {
        let (spec, path) = &located(spec, renderer)?;
        let sha256 = match (&spec.weights, path) {
            (WeightsSource::Sample, _) => Some(fetch::sha256(&mut &SAMPLE_BACKBONE[..])?),
            (_, path) => {
                let file = path.as_deref().map(|path| vgg::split_key(path).0);
                file.map(dataset_hash::sha256).transpose()?
            }
        };
        let required = &spec.required_sha256;
        if required
            .as_ref()
            .is_some_and(|required| *required != sha256)
        {
            let mut help = "pass the original file with `--weights`".to_string();
            if let (WeightsSource::Repository(_), Some(path)) = (&spec.weights, path) {
                help = format!("{help}; {}", weights_file::download_again(path));
            }
            bail!(
                Diagnostic::new(format!(
                    "the weights {} are not those of the run (their SHA-256 differs)",
                    spec.weights
                ))
                .help(help)
            );
        }
        let load = |path: &Path| {
            Self::from_file(spec, path, classes, device).map_err(|error| match spec.weights {
                WeightsSource::Repository(_) => weights_file::explain_cached(error, path),
                _ => error,
            })
        };
        let mut model = match (&spec.weights, path) {
            (WeightsSource::Sample, _) => with_sample_backbone(|path, _| load(path))?,
            (_, Some(path)) => load(path)?,
            (_, None) => Self::random(spec, classes, device)?,
        };
        model.sha256 = sha256;
        let min_size = model.config.smallest_input();
        if model.config.input_size < min_size {
            bail!(
                Diagnostic::new(format!(
                    "{} needs an input size of at least {min_size} pixels",
                    model.config.architecture
                ))
                .help(format!("pass `--input-size {min_size}` or a larger size"))
            );
        }
        Ok(model)
    }

    fn from_file(
        spec: &ModelSpec,
        path: &Path,
        classes: &[String],
        device: &Device,
    ) -> anyhow::Result<Self> {
        let metadata = vgg::read_metadata(path).context(LOAD_ERROR)?;
        let config = match (&metadata, &spec.architecture) {
            (Some(metadata), Some(arch)) if *arch != metadata.config.architecture => {
                let weights = match spec.weights {
                    // Its path is that of a temporary file.
                    WeightsSource::Sample => "the built-in backbone".to_string(),
                    _ => path.display().to_string(),
                };
                bail!(
                    Diagnostic::new(format!(
                        "{weights} is a {} network, not {arch}",
                        metadata.config.architecture
                    ))
                    .help("leave out `--arch`, or pass other weights with `--weights`")
                )
            }
            (Some(metadata), _) => metadata.config.clone(),
            (None, arch) => {
                let detected = vgg::detect_architecture(path).context(LOAD_ERROR)?;
                let name = arch.clone().or(detected);
                VggConfig::named(name.as_deref().unwrap_or(DEFAULT_ARCHITECTURE), 1)?
            }
        };
        let head = match &metadata {
            Some(metadata) if metadata.classes == classes => Head::Keep,
            _ => Head::Replace,
        };
        let config = with_classes_and_size(config, spec, classes);
        let loaded =
            vgg::load_pretrained(path, &config, head, spec.seed, device).context(LOAD_ERROR)?;
        Ok(Self {
            config,
            tensors: loaded.tensors,
            report: loaded.report,
            weights: spec.weights.clone(),
            sha256: None,
            normalize: metadata.as_ref().map_or(Normalize::IMAGENET, normalize),
        })
    }

    fn random(spec: &ModelSpec, classes: &[String], device: &Device) -> anyhow::Result<Self> {
        let (config, normalize) = match spec.architecture.as_deref() {
            Some(SAMPLE_ARCHITECTURE) => with_sample_backbone(|_, metadata| {
                Ok((metadata.config.clone(), normalize(metadata)))
            })?,
            name => {
                let config = VggConfig::named(name.unwrap_or(DEFAULT_ARCHITECTURE), 1)?;
                (config, Normalize::IMAGENET)
            }
        };
        if config.batch_norm {
            bail!(
                Diagnostic::new(format!(
                    "cannot train {} from random weights: training does not update batch norm statistics",
                    config.architecture
                ))
                .help(format!(
                    "omit `--weights` to start from pretrained weights, or pass `--arch {}`",
                    config.architecture.trim_end_matches("_bn")
                ))
            );
        }
        let config = with_classes_and_size(config, spec, classes);
        let tensors = vgg::init::from_scratch(&config, spec.seed, device)?;
        let report = Report {
            initialized: tensors.keys().cloned().collect(),
            ..Report::default()
        };
        Ok(Self {
            config,
            tensors,
            report,
            weights: WeightsSource::None,
            sha256: None,
            normalize,
        })
    }

    /// The origin of the weights, as shown at the start of a run.
    pub fn source(&self) -> String {
        match &self.weights {
            WeightsSource::Repository(address) => format!("{address} from the hub"),
            WeightsSource::Sample => {
                "the built-in backbone, pretrained on drawings of other objects".to_string()
            }
            other => other.clone().into(),
        }
    }

    /// Metadata to save with models trained from these weights for `classes`.
    pub fn metadata(&self, classes: &[String]) -> Metadata {
        Metadata {
            config: self.config.clone(),
            classes: classes.to_vec(),
            mean: self.normalize.mean,
            std: self.normalize.std,
            temperature: 1.0,
        }
    }
}

/// The input size of the built-in backbone, in pixels.
///
/// # Errors
///
/// Returns an error if the backbone cannot be written to a temporary file or read from it.
pub fn sample_input_size() -> anyhow::Result<usize> {
    with_sample_backbone(|_, metadata| Ok(metadata.config.input_size))
}

/// Writes the built-in backbone to a temporary file, because weights can only be loaded from files,
/// and calls `f` with its path and metadata.
fn with_sample_backbone<T>(
    f: impl FnOnce(&Path, &Metadata) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut file = tempfile::Builder::new()
        .prefix("waggle-backbone-")
        .tempfile()
        .context("cannot create a temporary file")?;
    file.write_all(SAMPLE_BACKBONE)
        .and_then(|()| file.flush())
        .context("cannot write the built-in backbone to a temporary file")?;
    let metadata =
        vgg::read_metadata(file.path())?.context("the built-in backbone has no metadata")?;
    f(file.path(), &metadata)
}

/// Resolves `hub` to the address of the ImageNet weights and a run directory to its model, and
/// returns the path of the weights file, which is downloaded unless it is cached. The path is `None`
/// for weights that are not in a file.
fn located(
    spec: &ModelSpec,
    renderer: &mut dyn Renderer,
) -> anyhow::Result<(ModelSpec, Option<PathBuf>)> {
    let mut spec = spec.resolved();
    let path = match &mut spec.weights {
        WeightsSource::File(path) => {
            *path = weights_file::find(path)?;
            Some(path.clone())
        }
        WeightsSource::Repository(address) => Some(weights_file::download(address, renderer)?),
        WeightsSource::Hub | WeightsSource::Sample | WeightsSource::None => None,
    };
    Ok((spec, path))
}

/// Sets the number of classes, and the input size if it is given.
fn with_classes_and_size(config: VggConfig, spec: &ModelSpec, classes: &[String]) -> VggConfig {
    VggConfig {
        classes: classes.len(),
        input_size: spec.input_size.unwrap_or(config.input_size),
        ..config
    }
}

fn normalize(metadata: &Metadata) -> Normalize {
    Normalize {
        mean: metadata.mean,
        std: metadata.std,
    }
}
