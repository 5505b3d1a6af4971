//! `cargo xtask fuzz`: builds a libFuzzer target of the package `fuzz` with coverage counters and
//! runs it.
//!
//! Even stable rustc passes instrumentation options on to LLVM. With `--target`, build scripts and
//! procedural macros are not instrumented.

use crate::cargo;
use anyhow::{Context, Result};
use std::fs;
use xshell::{Shell, cmd};

/// Counters of the edges between basic blocks, with a table of their addresses, and records of the
/// operands of comparisons, from which libFuzzer learns constants.
const INSTRUMENTED: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Limits: 2 GiB of resident memory, which includes libFuzzer's own (the targets' allocator has a
/// lower limit), 20 s and 64 KiB for one input.
const LIMITS: [&str; 4] = [
    "-rss_limit_mb=2048",
    "-malloc_limit_mb=1024",
    "-timeout=20",
    "-max_len=65536",
];

/// Runs `target` until it crashes, or until a limit among `args` is reached.
///
/// The corpus, and inputs that crash, are stored in `target/fuzz/run/TARGET`. `args` are passed to
/// libFuzzer after [`LIMITS`], so they can override them.
///
/// # Errors
///
/// Returns an error if the build fails or if an input crashes.
pub fn run(sh: &Shell, target: &str, args: &[String]) -> Result<()> {
    let version = cmd!(sh, "rustc -vV").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` printed no host")?;
    let build = "build --release --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz";
    cargo(sh, build)
        .args(["--target", host, "--bin", target])
        .env("RUSTFLAGS", INSTRUMENTED)
        .run()?;

    let program = sh
        .current_dir()
        .join(format!("target/fuzz/{host}/release/{target}"));
    let folder = sh.current_dir().join(format!("target/fuzz/run/{target}"));
    let scratch = folder.join("scratch");
    sh.remove_path(&scratch)?;
    fs::create_dir_all(&scratch)?;
    fs::create_dir_all(folder.join("corpus"))?;
    // Files among the arguments are relative to the project's root.
    let args = args.iter().map(|arg| match sh.path_exists(arg) {
        true => sh.current_dir().join(arg).into_os_string(),
        false => arg.into(),
    });
    let args: Vec<_> = args.collect();
    let corpus = args
        .iter()
        .all(|arg| arg.to_string_lossy().starts_with('-'))
        .then_some("corpus");
    let _folder = sh.push_dir(&folder);
    let fuzzer = cmd!(sh, "{program}").args(LIMITS).args(args).args(corpus);
    Ok(fuzzer.env("TMPDIR", scratch).run()?)
}
