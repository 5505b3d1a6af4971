//! A contender as a process: the protocol that is described in `xtask/peers/peer.py`, seen from this side.

use anyhow::{Context, Result, anyhow, bail};
use std::io::{self, BufRead, BufReader, Lines, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How much of what a failed process said is shown: the end of a traceback.
const SHOWN_LINES: usize = 20;

/// How long a process that has stopped answering may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that does one row. It is ended when this is dropped.
pub struct Worker {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Option<JoinHandle<String>>,
}

/// What came of a worker's set-up.
#[derive(Debug, PartialEq, Eq)]
pub enum SetUp {
    /// It can be timed.
    Ready,
    /// It does not take part, and why.
    Skipped(String),
}

impl Worker {
    /// Starts the process; its set-up goes on while this returns.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {:?} for {name}", command.get_program()))?;
        let piped = "all three streams were asked to be pipes";
        let output = child.stdout.take().expect(piped);
        let mut errors = child.stderr.take().expect(piped);
        Ok(Self {
            name: name.to_owned(),
            input: child.stdin.take(),
            child,
            lines: BufReader::new(output).lines(),
            // Read all along, or a process that says much would wait for ever.
            errors: Some(thread::spawn(move || {
                let mut text = Vec::new();
                let _ = errors.read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })),
        })
    }

    /// Waits until it is ready, or says that it does not take part.
    ///
    /// # Errors
    /// When it ends or says something else, with what it wrote to standard error.
    pub fn wait(&mut self) -> Result<SetUp> {
        let line = self.line()?;
        if line == "ready" {
            return Ok(SetUp::Ready);
        }
        match line.strip_prefix("skip: ") {
            Some(why) => Ok(SetUp::Skipped(why.to_owned())),
            None => Err(self.surprise(&line, "`ready` or `skip: WHY`")),
        }
    }

    /// Lets it run `runs` times and returns the seconds of one.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn time(&mut self, runs: usize) -> Result<f64> {
        let asked = match &mut self.input {
            Some(input) => writeln!(input, "{runs}").and_then(|()| input.flush()),
            None => Ok(()),
        };
        if asked.is_err() {
            return Err(self.failure());
        }
        let line = self.line()?;
        match line.parse::<f64>() {
            Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(seconds),
            _ => Err(self.surprise(&line, "seconds")),
        }
    }

    /// Ends it and returns its largest resident memory in bytes.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn finish(mut self) -> Result<u64> {
        self.input = None;
        let line = self.line()?;
        let peak = line
            .parse()
            .map_err(|_| self.surprise(&line, "its peak memory in bytes"))?;
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

    fn surprise(&self, line: &str, expected: &str) -> anyhow::Error {
        anyhow!("{} said `{line}` instead of {expected}", self.name)
    }

    /// What became of a process that does not answer any more.
    fn failure(&mut self) -> anyhow::Error {
        self.input = None;
        let status = self.end();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let said = self
            .errors
            .take()
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
        anyhow!("{} ended early ({status}):\n  {shown}", self.name)
    }

    /// Waits for the end of a process that has said its last; not for ever, it may only have closed its output.
    fn end(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
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
        // It is gone already, unless something went wrong.
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
    fn a_worker_gets_ready_answers_and_tells_its_peak() {
        let mut worker = shell("echo ready; while read -r runs; do echo 0.$runs; done; echo 4096");
        assert_eq!(worker.wait().unwrap(), SetUp::Ready);
        assert_eq!(worker.time(25).unwrap(), 0.25);
        assert_eq!(worker.time(5).unwrap(), 0.5);
        assert_eq!(worker.finish().unwrap(), 4096);
    }

    #[test]
    fn a_worker_may_not_take_part() {
        let mut worker = shell("echo 'skip: not installed'");
        assert_eq!(
            worker.wait().unwrap(),
            SetUp::Skipped("not installed".to_owned())
        );
    }

    #[test]
    fn a_dead_worker_is_an_error_with_its_last_words() {
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
    fn an_answer_that_is_none_is_an_error() {
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
    fn a_program_that_is_not_there_is_an_error() {
        let error = Worker::start("torch nchw", Command::new("no-such-program"))
            .err()
            .expect("it cannot start");
        assert!(error.to_string().contains("for torch nchw"), "{error}");
    }
}
