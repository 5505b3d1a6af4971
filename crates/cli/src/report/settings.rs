//! The settings of a run as names and values, and the command that repeats the run.

use anyhow::Context;
use dataset::{DecodeOptions, path_text};
use toml::Value;
use vgg::VggConfig;

use crate::args::types::{LayerRate, OnBad, WeightsSource};
use crate::config::{Config, StageName};
use crate::shell::quote;
use crate::ui::text::learning_rate;

/// The settings in `config.toml` with dotted names, in the order of the file: `training.seed`,
/// `stages.transfer.epochs`. Lists of classes and of skipped images are counted.
///
/// # Errors
///
/// Returns an error if the configuration cannot be written as TOML.
pub fn settings(config: &Config) -> anyhow::Result<Vec<(String, String)>> {
    let table = toml::Table::try_from(config).context("cannot list the settings")?;
    let mut settings = Vec::new();
    flatten("", &Value::Table(table), &mut settings);
    Ok(settings)
}

fn flatten(name: &str, value: &Value, settings: &mut Vec<(String, String)>) {
    let below = |key: &str| match name {
        "" => key.to_string(),
        _ => format!("{name}.{key}"),
    };
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                flatten(&below(key), value, settings);
            }
        }
        Value::Array(items) if name == "data.classes" || name == "data.skipped" => {
            settings.push((name.to_string(), items.len().to_string()));
        }
        Value::Array(items) => {
            let mut texts = Vec::new();
            for item in items {
                let named = item.get("name").and_then(Value::as_str);
                let group = (item.get("layers"), item.get("lr").and_then(Value::as_float));
                match (named, group) {
                    (Some(stage), _) => flatten(&below(stage), item, settings),
                    (_, (Some(Value::String(layers)), Some(lr))) => {
                        texts.push(format!("{layers}={}", learning_rate(lr)));
                    }
                    _ => texts.push(scalar(item)),
                }
            }
            if !texts.is_empty() {
                settings.push((name.to_string(), texts.join(", ")));
            }
        }
        value => settings.push((name.to_string(), scalar(value))),
    }
}

fn scalar(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string)
}

