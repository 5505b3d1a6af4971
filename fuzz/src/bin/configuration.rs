//! Parses each input as `config.toml` of a run, as `run.toml`, which marks a folder as a run, and as a
//! command line with one argument per line.
#![no_main]

use clap::Parser as _;
use cli::args::Cli;
use cli::config::Config;
use cli::run_dir::RunDir;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = fuzz::write(Config::FILE, data);
    if let Ok(config) = Config::read(&path) {
        config
            .to_toml()
            .expect("a configuration that was read can be written");
    }
    let marker = fuzz::write("run.toml", data);
    let _ = RunDir::open(marker.parent().expect("a folder"), None);
    let text = String::from_utf8_lossy(data);
    let _ = Cli::try_parse_from(["waggle"].into_iter().chain(text.split('\n')));
});
