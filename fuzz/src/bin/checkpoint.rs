//! Reads the checkpoint of a run, as `--resume` does.
//!
//! Each input gets a valid checksum in its last 32 bytes. A wrong one would hide all other errors.
#![no_main]

use cli::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use sha2::{Digest as _, Sha256};

const PROGRESS: &str = r#"
stage = 0
state = { epoch = 1, phase = "val", batch = 0, step = 7, metrics = { loss_sum = 12.25, correct = 3, samples = 4 }, best = { epoch = 0, accuracy = 0.5, step = 0 } }
training = { seconds = 1.5, images = 2.0, score = { loss = 0.75, accuracy = 0.5 } }
rows = [{ stage = "transfer", epoch = 1, images_per_second = 10.0, seconds = 0.5, val = { loss = 0.7, accuracy = 0.5 } }]
"#;

/// A checkpoint with one tensor.
fn seeds() {
    let config = include_str!("../../seeds/config.toml").replace("\n[", "\n[config.");
    let config = config.replace("[config.[", "[[config.");
    let sum = "56bfbf2a4420946a7adf7430307854e7c9d8f3ebe5c3ab01fef963fb1b8bf34d";
    let data = format!("[data]\n\"train/ants/0.png\" = \"{sum}\"");
    let run = format!("{data}\n{config}");
    let header = json!({
        "__metadata__": { "format": "3", "run": run, "progress": PROGRESS },
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
    let file = fuzz::write("checkpoint-1.safetensors", &bytes);
    // An unsupported format version is an error. Any other file is loaded or reported as damaged.
    if let Ok((newest, damaged)) = Checkpoint::newest(file.parent().expect("a folder")) {
        assert_eq!(damaged.len(), usize::from(newest.is_none()));
    }
});
