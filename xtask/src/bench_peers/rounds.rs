//! Runs the workers of one row in turns, after all of them are set up.

use super::worker::{Setup, Worker};
use anyhow::Result;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The command that starts a worker.
pub struct WorkerCommand {
    name: String,
    command: Command,
}

impl WorkerCommand {
    /// Creates the command of a worker that is called `name` in the results.
    pub fn new(name: &str, command: Command) -> Self {
        Self {
            name: name.to_owned(),
            command,
        }
    }
}

/// Time and memory of one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Name of the worker.
    pub name: String,
    /// Seconds per run, one value for each turn.
    pub seconds: Vec<f64>,
    /// Peak memory since the worker's setup, in bytes, as defined in the header of `peer.py`.
    pub peak_bytes: u64,
}

/// Results of all workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Workers that ran, in the order of the commands.
    pub measurements: Vec<Measurement>,
    /// Names of workers that did not run, each with the reason.
    pub skipped: Vec<(String, String)>,
}

/// Starts the workers and times them: `rounds` turns of `runs` runs each, with a `pause` before
/// every turn.
///
/// Every second round runs in the opposite order, so that a machine that gets slower affects all
/// workers equally. `progress` receives the number of each round, from 1.
///
/// # Errors
///
/// Returns an error if a process cannot be started, ends early, or violates the protocol.
pub fn run_rounds(
    commands: Vec<WorkerCommand>,
    rounds: usize,
    runs: usize,
    pause: Duration,
    progress: &mut dyn FnMut(usize),
) -> Result<Outcome> {
    let mut started = Vec::new();
    for WorkerCommand { name, command } in commands {
        started.push((Worker::start(&name, command)?, name));
    }
    let mut outcome = Outcome::default();
    let mut running = Vec::new();
    for (mut worker, name) in started {
        match worker.wait()? {
            Setup::Skipped(reason) => outcome.skipped.push((name, reason)),
            Setup::Ready => {
                running.push(worker);
                outcome.measurements.push(Measurement {
                    name,
                    seconds: Vec::new(),
                    peak_bytes: 0,
                });
            }
        }
    }
    for round in 0..rounds {
        progress(round + 1);
        let mut order: Vec<usize> = (0..running.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            thread::sleep(pause);
            let seconds = running[index].time(runs)?;
            outcome.measurements[index].seconds.push(seconds);
        }
    }
    for (worker, measurement) in running.into_iter().zip(&mut outcome.measurements) {
        measurement.peak_bytes = worker.finish()?;
    }
    Ok(outcome)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// A worker that writes its name to `log` at each turn and reports `seconds`.
    fn command(name: &str, log: &Path, seconds: f64) -> WorkerCommand {
        let script = format!(
            "echo ready; while read -r runs; do echo {name} $runs >> {}; echo {seconds}; done; echo 1024",
            log.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        WorkerCommand::new(name, command)
    }

    #[test]
    fn workers_take_turns_in_alternating_order() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut absent = Command::new("sh");
        absent.args(["-c", "echo 'skip: not here'"]);
        let commands = vec![
            command("a", &log, 0.5),
            WorkerCommand::new("absent", absent),
            command("b", &log, 2.0),
        ];
        let mut rounds = Vec::new();
        let outcome = run_rounds(commands, 3, 4, Duration::ZERO, &mut |round| {
            rounds.push(round)
        })
        .unwrap();
        assert_eq!(rounds, [1, 2, 3]);
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "a 4\nb 4\nb 4\na 4\na 4\nb 4\n"
        );
        let measurement = |name: &str, seconds: f64| Measurement {
            name: name.to_owned(),
            seconds: vec![seconds; 3],
            peak_bytes: 1024,
        };
        assert_eq!(
            outcome.measurements,
            [measurement("a", 0.5), measurement("b", 2.0)]
        );
        assert_eq!(
            outcome.skipped,
            [("absent".to_owned(), "not here".to_owned())]
        );
    }

    #[test]
    fn a_worker_that_ends_early_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut dying = Command::new("sh");
        dying.args(["-c", "echo ready; echo killed >&2; exit 1"]);
        let commands = vec![
            command("a", &folder.path().join("log"), 0.5),
            WorkerCommand::new("dying", dying),
        ];
        let error = run_rounds(commands, 1, 1, Duration::ZERO, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("dying ended early"), "{error}");
    }
}
