//! Runs one row of `cargo xtask bench-peers` with this project's crates.
//!
//! Usage: `bench_worker ROW THREADS [DATA]`. The header of `xtask/peers/peer.py` documents the names
//! of the rows and the protocol. Weights are random. Results are checked outside the measured time.

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
    let [row, threads, data @ ..] = arguments.as_slice() else {
        bail!("usage: bench_worker ROW THREADS [DATA]; `cargo xtask bench-peers` runs it");
    };
    // `waggle` also calls this at startup.
    cli::memory::keep_large_blocks();
    let threads = threads.parse().context("THREADS must be a number")?;
    let row = Row::parse(row)?;
    cli::gpu_memory::keep_blocks(&row.device)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()?;

    let mut run = ours::prepare(&row, data.first().map(Path::new))?;
    // Resets the peak of the resident memory on Linux. If this fails, the peak includes the setup.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    cli::gpu_memory::reset_peak(&row.device)?;
    // Whole epochs take minutes and need no warm-up.
    if !row.is_whole_epochs() {
        run()?.check()?;
    }
    serve(&mut run, &row.device)
}

/// Prints `ready`. For each line of standard input, a number of runs, runs the row that often and
/// prints the mean seconds per run. At the end of the input, prints the peak memory in bytes.
fn serve(run: &mut Run, device: &Device) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    for line in io::stdin().lock().lines() {
        let runs: u32 = line?.trim().parse()?;
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
            .context("cannot measure the peak memory: the GPU has no memory pool")?,
    };
    writeln!(out, "{peak}")?;
    Ok(())
}

/// Peak resident memory of this process in bytes, as Linux reports it.
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("cannot read the peak memory: only Linux has /proc/self/status")?;
    let kib = status.lines().find_map(|line| {
        let kib = line.strip_prefix("VmHWM:")?.strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok()
    });
    Ok(kib.context("/proc/self/status has no VmHWM")? * 1024)
}
