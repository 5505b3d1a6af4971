//! Reads the checkpoint of a run, as `--resume` does.
//!
//! Each input gets a valid checksum in its last 32 bytes. A wrong one would hide all other errors.
#![no_main]

use cli::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256};

fuzz_target!(|data: &[u8]| {
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
