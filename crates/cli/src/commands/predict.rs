//! `waggle predict`: a class and a probability for each picture.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, anyhow};
use dataset::{DecodeOptions, image_folder};
use rayon::prelude::*;
use serde::Serialize;

use crate::args::PredictArgs;
use crate::model_file::Model;

/// What is said about one picture.
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

/// What is said to programs about a picture that cannot be read.
#[derive(Debug, Serialize)]
struct Unread {
    path: String,
    error: String,
}

/// Runs the command.
pub fn run(args: &PredictArgs) -> anyhow::Result<ExitCode> {
    super::start_threads(&args.machine)?;
    let device = super::open_device(&args.machine)?;
    let model = Model::open(&args.model, &device)?.in_precision(args.machine.precision);
    let format = Format::of(args);
    let mut bad = Bad { format, count: 0 };
    let paths = pictures(&args.paths, &mut bad)?;
    super::print(&format.header(args.top_k.get().min(model.classes().len())))?;
    thread::scope(|scope| {
        // One chunk is read while the one before it is computed.
        let (sender, chunks) = mpsc::sync_channel(1);
        scope.spawn(|| read(&model, &paths, args, sender));
        for chunk in chunks {
            let chunk = chunk?;
            let read = chunk
                .iter()
                .filter_map(|(_, picture)| picture.as_ref().ok());
            let read: Vec<&[f32]> = read.map(Vec::as_slice).collect();
            let mut found = model.probabilities(&read)?.into_iter();
            for (path, picture) in chunk {
                if let Err(error) = picture {
                    bad.report(path, &error.into())?;
                    continue;
                }
                let probabilities = found.next().context("a picture has no probabilities")?;
                let prediction =
                    Prediction::new(path, model.classes(), &probabilities, args.top_k.get());
                super::print(&format.line(&prediction)?)?;
            }
        }
        Ok(bad.exit_code())
    })
}

/// Pictures with what became of each, in order.
type Chunk<'a> = Vec<(&'a PathBuf, Result<Vec<f32>, dataset::Error>)>;

/// Reads `paths` in chunks of a batch, with threads of their own, and sends them until nobody receives.
fn read<'a>(
    model: &Model,
    paths: &'a [PathBuf],
    args: &PredictArgs,
    sender: mpsc::SyncSender<anyhow::Result<Chunk<'a>>>,
) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.machine.workers.get())
        .build()
        .context("cannot start threads that read pictures; try fewer with --workers");
    let pool = match pool {
        Ok(pool) => pool,
        Err(error) => {
            // If nobody receives, the run has failed already, with an error of its own.
            let _ = sender.send(Err(error));
            return;
        }
    };
    let options = DecodeOptions {
        ignore_exif: args.machine.ignore_exif,
        ..DecodeOptions::default()
    };
    for chunk in paths.chunks(args.batch_size.get()) {
        let read = pool.install(|| {
            let reader = || model.reader(options.clone());
            chunk
                .par_iter()
                .map_init(reader, |reader, path| (path, reader.read(path)))
                .collect()
        });
        if sender.send(Ok(read)).is_err() {
            return;
        }
    }
}

impl<'a> Prediction<'a> {
    fn new(path: &Path, classes: &'a [String], probabilities: &[f32], most: usize) -> Self {
        let mut guesses: Vec<Guess<'a>> = classes
            .iter()
            .zip(probabilities)
            .map(|(class, &probability)| Guess { class, probability })
            .collect();
        // Stable: of equals, the one with the smaller index comes first, as in the accuracy.
        guesses.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        guesses.truncate(most);
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

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Format {
    People,
    Json,
    Csv,
}

impl Format {
    fn of(args: &PredictArgs) -> Self {
        match (args.json, args.csv) {
            (true, _) => Self::Json,
            (_, true) => Self::Csv,
            _ => Self::People,
        }
    }

    /// What comes before the first line, if anything.
    fn header(self, top: usize) -> String {
        if self != Self::Csv {
            return String::new();
        }
        let more = (2..=top).map(|place| format!(",class_{place},probability_{place}"));
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
            Self::People => {
                let guesses: Vec<String> = prediction
                    .top
                    .iter()
                    .map(|guess| format!("{} {:.1} %", guess.class, 100.0 * guess.probability))
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

/// Pictures that could not be read: told at once, counted for the exit code.
#[derive(Debug)]
struct Bad {
    format: Format,
    count: usize,
}

impl Bad {
    /// Tells people on standard error, and programs in the picture's place among the predictions.
    fn report(&mut self, path: &Path, error: &anyhow::Error) -> anyhow::Result<()> {
        self.count += 1;
        super::warn(&format!("error: {error:#}"));
        if self.format == Format::Json {
            let unread = Unread {
                path: path.display().to_string(),
                error: format!("{error:#}"),
            };
            let line = serde_json::to_string(&unread).context("cannot write an error as JSON")?;
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

/// Files as given, folders as the pictures in them and their subfolders, in the order of folder and name.
fn pictures(paths: &[PathBuf], bad: &mut Bad) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            // Whether it is there and a picture shows when it is read, with an error that names it.
            found.push(path.clone());
            continue;
        }
        match image_folder::pictures(path) {
            Ok(pictures) if pictures.is_empty() => {
                let error = anyhow!(
                    "no picture in the folder `{}`; accepted extensions, in any case: {}",
                    path.display(),
                    image_folder::EXTENSIONS.join(" ")
                );
                bad.report(path, &error)?;
            }
            Ok(pictures) => found.extend(pictures),
            Err(error) => bad.report(path, &error.into())?,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_come_first_and_equals_in_the_order_of_their_index() {
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
    fn csv_has_a_line_a_picture_and_quotes_what_needs_it() {
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
