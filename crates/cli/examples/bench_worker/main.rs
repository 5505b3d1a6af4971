//! One row of `cargo xtask bench-peers`, done by this project, or by candle's own operations.
//!
//! Usage: `bench_worker ROW PEER THREADS [DATA]`, with PEER `ours` or `candle`. Rows and protocol are those of
//! `xtask/peers/peer.py`, which does the same work with other libraries; both are described there. Weights
//! are random, distributed as in a fresh network; what a run returns is checked outside of the time it took.

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
        // As the program does at its start; candle runs as its users run it.
        cli::memory::keep_large_blocks();
    }
    let threads = threads.parse().context("THREADS is a number")?;
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
                println!("skip: it does not do this row");
                return Ok(());
            }
        },
        _ => bail!("PEER is `ours` or `candle`"),
    };
    reset_peak();
    cli::gpu_memory::reset_peak(&row.device)?;
    // Whole epochs are their own warm-up: they take minutes.
    if !row.is_whole_epochs() {
        run()?.check()?;
    }
    answer(&mut run, &row.device)
}

/// Answers each line of standard input, a number of runs, with the seconds of one; in the end, tells the peak.
fn answer(run: &mut Run, device: &Device) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    for line in io::stdin().lock().lines() {
        let times: u32 = line?.trim().parse().context("a line is a number of runs")?;
        ensure!(times > 0, "a line is a number of runs, at least 1");
        let start = Instant::now();
        let mut proof = run()?;
        for _ in 1..times {
            proof = run()?;
        }
        let seconds = start.elapsed().as_secs_f64() / f64::from(times);
        proof.check()?;
        writeln!(out, "{seconds}")?;
    }
    let peak = match device {
        Device::Cpu => peak_bytes()?,
        _ => cli::gpu_memory::peak_bytes(device)?.context("this GPU does not tell its peak")?,
    };
    writeln!(out, "{peak}")?;
    Ok(())
}

/// Lets the kernel measure the peak from here on, where it can; else the set-up counts too.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("peak memory is read from /proc, which only Linux has")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse().ok())
        .context("/proc/self/status has no VmHWM")?;
    Ok(kib * 1024)
}
