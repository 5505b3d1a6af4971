//! `waggle predict`: prints the most probable classes of each image.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use candle_core::Tensor;
use serde::Serialize;

use super::image_errors::{ImageErrors, as_text};
use super::predict_inputs;
use crate::args::PredictArgs;
use crate::classifier::Classifier;
use crate::escape::{path_in_text, printable};
use crate::ui::text::percent;

/// The class printed for an image whose probabilities are all below `--min-probability`.
const UNKNOWN: &str = "unknown";

/// The most probable classes of one image, as printed in each output format.
#[derive(Debug, Serialize)]
struct Prediction<'a> {
    #[serde(serialize_with = "as_text")]
    path: &'a Path,
    /// Whether the probability is below `--min-probability`.
    #[serde(skip)]
    is_unknown: bool,
    /// The most probable class, or [`UNKNOWN`].
    class: &'a str,
    /// The largest probability.
    probability: f32,
    top: Vec<Guess<'a>>,
}

#[derive(Debug, Serialize)]
struct Guess<'a> {
    class: &'a str,
    probability: f32,
}

/// Runs `waggle predict`.
pub fn run(args: &PredictArgs) -> anyhow::Result<ExitCode> {
    let device = super::open_device(&args.machine)?;
    let model = Classifier::open(&args.model, &device)?.with_precision(args.machine.precision);
    let model = Arc::new(model);
    let format = Format::of(args);
    let mut errors = ImageErrors::new(args.json);
    let top = args.top_k.get();
    super::print(&format.header(top.min(model.classes().len())))?;
    let batch_size = args.batch_size.get();
    let (chunks, decoder) = predict_inputs::start(&model, &args.images, batch_size, &args.machine)?;
    for chunk in chunks {
        let chunk = chunk?;
        let images = chunk.iter().filter_map(|(_, image)| image.as_ref().ok());
        let images: Vec<&Tensor> = images.collect();
        let mut probabilities = model.probabilities(&images)?.into_iter();
        for (path, image) in &chunk {
            if let Err(error) = image {
                errors.report(path, error)?;
                continue;
            }
            let row = probabilities
                .next()
                .context("an image has no probabilities")?;
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    let message = format!("cannot classify {}", path.display());
                    errors.report(path, &anyhow::Error::new(error).context(message))?;
                    continue;
                }
            };
            let prediction = Prediction::new(path, model.classes(), &row, top);
            let prediction = prediction.at_least(args.min_probability.unwrap_or(0.0));
            super::print_bytes(&format.line(&prediction)?)?;
        }
    }
    predict_inputs::finish(decoder)?;
    Ok(errors.exit_code())
}

