//! `waggle evaluate`: reports the metrics of a trained model on a split.

mod class_table;
mod report;
mod text;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use console::Term;
use dataset::image_folder::count_kinds;
use dataset::{ImageFolder, image_folder};

use super::evaluation;
use crate::args::EvaluateArgs;
use crate::bad_images;
use crate::classifier::Classifier;
use crate::error::{Diagnostic, warn};
use crate::files::{TEMPORARY, write_atomically};
use crate::memory_limit;
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
    let (root, recorded) = evaluation::data(args.data.as_deref(), &model.path)?;
    let mut folder = open(&root, &args.split, model.classes())?;
    let (decode, workers) = (args.machine.decode.options(), args.machine.workers());
    let skipped = bad_images::skip(&mut folder, &root, args.on_bad, recorded, &decode, workers)?;
    let batch_size = args.batch_size.get();
    let evaluation = evaluation::evaluate(&model, &folder, batch_size, &device, &decode, workers)?;

    let scores = scores(&evaluation, model.classes().len())?;
    let temperature = model.metadata.temperature;
    let report = Report::new(
        scores,
        temperature,
        model.classes(),
        skipped,
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
