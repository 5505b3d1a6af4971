//! `cargo xtask sanitize`: runs the unit, golden and kernel tests with AddressSanitizer.
//!
//! A test fails if it accesses memory outside of an allocation or after it was freed. The sanitizer
//! is an unstable option of rustc, which `RUSTC_BOOTSTRAP` enables in a stable toolchain. A rustc
//! wrapper applies it only to the workspace's crates, not to dependencies or the standard library.
//! docs/safety.md lists the unsafe code that these tests cover.

use crate::cargo;
use anyhow::{Result, ensure};
use xshell::Shell;

/// Instruction sets, or nothing for the best of the CPU, with the other tests that run. The slowest test
/// covers all instruction sets itself, so it runs only once.
const RUNS: [(&str, &str); 4] = [
    ("", "--lib --test golden --test layers"),
    (
        "avx512",
        "-- --skip every_instruction_set_matches_the_naive_convolution",
    ),
    (
        "avx2",
        "-- --skip every_instruction_set_matches_the_naive_convolution",
    ),
    (
        "portable",
        "-- --skip every_instruction_set_matches_the_naive_convolution",
    ),
];

/// Runs the unit tests and the test files `golden` and `layers` with the best instruction set of the
/// CPU, and the test files `kernels` and `device` with each one.
pub fn run(sh: &Shell) -> Result<()> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "this task supports only Linux on x86-64"
    );
    let wrapper = sh.current_dir().join("xtask/scripts/sanitized_rustc.sh");
    for (isa, tests) in RUNS {
        if !is_available(isa) {
            println!("=== this CPU does not support {isa}");
            continue;
        }
        println!("=== WAGGLE_KERNELS={isa}");
        cargo(
            sh,
            &format!("test --locked --workspace --test kernels --test device {tests}"),
        )
        .env("RUSTC_WORKSPACE_WRAPPER", &wrapper)
        .env("WAGGLE_KERNELS", isa)
        .run()?;
    }
    Ok(())
}

fn is_available(isa: &str) -> bool {
    #[cfg(target_arch = "x86_64")]
    match isa {
        "avx2" => return is_x86_feature_detected!("avx2"),
        "avx512" => return is_x86_feature_detected!("avx512vl"),
        _ => {}
    }
    isa.is_empty() || isa == "portable"
}
