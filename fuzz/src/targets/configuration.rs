//! Parses `config.toml` of a run directory, or a command line.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use cli::args::Cli;
use cli::config::Config;

use super::Target;

pub(super) struct Configuration {
    file: PathBuf,
}

impl Configuration {
    pub(super) fn new(scratch: &Path) -> Self {
        Self {
            file: scratch.join(Config::FILE),
        }
    }
}

const TOML: &str = r#"
[versions]
waggle = "0.1.0"
candle = "0.11.1"
[data]
root = "/data"
source = "given"
classes = ["ants", "bees"]
train_images = 244
val_images = 153
ignore_exif = false
on_bad = "skip"
[[data.skipped]]
path = "train/ants/7.jpg"
reason = "it has no pixels"
[network]
architecture = "vgg16"
input_size = 224
weights = "hf:timm/vgg16.tv_in1k"
weights_sha256 = "56bfbf2a4420946a7adf7430307854e7c9d8f3ebe5c3ab01fef963fb1b8bf34d"
initialized_layers = ["classifier.6"]
[training]
seed = 1234
batch_size = 32
momentum = 0.9
[machine]
device = "cpu"
threads = 2
workers = 4
cache_images = 1073741824
[[stages]]
name = "transfer"
epochs = 25
groups = [{ layers = "classifier.6", lr = 1e-3 }]
"#;

/// Command lines, with one argument per line.
const COMMANDS: [&str; 5] = [
    "train\n--data\nd\n--lr\n1e-3\n--momentum\n0.9\n--finetune-lr\nfeatures=1e-4,classifier=1e-3\n--cache-images\n1.5GiB",
    "train\n--stage\nfinetune\n--device\ncuda:1\n--input-size\n64\n--on-bad\nskip\n--seed\n7",
    "predict\nruns/train\na.jpg\n--top-k\n3\n--json",
    "check\ndata\n--workers\n2",
    "summary\n--arch\nvgg11\n--classes\n10",
];

impl Target for Configuration {
    fn name(&self) -> &'static str {
        "configuration"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let commands = COMMANDS.iter().copied();
        commands
            .chain([TOML])
            .map(|text| text.as_bytes().to_vec())
            .collect()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        &[
            b"\n--lr\n",
            b"\n--finetune-lr\n",
            b"\n--cache-images\n",
            b"\n--device\n",
            b"\n--epoch\n",
            b"GiB",
            b"e308",
            b"cuda:",
            b"[[stages]]",
            b"[data]",
            b"= ",
            b"\"\"\"",
            b"'''",
            b"inf",
            b"nan",
            b"0x",
            b"1979-05-27T07:32:00Z",
            b"[[[[",
            b"{a={a={a=",
        ]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        fs::write(&self.file, input).expect("the temporary directory can be written");
        let config = Config::read(&self.file);
        if let Ok(config) = &config {
            config
                .to_toml()
                .expect("a configuration that was read can be written");
        }
        // An input that contains `[` is treated only as a configuration. Other inputs are also
        // parsed as a command line.
        if input.contains(&b'[') {
            return config.is_ok();
        }
        let text = String::from_utf8_lossy(input);
        Cli::try_parse_from(["waggle"].into_iter().chain(text.split('\n'))).is_ok()
    }
}
