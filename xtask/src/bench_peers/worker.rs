//! Worker processes. The header of `xtask/peers/peer.py` describes the protocol.

use anyhow::{Context, Result, anyhow, bail};
use std::io::{self, BufRead, BufReader, Lines, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Number of lines to show from the end of a failed process's standard error.
const SHOWN_LINES: usize = 20;

/// How long to wait for a process to exit before it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A process that runs the workload of one row. Dropping this kills the process.
pub struct Worker {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Option<JoinHandle<String>>,
}

/// The outcome of a worker's setup.
#[derive(Debug, PartialEq, Eq)]
pub enum Setup {
    /// The worker is set up and can be timed.
    Ready,
    /// The worker cannot run this row, for this reason.
    Skipped(String),
}

impl Worker {
    /// Starts the process without waiting for its setup.
    ///
    /// # Errors
    ///
    /// Returns an error if the process cannot be started.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {:?} for {name}", command.get_program()))?;
        let piped = "all three streams are piped";
        let output = child.stdout.take().expect(piped);
        let mut errors = child.stderr.take().expect(piped);
        Ok(Self {
            name: name.to_owned(),
            input: child.stdin.take(),
            child,
            lines: BufReader::new(output).lines(),
            // Read concurrently: a process that fills the pipe would block.
            errors: Some(thread::spawn(move || {
                let mut text = Vec::new();
                let _ = errors.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })),
        })
    }

    /// Waits until the worker is set up or skips the row.
    ///
    /// # Errors
    ///
    /// Returns an error if the process ends or prints anything else. If it ends, the error contains
    /// the last lines of its standard error.
    pub fn wait(&mut self) -> Result<Setup> {
        let line = self.line()?;
        if line == "ready" {
            return Ok(Setup::Ready);
        }
        match line.strip_prefix("skip: ") {
            Some(reason) => Ok(Setup::Skipped(reason.to_owned())),
            None => Err(self.unexpected(&line, "`ready` or `skip: REASON`")),
        }
    }

    /// Runs the workload `runs` times and returns the seconds per run.
    ///
    /// # Errors
    ///
    /// Returns an error if the process ends or prints no positive number.
    pub fn time(&mut self, runs: usize) -> Result<f64> {
        let written = match &mut self.input {
            Some(input) => writeln!(input, "{runs}").and_then(|()| input.flush()),
            None => Ok(()),
        };
        if written.is_err() {
            return Err(self.failure());
        }
        let line = self.line()?;
        match line.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(seconds),
            _ => Err(self.unexpected(&line, "seconds")),
        }
    }

    /// Closes the process's input and returns its peak memory in bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if the process fails or prints no number.
    pub fn finish(mut self) -> Result<u64> {
        self.input = None;
        let line = self.line()?;
        let peak = line
            .parse()
            .map_err(|_| self.unexpected(&line, "its peak memory in bytes"))?;
        let status = self.end()?;
        if !status.success() {
            bail!(self.failure());
        }
        Ok(peak)
    }

    fn line(&mut self) -> Result<String> {
        match self.lines.next() {
            Some(Ok(line)) => Ok(line.trim().to_owned()),
            Some(Err(_)) | None => Err(self.failure()),
        }
    }

    fn unexpected(&self, line: &str, expected: &str) -> anyhow::Error {
        anyhow!("{} printed `{line}` instead of {expected}", self.name)
    }

    /// An error with the exit status and standard error of a process that ended early.
    fn failure(&mut self) -> anyhow::Error {
        self.input = None;
        let status = self.end();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let stderr = self
            .errors
            .take()
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        let lines: Vec<&str> = stderr.lines().collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
        anyhow!("{} ended early ({status}):\n  {shown}", self.name)
    }

    /// Waits for the process to exit, and kills it after [`EXIT_TIMEOUT`].
    fn end(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + EXIT_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Normally the process has exited already. Otherwise there is no way to report an error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Worker {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Worker::start("fake", command).unwrap()
    }

    #[test]
    fn a_worker_reports_times_and_peak_memory() {
        let mut worker = shell("echo ready; while read -r runs; do echo 0.$runs; done; echo 4096");
        assert_eq!(worker.wait().unwrap(), Setup::Ready);
        assert_eq!(worker.time(25).unwrap(), 0.25);
        assert_eq!(worker.time(5).unwrap(), 0.5);
        assert_eq!(worker.finish().unwrap(), 4096);
    }

    #[test]
    fn a_worker_can_skip_a_row() {
        let mut worker = shell("echo 'skip: not installed'");
        assert_eq!(
            worker.wait().unwrap(),
            Setup::Skipped("not installed".to_owned())
        );
    }

    #[test]
    fn a_worker_that_ends_early_is_an_error_with_its_stderr() {
        let dies_at_once = || shell("seq 1 100 >&2; echo no memory >&2; exit 3");
        let dies_later = || shell("echo ready; read -r runs; echo no memory >&2; exit 3");
        let dies_last = || shell("echo ready; read -r runs; echo 1; echo no memory >&2; exit 3");
        let (mut later, mut last) = (dies_later(), dies_last());
        later.wait().unwrap();
        last.wait().unwrap();
        last.time(1).unwrap();
        for error in [
            dies_at_once().wait().unwrap_err(),
            later.time(1).unwrap_err(),
            last.finish().unwrap_err(),
        ] {
            let message = error.to_string();
            assert!(
                message.contains("fake ended early (exit status: 3)"),
                "{message}"
            );
            assert!(message.ends_with("no memory"), "{message}");
            assert!(message.lines().count() <= 1 + SHOWN_LINES, "{message}");
        }
    }

    #[test]
    fn invalid_output_is_an_error() {
        let error = shell("echo hello").wait().unwrap_err().to_string();
        assert!(error.contains("`hello` instead of `ready`"), "{error}");
        for answer in ["fast", "NaN", "0", "-1", "inf"] {
            let mut worker = shell(&format!("echo ready; read -r runs; echo {answer}"));
            worker.wait().unwrap();
            let error = worker.time(1).unwrap_err().to_string();
            assert!(error.contains("instead of seconds"), "{error}");
        }
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let error = Worker::start("torch nchw", Command::new("no-such-program"))
            .err()
            .expect("the program does not exist");
        assert!(error.to_string().contains("for torch nchw"), "{error}");
    }
}
