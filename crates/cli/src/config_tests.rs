//! Tests of `config.rs`.

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
fn newly_initialized_layers_train_in_the_transfer_stage() {
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
fn an_unknown_layer_is_an_error() {
    for more in [
        ["--transfer-layers", "clasifier"],
        ["--finetune-lr", "feature=1e-3"],
    ] {
        let error = stages(&args(&more), &names(&LAYERS), &[]).unwrap_err();
        let prefix = more[1].trim_end_matches("=1e-3");
        assert_eq!(error.to_string(), format!("no layer matches `{prefix}`"));
    }
}

#[test]
fn a_configuration_survives_writing_and_reading() {
    let config = Config::example();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(Config::FILE);
    std::fs::write(&path, config.to_toml().unwrap()).unwrap();
    assert_eq!(Config::read(&path).unwrap(), config);
}

#[test]
fn candle_version_matches_the_lock_file() {
    let lock =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
    assert!(lock.contains(&format!(
        "name = \"candle-core\"\nversion = \"{CANDLE_VERSION}\"\n"
    )));
}
