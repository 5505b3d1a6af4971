//! `waggle evaluate`: how right a trained model is on a folder of pictures.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use dataset::{DecodeOptions, ImageFolder, Loader, LoaderConfig, image_folder};
use serde::Serialize;
use trainer::{ConfusionMatrix, Flow, FrozenCache};

use crate::adapters::Pictures;
use crate::args::EvaluateArgs;
use crate::bad_pictures::{self, Skipped};
use crate::config::Config;
use crate::data_source::Source;
use crate::model_file::Model;
use crate::values::OnBad;
use crate::words::counted;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    loss: f64,
    accuracy: f64,
    classes: &'a [String],
    /// Rows are the true classes, columns the predicted ones.
    confusion: &'a ConfusionMatrix,
    /// The pictures that were left out.
    skipped: Vec<Skipped>,
}

/// Runs the command.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    super::start_threads(&args.machine)?;
    let device = super::open_device(&args.machine)?;
    let model = Model::open(&args.model, &device)?.in_precision(args.machine.precision);
    let (root, recorded) = data(args, &model.path)?;
    let mut folder = open(&root, &args.split, model.classes())?;
    let (ignore_exif, workers) = (args.machine.ignore_exif, args.machine.workers.get());
    let skipped = match args.on_bad {
        None => bad_pictures::recorded(&folder, &root, recorded),
        Some(OnBad::Skip) => bad_pictures::find(&folder, &root, ignore_exif, workers)?,
        Some(OnBad::Fail) => Vec::new(),
    };
    if !args.json {
        for (_, it) in &skipped {
            super::print(&format!("{it}\n"))?;
        }
    }
    bad_pictures::leave_out(&mut folder, &skipped)?;
    let config = LoaderConfig {
        batch_size: args.batch_size.get(),
        workers,
        normalize: model.normalize(),
        device,
        // A single pass: nothing is asked for twice.
        cache_bytes: 0,
        decode: DecodeOptions {
            ignore_exif,
            ..DecodeOptions::default()
        },
        ..LoaderConfig::eval(model.input_size())
    };
    let pictures = Pictures::new(Loader::new(folder.samples(), config)?);
    let found = trainer::evaluate(
        model.network(),
        &pictures,
        &mut FrozenCache::off(),
        &mut |_| Flow::Continue,
    )
    .map_err(|error| match error {
        trainer::Error::Data { .. } => {
            bad_pictures::explain(error.into(), &folder, ignore_exif, workers)
        }
        other => other.into(),
    })?
    .context("the evaluation did not end")?;

    let report = Report {
        loss: found.loss(),
        accuracy: found.accuracy(),
        classes: model.classes(),
        confusion: &found.confusion,
        skipped: skipped.into_iter().map(|(_, it)| it).collect(),
    };
    if args.json {
        let line = serde_json::to_string(&report).context("cannot write the result as JSON")?;
        super::print(&format!("{line}\n"))?;
    } else {
        super::print(&for_people(&report, &model, folder.root()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The data folder, and the pictures in it that the run which wrote the model left out: it knows its own folder when
/// its configuration lies beside the model.
fn data(args: &EvaluateArgs, model: &Path) -> anyhow::Result<(PathBuf, Vec<Skipped>)> {
    let file = model.with_file_name(Config::FILE);
    let given = args.data.as_deref();
    if !file.is_file() {
        return Ok((Source::choose(given).root()?, Vec::new()));
    }
    // With --data, what is wrong with the configuration is no reason to stop.
    let config = match (given, Config::read(&file)) {
        (None, config) => Some(config?),
        (Some(_), config) => config.ok(),
    };
    let (own, skipped) = config.map_or_else(Default::default, |config| {
        (PathBuf::from(config.data.root), config.data.skipped)
    });
    if given.is_none() {
        if own.is_dir() {
            return Ok((own, skipped));
        }
        bail!(
            "the pictures that this model was trained on are no longer at `{}`; say where they are with --data DIR",
            own.display()
        );
    }
    let root = Source::choose(given).root()?;
    let same = matches!((root.canonicalize(), own.canonicalize()), (Ok(a), Ok(b)) if a == b);
    Ok((root, if same { skipped } else { Vec::new() }))
}

/// Lists the pictures of a split, labelled as the model labels them.
///
/// The class map of a data set is that of its training split, where there is one: val may lack a class.
fn open(root: &Path, split: &str, classes: &[String]) -> anyhow::Result<ImageFolder> {
    let folder = match split {
        "train" => image_folder::train_folder(root)?,
        "val" => image_folder::val_folder(root)?,
        other if root.join(other).is_dir() => root.join(other),
        other => bail!(
            "`{}` has no folder `{other}`; --split names one of its subfolders",
            root.display()
        ),
    };
    let train = image_folder::train_folder(root).ok();
    let here = ImageFolder::scan(train.as_ref().unwrap_or(&folder))?;
    let unknown = difference(here.classes(), classes);
    let missing = if train.is_some() {
        difference(classes, here.classes())
    } else {
        Vec::new()
    };
    if !unknown.is_empty() || !missing.is_empty() {
        let mut parts = Vec::new();
        if !unknown.is_empty() {
            parts.push(format!("the model does not know {}", unknown.join(", ")));
        }
        if !missing.is_empty() {
            parts.push(format!("the folder has no {}", missing.join(", ")));
        }
        bail!(
            "the classes of `{}` are not those of the model: {}; evaluate on pictures of {}",
            root.display(),
            parts.join(", and "),
            classes.join(", ")
        );
    }
    Ok(ImageFolder::scan_with_classes(&folder, classes)?)
}

fn difference<'a>(these: &'a [String], without: &[String]) -> Vec<&'a str> {
    these
        .iter()
        .filter(|class| !without.contains(class))
        .map(String::as_str)
        .collect()
}

fn for_people(report: &Report<'_>, model: &Model, folder: &Path) -> String {
    let rows = report.confusion.rows();
    let pictures: u64 = rows.iter().flatten().sum();
    let right: u64 = rows.iter().enumerate().map(|(class, row)| row[class]).sum();
    let mut text = format!(
        "Model: {} ({}, {} pixels)\nData: {}, {}\nLoss: {:.4} Acc: {:.4} ({right} right)\n",
        model.path.display(),
        model.metadata.config.architecture,
        model.metadata.config.input_size,
        folder.display(),
        counted(pictures as usize, "picture"),
        report.loss,
        report.accuracy,
    );
    let name = report
        .classes
        .iter()
        .map(|class| class.chars().count())
        .max()
        .unwrap_or(0)
        .max(5);
    text.push_str(&format!("\n{:name$}  pictures  right  recall\n", "class"));
    for ((class, row), (index, recall)) in report
        .classes
        .iter()
        .zip(rows)
        .zip(report.confusion.recall().into_iter().enumerate())
    {
        let pictures: u64 = row.iter().sum();
        let recall = recall.map_or_else(|| "-".to_string(), |recall| format!("{recall:.4}"));
        text.push_str(&format!(
            "{class:name$}  {pictures:>8}  {:>5}  {recall:>6}\n",
            row[index]
        ));
    }
    text.push_str("\nConfusion (a row for each true class, a column for each predicted one)\n");
    let cell = if report.classes.len() <= 12 {
        name.min(16)
    } else {
        4
    };
    let cut = |class: &str| class.chars().take(cell).collect::<String>();
    let heads: Vec<String> = report
        .classes
        .iter()
        .map(|class| format!("{:>cell$}", cut(class)))
        .collect();
    text.push_str(&format!("{:name$}  {}\n", "", heads.join("  ")));
    for (class, row) in report.classes.iter().zip(rows) {
        let cells: Vec<String> = row.iter().map(|count| format!("{count:>cell$}")).collect();
        text.push_str(&format!("{class:name$}  {}\n", cells.join("  ")));
    }
    text
}
