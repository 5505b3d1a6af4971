//! The explicit arguments of `waggle train`, as opposed to defaults. A checkpoint stores them for
//! `--resume`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser};
use serde::{Deserialize, Serialize};

use crate::args::{self, Cli, TrainArgs};

/// Arguments not stored in a checkpoint, because they do not affect the result or are recorded in
/// the run's configuration, as the data folder is.
const NOT_STORED: [&str; 7] = [
    "allow-changed-data",
    "data",
    "json",
    "out",
    "quiet",
    "resume",
    "verbose",
];

/// The values of the explicit arguments, keyed by long name without dashes. A flag has no values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExplicitArgs(BTreeMap<String, Vec<String>>);

impl ExplicitArgs {
    /// Collects the explicit arguments of `train`.
    ///
    /// The path of a weights file is made absolute, so that the run can be resumed from another
    /// folder. A path that is not UTF-8 is converted lossily and must be given again.
    pub fn from_matches(matches: &ArgMatches) -> Self {
        let mut arguments = BTreeMap::new();
        for argument in TrainArgs::augment_args(Command::new("train")).get_arguments() {
            let id = argument.get_id().as_str();
            let (Some(name), true) = (
                argument.get_long(),
                matches.try_contains_id(id).is_ok()
                    && matches.value_source(id) == Some(ValueSource::CommandLine),
            ) else {
                continue;
            };
            if NOT_STORED.contains(&name) {
                continue;
            }
            let mut values = Vec::new();
            if argument.get_action().takes_values() {
                let raw = matches.get_raw(id).into_iter().flatten();
                values.extend(raw.map(|value| value.to_string_lossy().into_owned()));
            }
            if name == "weights" {
                values.iter_mut().for_each(|value| *value = absolute(value));
            }
            arguments.insert(name.to_string(), values);
        }
        Self(arguments)
    }

    /// Whether the argument with the long name `name` was given explicitly.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Merges the two sets. Arguments in `newer` override those in `self`.
    pub fn overridden_by(&self, newer: &Self) -> Self {
        let mut arguments = self.0.clone();
        arguments.extend(newer.0.clone());
        Self(arguments)
    }

    /// Parses the arguments as a command line of `train`.
    ///
    /// # Errors
    ///
    /// Returns an error if this version of the program does not support an argument or its value.
    pub fn parse(&self) -> Result<TrainArgs, clap::Error> {
        let arguments = self.0.iter().map(|(name, values)| match values.as_slice() {
            [] => format!("--{name}"),
            values => format!("--{name}={}", values.join(",")),
        });
        let line = ["waggle".to_string(), "train".to_string()]
            .into_iter()
            .chain(arguments);
        match Cli::try_parse_from(line)?.command {
            args::Command::Train(mut parsed) => {
                parsed.resuming.explicit = self.clone();
                Ok(*parsed)
            }
            _ => unreachable!("the subcommand is `train`"),
        }
    }
}

/// Value names that denote numbers in the help. Their arguments accept values with a hyphen.
const NUMBERS: [&str; 6] = ["LR", "MINUTES", "N", "PIXELS", "SIZE", "X"];

/// The definition of the command line, in which numeric options accept values that start with a
/// hyphen, so that `--lr -1e-3` reports an invalid learning rate instead of an unexpected argument.
fn definition() -> Command {
    Cli::command().mut_subcommands(|command| {
        command.mut_args(|argument| {
            let names = argument.get_value_names().unwrap_or_default();
            let is_number = names.iter().any(|name| NUMBERS.contains(&name.as_str()));
            argument.allow_hyphen_values(is_number)
        })
    })
}

/// Parses a command line that starts with the program name, and records the explicit arguments of
/// `train`.
///
/// # Errors
///
/// Returns an error for invalid arguments, and for `--help` and `--version`, which clap also
/// returns as errors.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = definition().try_get_matches_from(line)?;
    let mut cli =
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    if let (args::Command::Train(train), Some((_, matches))) =
        (&mut cli.command, matches.subcommand())
    {
        train.resuming.explicit = ExplicitArgs::from_matches(matches);
    }
    Ok(cli)
}

fn absolute(weights: &str) -> String {
    if matches!(weights, "hub" | "none") {
        return weights.to_string();
    }
    std::path::absolute(Path::new(weights))
        .map_or_else(|_| weights.to_string(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn train(more: &[&str]) -> TrainArgs {
        let line = [&["waggle", "train"], more].concat();
        match parse(line.iter().map(Into::into)).unwrap().command {
            args::Command::Train(args) => *args,
            _ => panic!("not train"),
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
            ("show", "--epoch", "-1"),
            ("summary", "--classes", "-8"),
        ] {
            let line = ["waggle", command, option, value];
            let message = parse(line.map(OsString::from)).unwrap_err().to_string();
            let expected = format!("invalid value '{value}' for '{option}");
            assert!(message.contains(&expected), "{line:?}: {message}");
        }
    }

    #[test]
    fn explicit_arguments_are_parsed_again_and_overridden_by_newer_ones() {
        let arguments = [
            "--lr",
            "1e-2",
            "--ignore-exif",
            "--transfer-layers",
            "a,b",
            "--weights",
            "x.safetensors",
            "--data",
            "images",
            "--json",
        ];
        let first = train(&arguments);
        assert!(
            !first.resuming.explicit.contains("batch-size")
                && !first.resuming.explicit.contains("data")
        );
        let parsed = first.resuming.explicit.parse().unwrap();
        assert_eq!(parsed.lr, first.lr);
        assert!(parsed.machine.ignore_exif && !parsed.json);
        assert_eq!(parsed.transfer_layers, first.transfer_layers);
        assert!(
            matches!(&parsed.weights, Some(crate::values::WeightsSource::File(path)) if path.is_absolute())
        );
        let newer = train(&["--lr", "0.5", "--batch-size", "2"]);
        let both = first
            .resuming
            .explicit
            .overridden_by(&newer.resuming.explicit)
            .parse()
            .unwrap();
        assert_eq!((both.lr.get(), both.batch_size.get()), (0.5, 2));
        assert!(both.machine.ignore_exif);
    }
}