/// The command that repeats a run: the data set, the weights, the threads and the device, and the
/// settings that differ from the defaults.
pub fn command(config: &Config) -> String {
    let mut words = vec!["waggle".to_string(), "train".to_string()];
    let mut push = |flag: &str, value: String| words.extend([flag.to_string(), value]);
    let data = match config.data.source.as_str() {
        "sample" => "sample".into(),
        _ => path_text::decode(&config.data.root),
    };
    push("--data", quote(data));
    let network = &config.network;
    let weights = match &network.weights {
        WeightsSource::File(path) => quote(path),
        other => quote(other.to_string()),
    };
    push("--weights", weights);
    let is_default_hub = network.weights == WeightsSource::Hub && network.architecture == "vgg16";
    let is_detected = matches!(
        network.weights,
        WeightsSource::File(_) | WeightsSource::Repository(_) | WeightsSource::Sample
    );
    let has_name = VggConfig::NAMES.contains(&network.architecture.as_str());
    if has_name && !is_default_hub && !is_detected {
        push("--arch", network.architecture.clone());
    }
    if network.input_size != 224 {
        push("--input-size", network.input_size.to_string());
    }
    if let [only] = config.stages.as_slice() {
        push("--stage", only.name.as_str().to_string());
    }
    for stage in &config.stages {
        let name = stage.name.as_str();
        push(&format!("--{name}-epochs"), stage.epochs.to_string());
        match stage.name {
            StageName::Transfer => {
                let layers: Vec<_> = stage
                    .groups
                    .iter()
                    .map(|group| group.layers.clone())
                    .collect();
                push("--transfer-layers", quote(layers.join(",")));
                if let Some(group) = stage.groups.first() {
                    push("--lr", learning_rate(group.lr));
                }
            }
            StageName::Finetune => {
                let rate = |LayerRate { layers, lr }: &LayerRate| format!("{layers}={lr:e}");
                let rates: Vec<_> = stage.groups.iter().map(rate).collect();
                push("--finetune-lr", quote(rates.join(",")));
            }
        }
    }
    let training = &config.training;
    push("--batch-size", training.batch_size.to_string());
    push("--momentum", training.momentum.to_string());
    push("--seed", training.seed.to_string());
    let machine = &config.machine;
    push("--threads", machine.threads.to_string());
    push("--device", quote(&machine.device));
    push("--precision", quote(&machine.precision));
    if config.data.on_bad == OnBad::Skip {
        push("--on-bad", "skip".to_string());
    }
    if machine.max_pixels != DecodeOptions::default().max_pixels {
        push("--max-pixels", machine.max_pixels.to_string());
    }
    if !training.calibration {
        words.push("--no-calibration".to_string());
    }
    if config.data.ignore_exif {
        words.push("--ignore-exif".to_string());
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{self, Command};
    use crate::config::StageConfig;

    #[test]
    fn the_command_has_the_settings_of_the_run() {
        let mut config = Config::example();
        config.network.weights = WeightsSource::File("/we ights/vgg.pth".into());
        config.stages[1] = StageConfig {
            name: StageName::Finetune,
            epochs: 7,
            groups: vec![LayerRate {
                layers: "features.0".to_string(),
                lr: 0.25,
            }],
        };
        let line = command(&config).replace("'/we ights/vgg.pth'", "/weights/vgg.pth");
        let line = line.replace('\'', "");
        let parsed = args::parse(line.split(' ').map(Into::into)).expect("the command is valid");
        let Command::Train(args) = parsed.command else {
            panic!("{line}");
        };
        assert_eq!(args.data.as_deref(), Some("/data".as_ref()));
        assert_eq!(
            args.weights,
            Some(WeightsSource::File("/weights/vgg.pth".into()))
        );
        let rates: Vec<_> = args.finetune_lr.iter().cloned().collect();
        assert_eq!(rates, config.stages[1].groups);
        assert_eq!(
            (args.finetune_epochs.get(), args.transfer_epochs.get()),
            (7, 25)
        );
        assert_eq!(args.transfer_layers, Some(vec!["features".to_string()]));
        assert_eq!((args.lr, args.momentum, args.seed), (1e-3, 0.9, 1234));
        assert_eq!((args.on_bad, args.batch_size.get()), (OnBad::Skip, 32));
        assert_eq!(args.machine.threads.map(|threads| threads.get()), Some(2));
    }

    #[test]
    fn names_in_a_configuration_cannot_add_to_the_command() {
        let mut config = Config::example();
        let hostile = "x; touch /tmp/y $(id)".to_string();
        config.data.source = "folder".to_string();
        config.data.root = hostile.clone();
        config.network.weights = WeightsSource::File(hostile.clone().into());
        config.machine.device = hostile.clone();
        config.machine.precision = hostile.clone();
        for stage in &mut config.stages {
            for group in &mut stage.groups {
                group.layers = hostile.clone();
            }
        }
        let line = command(&config);
        // Outside of quotation marks, no character is special in a shell.
        let unquoted: String = line.split('\'').step_by(2).collect();
        assert!(!unquoted.contains([';', '$', '(']), "{line}");
        assert_eq!(line.matches("touch").count(), 6, "{line}");
    }

    #[test]
    fn settings_have_dotted_names() {
        let settings = settings(&Config::example()).expect("the configuration is valid");
        let get = |name: &str| {
            settings
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, v)| v.as_str())
        };
        assert_eq!(get("training.seed"), Some("1234"));
        assert_eq!(get("stages.transfer.epochs"), Some("25"));
        assert_eq!(get("stages.transfer.groups"), Some("features=1e-3"));
        assert_eq!(get("network.weights"), Some("hub"));
        assert_eq!(get("data.classes"), Some("2"));
        assert_eq!(get("network.initialized_layers"), Some("classifier.6"));
    }
}
