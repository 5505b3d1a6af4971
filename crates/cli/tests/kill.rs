//! A training that is killed at any moment, also while it writes a checkpoint, goes on to the same bytes.
//!
//! `WAGGLE_KILLS` and `WAGGLE_INTERRUPTS` say how often: 10 and 3 without them, 100 and 20 for the whole proof. The
//! moments are drawn from a seed, as so many events of the run and a part of the time to the next: however busy the
//! machine is, they lie where they were drawn. What the program does in that part of a step depends on the machine.

#![cfg(unix)]

mod harness;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use cli::checkpoint::Checkpoint;
use harness::{TestDir, send_signal, train_args};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

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
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => usual,
    }
}

/// What an uninterrupted run in `whole` was like.
#[derive(Clone, Copy)]
struct Whole {
    /// How many events it told.
    events: u64,
    /// The mean time from one to the next, in microseconds.
    gap: u64,
    /// How many bytes of checkpoints it wrote.
    bytes: u64,
}

impl Whole {
    fn run(dir: &TestDir) -> Self {
        let started = Instant::now();
        let out = dir.succeeds(&train(&["--out", "whole", "--json"]));
        let told = harness::json_lines(&out);
        let events = told.len() as u64;
        Self {
            events,
            gap: started.elapsed().as_micros() as u64 / events,
            bytes: told
                .iter()
                .filter_map(|event| event["bytes"].as_u64())
                .sum(),
        }
    }

    /// A moment after at least `first` events.
    fn moment(self, first: u64, below: &mut dyn FnMut(u64) -> u64) -> Moment {
        Moment {
            events: first + below(self.events - first),
            then: Duration::from_micros(below(self.gap)),
        }
    }
}

/// A moment of a run: after so many events, and some time.
#[derive(Debug)]
struct Moment {
    events: u64,
    then: Duration,
}

/// How a process is ended.
#[derive(Debug)]
enum End {
    /// By SIGKILL.
    Killed(Moment),
    /// By a crash after this many bytes of checkpoints.
    Crashed(u64),
    /// By SIGINT.
    Interrupted(Moment),
}

/// Runs the program until it ends or is ended; whether it was done.
fn run(dir: &TestDir, arguments: &[&str], end: &End) -> bool {
    let mut command = dir.command(&[arguments, &["--json"]].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if let End::Crashed(bytes) = end {
        command.env("WAGGLE_FAULT", format!("checkpoint:{bytes}"));
    }
    let mut child = command.spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    if let End::Killed(moment) | End::Interrupted(moment) = end {
        for _ in 0..moment.events {
            lines.next();
        }
        thread::sleep(moment.then);
    }
    match end {
        End::Killed(_) => child.kill().unwrap(),
        End::Interrupted(_) => send_signal(&child, "INT"),
        End::Crashed(_) => {}
    }
    // A pipe that nobody reads would stop it.
    lines.for_each(drop);
    let status = child.wait().unwrap();
    match end {
        End::Interrupted(_) => assert!(matches!(status.code(), Some(0 | 130)), "{status}"),
        _ => assert!(matches!(status.code(), Some(0) | None), "{status}"),
    }
    status.success()
}

/// Ends runs `rounds` times at what `draw` says, resumes each, and compares. Some are ended a second time.
fn ended_runs_go_on(
    rounds: usize,
    mut draw: impl FnMut(&TestDir, &mut dyn FnMut(u64) -> u64) -> End,
) {
    let dir = TestDir::with_stripes();
    let mut random = ChaCha8Rng::seed_from_u64(20);
    let mut below = |bound: u64| random.next_u64() % bound;
    let (mut early, mut inside, mut late) = (0, 0, 0);
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
            // Every checkpoint that has its name is whole, whenever the process was ended.
            let (checkpoint, damaged) = Checkpoint::newest(&dir.path(&out)).unwrap();
            assert!(damaged.is_empty(), "round {round}, {end:?}: {damaged:?}");
            if done {
                break;
            }
            if checkpoint.is_some() {
                arguments = vec!["train", "--resume", &out];
            } else {
                // Nothing was lost: not a step had been done.
                std::fs::remove_dir_all(dir.path(&out)).unwrap();
            }
        }
        match (done, arguments[1]) {
            (true, _) => late += 1,
            (false, "--resume") => inside += 1,
            (false, _) => early += 1,
        }
        if !done {
            dir.succeeds(&arguments);
        }
        dir.assert_same_result(&out, "whole");
        std::fs::remove_dir_all(dir.path(&out)).unwrap();
    }
    println!(
        "{rounds} of {rounds} equal; ended before the first step {early}, in the run {inside}, after it {late}"
    );
    assert!(
        inside * 4 > rounds,
        "too few moments lie in the run: {inside} of {rounds}"
    );
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let mut measured = None;
    let mut crash = false;
    ended_runs_go_on(times("WAGGLE_KILLS", 10), |dir, below| {
        let whole = *measured.get_or_insert_with(|| Whole::run(dir));
        crash = !crash;
        if crash {
            // How many there are depends on how fast the disk is.
            End::Crashed(below(whole.bytes * 2 / 3))
        } else {
            End::Killed(whole.moment(0, below))
        }
    });
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bytes() {
    let mut measured = None;
    ended_runs_go_on(times("WAGGLE_INTERRUPTS", 3), |dir, below| {
        let whole = *measured.get_or_insert_with(|| Whole::run(dir));
        // Before the first event the system still answers for the program, which has not asked for the signal.
        End::Interrupted(whole.moment(1, below))
    });
}
