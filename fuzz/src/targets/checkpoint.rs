//! Reads the checkpoint of a run, as `--resume` does.
//!
//! The last 32 bytes of a checkpoint are the SHA-256 of the others. The target computes it for each
//! input, because a wrong checksum would hide all other errors.

use std::fs;
use std::path::{Path, PathBuf};

use cli::checkpoint::Checkpoint;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Target;

pub(super) struct CheckpointTarget {
    folder: PathBuf,
}

impl CheckpointTarget {
    pub(super) fn new(scratch: &Path) -> Self {
        let folder = scratch.join("run");
        fs::create_dir_all(&folder).expect("the temporary directory can be written");
        Self { folder }
    }
}

const RUN: &str = r#"
[config.versions]
waggle = "0.1.0"
candle = "0.11.1"
[config.data]
root = "/data"
source = "given"
classes = ["ants", "bees"]
train_images = 2
val_images = 1
ignore_exif = false
on_bad = "fail"
[config.network]
architecture = "vgg16"
input_size = 64
weights = "hf:timm/vgg16.tv_in1k"
weights_sha256 = "56bfbf2a4420946a7adf7430307854e7c9d8f3ebe5c3ab01fef963fb1b8bf34d"
initialized_layers = ["classifier.6"]
[config.training]
seed = 1234
batch_size = 32
momentum = 0.9
[config.machine]
device = "cpu"
threads = 1
workers = 1
cache_images = 1073741824
[[config.stages]]
name = "transfer"
epochs = 2
groups = [{ layers = "classifier.6", lr = 1e-3 }]
[data]
"train/ants/000.png" = "3220522714bf9b942982cc9d8d25c96f5b8cee76a9f001e1fe105cbe8dc23955"
"#;

const PROGRESS: &str = r#"
stage = 0
[state]
epoch = 1
phase = "val"
batch = 0
step = 7
[state.metrics]
loss_sum = 12.25
correct = 3
samples = 4
[state.best]
epoch = 0
accuracy = 0.5
step = 0
[training]
seconds = 1.5
images = 2.0
[training.score]
loss = 0.75
accuracy = 0.5
[[rows]]
stage = "transfer"
epoch = 1
images_per_second = 10.0
seconds = 0.5
[rows.val]
loss = 0.7
accuracy = 0.5
"#;

/// A checkpoint with the given tensors, each of two values.
fn checkpoint(tensors: &[&str]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert(
        "__metadata__".into(),
        json!({ "format": "3", "run": RUN, "progress": PROGRESS }),
    );
    for (index, name) in tensors.iter().enumerate() {
        let at = 8 * index;
        let info = json!({ "dtype": "F32", "shape": [1, 2], "data_offsets": [at, at + 8] });
        header.insert((*name).into(), info);
    }
    let at = 8 * tensors.len();
    let info = json!({ "dtype": "U8", "shape": [32], "data_offsets": [at, at + 32] });
    header.insert("~sha256".into(), info);
    let header = Value::Object(header).to_string().into_bytes();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.resize(bytes.len() + at + 32, 0);
    bytes
}

impl Target for CheckpointTarget {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        vec![
            checkpoint(&[]),
            checkpoint(&["weights/classifier.6.bias"]),
            checkpoint(&[
                "best/classifier.6.bias",
                "velocity/classifier.6.bias",
                "weights/classifier.6.bias",
            ]),
        ]
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        &[
            b"\"shape\":[0]",
            b"\"shape\":[]",
            b"4294967296,",
            b"\"data_offsets\":[0,0]",
            b"\"dtype\":\"U8\"",
            b"\"__metadata__\":",
            b"\"format\":\"",
            b"\"~sha256\":",
            b"\"weights/",
            b"\"velocity/",
            b"\"best/",
            b"\\n",
            b"\\\"",
            b"[state]",
            b"[[rows]]",
            b"phase = \\\"train\\\"",
            b"9223372036854775807",
            b"inf",
            b"nan",
        ]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        let mut bytes = input.to_vec();
        if let Some((before, sum)) = bytes.split_last_chunk_mut::<32>() {
            *sum = Sha256::digest(before).into();
        }
        let file = self.folder.join("checkpoint-1.safetensors");
        fs::write(file, bytes).expect("the temporary directory can be written");
        // `newest` returns an error for a checkpoint of another format version.
        let Ok((newest, damaged)) = Checkpoint::newest(&self.folder) else {
            return false;
        };
        // The file is either loaded or reported as damaged.
        assert_eq!(damaged.len(), usize::from(newest.is_none()));
        newest.is_some()
    }
}
