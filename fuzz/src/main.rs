//! Runs the targets and prints a table. `cargo xtask fuzz` builds this with instrumentation.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use fuzz::{allocator, engine, targets};

#[global_allocator]
static ALLOCATOR: allocator::Limited = allocator::Limited;

/// Feeds hostile input to everything that reads files.
#[derive(Parser)]
struct Args {
    /// Executions of each target
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    executions: u64,
    /// Only this target: picture, archive, weights, pth, checkpoint, metadata or configuration
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// The same seed gives the same executions
    #[arg(long, value_name = "N", default_value_t = 1234)]
    seed: u64,
    /// Runs a target once, on a file that a crash left
    #[arg(long, value_name = "FILE", requires = "target")]
    input: Option<PathBuf>,
    /// Where crashes go
    #[arg(long, value_name = "DIR", default_value = "target/fuzz-crashes")]
    crashes: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let scratch = tempfile::Builder::new()
        .prefix("waggle-fuzz-")
        .tempdir_in(targets::scratch_parent())
        .context("no scratch folder")?;
    let mut chosen = targets::all(scratch.path());
    chosen.retain(|target| {
        args.target
            .as_deref()
            .is_none_or(|name| name == target.name())
    });
    ensure!(!chosen.is_empty(), "--target: there is no such target");
    if let Some(path) = &args.input {
        let input =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let before = allocator::start();
        let accepted = chosen[0].run(&input);
        let used = allocator::peak() - before;
        println!("accepted: {accepted}, {used} bytes at most");
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "An input that aborts is left in {}.\n",
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
        // The table so far, for those who wait.
        print!("{}", engine::table(&outcomes[outcomes.len() - 1..]));
    }
    println!("\n{}", engine::table(&outcomes));
    let total: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
    println!("{total} executions");
    for outcome in &outcomes {
        for (place, file) in &outcome.crashes {
            println!("{}: {place}\n    {}", outcome.target, file.display());
        }
    }
    let sound = outcomes.iter().all(|outcome| outcome.crashes.is_empty());
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
