//! The command line: flags, defaults, help, and the checks of individual values.
//!
//! `crate::plan` resolves the arguments of `train` together with the data and the weights before
//! training starts. Parsing here rejects every value that is invalid by itself, so the rest
//! of the program never sees a batch size of zero or a learning rate that is NaN.

mod compare;
mod explain;
mod export;
mod inspect;
mod install;
mod report;
mod train;
pub mod types;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::builder::styling::{AnsiColor, Styles};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use dataset::DecodeOptions;

pub use compare::CompareArgs;
pub use explain::ExplainArgs;
pub use export::{ExportArgs, ExportFormat};
pub use inspect::{CheckArgs, LabelsArgs, ShowArgs, SummaryArgs};
pub use install::{CompletionsArgs, ManArgs};
pub use report::ReportArgs;
pub use train::TrainArgs;
use types::{DeviceChoice, OnBad, max_pixels, positive, probability, threads, up_to_a_million};

use crate::decode_limits::decode_options;
use crate::escape::printable_path;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  waggle train                          use the default data
  waggle train --data my_images         use your own images
  waggle predict runs/train new_images  classify images
  waggle evaluate runs/train            measure the accuracy
  waggle explain runs/train bee.jpg     draw a heat map
  waggle check my_images                find bad images
  waggle labels runs/train              find wrong labels

Exit codes: 0 success, 1 failure, 2 usage error, 130 interrupted (SIGINT), 143 terminated (SIGTERM).";

/// Fine-tune a pretrained VGG on a folder of images, and classify images with it.
#[derive(Debug, Parser)]
#[command(name = "waggle", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// The subcommand to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `waggle`, each with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a classifier in two stages: first the new head, then all layers
    Train(Box<TrainArgs>),
    /// Measure the accuracy of a trained model on a folder of images
    Evaluate(EvaluateArgs),
    /// Classify images
    Predict(PredictArgs),
    /// Write a page about a run: curves, mistakes, classes, confidence, data and settings
    Report(ReportArgs),
    /// Compare finished runs: settings that differ, results and McNemar's test
    Compare(CompareArgs),
    /// Draw heat maps of the parts of images that speak for a class
    Explain(ExplainArgs),
    /// Convert a trained model to safetensors, timm or ONNX
    Export(ExportArgs),
    /// Check a data set for damaged files, duplicates, leaks and conflicting labels
    Check(CheckArgs),
    /// Find train images whose label is probably wrong
    Labels(LabelsArgs),
    /// Draw a training batch as the network sees it
    Show(ShowArgs),
    /// Print the layers of a network with their output shapes and parameter counts
    Summary(SummaryArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write the man pages of waggle and its subcommands
    Man(ManArgs),
}

/// Arguments for threads, device, precision and image decoding, shared by `train`, `evaluate`,
/// `predict` and `explain`.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Threads that decode images, at most 1024 [default: 4]
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Machine")]
    pub workers: Option<NonZeroUsize>,

    /// Compute threads, at most 1024 [default: the number of available CPUs]
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Machine")]
    pub threads: Option<NonZeroUsize>,

    /// Device: auto (the GPU if this build supports one and it works, else the CPU), cpu, cuda, cuda:N
    /// or metal
    #[arg(long, default_value = "auto", help_heading = "Machine")]
    pub device: DeviceChoice,

    /// Compute precision: f32, or bf16 on NVIDIA GPUs (weights and updates stay f32)
    #[arg(long, default_value = "f32", help_heading = "Machine")]
    pub precision: vgg::Precision,

    #[command(flatten)]
    /// Limits and orientation of images.
    pub decode: DecodeArgs,
}

/// Arguments for image decoding, shared by the commands that read images.
#[derive(Debug, Clone, Args)]
pub struct DecodeArgs {
    /// Ignore the EXIF orientation of images, as torchvision does
    #[arg(long)]
    pub ignore_exif: bool,

