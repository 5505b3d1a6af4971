//! Runs one row of `cargo xtask bench-peers` with this project or with candle's own operations.
//!
//! Usage: `bench_worker ROW PEER THREADS [DATA]`, where PEER is `ours` or `candle`.
//! `xtask/peers/peer.py` runs the same rows with other libraries, and documents the names of the
//! rows and the protocol. Weights are random, drawn like those of a newly initialized network.
//! Results are checked outside of the measured time.

mod candle_ops;
mod ours;
mod row;

use std::io::{self, BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::Device;

use row::{Row, Run};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (row, peer, threads, data) = match arguments.as_slice() {
        [row, peer, threads] => (row, peer, threads, None),
        [row, peer, threads, data] => (row, peer, threads, Some(Path::new(data))),
        _ => {
            bail!("usage: bench_worker ROW PEER THREADS [DATA]; `cargo xtask bench-peers` runs it")
        }
    };
    if peer == "ours" {
        // `waggle` also calls this at startup. Candle's rows keep the allocator's defaults.
        cli::memory::keep_large_blocks();
    }
    let threads = threads.parse().context("THREADS must be a number")?;
    let row = Row::parse(row)?;
    cli::gpu_memory::keep_blocks(&row.device)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;

    let mut run = match peer.as_str() {
        "ours" => ours::prepare(&row, data)?,
        "candle" => match candle_ops::prepare(&row)? {
            Some(run) => run,
            None => {
                println!("skip: candle has no implementation of this row");
                return Ok(());
            }
        },
        _ => bail!("PEER must be `ours` or `candle`"),
    };
    reset_peak();
    cli::gpu_memory::reset_peak(&row.device)?;
    // Whole epochs take minutes and need no warm-up.
    if !row.is_whole_epochs() {
        run()?.check()?;
    }
    serve(&mut run, &row.device)
}

/// Reads a number of runs from each line of standard input, runs the row that often, and prints the
/// mean seconds per run. At the end of the input, prints the peak memory in bytes.
fn serve(run: &mut Run, device: &Device) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    for line in io::stdin().lock().lines() {
        let runs: u32 = line?
            .trim()
            .parse()
            .context("each line must be a number of runs")?;
        ensure!(runs > 0, "the number of runs must be at least 1");
        let start = Instant::now();
        let mut output = run()?;
        for _ in 1..runs {
            output = run()?;
        }
        let seconds = start.elapsed().as_secs_f64() / f64::from(runs);
        output.check()?;
        writeln!(out, "{seconds}")?;
    }
    let peak = match device {
        Device::Cpu => peak_bytes()?,
        _ => cli::gpu_memory::peak_bytes(device)?
            .context("this GPU does not report its peak memory")?,
    };
    writeln!(out, "{peak}")?;
    Ok(())
}

/// Resets this process's peak memory, as reported by Linux. If this fails, the peak includes the
/// setup.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("cannot read the peak memory: only Linux has /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse().ok())
        .context("/proc/self/status has no VmHWM")?;
    Ok(kib * 1024)
}
