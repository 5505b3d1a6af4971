//! Runs the fuzz targets and prints a table. `cargo xtask fuzz` builds it with instrumentation.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use fuzz::{allocator, engine, targets};

#[global_allocator]
static ALLOCATOR: allocator::LimitedAllocator = allocator::LimitedAllocator;

/// Fuzzes the code that reads files.
#[derive(Parser)]
struct Args {
    /// Number of executions of each target
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    executions: u64,
    /// Run only this target: image, archive, weights, pth, checkpoint, metadata or configuration
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Seed of the mutations
    #[arg(long, value_name = "N", default_value_t = 1234)]
    seed: u64,
    /// Run the target once, on this file
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Directory for inputs that crash
    #[arg(long, value_name = "DIR", default_value = "target/fuzz-crashes")]
    crashes: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let scratch = tempfile::Builder::new()
        .prefix("waggle-fuzz-")
        .tempdir_in(targets::scratch_parent())
        .context("cannot create a temporary directory")?;
    let mut chosen = targets::all(scratch.path());
    chosen.retain(|target| {
        args.target
            .as_deref()
            .is_none_or(|name| name == target.name())
    });
    ensure!(!chosen.is_empty(), "unknown target");
    if let Some(path) = &args.input {
        let input =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let before = allocator::reset_peak();
        let accepted = chosen[0].run(&input);
        let used = allocator::peak() - before;
        println!("accepted: {accepted}, peak memory: {used} bytes");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "If the program aborts, its input is in {}.\n",
        scratch.path().display()
    );
    let mut outcomes = Vec::new();
    for target in &mut chosen {
        outcomes.push(engine::run(
            target.as_mut(),
            args.executions,
            args.seed,
            scratch.path(),
            &args.crashes,
        )?);
        // A run takes a long time, so the results of each target are shown when it ends.
        print!("{}", engine::table(&outcomes[outcomes.len() - 1..]));
    }
    println!("\n{}", engine::table(&outcomes));
    let total: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
    println!("{total} executions");
    for outcome in &outcomes {
        for (panic, file) in &outcome.crashes {
            println!("{}: {panic}\n    {}", outcome.target, file.display());
        }
    }
    let no_crashes = outcomes.iter().all(|outcome| outcome.crashes.is_empty());
    Ok(if no_crashes {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
