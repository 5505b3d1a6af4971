//! The fuzzing loop: mutates an input, runs the target, and keeps inputs with new coverage.

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

use crate::coverage::Coverage;
use crate::mutate::{below, mutated};
use crate::targets::Target;
use crate::watchdog::Watchdog;
use crate::{allocator, coverage};

/// Statistics of one target.
#[derive(Debug)]
pub struct Outcome {
    /// Name of the target.
    pub target: &'static str,
    /// Number of executions, including those that run the seeds.
    pub executions: u64,
    /// Number of inputs that the target accepted.
    pub accepted: u64,
    /// Number of inputs available for mutation: the seeds and the inputs with new coverage.
    pub corpus: usize,
    /// Number of basic blocks that were reached, or 0 without instrumentation.
    pub blocks: usize,
    /// Most memory that any single execution added to the memory in use before it, in bytes.
    pub peak: usize,
    /// CPU time of the slowest execution.
    pub slowest: Duration,
    /// Elapsed time of the whole run, in seconds.
    pub seconds: f64,
    /// Path of the first input that caused each panic, keyed by the panic's location and message.
    pub crashes: BTreeMap<String, PathBuf>,
}

/// Runs `target` `executions` times, first on its seeds and then on mutated inputs. All seeds run
/// even if there are more of them than `executions`.
///
/// The first input that causes each panic is saved in `folder`. Before an execution, its input is
/// written to a file in `scratch`, which remains after an abort.
///
/// # Errors
///
/// Returns an error if `folder` cannot be created or a file in it cannot be written.
pub fn run(
    target: &mut dyn Target,
    executions: u64,
    seed: u64,
    scratch: &Path,
    folder: &Path,
) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    record_panics();
    let watchdog = Watchdog::new(scratch.join(format!("{}-last", target.name())));
    let mut random = stream(target.name(), seed);
    let mut corpus = target.seeds();
    let seeds = corpus.len();
    let mut coverage = Coverage::default();
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
    while outcome.executions < executions.max(seeds as u64) {
        // The seeds run first, without mutations.
        let number = outcome.executions as usize;
        let input = match corpus.get(number).filter(|_| number < seeds) {
            Some(seed) => seed.clone(),
            None => {
                let base = below(&mut random, corpus.len());
                mutated(&mut random, &corpus[base], &corpus, target.dictionary())
            }
        };
        Coverage::clear_counters();
        let before = allocator::reset_peak();
        let (result, time) = watchdog.watch(&input, || {
            panic::catch_unwind(AssertUnwindSafe(|| target.run(&input)))
        });
        outcome.peak = outcome.peak.max(allocator::peak().saturating_sub(before));
        outcome.slowest = outcome.slowest.max(time);
        outcome.executions += 1;
        match result {
            Ok(accepted) => outcome.accepted += u64::from(accepted),
            Err(_) => {
                if let Entry::Vacant(entry) = outcome.crashes.entry(last_panic()) {
                    entry.insert(save(&input, target.name(), folder)?);
                }
            }
        }
        if coverage.add_counters() && number >= seeds {
            corpus.push(input);
        }
    }
    let _ = panic::take_hook();
    outcome.corpus = corpus.len();
    outcome.blocks = coverage.blocks();
    outcome.seconds = start.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Saves a crashing input in a file named after the target and the input's checksum.
fn save(input: &[u8], target: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let sum = Sha256::digest(input);
    let name: String = sum[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("{target}-{name}"));
    std::fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// A random number generator for a target, independent of the other targets.
fn stream(target: &str, seed: u64) -> ChaCha8Rng {
    let mut key = Sha256::new();
    key.update(b"fuzz");
    key.update(target);
    key.update(seed.to_le_bytes());
    ChaCha8Rng::from_seed(key.finalize().into())
}

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Installs a panic hook that records the last panic instead of printing thousands of them.
fn record_panics() {
    panic::set_hook(Box::new(|info| {
        let location = info
            .location()
            .map_or_else(String::new, ToString::to_string);
        let message = info.payload_as_str().unwrap_or_default();
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = format!("{location}: {message}");
        }
    }));
}

/// Location and message of the last panic. Digits are removed from the message, so that panics that
/// differ only in numbers count as one.
fn last_panic() -> String {
    let text = LAST_PANIC
        .lock()
        .map(|text| text.clone())
        .unwrap_or_default();
    match text.split_once(": ") {
        Some((location, message)) => {
            let message: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
            format!("{location}: {message}")
        }
        None => text,
    }
}

/// Formats a table with one row for each outcome.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:>14} {:>11} {:>9} {:>7} {:>14} {:>10} {:>9} {:>8}  crashes\n",
        "target", "executions", "accepted", "corpus", "blocks", "peak MiB", "slowest", "seconds"
    );
    for outcome in outcomes {
        text.push_str(&format!(
            "{:>14} {:>11} {:>9} {:>7} {:>14} {:>10.1} {:>7} ms {:>8.1}  {}\n",
            outcome.target,
            outcome.executions,
            outcome.accepted,
            outcome.corpus,
            format!("{} of {}", outcome.blocks, coverage::instrumented()),
            outcome.peak as f64 / f64::from(1 << 20),
            outcome.slowest.as_millis(),
            outcome.seconds,
            outcome.crashes.len()
        ));
    }
    text
}
