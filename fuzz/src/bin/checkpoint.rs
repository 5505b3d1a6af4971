//! Reads the checkpoint of a run, as `--resume` does.
//!
//! Each input gets a valid checksum in its last 32 bytes. A wrong one would hide all other errors.
#![no_main]

use std::fs;

use cli::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A checkpoint with one tensor.
fn seeds() {
    let (run, progress) = (
        include_str!("../../seeds/run.toml"),
        include_str!("progress.toml"),
    );
    let header = json!({
        "__metadata__": { "format": "2", "run": run, "progress": progress },
        "weights/classifier.6.bias": { "dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8] },
        "~sha256": { "dtype": "U8", "shape": [32], "data_offsets": [8, 40] },
    });
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fuzz::seed(
        "checkpoint",
        &[&length, header.as_bytes(), &[0; 40]].concat(),
    );
}

fuzz_target!(init: seeds(), |data: &[u8]| {
    let mut bytes = data.to_vec();
    if let Some((content, sum)) = bytes.split_last_chunk_mut::<32>() {
        *sum = Sha256::digest(content).into();
    }
    let folder = fuzz::path("run");
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    fuzz::write("run/checkpoint-1.safetensors", &bytes);
    // An unsupported format version is an error. Any other file is loaded or reported as damaged.
    if let Ok((newest, damaged)) = Checkpoint::newest(&folder) {
        assert_eq!(damaged.len(), usize::from(newest.is_none()));
    }
});
