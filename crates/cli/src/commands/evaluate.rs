//! `waggle evaluate`: reports the metrics of a trained model on a split.

mod class_table;
mod report;
mod text;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use console::Term;
use dataset::image_folder::count_kinds;
use dataset::{ImageFolder, Loader, LoaderConfig, image_folder, path_text};
use trainer::FrozenCache;

use crate::args::EvaluateArgs;
use crate::args::types::OnBad;
use crate::bad_images;
use crate::classifier::Classifier;
use crate::config::{Config, Skipped};
use crate::data_source::Source;
use crate::error::{Diagnostic, warn};
use crate::files::{TEMPORARY, write_atomically};
use crate::memory_limit;
use crate::non_finite_logit::CheckedNetwork;
use crate::predictions;
use crate::scores::scores;
use crate::ui::text::list;
use report::Report;

/// Width in columns assumed if the output is not a terminal.
const DEFAULT_COLUMNS: usize = 80;

/// Runs `waggle evaluate`.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.predictions {
        super::check_output_file(file, args.overwrite, "--predictions")?;
    }
    let device = super::open_device(&args.machine)?;
    let model = Classifier::open(&args.model, &device)?.with_precision(args.machine.precision);
    memory_limit::check_confusion_matrix(model.classes().len())?;
    let (root, recorded) = data(args.data.as_deref(), &model.path)?;
    let mut folder = open(&root, &args.split, model.classes())?;
    let (decode, workers) = (args.machine.decode.options(), args.machine.workers());
    let skipped = match args.on_bad {
        None => bad_images::recorded(&folder, &root, recorded),
        Some(OnBad::Skip) => bad_images::find(&folder, &root, &decode, workers)?,
        Some(OnBad::Fail) => Vec::new(),
    };
    for (_, image) in &skipped {
        warn(Diagnostic::new(image.to_string()));
    }
    bad_images::leave_out(&mut folder, &skipped)?;
    memory_limit::check_logits(folder.len(), model.classes().len())?;
    let batch = args.batch_size.get().min(folder.len());
    memory_limit::check_batch(&model.metadata.config, batch, false)?;
    let config = LoaderConfig::eval(model.input_size())
        .batch_size(args.batch_size.get())
        .workers(workers)
        .normalize(model.normalize())
        .device(device)
        // A single pass reads each image only once, so a cache would not help.
        .cache_bytes(0)
        .decode(decode.clone());
    let images = Loader::new(folder.samples(), config)?;
    let network = CheckedNetwork::new(model.network());
    let evaluation = trainer::evaluate(&network, &images, &mut FrozenCache::off(), &mut |_| {
        ControlFlow::Continue(())
    })
    .map_err(|error| match (error, network.non_finite()) {
        (_, Some((image, logit))) => {
            let path = folder.samples()[image].path.display();
            anyhow::Error::new(logit).context(format!("cannot evaluate {path}"))
        }
        (error @ trainer::Error::Data { .. }, None) => {
            let error = bad_images::explain_batch(error, None);
            bad_images::explain(error, &folder, &decode, workers)
        }
        (error, None) => error.into(),
    })?
    .context("the evaluation stopped early")?;

    let scores = scores(&evaluation, model.classes().len())?;
    let temperature = model.metadata.temperature;
    let report = Report::new(
        scores,
        temperature,
        model.classes(),
        skipped.into_iter().map(|(_, image)| image).collect(),
        count_kinds(folder.unused()),
    );
    if args.json {
        let line = serde_json::to_string(&report).context("cannot write the result as JSON")?;
        super::print(&format!("{line}\n"))?;
    } else {
        let size = Term::stdout().size_checked();
        let columns = size.map_or(DEFAULT_COLUMNS, |(_, columns)| columns.into());
        super::print(&text::text(&report, &model, folder.root(), columns))?;
    }
    if let Some(file) = &args.predictions {
        write_atomically(file, TEMPORARY, |out| {
            let (classes, samples) = (model.classes(), folder.samples());
            predictions::write(out, &evaluation, temperature, classes, &root, samples)
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the path of the data set for a model: `given`, or the one that the model was trained on. If
/// the model was trained on it, also returns the images skipped by the training run.
///
/// The training run is identified by the `config.toml` next to the model.
pub(super) fn data(given: Option<&Path>, model: &Path) -> anyhow::Result<(PathBuf, Vec<Skipped>)> {
    let file = model.with_file_name(Config::FILE);
    if !file.is_file() {
        return Ok((Source::choose(given).root()?, Vec::new()));
    }
    // With --data, a damaged configuration is not an error.
    let config = match (given, Config::read(&file)) {
        (None, config) => Some(config?),
        (Some(_), config) => config.ok(),
    };
    let (trained_on, skipped) = config.map_or_else(Default::default, |config| {
        (path_text::decode(&config.data.root), config.data.skipped)
    });
    if given.is_none() {
        if trained_on.is_dir() {
            return Ok((trained_on, skipped));
        }
        let folder = trained_on.display();
        bail!(
            Diagnostic::new(format!(
                "the data set of the run, `{folder}`, does not exist"
            ))
            .help("pass its new location with `--data DIR`")
        );
    }
    let root = Source::choose(given).root()?;
    let same = matches!((root.canonicalize(), trained_on.canonicalize()), (Ok(a), Ok(b)) if a == b);
    Ok((root, if same { skipped } else { Vec::new() }))
}

/// Lists the images of a split, labeled with the model's classes.
///
/// The classes of the data set are those of its train split if it has one, because val may lack a
/// class. They must be the classes of the model. Without a train split, classes may be missing.
fn open(root: &Path, split: &str, classes: &[String]) -> anyhow::Result<ImageFolder> {
    let folder = match split {
        "train" => image_folder::train_folder(root)?,
        "val" => image_folder::val_folder(root)?,
        other if root.join(other).is_dir() => root.join(other),
        other => bail!(
            Diagnostic::new(format!("`{}` has no folder `{other}`", root.display()))
                .help("pass the name of a subfolder with `--split`")
        ),
    };
    let train = image_folder::train_folder(root).ok();
    let images = ImageFolder::scan(train.as_ref().unwrap_or(&folder))?;
    let only_in = |name: &str, one: &[String], other: &[String]| {
        let only = one.iter().filter(|class| !other.contains(class));
        let only: Vec<String> = only.cloned().collect();
        (!only.is_empty()).then(|| format!("only in the {name}: {}", list(&only)))
    };
    let has_train = train.is_some();
    let missing = train.and_then(|_| only_in("model", classes, images.classes()));
    let unknown = only_in("data set", images.classes(), classes);
    let items: Vec<String> = missing.into_iter().chain(unknown).collect();
    if !items.is_empty() {
        bail!(
            Diagnostic::new(format!(
                "the classes of `{}` differ from those of the model",
                root.display()
            ))
            .items(items)
        );
    }
    let evaluated = ImageFolder::scan_with_classes(&folder, classes)?;
    if split != "train"
        && has_train
        && let Some([train, other]) = images.shared_folder(&evaluated)
    {
        let (train, other) = (train.display(), other.display());
        warn(Diagnostic::new(format!(
            "`{other}` and `{train}` are the same folder; the metrics include train images"
        )));
    }
    Ok(evaluated)
}
