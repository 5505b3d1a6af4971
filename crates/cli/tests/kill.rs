//! A run that is killed at any time, even while it writes a checkpoint, resumes to a byte-identical
//! model.
//!
//! `WAGGLE_KILLS` and `WAGGLE_INTERRUPTS` set the numbers of rounds. The defaults are 10 and 3; the
//! full test uses 100 and 20. Runs are killed or interrupted a random delay after a random event.
//! Instead of every other kill, the run aborts after a random number of bytes. The random
//! numbers have a fixed seed, but the exact moments also depend on the speed of the machine.

#![cfg(unix)]

mod harness;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use harness::{TestDir, send_signal, train_args};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    train_args(
        ["3", "4"],
        "4",
        &[&["--checkpoint-every", "0.00001", "--workers", "2"], more],
    )
}

fn times(variable: &str, usual: usize) -> usize {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => usual,
    }
}

/// Measurements of the uninterrupted run in `whole`.
#[derive(Clone, Copy)]
struct Whole {
    /// Number of emitted events.
    events: u64,
    /// Running time divided by the number of events, in microseconds.
    gap: u64,
    /// Total size of all checkpoints, in bytes.
    bytes: u64,
}

impl Whole {
    fn run(dir: &TestDir) -> Self {
        let started = Instant::now();
        let out = dir.succeeds(&train(&["--out", "whole", "--json"]));
        let lines = harness::json_lines(&out);
        let events = lines.len() as u64;
        Self {
            events,
            gap: started.elapsed().as_micros() as u64 / events,
            bytes: lines
                .iter()
                .filter_map(|event| event["bytes"].as_u64())
                .sum(),
        }
    }

    /// Draws a random moment after at least `first` events. `below(n)` returns a random integer from
    /// 0 to `n - 1`.
    fn moment(self, first: u64, below: &mut dyn FnMut(u64) -> u64) -> Moment {
        Moment {
            events: first + below(self.events - first),
            delay: Duration::from_micros(below(self.gap)),
        }
    }
}

/// A moment of a run: `delay` after the first `events` events.
#[derive(Debug)]
struct Moment {
    events: u64,
    delay: Duration,
}

/// How a run is terminated, unless it finishes first.
#[derive(Debug)]
enum End {
    /// SIGKILL at this moment.
    Killed(Moment),
    /// An abort after writing this many bytes to the files of the run.
    Crashed(u64),
    /// SIGINT at this moment.
    Interrupted(Moment),
}

/// Runs `waggle` until it finishes or is terminated. Returns whether it finished.
fn run(dir: &TestDir, arguments: &[&str], end: &End) -> bool {
    let mut command = dir.command(&[arguments, &["--json"]].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if let End::Crashed(bytes) = end {
        command.env("WAGGLE_FAULT", format!("crash:{bytes}"));
    }
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if let End::Killed(moment) | End::Interrupted(moment) = end {
        for _ in 0..moment.events {
            lines.next();
        }
        thread::sleep(moment.delay);
    }
    match end {
        End::Killed(_) => child.kill().unwrap(),
        End::Interrupted(_) => send_signal(&child, "INT"),
        End::Crashed(_) => {}
    }
    // A full pipe would block the program.
    lines.for_each(drop);
    let status = child.wait().unwrap();
    match end {
        End::Interrupted(_) => assert!(matches!(status.code(), Some(0 | 130)), "{status}"),
        _ => assert!(matches!(status.code(), Some(0) | None), "{status}"),
    }
    status.success()
}

/// Terminates `rounds` runs as chosen by `draw`, resumes them, and compares the results with those of
/// the run `whole`, which `draw` creates. Some runs are terminated twice.
fn assert_terminated_runs_resume(
    rounds: usize,
    mut draw: impl FnMut(&TestDir, &mut dyn FnMut(u64) -> u64) -> End,
) {
    let dir = TestDir::with_stripes();
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let mut below = |bound: u64| random.next_u64() % bound;
    let (mut resumed, mut restarted, mut finished) = (0, 0, 0);
    for round in 0..rounds {
        let out = format!("run-{round}");
        let mut arguments = train(&["--out", &out]);
        let mut done = false;
        for _ in 0..1 + below(2) {
            let end = draw(&dir, &mut below);
            done = run(&dir, &arguments, &end);
            if !dir.path(&out).exists() {
                continue;
            }
            // A checkpoint gets its final name when it is complete, so none is damaged.
            let checkpoints = dir.checkpoints(&out);
            for name in &checkpoints {
                let bytes = dir.read(&format!("{out}/{name}"));
                let (contents, checksum) = bytes.split_at(bytes.len() - 32);
                let is_intact = Sha256::digest(contents).as_slice() == checksum;
                assert!(is_intact, "round {round}, {end:?}: {name}");
            }
            if done {
                break;
            }
            if !checkpoints.is_empty() {
                arguments = vec!["train", "--resume", &out];
            } else {
                // The run was terminated before it wrote its first checkpoint, or after it removed
                // its checkpoints at the end. There is nothing to resume, so start it again.
                std::fs::remove_dir_all(dir.path(&out)).unwrap();
                arguments = train(&["--out", &out]);
            }
        }
        match (arguments[1], done) {
            ("--resume", _) => resumed += 1,
            (_, true) => finished += 1,
            (_, false) => restarted += 1,
        }
        if !done {
            dir.succeeds(&arguments);
        }
        dir.assert_same_result(&out, "whole");
        std::fs::remove_dir_all(dir.path(&out)).unwrap();
    }
    println!(
        "{rounds} of {rounds} results equal; resumed: {resumed}, restarted for lack of a checkpoint: \
         {restarted}, finished before they were terminated: {finished}"
    );
    assert!(
        resumed * 4 > rounds,
        "too few runs were resumed from a checkpoint: {resumed} of {rounds}"
    );
}

#[test]
fn killed_run_resumes_to_the_same_bytes() {
    let mut measured = None;
    let mut crash = false;
    assert_terminated_runs_resume(times("WAGGLE_KILLS", 10), |dir, below| {
        let whole = *measured.get_or_insert_with(|| Whole::run(dir));
        crash = !crash;
        if crash {
            // A run whose checkpoints take longer to write writes fewer of them than `whole`, so
            // abort in the first two thirds. The bytes of other files make it earlier.
            End::Crashed(below(whole.bytes * 2 / 3))
        } else {
            End::Killed(whole.moment(0, below))
        }
    });
}

#[test]
fn interrupted_run_resumes_to_the_same_bytes() {
    let mut measured = None;
    assert_terminated_runs_resume(times("WAGGLE_INTERRUPTS", 3), |dir, below| {
        let whole = *measured.get_or_insert_with(|| Whole::run(dir));
        // Before the first event, the signal handler may not be installed yet, and SIGINT would
        // kill the process.
        End::Interrupted(whole.moment(1, below))
    });
}
