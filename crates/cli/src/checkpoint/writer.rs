//! Writes checkpoints on a background thread.
//!
//! Writing a gigabyte to disk takes seconds, so training continues meanwhile. Tensors that are
//! still unwritten at the next update are copied before they change. At most one checkpoint is
//! written at a time.

use std::any::Any;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use trainer::{Params, Stage, StageState};

use super::dir::CheckpointDir;
use super::{Checkpoint, Identity, RunProgress, snapshot};
use crate::config::StageConfig;
use crate::error::Diagnostic;
use crate::metrics::{EpochRow, Pass};
use crate::panic_message::panic_message;
use crate::run_dir::RunDir;

/// Takes snapshots of a run's training state and writes them on a background thread.
pub struct Checkpointer<'a> {
    params: &'a Params,
    /// The id of the run.
    run: String,
    stages: Vec<StageConfig>,
    identity: String,
    every: Option<Duration>,
    last: Instant,
    /// Stage index and stage state of the last checkpoint.
    saved: Option<(usize, StageState)>,
    writer: Writer,
}

/// A checkpoint that has been written and synced to disk.
#[derive(Debug)]
pub struct CheckpointWritten {
    /// Path of the checkpoint file.
    pub path: PathBuf,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// How long training was blocked while waiting for the previous checkpoint and copying tensors
    /// from a GPU. Excludes copy-on-write at later updates.
    pub waited: Duration,
    /// How long the background thread took to write the file.
    pub written: Duration,
}

impl<'a> Checkpointer<'a> {
    /// Creates the checkpointer for `run`, which is new or resumed from the checkpoint `from`. Within
    /// an epoch, a checkpoint is due every `every`, or never if it is `None`.
    ///
    /// # Errors
    ///
    /// Returns an error if `identity` cannot be written as TOML.
    pub fn new(
        run: &RunDir,
        from: Option<&Checkpoint>,
        identity: &Identity,
        params: &'a Params,
        every: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let newest = from.map(|checkpoint| checkpoint.number);
        let dir = CheckpointDir::new(run.path(), run.id(), newest);
        Ok(Self {
            params,
            run: run.id().to_string(),
            stages: identity.config.stages.clone(),
            identity: toml::to_string(identity).context("cannot write the run identity as TOML")?,
            every,
            last: Instant::now(),
            saved: from.map(|from| (from.progress.stage, from.progress.state)),
            writer: Writer::Idle(dir),
        })
    }

    /// Whether a checkpoint within an epoch is due. Always false while another checkpoint is being
    /// written.
    pub fn is_due(&self) -> bool {
        self.every.is_some_and(|every| self.last.elapsed() >= every)
            && matches!(self.writer, Writer::Idle(_))
    }

    /// Takes a checkpoint and starts writing it, unless the last checkpoint has the same state.
    /// Waits for the previous checkpoint first, and returns it unless another call already has.
    ///
    /// # Errors
    ///
    /// Returns an error if the previous checkpoint could not be written, if a tensor on a GPU
    /// cannot be copied, or if the thread cannot be started.
    pub fn save(
        &mut self,
        index: usize,
        stage: &Stage,
        rows: &[EpochRow],
        training: Option<Pass>,
    ) -> anyhow::Result<Option<CheckpointWritten>> {
        let state = stage.state();
        if self.saved == Some((index, state)) {
            return Ok(None);
        }
        let started = Instant::now();
        let previous = self.finish()?;
        let progress = RunProgress {
            stage: index,
            state,
            training,
            rows: rows.to_vec(),
        };
        let (run, identity) = (&self.run, &self.identity);
        let file = snapshot(run, identity, &progress, &self.stages, self.params, stage)?;
        let waited = started.elapsed();
        let Writer::Idle(mut dir) = std::mem::replace(&mut self.writer, Writer::Failed) else {
            return Ok(previous);
        };
        let bytes = file.bytes();
        let thread = thread::Builder::new().name("checkpoint".to_string());
        let write = move || {
            let started = Instant::now();
            let path = dir.write(file)?;
            let written = CheckpointWritten {
                path,
                bytes,
                waited,
                written: started.elapsed(),
            };
            Ok((dir, written))
        };
        let start = || {
            #[cfg(feature = "fault-injection")]
            crate::fault_injection::start_thread()?;
            thread.spawn(write)
        };
        let thread = start().context("cannot start the thread that writes checkpoints")?;
        self.writer = Writer::Busy(thread);
        self.saved = Some((index, state));
        self.last = Instant::now();
        Ok(previous)
    }

    /// Returns the last checkpoint if the thread has finished writing it, unless another call
    /// already has. Does not wait.
    ///
    /// # Errors
    ///
    /// Returns an error if the checkpoint could not be written.
    pub fn poll(&mut self) -> anyhow::Result<Option<CheckpointWritten>> {
        match &self.writer {
            Writer::Busy(thread) if thread.is_finished() => self.finish(),
            _ => Ok(None),
        }
    }

    /// Waits for the checkpoint that is being written, if any, and returns it.
    ///
    /// # Errors
    ///
    /// Returns an error if the checkpoint could not be written.
    pub fn finish(&mut self) -> anyhow::Result<Option<CheckpointWritten>> {
        match std::mem::replace(&mut self.writer, Writer::Failed) {
            Writer::Busy(thread) => {
                let (dir, written) = thread.join().map_err(panicked)??;
                self.writer = Writer::Idle(dir);
                Ok(Some(written))
            }
            writer => {
                self.writer = writer;
                Ok(None)
            }
        }
    }
}

/// Converts a panic of the background thread to an error.
fn panicked(payload: Box<dyn Any + Send>) -> anyhow::Error {
    let message = panic_message(payload.as_ref()).unwrap_or("no message");
    Diagnostic::new(format!(
        "panicked while writing a checkpoint: {message} (this is a bug, please report it)"
    ))
    .help("resume from the previous checkpoint with `--resume`, if there is one")
    .into()
}

/// Waits for the checkpoint that is being written, so that a run that ends with an error keeps it.
impl Drop for Checkpointer<'_> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// The checkpoint directory, or the thread that owns the directory while writing to it.
enum Writer {
    Idle(CheckpointDir),
    Busy(JoinHandle<anyhow::Result<(CheckpointDir, CheckpointWritten)>>),
    /// The thread failed and the directory was dropped with it. The error ends the run.
    Failed,
}