    /// Largest image to decode, in pixels (width × height). The images that are decoded at the same
    /// time share 12 bytes of memory per pixel of this limit, at least 1 GiB [default: 178956970]
    #[arg(long, value_name = "N", value_parser = max_pixels)]
    pub max_pixels: Option<usize>,
}

impl DecodeArgs {
    /// The largest number of pixels of an image.
    pub fn max_pixels(&self) -> usize {
        self.max_pixels
            .unwrap_or_else(|| DecodeOptions::default().max_pixels)
    }

    /// The decoder settings.
    pub fn options(&self) -> DecodeOptions {
        decode_options(self.ignore_exif, self.max_pixels())
    }
}

impl MachineArgs {
    /// The number of threads that decode images.
    pub fn workers(&self) -> usize {
        self.workers.map_or(4, NonZeroUsize::get)
    }
}

/// The images of `predict` and `explain`.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    /// Images, or folders of images (searched recursively). `-` reads paths from standard input, one
    /// per line; empty lines are skipped
    #[arg(required_unless_present = "null", value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Paths on standard input are separated by NUL bytes, as `find -print0` writes them. Reads them
    /// even without `-`
    #[arg(short = '0', long)]
    pub null: bool,
}

/// Arguments of `waggle evaluate`.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Model file (model.safetensors) or run directory
    pub model: PathBuf,

    /// Data set: a folder with SPLIT/CLASS/IMAGE, or `sample` [default: the data set in config.toml
    /// next to the model; without that file, data/hymenoptera_data if it exists, else sample]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Split to evaluate: a subfolder of the data set. `val` also matches `valid` and `validation`
    #[arg(long, value_name = "NAME", default_value = "val", value_parser = NonEmptyStringValueParser::new())]
    pub split: String,

    /// What to do with images that cannot be decoded [default: fail, except for images that the
    /// training run skipped]
    #[arg(long, value_name = "fail|skip", value_enum)]
    pub on_bad: Option<OnBad>,

    /// Images per batch
    #[arg(long, value_name = "N", default_value = "32", value_parser = up_to_a_million)]
    pub batch_size: NonZeroUsize,

    #[command(flatten)]
    /// Threads, device, precision and image decoding.
    pub machine: MachineArgs,

    /// Write a CSV file with one row per image: path, truth, predicted, the probability of each class,
    /// loss
    #[arg(long, value_name = "FILE")]
    pub predictions: Option<PathBuf>,

    /// Replace an existing file of --predictions
    #[arg(long, requires = "predictions")]
    pub overwrite: bool,

    /// Print one JSON object: metrics as fractions, classes, confusion, skipped, unused
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `waggle predict`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  waggle predict runs/train bee.jpg
  waggle predict runs/train photos/ --csv > photos.csv
  waggle predict model.safetensors photos/ --top-k 3 --json
  waggle predict runs/train photos/ --min-probability 0.9
  find photos -print0 | waggle predict runs/train -0

CSV follows RFC 4180, with lines that end in LF, and has the exact bytes of each path. In JSON, a path \
that is not valid UTF-8 or begins with a quotation mark is in quotation marks, with git's escapes: \\\\, \
\\\" and \\NNN, a byte in octal.

A folder with images in a format that is not supported, such as HEIC, is reported as a warning on \
standard error.

If an image cannot be classified or a folder has no readable images, an error is printed to standard \
error, the other images are still classified, and the exit code is 1. With --json, the path and the \
error are also printed as an object.")]
pub struct PredictArgs {
    /// Model file (model.safetensors) or run directory
    pub model: PathBuf,

    #[command(flatten)]
    /// The images.
    pub images: ImageArgs,

    /// Number of classes to print per image, most probable first
    #[arg(long, value_name = "N", default_value = "1", value_parser = positive)]
    pub top_k: NonZeroUsize,

    /// Print `unknown` in place of the class if no probability of the image reaches P, from 0 to 1
    #[arg(long, value_name = "P", value_parser = probability)]
    pub min_probability: Option<f32>,