impl<'a> Prediction<'a> {
    fn new(path: &'a Path, classes: &'a [String], probabilities: &[f32], top_k: usize) -> Self {
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
            path,
            is_unknown: false,
            class,
            probability,
            top: guesses,
        }
    }

    /// Replaces the class by [`UNKNOWN`] if its probability is below `minimum`.
    fn at_least(self, minimum: f32) -> Self {
        if self.probability >= minimum {
            return self;
        }
        Self {
            is_unknown: true,
            class: UNKNOWN,
            ..self
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

    fn line(self, prediction: &Prediction<'_>) -> anyhow::Result<Vec<u8>> {
        let line = match self {
            Self::Json => {
                serde_json::to_string(prediction).context("cannot write a prediction as JSON")?
            }
            Self::Csv => return csv_line(prediction).context("cannot write a prediction as CSV"),
            Self::Text => {
                let guesses: Vec<String> = prediction
                    .top
                    .iter()
                    .map(|guess| format!("{} {}", guess.class, percent(guess.probability.into())))
                    .collect();
                let mut guesses = guesses.join(", ");
                if prediction.is_unknown {
                    guesses = format!("{UNKNOWN} ({guesses})");
                }
                let mut line = path_in_text(prediction.path);
                line.extend(format!(": {}\n", printable(&guesses)).bytes());
                return Ok(line);
            }
        };
        Ok((line + "\n").into_bytes())
    }
}

/// The CSV record of a prediction. The path keeps its bytes, whether or not they are valid UTF-8.
fn csv_line(prediction: &Prediction<'_>) -> anyhow::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_field(prediction.path.as_os_str().as_encoded_bytes())?;
    for (rank, guess) in prediction.top.iter().enumerate() {
        csv.write_field(if rank == 0 {
            prediction.class
        } else {
            guess.class
        })?;
        csv.write_field(format!("{:.6}", guess.probability))?;
    }
    csv.write_record(None::<&[u8]>)?;
    Ok(csv.into_inner()?)
}

#[cfg(test)]
mod tests {
    use dataset::path_text;

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
    fn below_the_minimum_the_class_is_unknown_and_the_probabilities_stay() {
        // The second class has the name that stands for no class.
        let classes = ["ants", "unknown"].map(String::from);
        let lines = |probabilities: [f32; 2], minimum: f32| {
            let prediction = Prediction::new(Path::new("x"), &classes, &probabilities, 2);
            let prediction = prediction.at_least(minimum);
            [Format::Text, Format::Csv, Format::Json].map(|format| {
                let line = format.line(&prediction).unwrap();
                String::from_utf8(line).unwrap()
            })
        };
        let known = [
            "x: ants 75.0 %, unknown 25.0 %\n",
            "x,ants,0.750000,unknown,0.250000\n",
            r#"{"path":"x","class":"ants","probability":0.75,"#,
        ];
        let unknown = [
            "x: unknown (ants 75.0 %, unknown 25.0 %)\n",
            "x,unknown,0.750000,unknown,0.250000\n",
            r#"{"path":"x","class":"unknown","probability":0.75,"top":[{"class":"ants","probability":0.75},"#,
        ];
        for (minimum, expected) in [(0.0, known), (0.75, known), (0.7500001, unknown)] {
            for (line, expected) in lines([0.75, 0.25], minimum).iter().zip(expected) {
                assert!(line.starts_with(expected), "{minimum}: {line}");
            }
        }
        assert_eq!(
            lines([1.0, 0.0], 1.0)[0],
            "x: ants 100.0 %, unknown 0.0 %\n"
        );
    }

    #[test]
    fn csv_follows_rfc_4180_and_reads_back_to_the_same_paths() {
        let classes = ["a,b", "c"].map(String::from);
        assert_eq!(
            Format::Csv.header(2),
            "path,class,probability,class_2,probability_2\n"
        );
        let line = |path: &[u8]| {
            let path = path_text::path_from_bytes(path.to_vec()).unwrap();
            let prediction = Prediction::new(&path, &classes, &[0.75, 0.25], 2);
            Format::Csv.line(&prediction).unwrap()
        };
        assert_eq!(
            line(b"p \"1\".png"),
            b"\"p \"\"1\"\".png\",\"a,b\",0.750000,c,0.250000\n"
        );
        let names: [&[u8]; 7] = [
            b"a,b.png",
            b"a\nb.png",
            b"a\rb.png",
            b"a\r\n",
            "🐝 ü.png".as_bytes(),
            b"=1+1",
            b" ' ;\t",
        ];
        for name in names {
            let line = line(name);
            let mut reader = csv::ReaderBuilder::new();
            let mut reader = reader.has_headers(false).from_reader(&line[..]);
            let records: Result<Vec<_>, _> = reader.byte_records().collect();
            let records = records.unwrap();
            assert_eq!((records.len(), records[0].len()), (1, 5));
            assert_eq!(&records[0][0], name);
        }
        // The bytes of a name that is not valid UTF-8 are in the file as they are.
        #[cfg(unix)]
        assert!(line(b"caf\xe9.png").starts_with(b"caf\xe9.png,"));
    }
}
