//! Code shared by the fuzz targets: a memory limit, seeds, and files for inputs.
//!
//! Each file in `src/bin` is one target. `cargo xtask fuzz` builds and runs it.

use std::alloc::System;
use std::fs;
use std::path::{Path, PathBuf};

use cap::Cap;

/// Makes an allocation fail, and so the process abort, beyond 1 GiB of memory in use. libFuzzer's
/// own limit on allocations needs AddressSanitizer. Decoding a valid image may take 947 MiB.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

/// Path of the file `name` in this process's temporary folder.
pub fn path(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("waggle-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    folder.join(name)
}

/// Writes `bytes` to the file `name` in this process's temporary folder, and returns its path.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    fs::write(&path, bytes).expect("the temporary folder can be written");
    path
}

/// Adds a valid input to the corpus, which is in the folder `WAGGLE_CORPUS`. Without this variable
/// it has no effect.
pub fn seed(name: &str, bytes: &[u8]) {
    if let Some(corpus) = std::env::var_os("WAGGLE_CORPUS") {
        let path = Path::new(&corpus).join(format!("seed-{name}"));
        fs::write(path, bytes).expect("the corpus can be written");
    }
}

/// Adds the files in `folder`, a path relative to the project's root, that have at most 16 KiB.
/// Larger seeds make executions slow.
pub fn seed_files(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(folder);
    for entry in fs::read_dir(folder).expect("the folder exists").flatten() {
        let bytes = fs::read(entry.path()).expect("the file can be read");
        if bytes.len() <= 16 << 10 {
            seed(&entry.file_name().to_string_lossy(), &bytes);
        }
    }
}
