//! The network and its weights before the first training step.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use candle_core::{Device, Tensor};
use dataset::transform::Normalize;
use vgg::hub::Address;
use vgg::{Head, Metadata, Report, Summary, VggConfig};

use crate::args::TrainArgs;
use crate::data_source::Source;
use crate::dataset_hash;
use crate::error::Diagnostic;
use crate::message::Message;
use crate::render::Renderer;
use crate::values::WeightsSource;
use crate::weights_file;

/// The small network for the built-in sample, pretrained on drawings.
static SAMPLE_BACKBONE: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../data/sample_backbone.safetensors"
));

/// Context added to errors from reading weights files.
const LOAD_ERROR: &str = "cannot load the weights";

/// A network with its initial weights.
#[derive(Debug)]
pub struct InitialModel {
    /// Configuration of the network, with one output for each class of the data set.
    pub config: VggConfig,
    /// All weights, keyed by torchvision's tensor names.
    pub tensors: BTreeMap<String, Tensor>,
    /// Which tensors were loaded and which were newly initialized.
    pub report: Report,
    /// Origin of the weights, printed at the start of a run and recorded in `config.toml`.
    pub source: String,
    /// SHA-256 of the weights file. `None` for random weights.
    pub sha256: Option<String>,
    /// Mean and standard deviation that normalize the input images.
    pub normalize: Normalize,
}

impl InitialModel {
    /// Chooses the network and its weights for the data set `data` with the given `classes`.
    ///
    /// - The metadata of a weights file determines the network, and `--arch` must agree with it.
    ///   For a file without metadata, the network is that of `--arch`, or is detected from the
    ///   shapes of the convolutions.
    /// - Without `--weights`, the sample uses the built-in backbone unless `--arch` is given.
    ///   Otherwise, the default is the ImageNet weights from the hub.
    /// - With `--weights none`, the sample uses the network of the built-in backbone unless
    ///   `--arch` is given, so that training with and without pretraining can be compared.
    ///
    /// The last layer is replaced unless the file was trained on the same classes.
    ///
    /// # Errors
    ///
    /// Returns an error if the weights cannot be downloaded or read, or do not fit the network, if
    /// a network with batch norm would start from random weights, or if the input size is too
    /// small for the network.
    pub fn choose(
        args: &TrainArgs,
        data: &Source,
        classes: &[String],
        device: &Device,
        renderer: &mut dyn Renderer,
    ) -> anyhow::Result<Self> {
        let model = match (&args.weights, data) {
            (Some(WeightsSource::File(path)), _) => {
                let path = &weights_file::find(path)?;
                Self::from_file(args, path, path.display().to_string(), classes, device)?
            }
            (Some(WeightsSource::Repository(address)), _) => {
                let path = download(address, renderer)?;
                Self::from_file(
                    args,
                    &path,
                    format!("{address} from the hub"),
                    classes,
                    device,
                )?
            }
            (Some(WeightsSource::None), _) => Self::random(args, data, classes, device)?,
            (None, Source::Sample) if args.arch.is_none() => {
                Self::from_sample_backbone(args, classes, device)?
            }
            (Some(WeightsSource::Hub) | None, _) => {
                let config = named_config(args)?;
                let address = vgg::hub::imagenet(&config.architecture)?;
                let path = download(&address, renderer)?;
                let source = format!("{address} from the hub");
                Self::load(
                    args,
                    &path,
                    source,
                    config,
                    Head::Replace,
                    None,
                    classes,
                    device,
                )?
            }
        };
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
        args: &TrainArgs,
        path: &Path,
        source: String,
        classes: &[String],
        device: &Device,
    ) -> anyhow::Result<Self> {
        let metadata = vgg::read_metadata(path).context(LOAD_ERROR)?;
        let config = match &metadata {
            Some(metadata) => {
                if let Some(arch) = &args.arch
                    && *arch != metadata.config.architecture
                {
                    bail!(
                        Diagnostic::new(format!(
                            "{} is a {} network, not {arch}",
                            path.display(),
                            metadata.config.architecture
                        ))
                        .help("omit `--arch`, or pass other `--weights`")
                    );
                }
                metadata.config.clone()
            }
            None => {
                let detected = vgg::detect_architecture(path).context(LOAD_ERROR)?;
                let name = args.arch.clone().or(detected);
                VggConfig::named(name.as_deref().unwrap_or("vgg16"), 1)?
            }
        };
        let head = match &metadata {
            Some(metadata) if metadata.classes == classes => Head::Keep,
            _ => Head::Replace,
        };
        Self::load(
            args,
            path,
            source,
            config,
            head,
            metadata.as_ref(),
            classes,
            device,
        )
    }

