//! `waggle predict`: prints the most probable classes of each image.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use anyhow::Context;
use candle_core::Tensor;
use dataset::{DecodeOptions, image_folder};
use rayon::prelude::*;
use serde::Serialize;

use crate::args::PredictArgs;
use crate::classifier::Classifier;
use crate::error::{Diagnostic, report};
use crate::memory_limits;
use crate::ui::text::percent;

/// The most probable classes of one image, as printed in each output format.
#[derive(Debug, Serialize)]
struct Prediction<'a> {
    path: String,
    class: &'a str,
    probability: f32,
    top: Vec<Guess<'a>>,
}

#[derive(Debug, Serialize)]
struct Guess<'a> {
    class: &'a str,
    probability: f32,
}

/// The JSON line for an image, or a folder without readable images, that cannot be classified.
#[derive(Debug, Serialize)]
struct Failure {
    path: String,
    error: String,
}

/// Runs `waggle predict`.
pub fn run(args: &PredictArgs) -> anyhow::Result<ExitCode> {
    let device = super::open_device(&args.machine)?;
    let model = Classifier::open(&args.model, &device)?.with_precision(args.machine.precision);
    let format = Format::of(args);
    let mut errors = Errors { format, count: 0 };
    let paths = image_paths(&args.paths, &mut errors)?;
    let batch = args.batch_size.get().min(paths.len());
    memory_limits::check_prediction(&model.metadata.config, batch)?;
    super::print(&format.header(args.top_k.get().min(model.classes().len())))?;
    thread::scope(|scope| {
        // The next chunk is decoded during the forward pass of the current one.
        let (sender, chunks) = mpsc::sync_channel(1);
        scope.spawn(|| decode(&model, &paths, args, sender));
        for chunk in chunks {
            let chunk = chunk?;
            let images = chunk.iter().filter_map(|(_, image)| image.as_ref().ok());
            let images: Vec<&Tensor> = images.collect();
            let mut probabilities = model.probabilities(&images)?.into_iter();
            for (path, image) in chunk {
                if let Err(error) = image {
                    errors.report(path, error.into())?;
                    continue;
                }
                let row = probabilities
                    .next()
                    .context("an image has no probabilities")?;
                let row = match row {
                    Ok(row) => row,
                    Err(error) => {
                        let message = format!("cannot classify {}", path.display());
                        errors.report(path, anyhow::Error::new(error).context(message))?;
                        continue;
                    }
                };
                let prediction = Prediction::new(path, model.classes(), &row, args.top_k.get());
                super::print(&format.line(&prediction)?)?;
            }
        }
        Ok(errors.exit_code())
    })
}

/// One batch of images, decoded or failed, in input order.
type Chunk<'a> = Vec<(&'a PathBuf, Result<Tensor, dataset::Error>)>;

/// Decodes `paths` on a separate thread pool and sends one chunk per batch. Stops early if the
/// receiver is dropped.
fn decode<'a>(
    model: &Classifier,
    paths: &'a [PathBuf],
    args: &PredictArgs,
    sender: mpsc::SyncSender<anyhow::Result<Chunk<'a>>>,
) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.machine.workers())
        .build()
        .map_err(|error| {
            Diagnostic::new("cannot start the threads that decode images")
                .help("pass a smaller value for `--workers`")
                .caused_by(error)
                .into()
        });
    let pool = match pool {
        Ok(pool) => pool,
        Err(error) => {
            // If the receiver is gone, the command has already failed.
            let _ = sender.send(Err(error));
            return;
        }
    };
    let options = DecodeOptions::default().ignore_exif(args.machine.ignore_exif);
    for chunk in paths.chunks(args.batch_size.get()) {
        let chunk_images = pool.install(|| {
            let images = chunk.par_iter();
            images
                .map(|path| (path, model.read(path, &options)))
                .collect()
        });
        if sender.send(Ok(chunk_images)).is_err() {
            return;
        }
    }
}

impl<'a> Prediction<'a> {
    fn new(path: &Path, classes: &'a [String], probabilities: &[f32], top_k: usize) -> Self {
        let mut guesses: Vec<Guess<'a>> = classes
            .iter()
            .zip(probabilities)
            .map(|(class, &probability)| Guess { class, probability })
            .collect();
        // The sort is stable, so the smaller index wins a tie, as when the accuracy is computed.
        guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        guesses.truncate(top_k);
        let (class, probability) = guesses
            .first()
            .map_or(("", 0.0), |best| (best.class, best.probability));
        Self {
            path: path.display().to_string(),
            class,
            probability,
            top: guesses,
        }
    }
}