    /// Images per batch
    #[arg(long, value_name = "N", default_value = "16", value_parser = up_to_a_million)]
    pub batch_size: NonZeroUsize,

    /// Print one JSON object per line: path, class, probability and top (the --top-k classes), or path
    /// and error for an image that cannot be classified or a folder without readable images
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,

    /// Print CSV with a header: path, class, probability; with --top-k above 1 also class_2,
    /// probability_2 and so on
    #[arg(long)]
    pub csv: bool,

    #[command(flatten)]
    /// Threads, device, precision and image decoding.
    pub machine: MachineArgs,
}

/// Value names of numeric options. These options accept values that start with a hyphen.
const NUMBERS: [&str; 7] = ["LR", "MINUTES", "N", "P", "PIXELS", "SIZE", "X"];

/// The definition of the command line, with two rules that each apply to many arguments:
///
/// - Numeric options accept values that start with a hyphen, so that `--lr -1e-3` reports an invalid
///   learning rate instead of an unexpected argument.
/// - In `train`, all arguments except those in `train::WITH_RESUME` conflict with `--resume`.
pub(crate) fn definition() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let is_train = command.get_name() == "train";
        command.mut_args(|argument| {
            let names = argument.get_value_names().unwrap_or_default();
            let is_number = names.iter().any(|name| NUMBERS.contains(&name.as_str()));
            let argument = argument.allow_hyphen_values(is_number);
            if is_train && !train::WITH_RESUME.contains(&argument.get_id().as_str()) {
                argument.conflicts_with("resume")
            } else {
                argument
            }
        })
    })
}

/// Parses a command line that starts with the program name.
///
/// # Errors
///
/// Returns an error for missing or invalid arguments, and for `--help` and `--version`, which clap also
/// returns as errors.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let line: Vec<OsString> = line.into_iter().collect();
    let matches = definition()
        .try_get_matches_from(&line)
        .map_err(|error| {
            // clap prints arguments as they are, so the message is that of the escaped line.
            let escaped = line.iter().map(printable_path);
            definition()
                .try_get_matches_from(escaped)
                .err()
                .unwrap_or_else(|| unprintable(error.kind()))
        })
        .map_err(|mut error| {
            let mentions_resume =
                |(_, value): (ContextKind, &ContextValue)| value.to_string().contains("--resume");
            if error.kind() == ErrorKind::ArgumentConflict && error.context().any(mentions_resume) {
                let tip = "a resumed run keeps its settings; to change them, start a new run";
                error.insert(
                    ContextKind::Suggested,
                    ContextValue::StyledStrs(vec![tip.into()]),
                );
            }
            error
        })?;
    if let Some(("train", train)) = matches.subcommand()
        && let Some(conflict) = train::conflict(train)
    {
        let mut definition = definition();
        definition.build();
        let train = definition.find_subcommand_mut("train");
        let train = train.expect("the command exists");
        return Err(train.error(ErrorKind::ArgumentConflict, conflict));
    }
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))
}