    fn from_sample_backbone(
        args: &TrainArgs,
        classes: &[String],
        device: &Device,
    ) -> anyhow::Result<Self> {
        with_sample_backbone(|path, metadata| {
            let source =
                "the built-in backbone, pretrained on drawings of other objects".to_string();
            Self::load(
                args,
                path,
                source,
                metadata.config.clone(),
                Head::Replace,
                Some(metadata),
                classes,
                device,
            )
        })
    }

    fn random(
        args: &TrainArgs,
        data: &Source,
        classes: &[String],
        device: &Device,
    ) -> anyhow::Result<Self> {
        let (config, normalize) = if *data == Source::Sample && args.arch.is_none() {
            with_sample_backbone(|_, metadata| Ok((metadata.config.clone(), normalize(metadata))))?
        } else {
            (named_config(args)?, Normalize::IMAGENET)
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
        let config = with_classes_and_size(config, args, classes);
        let tensors = vgg::init::from_scratch(&config, args.seed, device)?;
        let report = Report {
            initialized: tensors.keys().cloned().collect(),
            ..Report::default()
        };
        Ok(Self {
            config,
            tensors,
            report,
            source: "none".to_string(),
            sha256: None,
            normalize,
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "private; each argument is a separate choice of the caller"
    )]
    fn load(
        args: &TrainArgs,
        path: &Path,
        source: String,
        config: VggConfig,
        head: Head,
        metadata: Option<&Metadata>,
        classes: &[String],
        device: &Device,
    ) -> anyhow::Result<Self> {
        let config = with_classes_and_size(config, args, classes);
        let loaded =
            vgg::load_pretrained(path, &config, head, args.seed, device).context(LOAD_ERROR)?;
        let normalize = metadata.map_or(Normalize::IMAGENET, normalize);
        Ok(Self {
            config,
            tensors: loaded.tensors,
            report: loaded.report,
            source,
            sha256: Some(dataset_hash::sha256(path)?),
            normalize,
        })
    }

    /// Names of the layers with parameters, from input to output.
    pub fn layer_names(&self) -> anyhow::Result<Vec<String>> {
        let mut layers: Vec<String> = Vec::new();
        for (name, _) in self.config.tensor_shapes()? {
            let layer = name
                .rsplit_once('.')
                .map_or(name.as_str(), |(layer, _)| layer);
            if layers.last().is_none_or(|last| last != layer) {
                layers.push(layer.to_string());
            }
        }
        Ok(layers)
    }

    /// Names, output shapes and parameter counts of the network's layers.
    pub fn summary(&self) -> anyhow::Result<Summary> {
        Ok(Summary::new(&self.config)?)
    }

    /// Metadata to save with models trained from these weights for `classes`.
    pub fn metadata(&self, classes: &[String]) -> Metadata {
        Metadata {
            config: self.config.clone(),
            classes: classes.to_vec(),
            mean: self.normalize.mean,
            std: self.normalize.std,
        }
    }
}

/// The input size of the built-in backbone, in pixels.
///
/// # Errors
///
/// Returns an error if the backbone cannot be written to a temporary file.
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

/// Downloads a file from the hub unless it is cached, and shows the progress. Returns its path in
/// the cache.
fn download(address: &Address, renderer: &mut dyn Renderer) -> anyhow::Result<PathBuf> {
    let what = address.to_string();
    let mut failure = None;
    let mut last_percent = None;
    let path = vgg::hub::fetch(address, &mut |done, total| {
        // The callback runs for every small chunk, so messages are limited to one per percent.
        let percent = done * 100 / total.max(1);
        if last_percent.replace(percent) != Some(percent) && failure.is_none() {
            let what = &what;
            failure = renderer
                .show(&Message::Download { what, done, total })
                .err();
        }
    })?;
    failure.map_or(Ok(path), Err)
}

/// Configuration of the architecture given by `--arch`, by default VGG-16.
fn named_config(args: &TrainArgs) -> anyhow::Result<VggConfig> {
    Ok(VggConfig::named(
        args.arch.as_deref().unwrap_or("vgg16"),
        1,
    )?)
}

/// Sets the number of classes, and the input size if `--input-size` is given.
fn with_classes_and_size(config: VggConfig, args: &TrainArgs, classes: &[String]) -> VggConfig {
    let input_size = args.input_size.map_or(config.input_size, |size| size.get());
    VggConfig {
        classes: classes.len(),
        input_size,
        ..config
    }
}

fn normalize(metadata: &Metadata) -> Normalize {
    Normalize {
        mean: metadata.mean,
        std: metadata.std,
    }
}
