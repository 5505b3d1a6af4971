//! The stages of a new run.

use anyhow::bail;
use trainer::pattern;
use vgg::VggConfig;

use crate::args::TrainArgs;
use crate::args::types::{LayerRate, StageChoice};
use crate::config::{StageConfig, StageName};
use crate::error::Diagnostic;

/// The stages that `args` selects for a network with `layers`, of which `initialized` are newly
/// initialized.
///
/// The transfer stage trains the newly initialized layers. With the ImageNet weights, this is the
/// last layer; with a file that holds only the convolutions, the classifier; and with
/// `--weights none`, every layer. If no layer is newly initialized, the transfer stage trains the
/// last layer. `--transfer-layers` overrides this. The finetune stage trains the layers of
/// `--finetune-lr`.
///
/// # Errors
///
/// Returns an error if a prefix of `--transfer-layers` or `--finetune-lr` matches no layer, or only
/// layers that longer prefixes match too.
pub fn stages(
    args: &TrainArgs,
    layers: &[String],
    initialized: &[String],
) -> anyhow::Result<Vec<StageConfig>> {
    let mut stages = Vec::new();
    if args.stage != StageChoice::Finetune {
        let names = match &args.transfer_layers {
            Some(names) => names.clone(),
            None if initialized.is_empty() => layers.last().cloned().into_iter().collect(),
            None => common_prefixes(initialized, layers),
        };
        let lr = args.lr;
        stages.push(StageConfig {
            name: StageName::Transfer,
            epochs: args.transfer_epochs.get() as u64,
            groups: names
                .into_iter()
                .map(|layers| LayerRate { layers, lr })
                .collect(),
        });
    }
    if args.stage != StageChoice::Transfer {
        stages.push(StageConfig {
            name: StageName::Finetune,
            epochs: args.finetune_epochs.get() as u64,
            groups: args.finetune_lr.iter().cloned().collect(),
        });
    }
    stages.iter().try_for_each(|stage| check(stage, layers))?;
    Ok(stages)
}

/// Names of the layers with parameters, from input to output.
///
/// # Errors
///
/// Returns an error if the configuration of the network is invalid.
pub fn layer_names(config: &VggConfig) -> anyhow::Result<Vec<String>> {
    let mut layers: Vec<String> = Vec::new();
    for (name, _) in config.tensor_shapes()? {
        let layer = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(layer, _)| layer);
        if layers.last().is_none_or(|last| last != layer) {
            layers.push(layer.to_string());
        }
    }
    Ok(layers)
}

/// Checks that each prefix of a stage is the longest one for a layer.
fn check(stage: &StageConfig, layers: &[String]) -> anyhow::Result<()> {
    let (name, flag) = match stage.name {
        StageName::Transfer => ("transfer", "--transfer-layers"),
        StageName::Finetune => ("finetune", "--finetune-lr"),
    };
    let prefixes = || stage.groups.iter().map(|group| group.layers.as_str());
    for prefix in prefixes() {
        let mut covered = layers
            .iter()
            .filter(|layer| pattern::covers(prefix, layer))
            .peekable();
        if covered.peek().is_none() {
            let layers = layers.join(", ");
            bail!(
                Diagnostic::new(format!("no layer matches `{prefix}`"))
                    .help(format!("pass one of these to `{flag}`: {layers}"))
            );
        }
        let is_longest = |layer: &String| {
            let mut longer = prefixes().filter(|other| other.len() > prefix.len());
            !longer.any(|other| pattern::covers(other, layer))
        };
        if !covered.any(is_longest) {
            let message = format!("stage {name} has no parameters to train under `{prefix}`");
            let help =
                format!("longer prefixes cover all its layers; remove `{prefix}` from `{flag}`");
            bail!(Diagnostic::new(message).help(help));
        }
    }
    Ok(())
}

/// Shortens the layers `chosen` to common prefixes, in the order of `layers`. If all layers of a part
/// of the network, such as `classifier`, are chosen, the name of the part replaces their names.
fn common_prefixes(chosen: &[String], layers: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for layer in layers.iter().filter(|layer| chosen.contains(layer)) {
        let part = layer.split('.').next().unwrap_or(layer);
        let is_whole = layers
            .iter()
            .filter(|other| pattern::covers(part, other))
            .all(|other| chosen.contains(other));
        let name = if is_whole { part } else { layer };
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_string());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn args(more: &[&str]) -> TrainArgs {
        let Command::Train(args) = Cli::parse_from([&["waggle", "train"], more].concat()).command
        else {
            panic!("not train");
        };
        *args
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    const LAYERS: [&str; 5] = [
        "features.0",
        "features.2",
        "classifier.0",
        "classifier.3",
        "classifier.6",
    ];

    fn transfer_layers(more: &[&str], initialized: &[&str]) -> Vec<String> {
        let stages = stages(&args(more), &names(&LAYERS), &names(initialized)).unwrap();
        assert_eq!(stages[0].name, StageName::Transfer);
        stages[0]
            .groups
            .iter()
            .map(|group| group.layers.clone())
            .collect()
    }

    #[test]
    fn transfer_layers_default_to_the_newly_initialized_or_the_last() {
        assert_eq!(transfer_layers(&[], &["classifier.6"]), ["classifier.6"]);
        assert_eq!(transfer_layers(&[], &LAYERS[2..]), ["classifier"]);
        assert_eq!(
            transfer_layers(&[], &LAYERS[3..]),
            ["classifier.3", "classifier.6"]
        );
        assert_eq!(transfer_layers(&[], &LAYERS), ["features", "classifier"]);
        assert_eq!(transfer_layers(&[], &[]), ["classifier.6"]);
        assert_eq!(
            transfer_layers(&["--transfer-layers", "classifier"], &["classifier.6"]),
            ["classifier"]
        );
    }

    #[test]
    fn the_stage_flag_selects_the_stages() {
        let stages = |choice: &str| {
            let stages = stages(&args(&["--stage", choice]), &names(&LAYERS), &[]).unwrap();
            stages
                .into_iter()
                .map(|stage| stage.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(stages("both"), ["transfer", "finetune"]);
        assert_eq!(stages("transfer"), ["transfer"]);
        assert_eq!(stages("finetune"), ["finetune"]);
    }

    #[test]
    fn a_prefix_that_matches_no_layer_is_an_error() {
        for more in [
            ["--transfer-layers", "clasifier"],
            ["--finetune-lr", "feature=1e-3"],
        ] {
            let error = stages(&args(&more), &names(&LAYERS), &[]).unwrap_err();
            let prefix = more[1].trim_end_matches("=1e-3");
            assert_eq!(error.to_string(), format!("no layer matches `{prefix}`"));
        }
    }
}
