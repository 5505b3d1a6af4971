//! Reads the checkpoint of a run, as `--resume` does.
//!
//! Each input gets a valid checksum in its last 32 bytes. A wrong one would hide all other errors.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use cli::checkpoint::Checkpoint;
use cli::run_dir::RunDir;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

/// Marks the run to which the seeds belong.
const MARKER: &str = r#"
id = "00000000000000000000000000000000"
waggle = "0.1.0"
checkpoint_format = 1
finished = false
"#;

/// Opens the folder `run`, whose only checkpoint is the input.
fn open(run: &Path) -> RunDir {
    fuzz::write("run.toml", MARKER.as_bytes());
    RunDir::open(run, None).expect("the folder of a run")
}

fuzz_target!(|data: &[u8]| {
    static RUN: OnceLock<RunDir> = OnceLock::new();
    let mut bytes = data.to_vec();
    if let Some((content, sum)) = bytes.split_last_chunk_mut::<32>() {
        *sum = Sha256::digest(content).into();
    }
    let file = fuzz::write("checkpoint-1.safetensors", &bytes);
    let run = RUN.get_or_init(|| open(file.parent().expect("a folder")));
    // A checkpoint of another format or run is an error, and a model is passed over. Any other file is
    // loaded or damaged.
    if let Ok((newest, damaged)) = Checkpoint::newest(run) {
        assert!(damaged.len() <= usize::from(newest.is_none()));
    }
});
