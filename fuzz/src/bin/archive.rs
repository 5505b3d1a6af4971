//! Unpacks a zip archive, as `cargo xtask fetch-data` does.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use xtask::fetch_data::{Manifest, fetch};

/// The data set's only file, which contains `bees`.
const MANIFEST: &str =
    "23da0d3b0b5aa5ee43ba33f15f971ee4cf32afd1b27ad901863346ba9dd06966  set/train/ants/a.jpg";

fuzz_target!(|data: &[u8]| {
    let manifest = Manifest::parse(MANIFEST).expect("valid");
    let archive = fuzz::write("a.zip", data);
    let folder = archive.with_file_name("unpacked");
    let target = folder.join("set");
    let from = archive.to_str().expect("a path in Unicode");
    let _ = fetch(from, &manifest, &target, 1 << 20);
    // Nothing is written but the complete data set.
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        assert_eq!(entry.file_name(), "set");
        let check = manifest
            .check(&target)
            .expect("the destination is readable");
        assert!(check.problems.is_empty(), "{:?}", check.problems);
    }
    assert!(!archive.with_file_name("outside").exists());
    let _ = fs::remove_dir_all(folder);
});