/// The error for arguments that are valid once they are escaped.
fn unprintable(kind: ErrorKind) -> clap::Error {
    definition().error(
        kind,
        "an argument contains control characters or is not UTF-8",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_accepts_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn examples_fit_a_terminal_of_60_columns() {
        let definition = definition();
        for command in definition.get_subcommands().chain([&definition]) {
            let Some(help) = command.get_after_help() else {
                continue;
            };
            let help = help.to_string();
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.len() <= 60, "{line}");
            }
        }
    }

    #[test]
    fn settings_of_a_run_conflict_with_resume() {
        let parse = |more: &[&str]| {
            let line = [&["waggle", "train", "--resume", "run"], more].concat();
            parse(line.iter().map(Into::into))
        };
        for setting in [
            "--lr=1e-3",
            "--seed=1",
            "--threads=1",
            "--device=cpu",
            "--out=x",
            "--no-calibration",
        ] {
            let error = parse(&[setting]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{setting}");
            assert!(error.to_string().contains("a resumed run keeps"), "{error}");
        }
        parse(&["--workers=1", "--cache-images=0", "--data=x", "--json"]).unwrap();
        parse(&["--max-pixels=200000000"]).unwrap();
        definition().debug_assert();
    }

    #[test]
    fn a_larger_limit_of_pixels_allows_the_memory_for_them() {
        let default = DecodeOptions::default();
        assert_eq!(decode_options(false, default.max_pixels), default);
        assert_eq!(decode_options(false, 100), default.clone().max_pixels(100));
        let larger = decode_options(true, 1_000_000_000);
        assert_eq!(
            (larger.max_pixels, larger.max_bytes),
            (1_000_000_000, 12_000_000_000)
        );
        for value in ["0", "-1", "4294836226", "1e9"] {
            let line = ["waggle", "check", "--max-pixels", value];
            let message = parse(line.map(OsString::from)).unwrap_err().to_string();
            assert!(
                message.contains("expected 1 to 4294836225 pixels"),
                "{message}"
            );
        }
    }

    #[test]
    fn negative_numbers_are_invalid_values_and_not_unexpected_arguments() {
        for (command, option, value) in [
            ("train", "--lr", "-1"),
            ("train", "--momentum", "-0.9"),
            ("train", "--lr", "-1e-3"),
            ("train", "--seed", "-1"),
            ("train", "--workers", "-2"),
            ("train", "--checkpoint-every", "-5"),
            ("train", "--cache-images", "-1"),
            ("predict", "--min-probability", "-0.5"),
            ("show", "--epoch", "-1"),
            ("summary", "--classes", "-8"),
        ] {
            let line = ["waggle", command, option, value];
            let message = parse(line.map(OsString::from)).unwrap_err().to_string();
            let expected = format!("invalid value '{value}' for '{option}");
            assert!(message.contains(&expected), "{line:?}: {message}");
        }
    }

    fn parse_error(arguments: &[&str]) -> String {
        Cli::try_parse_from(arguments)
            .expect_err("the arguments are invalid")
            .to_string()
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_the_flag() {
        for (flag, value) in [
            ("--batch-size", "0"),
            ("--lr", "NaN"),
            ("--lr", "-1"),
            ("--lr", "inf"),
            ("--momentum", "1"),
            ("--transfer-epochs", "0"),
            ("--workers", "0"),
            ("--threads", "0"),
            ("--finetune-lr", "features"),
            ("--finetune-lr", "features=fast"),
            ("--finetune-lr", "features=1e-3,features=1e-4"),
            ("--cache-images", "much"),
            ("--device", "tpu"),
            ("--precision", "f16"),
            ("--arch", "resnet50"),
            ("--weights", "hf:vgg16"),
            ("--input-size", "8"),
        ] {
            // In `--flag=value`, clap parses `-1` as a value and not as a flag.
            let message = parse_error(&["waggle", "train", &format!("{flag}={value}")]);
            assert!(message.contains(flag), "{flag} {value}: {message}");
        }
    }

    #[test]
    fn the_defaults_are_the_recipe_of_the_notebook() {
        let Command::Train(train) = Cli::parse_from(["waggle", "train"]).command else {
            panic!("not train");
        };
        assert_eq!(
            (train.transfer_epochs.get(), train.finetune_epochs.get()),
            (25, 25)
        );
        assert_eq!((train.batch_size.get(), train.seed), (32, 1234));
        assert_eq!((train.lr, train.momentum), (1e-3, 0.9));
        let rates: Vec<_> = train
            .finetune_lr
            .iter()
            .map(|group| (group.layers.as_str(), group.lr))
            .collect();
        assert_eq!(
            rates,
            [
                ("features", 1e-4),
                ("classifier.0", 5e-4),
                ("classifier.3", 5e-4),
                ("classifier.6", 1e-3)
            ]
        );
    }
}
