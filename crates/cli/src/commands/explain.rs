//! `waggle explain`: draws heat maps of the parts of images that speak for a class.

mod names;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use candle_core::Tensor;
use serde::Serialize;
use vgg::{HeatMapMethod, VggConfig};

use self::names::Names;
use super::image_errors::{ImageErrors, as_text};
use super::predict_inputs;
use crate::args::ExplainArgs;
use crate::classifier::Classifier;
use crate::error::Diagnostic;
use crate::escape::{path_in_text, printable};
use crate::files::{TEMPORARY, create_numbered_folder, write_atomically};
use crate::output_path::refuse_image_folders;
use crate::plots::{encode_png, heat_map};
use crate::ui::text::{list, percent};

/// The class of one image, and the files of its map.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    #[serde(serialize_with = "as_text")]
    path: &'a Path,
    class: &'a str,
    probability: f32,
    #[serde(serialize_with = "as_text")]
    overlay: &'a Path,
    #[serde(serialize_with = "as_text")]
    map: &'a Path,
}

/// The map of one image, and the contents of its files.
struct Explained {
    class: usize,
    probability: f32,
    overlay: Vec<u8>,
    map: Vec<u8>,
}

/// Computes the maps of one class or of the predicted classes, and writes them to a folder.
struct Explainer {
    model: Arc<Classifier>,
    /// `None` for the predicted class of each image.
    class: Option<usize>,
    layer: String,
    method: HeatMapMethod,
    wanted: PathBuf,
    /// The folder, created for the first map.
    folder: Option<PathBuf>,
    names: Names,
    json: bool,
}

/// Runs `waggle explain`.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let device = super::open_device(&args.machine)?;
    refuse_image_folders(&args.out, &args.images.paths)?;
    let model = Classifier::open(&args.model, &device)?.with_precision(args.machine.precision);
    let class = args.class.as_deref().map(|name| class(&model, name));
    let mut explainer = Explainer {
        class: class.transpose()?,
        layer: layer(&model.metadata.config, args.layer.as_deref())?,
        method: args.method,
        wanted: args.out.clone(),
        folder: None,
        names: Names::default(),
        json: args.json,
        model: Arc::new(model),
    };
    let mut errors = ImageErrors::new(args.json);
    // One image at a time: a map needs the gradient of its own class.
    let (chunks, decoder) =
        predict_inputs::start(&explainer.model, &args.images, 1, &args.machine)?;
    for chunk in chunks {
        for (path, image) in chunk? {
            let explained = image.and_then(|image| {
                let explained = explainer.explain(&image);
                explained.with_context(|| format!("cannot explain {}", path.display()))
            });
            match explained {
                Ok(explained) => super::print_bytes(&explainer.write(&path, &explained)?)?,
                Err(error) => errors.report(&path, &error)?,
            }
        }
    }
    predict_inputs::finish(decoder)?;
    Ok(errors.exit_code())
}

/// The index of the class called `name`.
fn class(model: &Classifier, name: &str) -> anyhow::Result<usize> {
    let index = model.classes().iter().position(|class| class == name);
    let Some(index) = index else {
        bail!(
            Diagnostic::new(format!("the model has no class `{name}`"))
                .help(format!("pass one of {}", list(model.classes())))
        );
    };
    Ok(index)
}

/// The layer to map: `wanted`, or the last ReLU.
fn layer(config: &VggConfig, wanted: Option<&str>) -> anyhow::Result<String> {
    let Some(wanted) = wanted else {
        return Ok(config.last_relu()?);
    };
    let layers = config.heat_map_layers()?;
    if !layers.iter().any(|layer| layer == wanted) {
        bail!(vgg::Error::HeatMapLayer {
            architecture: config.architecture.clone(),
            layer: wanted.to_string(),
            layers,
        });
    }
    Ok(wanted.to_string())
}

impl Explainer {
    /// Computes the map of one image.
    fn explain(&self, image: &Tensor) -> anyhow::Result<Explained> {
        let (map, probabilities) =
            self.model
                .heat_map(image, self.class, &self.layer, self.method)?;
        let side = self.model.input_size();
        let pixels: Vec<f32> = image.flatten_all()?.to_vec1()?;
        let image = self.model.normalize().denormalize(&pixels, side, side)?;
        let image = heat_map::enlarged(&image);
        let [width, height] = [image.width(), image.height()].map(|length| length as usize);
        let side = side as usize;
        Ok(Explained {
            class: map.class,
            probability: probabilities[map.class],
            overlay: encode_png(&heat_map::overlay(&image, &map.resized(width, height))?)?,
            map: heat_map::npy(&map.resized(side, side), side),
        })
    }

    /// Writes the files of the image `path` and returns the line to print.
    fn write(&mut self, path: &Path, explained: &Explained) -> anyhow::Result<Vec<u8>> {
        let folder = match &self.folder {
            Some(folder) => folder,
            None => self.folder.insert(self.create_folder()?),
        };
        let name = self.names.name(path);
        let write = |kind: &str, bytes: &[u8]| {
            let path = folder.join(format!("{name}.{kind}"));
            write_atomically(&path, TEMPORARY, |out| Ok(out.write_all(bytes)?))?;
            anyhow::Ok(path)
        };
        let explanation = Explanation {
            path,
            class: &self.model.classes()[explained.class],
            probability: explained.probability,
            overlay: &write("png", &explained.overlay)?,
            map: &write("npy", &explained.map)?,
        };
        explanation.line(self.json)
    }

    fn create_folder(&self) -> anyhow::Result<PathBuf> {
        create_numbered_folder(&self.wanted).map_err(|error| {
            let message = format!("cannot create the folder {}", self.wanted.display());
            let error = Diagnostic::new(message).caused_by(error);
            error.help("pass another folder with `--out`").into()
        })
    }
}

impl Explanation<'_> {
    fn line(&self, json: bool) -> anyhow::Result<Vec<u8>> {
        if json {
            let line = serde_json::to_string(self).context("cannot write a result as JSON")?;
            return Ok((line + "\n").into_bytes());
        }
        let class = format!(": {} {}, ", self.class, percent(self.probability.into()));
        let mut line = path_in_text(self.path);
        line.extend(printable(&class).bytes());
        line.extend(path_in_text(self.overlay));
        line.extend(b", ");
        line.extend(path_in_text(self.map));
        line.push(b'\n');
        Ok(line)
    }
}
