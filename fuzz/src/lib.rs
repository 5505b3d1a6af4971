//! Code shared by the fuzz targets: a memory limit, seeds, and a folder for input files.
//!
//! Each file in `src/bin` is one target. `cargo xtask fuzz` builds a target with coverage counters
//! and runs it in a folder of its own, whose subfolder `corpus` holds the inputs.

use std::alloc::System;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cap::Cap;

/// Makes an allocation fail, and so the process abort, beyond 1 GiB of memory in use. libFuzzer's
/// own limit on allocations needs AddressSanitizer. Decoding a valid image may take 947 MiB.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

/// A folder for the files of this process.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("waggle-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    folder
});

/// Path of the file `name` in this process's temporary folder.
pub fn path(name: &str) -> PathBuf {
    FOLDER.join(name)
}

/// Writes `bytes` to the file `name` in this process's temporary folder, and returns its path.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    fs::write(&path, bytes).expect("the temporary folder can be written");
    path
}

/// Adds a valid input to the corpus. Without a folder `corpus`, as with `cargo fuzz run`, it has no
/// effect.
pub fn seed(name: &str, bytes: &[u8]) {
    if Path::new("corpus").is_dir() {
        let path = format!("corpus/seed-{name}");
        fs::write(path, bytes).expect("the corpus can be written");
    }
}

/// Names and contents of the files in `folder`, a path relative to the project's root, that have at
/// most 16 KiB. Larger seeds make executions slow.
pub fn fixtures(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder exists") {
        let entry = entry.expect("the folder can be read");
        let bytes = fs::read(entry.path()).expect("the file can be read");
        if bytes.len() <= 16 << 10 {
            files.push((entry.file_name().to_string_lossy().into_owned(), bytes));
        }
    }
    files.sort();
    files
}
