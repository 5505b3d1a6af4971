//! Code shared by the fuzz targets: a memory limit, and files for inputs.
//!
//! Each file in `src/bin` is one target. `cargo xtask fuzz` builds and runs it.

use std::alloc::System;
use std::fs;
use std::path::PathBuf;

use cap::Cap;

/// Makes an allocation fail, and so the process abort, beyond 1 GiB of memory in use. libFuzzer's
/// own limit on allocations needs AddressSanitizer. Decoding a valid image may take 947 MiB.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, 1 << 30);

/// Writes `bytes` to the file `name` in this process's temporary folder, and returns its path.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("waggle-fuzz-{}", std::process::id()));
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, bytes))
        .expect("the temporary folder can be written");
    path
}
