//! One row's contenders side by side: all are made ready, then they run in turns.

use super::worker::{SetUp, Worker};
use anyhow::Result;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Who takes part, and what to start for it.
pub struct Contender {
    name: String,
    command: Command,
}

impl Contender {
    /// A contender of this name.
    pub fn new(name: &str, command: Command) -> Self {
        Self {
            name: name.to_owned(),
            command,
        }
    }
}

/// What one contender needed.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Who.
    pub name: String,
    /// Seconds of one run, turn by turn.
    pub seconds: Vec<f64>,
    /// The largest resident memory of the process after its set-up.
    pub peak_bytes: u64,
}

/// What a race came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Those who ran, in the order they were given.
    pub figures: Vec<Figures>,
    /// Those who did not, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// Lets `contenders` run: `rounds` turns of `runs` runs each, with a `rest` before every turn.
///
/// Every second round goes in the opposite order, so that a machine that slows down or warms up favours
/// nobody. `progress` is told each round, from 1.
///
/// # Errors
/// When a process cannot be started, dies, or gives a wrong result.
pub fn race(
    contenders: Vec<Contender>,
    rounds: usize,
    runs: usize,
    rest: Duration,
    progress: &mut dyn FnMut(usize),
) -> Result<Outcome> {
    let mut started = Vec::new();
    for Contender { name, command } in contenders {
        started.push((Worker::start(&name, command)?, name));
    }
    let mut outcome = Outcome::default();
    let mut running = Vec::new();
    for (mut worker, name) in started {
        match worker.wait()? {
            SetUp::Skipped(why) => outcome.skipped.push((name, why)),
            SetUp::Ready => {
                running.push(worker);
                outcome.figures.push(Figures {
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
        for at in order {
            thread::sleep(rest);
            let seconds = running[at].time(runs)?;
            outcome.figures[at].seconds.push(seconds);
        }
    }
    for (worker, figures) in running.into_iter().zip(&mut outcome.figures) {
        figures.peak_bytes = worker.finish()?;
    }
    Ok(outcome)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Writes its name to `log` at each turn, and says that it took `seconds`.
    fn contender(name: &str, log: &Path, seconds: f64) -> Contender {
        let script = format!(
            "echo ready; while read -r runs; do echo {name} $runs >> {}; echo {seconds}; done; echo 1024",
            log.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        Contender::new(name, command)
    }

    #[test]
    fn contenders_take_turns_in_changing_order() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut absent = Command::new("sh");
        absent.args(["-c", "echo 'skip: not here'"]);
        let contenders = vec![
            contender("a", &log, 0.5),
            Contender::new("absent", absent),
            contender("b", &log, 2.0),
        ];
        let mut told = Vec::new();
        let outcome = race(contenders, 3, 4, Duration::ZERO, &mut |round| {
            told.push(round)
        })
        .unwrap();
        assert_eq!(told, [1, 2, 3]);
        assert_eq!(
            fs::read_to_string(&log).unwrap(),
            "a 4\nb 4\nb 4\na 4\na 4\nb 4\n"
        );
        let figures = |name: &str, seconds: f64| Figures {
            name: name.to_owned(),
            seconds: vec![seconds; 3],
            peak_bytes: 1024,
        };
        assert_eq!(outcome.figures, [figures("a", 0.5), figures("b", 2.0)]);
        assert_eq!(
            outcome.skipped,
            [("absent".to_owned(), "not here".to_owned())]
        );
    }

    #[test]
    fn one_that_dies_ends_the_race() {
        let folder = tempfile::tempdir().unwrap();
        let mut dying = Command::new("sh");
        dying.args(["-c", "echo ready; echo killed >&2; exit 1"]);
        let contenders = vec![
            contender("a", &folder.path().join("log"), 0.5),
            Contender::new("dying", dying),
        ];
        let error = race(contenders, 1, 1, Duration::ZERO, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("dying ended early"), "{error}");
    }
}