/// Output format chosen by `--json` or `--csv`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    Text,
    Json,
    Csv,
}

impl Format {
    fn of(args: &PredictArgs) -> Self {
        match (args.json, args.csv) {
            (true, _) => Self::Json,
            (_, true) => Self::Csv,
            _ => Self::Text,
        }
    }

    /// The text before the first prediction.
    fn header(self, top: usize) -> String {
        if self != Self::Csv {
            return String::new();
        }
        let more = (2..=top).map(|rank| format!(",class_{rank},probability_{rank}"));
        format!("path,class,probability{}\n", more.collect::<String>())
    }

    fn line(self, prediction: &Prediction<'_>) -> anyhow::Result<String> {
        let line = match self {
            Self::Json => {
                serde_json::to_string(prediction).context("cannot write a prediction as JSON")?
            }
            Self::Csv => {
                let mut fields = vec![prediction.path.clone()];
                for guess in &prediction.top {
                    fields.extend([guess.class.to_string(), format!("{:.6}", guess.probability)]);
                }
                return csv_line(&fields);
            }
            Self::Text => {
                let guesses: Vec<String> = prediction
                    .top
                    .iter()
                    .map(|guess| format!("{} {}", guess.class, percent(guess.probability.into())))
                    .collect();
                format!("{}: {}", prediction.path, guesses.join(", "))
            }
        };
        Ok(line + "\n")
    }
}

fn csv_line(fields: &[String]) -> anyhow::Result<String> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(fields)
        .context("cannot write a prediction as CSV")?;
    let bytes = csv
        .into_inner()
        .context("cannot write a prediction as CSV")?;
    String::from_utf8(bytes).context("cannot write a prediction as CSV")
}

/// Prints an error for each image or folder that cannot be classified, and counts the errors for
/// the exit code.
#[derive(Debug)]
struct Errors {
    format: Format,
    count: usize,
}

impl Errors {
    /// Prints an error on standard error. With `--json`, also prints a line in place of the
    /// prediction.
    fn report(&mut self, path: &Path, error: anyhow::Error) -> anyhow::Result<()> {
        self.count += 1;
        report(&error);
        if self.format == Format::Json {
            let failure = Failure {
                path: path.display().to_string(),
                error: format!("{error:#}"),
            };
            let line = serde_json::to_string(&failure).context("cannot write an error as JSON")?;
            super::print(&(line + "\n"))?;
        }
        Ok(())
    }

    fn exit_code(&self) -> ExitCode {
        if self.count == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Expands each folder in `paths` to the images in it and its subfolders, in sorted order, and
/// reports folders that have none or cannot be read. Other paths are kept, even if they do not
/// exist.
fn image_paths(paths: &[PathBuf], errors: &mut Errors) -> anyhow::Result<Vec<PathBuf>> {
    let mut images = Vec::new();
    for path in paths {
        if !path.is_dir() {
            // A missing file, or one that is not an image, is reported when it is decoded.
            images.push(path.clone());
            continue;
        }
        match image_folder::image_paths(path) {
            Ok(files) if files.is_empty() => {
                let error =
                    Diagnostic::new(format!("no images in the folder `{}`", path.display())).help(
                        format!(
                            "the supported extensions are {}",
                            image_folder::EXTENSIONS.join(", ")
                        ),
                    );
                errors.report(path, error.into())?;
            }
            Ok(files) => images.extend(files),
            Err(error) => errors.report(path, error.into())?,
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_are_sorted_by_probability_then_index() {
        let classes = ["a", "b", "c", "d"].map(String::from);
        let prediction = Prediction::new(Path::new("x"), &classes, &[0.1, 0.4, 0.1, 0.4], 3);
        assert_eq!(prediction.class, "b");
        assert_eq!(
            prediction
                .top
                .iter()
                .map(|guess| guess.class)
                .collect::<Vec<_>>(),
            ["b", "d", "a"]
        );
    }

    #[test]
    fn csv_fields_are_quoted_if_necessary() {
        let classes = ["a,b", "c"].map(String::from);
        let prediction = Prediction::new(Path::new("p \"1\".png"), &classes, &[0.75, 0.25], 2);
        assert_eq!(
            Format::Csv.header(2),
            "path,class,probability,class_2,probability_2\n"
        );
        let line = Format::Csv.line(&prediction).unwrap();
        assert_eq!(line, "\"p \"\"1\"\".png\",\"a,b\",0.750000,c,0.250000\n");
    }
}
