//! Feeds a target: mutates what it has, runs it, keeps what is new, and counts.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Context;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::coverage::Reached;
use crate::mutate::{below, mutated};
use crate::targets::Target;
use crate::watchdog::Watchdog;
use crate::{allocator, coverage};

/// What became of a target.
#[derive(Debug)]
pub struct Outcome {
    /// The target's name.
    pub target: &'static str,
    /// How often it was run, the good files included.
    pub executions: u64,
    /// How many of them it accepted without an error.
    pub accepted: u64,
    /// Inputs that reached something new, the good files included.
    pub corpus: usize,
    /// Instrumented basic blocks that were reached; 0 without instrumentation.
    pub blocks: usize,
    /// The most memory that an execution took, in bytes.
    pub peak: usize,
    /// The longest execution.
    pub slowest: Duration,
    /// All of them.
    pub seconds: f64,
    /// The first input for each place that panicked: place and file.
    pub crashes: BTreeMap<String, PathBuf>,
}

/// Runs `target` so often. Crashes go to files in `folder`; the input at hand is in `scratch`, where an abort leaves it.
///
/// # Errors
///
/// A file in `folder` that cannot be written.
pub fn run(
    target: &mut dyn Target,
    executions: u64,
    seed: u64,
    scratch: &Path,
    folder: &Path,
) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    remember_panics();
    let watchdog = Watchdog::new(scratch.join(format!("{}-last", target.name())));
    let mut random = stream(target.name(), seed);
    let mut corpus = target.seeds();
    let good = corpus.len();
    let mut reached = Reached::default();
    let start = Instant::now();
    let mut outcome = Outcome {
        target: target.name(),
        executions: 0,
        accepted: 0,
        corpus: 0,
        blocks: 0,
        peak: 0,
        slowest: Duration::ZERO,
        seconds: 0.0,
        crashes: BTreeMap::new(),
    };
    while outcome.executions < executions.max(good as u64) {
        // The good files first, as they are.
        let number = outcome.executions as usize;
        let input = match corpus.get(number).filter(|_| number < good) {
            Some(seed) => seed.clone(),
            None => {
                let base = below(&mut random, corpus.len());
                mutated(&mut random, &corpus[base], &corpus, target.words())
            }
        };
        Reached::clear();
        let before = allocator::start();
        let (result, time) = watchdog.watch(&input, || {
            panic::catch_unwind(AssertUnwindSafe(|| target.run(&input)))
        });
        outcome.peak = outcome.peak.max(allocator::peak().saturating_sub(before));
        outcome.slowest = outcome.slowest.max(time);
        outcome.executions += 1;
        match result {
            Ok(accepted) => outcome.accepted += u64::from(accepted),
            Err(_) => {
                if let Entry::Vacant(first) = outcome.crashes.entry(last_panic()) {
                    first.insert(keep(&input, target.name(), folder)?);
                }
            }
        }
        if reached.add() && number >= good {
            corpus.push(input);
        }
    }
    let _ = panic::take_hook();
    outcome.corpus = corpus.len();
    outcome.blocks = reached.blocks();
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Saves an input that crashed, by its checksum.
fn keep(input: &[u8], target: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let sum = Sha256::digest(input);
    let name: String = sum[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("{target}-{name}"));
    std::fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The random stream of a target: the others' number and order change nothing in it.
fn stream(target: &str, seed: u64) -> ChaCha8Rng {
    let mut key = Sha256::new();
    key.update(b"fuzz");
    key.update(target);
    key.update(seed.to_le_bytes());
    ChaCha8Rng::from_seed(key.finalize().into())
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Panics are kept instead of printed, until the run is over: there may be thousands of the same.
fn remember_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info
            .location()
            .map_or_else(String::new, ToString::to_string);
        let message = info.payload_as_str().unwrap_or_default();
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = format!("{place}: {message}");
        }
    }));
}

/// Where and why the last panic was; the message without its numbers, so that equal ones look equal.
fn last_panic() -> String {
    let text = LAST_PANIC
        .lock()
        .map(|text| text.clone())
        .unwrap_or_default();
    match text.split_once(": ") {
        Some((place, message)) => {
            let message: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
            format!("{place}: {message}")
        }
        None => text,
    }
}

/// A line for each outcome, under a heading.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:>14} {:>11} {:>9} {:>7} {:>14} {:>10} {:>9} {:>8}  crashes\n",
        "target", "executions", "accepted", "corpus", "blocks", "peak MiB", "slowest", "seconds"
    );
    for it in outcomes {
        text.push_str(&format!(
            "{:>14} {:>11} {:>9} {:>7} {:>14} {:>10.1} {:>7} ms {:>8.1}  {}\n",
            it.target,
            it.executions,
            it.accepted,
            it.corpus,
            format!("{} of {}", it.blocks, coverage::instrumented()),
            it.peak as f64 / f64::from(1 << 20),
            it.slowest.as_millis(),
            it.seconds,
            it.crashes.len()
        ));
    }
    text
}
