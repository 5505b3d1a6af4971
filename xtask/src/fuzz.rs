//! `cargo xtask fuzz`: builds a libFuzzer target of the package `fuzz` with coverage counters and
//! runs it.
//!
//! Even stable rustc passes instrumentation options on to LLVM. With `--target`, build scripts and
//! procedural macros are not instrumented.

use crate::cargo;
use anyhow::{Context, Result};
use xshell::{Shell, cmd};

/// Counters of the edges between basic blocks, with a table of their addresses, and records of the
/// operands of comparisons, from which libFuzzer learns constants.
const INSTRUMENTED: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Limits: 20 s and 64 KiB for one input, and 2 GiB of resident memory, including libFuzzer's own.
/// The targets' allocator limits the memory in use to 1 GiB.
const LIMITS: [&str; 3] = ["-timeout=20", "-max_len=65536", "-rss_limit_mb=2048"];

/// Targets, and folders of test data whose files are also inputs of these targets.
const FIXTURES: [(&str, &str); 4] = [
    ("image", "crates/dataset/tests/golden/decode"),
    ("image", "crates/dataset/tests/jpeg"),
    ("image", "crates/dataset/tests/formats/cases"),
    ("pth", "crates/vgg/tests/pth"),
];

/// Runs `target` until an input crashes it or exceeds a limit, or until the end that `args` set.
///
/// The corpus begins with the files in `fuzz/seeds/TARGET` and `FIXTURES`. New inputs and those that
/// fail are stored in `target/fuzz/run/TARGET`. libFuzzer gets `args` after the default limits, so
/// that `args` can override the limits. If `args` contain a file, libFuzzer runs only this input.
///
/// # Errors
///
/// Returns an error if the build fails, or if an input crashes the target or exceeds a limit.
pub fn run(sh: &Shell, target: &str, args: &[String]) -> Result<()> {
    let version = cmd!(sh, "rustc -vV").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` printed no host")?;
    let build = "build --release --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz";
    cargo(sh, build)
        .args(["--target", host, "--bin", target])
        .env("RUSTFLAGS", INSTRUMENTED)
        .run()?;

    let folder = format!("target/fuzz/run/{target}");
    let corpus = sh.create_dir(format!("{folder}/corpus"))?;
    let seeds = format!("fuzz/seeds/{target}");
    let fixtures = FIXTURES.iter().filter(|(name, _)| *name == target);
    let mut folders = vec![corpus];
    folders.extend(fixtures.map(|(_, folder)| folder.into()));
    folders.extend(sh.path_exists(&seeds).then(|| seeds.into()));
    if !args.iter().all(|arg| arg.starts_with('-')) {
        folders.clear();
    }
    let scratch = sh.create_temp_dir()?;
    let program = format!("target/fuzz/{host}/release/{target}");
    sh.cmd(sh.current_dir().join(program))
        .args(LIMITS)
        .arg(format!("-artifact_prefix={folder}/"))
        .args(args)
        .args(folders)
        .env("TMPDIR", scratch.path())
        .run()?;
    Ok(())
}
