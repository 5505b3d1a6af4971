//! The arguments of `waggle train` that were really typed, by name: what a resumed run starts from again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser};
use serde::{Deserialize, Serialize};

use crate::args::{self, Cli, TrainArgs};

/// Arguments that say nothing about what is computed, or that the run's own record replaces (the data folder is in
/// its configuration).
const NOT_KEPT: [&str; 7] = [
    "allow-changed-data",
    "data",
    "json",
    "out",
    "quiet",
    "resume",
    "verbose",
];

/// Names without the dashes, and values; a switch has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExplicitArgs(BTreeMap<String, Vec<String>>);

impl ExplicitArgs {
    /// What was typed among the arguments of `train`.
    ///
    /// A weights file is kept by its absolute path, so that the run can be resumed from another folder. A path that
    /// is not UTF-8 is kept as well as it can be; it has to be typed again.
    pub fn of(matches: &ArgMatches) -> Self {
        let mut typed = BTreeMap::new();
        for argument in TrainArgs::augment_args(Command::new("train")).get_arguments() {
            let id = argument.get_id().as_str();
            let (Some(name), true) = (
                argument.get_long(),
                matches.try_contains_id(id).is_ok()
                    && matches.value_source(id) == Some(ValueSource::CommandLine),
            ) else {
                continue;
            };
            if NOT_KEPT.contains(&name) {
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
            typed.insert(name.to_string(), values);
        }
        Self(typed)
    }

    /// Whether an argument of this name was typed.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// These, replaced by those of `newer`.
    pub fn replaced_by(&self, newer: &Self) -> Self {
        let mut typed = self.0.clone();
        typed.extend(newer.0.clone());
        Self(typed)
    }

    /// As if they had been typed just now.
    ///
    /// # Errors
    ///
    /// An argument that this version of the program does not know.
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
            _ => unreachable!("the line says `train`"),
        }
    }
}

/// What stands for a number in the help.
const NUMBERS: [&str; 6] = ["LR", "MINUTES", "N", "PIXELS", "SIZE", "X"];

/// The command line's definition, in which `-1e-3` after an option that takes a number is its value: what is wrong with
/// it is better said by the value's own check than by "unexpected argument".
fn definition() -> Command {
    Cli::command().mut_subcommands(|command| {
        command.mut_args(|argument| {
            let names = argument.get_value_names().unwrap_or_default();
            let is_number = names.iter().any(|name| NUMBERS.contains(&name.as_str()));
            argument.allow_hyphen_values(is_number)
        })
    })
}

/// Parses a command line, the program's name first, and notes what of `train` was typed.
///
/// # Errors
///
/// Wrong usage; also help and version, which clap hands out in the same way.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = definition().try_get_matches_from(line)?;
    let mut cli =
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    if let (args::Command::Train(train), Some((_, matches))) =
        (&mut cli.command, matches.subcommand())
    {
        train.resuming.explicit = ExplicitArgs::of(matches);
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
    fn a_number_below_zero_is_a_value_and_refused_as_one() {
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
            let wanted = format!("invalid value '{value}' for '{option}");
            assert!(message.contains(&wanted), "{line:?}: {message}");
        }
    }

    #[test]
    fn what_was_typed_is_typed_again() {
        let typed = [
            "--lr",
            "1e-2",
            "--ignore-exif",
            "--transfer-layers",
            "a,b",
            "--weights",
            "x.safetensors",
            "--data",
            "pictures",
            "--json",
        ];
        let first = train(&typed);
        assert!(!first.resuming.explicit.has("batch-size") && !first.resuming.explicit.has("data"));
        let again = first.resuming.explicit.parse().unwrap();
        assert_eq!(again.lr, first.lr);
        assert!(again.machine.ignore_exif && !again.json);
        assert_eq!(again.transfer_layers, first.transfer_layers);
        assert!(
            matches!(&again.weights, Some(crate::values::WeightsSource::File(path)) if path.is_absolute())
        );
        let newer = train(&["--lr", "0.5", "--batch-size", "2"]);
        let both = first
            .resuming
            .explicit
            .replaced_by(&newer.resuming.explicit)
            .parse()
            .unwrap();
        assert_eq!((both.lr.get(), both.batch_size.get()), (0.5, 2));
        assert!(both.machine.ignore_exif);
    }
}
