//! Parses each input as `config.toml` of a run, and as a command line with one argument per line.
#![no_main]

use clap::Parser as _;
use cli::args::Cli;
use cli::config::Config;
use libfuzzer_sys::fuzz_target;

fn seeds() {
    fuzz::seed(
        "train",
        b"train\n--data\nd\n--lr\n1e-3\n--finetune-lr\nfeatures=1e-4\n--cache-images\n1.5GiB",
    );
    fuzz::seed(
        "device",
        b"train\n--device\ncuda:1\n--input-size\n64\n--on-bad\nskip\n--seed\n7",
    );
    fuzz::seed("predict", b"predict\nruns/train\na.jpg\n--top-k\n3\n--json");
    fuzz::seed("toml", include_bytes!("../../seeds/config.toml"));
}

fuzz_target!(init: seeds(), |data: &[u8]| {
    let path = fuzz::write(Config::FILE, data);
    if let Ok(config) = Config::read(&path) {
        config.to_toml().expect("a configuration that was read can be written");
    }
    let text = String::from_utf8_lossy(data);
    let _ = Cli::try_parse_from(["waggle"].into_iter().chain(text.split('\n')));
});
