//! `waggle evaluate`: reports the loss, accuracy and confusion matrix of a trained model on a
//! split.

use std::cmp::Reverse;
use std::iter;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use console::{Term, measure_text_width};
use dataset::image_folder::{KindCount, count_kinds};
use dataset::{ImageFolder, Loader, LoaderConfig, image_folder, path_text};
use insight::wilson_interval;
use serde::Serialize;
use trainer::{ConfusionMatrix, FrozenCache};

use crate::args::EvaluateArgs;
use crate::args::types::OnBad;
use crate::bad_images;
use crate::classifier::Classifier;
use crate::config::{Config, Skipped};
use crate::data_source::Source;
use crate::error::{Diagnostic, warn};
use crate::escape::{printable, printable_path};
use crate::memory_limit;
use crate::non_finite_logit::CheckedNetwork;
use crate::ui::text::{list, percent, percent_range, pluralize, push_table, shorten, unused_files};

/// Maximum number of classes for which the confusion matrix is printed. With more classes, or if
/// the matrix is wider than the terminal, the most confused pairs are printed instead.
const MAX_MATRIX_CLASSES: usize = 12;
/// Width in columns assumed if the output is not a terminal.
const DEFAULT_COLUMNS: usize = 80;
/// Maximum number of confused pairs to print.
const MAX_CONFUSED_PAIRS: usize = 10;
/// Maximum width in columns of class names in the tables, except in the confusion matrix, where it
/// is 12. Longer names are shortened.
const MAX_NAME_WIDTH: usize = 24;

/// The result of an evaluation, printed as text or, with `--json`, as a JSON object.
#[derive(Debug, Serialize)]
struct Report<'a> {
    loss: f64,
    accuracy: f64,
    classes: &'a [String],
    /// Image counts. Rows are the true classes, columns the predicted ones.
    confusion: &'a ConfusionMatrix,
    /// Images that could not be decoded and were left out.
    skipped: Vec<Skipped>,
    /// Files of the split that are not used, by kind, without hidden ones.
    unused: Vec<KindCount>,
}

/// Runs `waggle evaluate`.
pub fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
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

    let report = Report {
        loss: evaluation.loss(),
        accuracy: evaluation.accuracy(),
        classes: model.classes(),
        confusion: &evaluation.confusion,
        skipped: skipped.into_iter().map(|(_, image)| image).collect(),
        unused: count_kinds(folder.unused()),
    };
    if args.json {
        let line = serde_json::to_string(&report).context("cannot write the result as JSON")?;
        super::print(&format!("{line}\n"))?;
    } else {
        let size = Term::stdout().size_checked();
        let columns = size.map_or(DEFAULT_COLUMNS, |(_, columns)| columns.into());
        super::print(&text(&report, &model, folder.root(), columns))?;
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

/// The report as text for a terminal of `columns` columns.
fn text(report: &Report<'_>, model: &Classifier, folder: &Path, columns: usize) -> String {
    let rows = report.confusion.rows();
    let images: u64 = rows.iter().flatten().sum();
    let correct: u64 = rows.iter().enumerate().map(|(class, row)| row[class]).sum();
    let config = &model.metadata.config;
    let unused = unused_files(&report.unused);
    let unused = unused.map_or_else(String::new, |unused| format!("; not used: {unused}"));
    let mut text = format!(
        "Model     {} ({}, {} px)\n\
         Data      {}, {}{unused}\n\
         Loss      {:.4}\n\
         Accuracy  {} ({correct} of {images}; 95 % interval: {})\n\n",
        printable_path(&model.path),
        printable(&config.architecture),
        config.input_size,
        printable_path(folder),
        pluralize(images as usize, "image"),
        report.loss,
        percent(report.accuracy),
        percent_range(wilson_interval(correct, images)),
    );
    let classes = report.classes.iter();
    let classes: Vec<String> = classes.map(|class| printable(class).into_owned()).collect();
    let mut table = vec![["class", "images", "correct", "recall"].map(String::from)];
    for (index, (class, row)) in classes.iter().zip(rows).enumerate() {
        let images: u64 = row.iter().sum();
        let recall = match images {
            0 => "-".to_string(),
            _ => percent(row[index] as f64 / images as f64),
        };
        let class = shorten(class, MAX_NAME_WIDTH);
        table.push([class, images.to_string(), row[index].to_string(), recall]);
    }
    push_table(&mut text, &table, 1);
    let mut matrix = String::new();
    push_table(&mut matrix, &confusion_matrix(&classes, rows), 1);
    let width = matrix.lines().map(measure_text_width).max().unwrap_or(0);
    if classes.len() <= MAX_MATRIX_CLASSES && width <= columns {
        text.push_str("\nConfusion matrix (rows: true, columns: predicted)\n");
        text.push_str(&matrix);
    } else {
        let pairs = most_confused(&classes, rows);
        if pairs.len() > 1 {
            text.push_str("\nMost confused classes\n");
            push_table(&mut text, &pairs, 2);
        }
    }
    text
}

/// The confusion matrix with a heading row and column.
fn confusion_matrix(classes: &[String], rows: &[Vec<u64>]) -> Vec<Vec<String>> {
    let names = || classes.iter().map(|class| shorten(class, 12));
    let mut table = vec![iter::once(String::new()).chain(names()).collect::<Vec<_>>()];
    for (name, row) in names().zip(rows) {
        let counts = row.iter().map(u64::to_string);
        table.push(iter::once(name).chain(counts).collect());
    }
    table
}

/// The pairs of true and predicted class with the most errors, below a heading row.
fn most_confused(classes: &[String], rows: &[Vec<u64>]) -> Vec<[String; 4]> {
    let mut pairs = Vec::new();
    for (truth, row) in rows.iter().enumerate() {
        let errors = row.iter().enumerate();
        let errors = errors.filter(|&(predicted, &count)| predicted != truth && count > 0);
        pairs.extend(errors.map(|(predicted, &count)| (truth, predicted, count)));
    }
    // The sort is stable, so pairs with equal counts stay in class order.
    pairs.sort_by_key(|&(_, _, count)| Reverse(count));
    pairs.truncate(MAX_CONFUSED_PAIRS);
    let mut table = vec![["true class", "predicted class", "images", "share"].map(String::from)];
    for (truth, predicted, count) in pairs {
        let images: u64 = rows[truth].iter().sum();
        table.push([
            shorten(&classes[truth], MAX_NAME_WIDTH),
            shorten(&classes[predicted], MAX_NAME_WIDTH),
            count.to_string(),
            percent(count as f64 / images as f64),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn columns_are_aligned_by_display_width() {
        let mut text = String::new();
        let matrix = confusion_matrix(&names(&["蚂蚁", "bees"]), &[vec![60, 4], vec![3, 80]]);
        push_table(&mut text, &matrix, 1);
        assert_eq!(
            text,
            "      蚂蚁  bees\n\
             蚂蚁    60     4\n\
             bees     3    80\n"
        );
    }

    #[test]
    fn the_most_confused_pairs_come_first() {
        let classes = names(&["a", "b", "c"]);
        let rows = [vec![8, 2, 0], vec![1, 9, 0], vec![0, 5, 0]];
        let mut text = String::new();
        push_table(&mut text, &most_confused(&classes, &rows), 2);
        assert_eq!(
            text,
            "true class  predicted class  images    share\n\
             c           b                     5  100.0 %\n\
             a           b                     2   20.0 %\n\
             b           a                     1   10.0 %\n"
        );
    }
}
