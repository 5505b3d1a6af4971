//! Where a training starts: which network, and with which weights.

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
use crate::message::Message;
use crate::render::Renderer;
use crate::values::WeightsSource;
use crate::weights_file;

/// The slim network that was pretrained on drawn pictures, for the built-in sample.
static SAMPLE_BACKBONE: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../data/sample_backbone.safetensors"
));

/// A network with all its weights, before the first step.
#[derive(Debug)]
pub struct InitialModel {
    /// The network for the classes at hand.
    pub config: VggConfig,
    /// All weights by torchvision's name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Which of them are fresh.
    pub report: Report,
    /// Where they come from, in words.
    pub source: String,
    /// SHA-256 of the file that holds them; nothing for random ones.
    pub sha256: Option<String>,
    /// How pictures are normalised for them.
    pub normalize: Normalize,
}

impl InitialModel {
    /// Chooses network and weights for `classes` of the pictures of `data`:
    ///
    /// - a weights file decides the network, by what it says or by its convolutions, which --arch may not contradict;
    /// - without `--weights`, photographs start from the hub's ImageNet weights, the sample from its backbone;
    /// - without weights, the sample uses the network of its backbone, so that the two can be compared.
    ///
    /// The last layer is replaced, unless the file was trained on the same classes.
    ///
    /// # Errors
    ///
    /// Weights that cannot be had or do not fit.
    pub fn choose(
        args: &TrainArgs,
        data: &Source,
        classes: &[String],
        device: &Device,
        renderer: &mut dyn Renderer,
    ) -> anyhow::Result<Self> {
        let start = match (&args.weights, data) {
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
            (Some(WeightsSource::None), _) => Self::from_nothing(args, data, classes, device)?,
            (None, Source::Sample) if args.arch.is_none() => {
                Self::from_sample_backbone(args, classes, device)?
            }
            (Some(WeightsSource::Hub) | None, _) => {
                let config = named(args)?;
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
        let least = start.config.smallest_input();
        if start.config.input_size < least {
            bail!(
                "--input-size: {} needs pictures of at least {least} pixels",
                start.config.architecture
            );
        }
        Ok(start)
    }

    fn from_file(
        args: &TrainArgs,
        path: &Path,
        source: String,
        classes: &[String],
        device: &Device,
    ) -> anyhow::Result<Self> {
        let metadata = vgg::read_metadata(path).context("the weights cannot be used")?;
        let config = match &metadata {
            Some(metadata) => {
                if let Some(arch) = &args.arch
                    && *arch != metadata.config.architecture
                {
                    bail!(
                        "{} holds a {}, not the {arch} of --arch; leave --arch out, or choose other weights",
                        path.display(),
                        metadata.config.architecture
                    );
                }
                metadata.config.clone()
            }
            None => {
                let found = vgg::detect_architecture(path).context("the weights cannot be used")?;
                let name = args.arch.clone().or(found);
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
                "the built-in backbone, pretrained on drawings of other things".to_string();
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

    fn from_nothing(
        args: &TrainArgs,
        data: &Source,
        classes: &[String],
        device: &Device,
    ) -> anyhow::Result<Self> {
        let (config, normalize) = if *data == Source::Sample && args.arch.is_none() {
            with_sample_backbone(|_, metadata| Ok((metadata.config.clone(), normalize(metadata))))?
        } else {
            (named(args)?, Normalize::IMAGENET)
        };
        if config.batch_norm {
            bail!(
                "{0} does not train from random weights here: its batch norms keep the statistics that they start \
                 with. Leave --weights out to start from pretrained ones, or use --arch {1}",
                config.architecture,
                config.architecture.trim_end_matches("_bn")
            );
        }
        let config = fitted(config, args, classes);
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
        reason = "private, and each call names what it chose"
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
        let config = fitted(config, args, classes);
        let loaded = vgg::load_pretrained(path, &config, head, args.seed, device)
            .context("the weights cannot be used")?;
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

    /// The layers with parameters, from the input on.
    pub fn layer_names(&self) -> anyhow::Result<Vec<String>> {
        let mut layers: Vec<String> = Vec::new();
        for (name, _) in self.config.parameters()? {
            let layer = name
                .rsplit_once('.')
                .map_or(name.as_str(), |(layer, _)| layer);
            if layers.last().is_none_or(|last| last != layer) {
                layers.push(layer.to_string());
            }
        }
        Ok(layers)
    }

    /// The network layer by layer.
    pub fn summary(&self) -> anyhow::Result<Summary> {
        Ok(Summary::new(&self.config)?)
    }

    /// What a model that grew from this start says about itself.
    pub fn metadata(&self, classes: &[String]) -> Metadata {
        Metadata {
            config: self.config.clone(),
            classes: classes.to_vec(),
            mean: self.normalize.mean,
            std: self.normalize.std,
        }
    }
}

/// The pictures' size that the sample's backbone was made for.
pub fn sample_input_size() -> anyhow::Result<usize> {
    with_sample_backbone(|_, metadata| Ok(metadata.config.input_size))
}

/// The backbone as a file, which is what weights are loaded from.
fn with_sample_backbone<T>(
    then: impl FnOnce(&Path, &Metadata) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut file = tempfile::Builder::new()
        .prefix("waggle-backbone-")
        .tempfile()
        .context("no temporary file")?;
    file.write_all(SAMPLE_BACKBONE)
        .and_then(|()| file.flush())
        .context("cannot unpack the built-in backbone")?;
    let metadata = vgg::read_metadata(file.path())?
        .context("the built-in backbone does not say what it is")?;
    then(file.path(), &metadata)
}

/// A file from the hub or its cache, with messages while it is transferred.
fn download(address: &Address, renderer: &mut dyn Renderer) -> anyhow::Result<PathBuf> {
    let what = address.to_string();
    let mut failed = None;
    let mut shown = None;
    let path = vgg::hub::fetch(address, &mut |done, total| {
        // A message for each per cent; the transfer reports far smaller pieces.
        let percent = done * 100 / total.max(1);
        if shown.replace(percent) != Some(percent) && failed.is_none() {
            let what = &what;
            failed = renderer
                .show(&Message::Download { what, done, total })
                .err();
        }
    })?;
    failed.map_or(Ok(path), Err)
}

fn named(args: &TrainArgs) -> anyhow::Result<VggConfig> {
    Ok(VggConfig::named(
        args.arch.as_deref().unwrap_or("vgg16"),
        1,
    )?)
}

/// The network for these classes and the size asked for.
fn fitted(config: VggConfig, args: &TrainArgs, classes: &[String]) -> VggConfig {
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
