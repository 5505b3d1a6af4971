//! When checkpoints are made, and who writes them.
//!
//! A gigabyte takes seconds to reach a disk. A thread writes it while training goes on; what is not yet written when
//! the next update comes is copied first. At most one checkpoint is being written at a time.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use trainer::{Params, Stage, StageState};

use super::dir::CheckpointDir;
use super::{Checkpoint, Identity, Progress, contents};
use crate::config::StageConfig;
use crate::metrics::{EpochRow, Pass};
use crate::panic_message::panic_message;

/// Makes the checkpoints of a run.
pub struct Checkpointer<'a> {
    params: &'a Params,
    stages: Vec<StageConfig>,
    identity: String,
    every: Option<Duration>,
    last: Instant,
    saved: Option<(usize, StageState)>,
    writer: Writer,
}

/// A checkpoint that is on disk.
#[derive(Debug)]
pub struct CheckpointWritten {
    /// Its file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// How long training waited before it began: for an earlier one that was still being written, and for the copy of
    /// what is on a GPU. Copies of what was still unwritten at an update are not in it.
    pub waited: Duration,
    /// How long writing it took, beside training.
    pub written: Duration,
}

impl<'a> Checkpointer<'a> {
    /// For the run in `folder`, which begins, or goes on from the checkpoint `from`. Inside an epoch it makes one
    /// `every` so often, or none.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn new(
        folder: &Path,
        from: Option<&Checkpoint>,
        identity: &Identity,
        params: &'a Params,
        every: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let store = CheckpointDir::new(folder, from.map(|checkpoint| checkpoint.number))?;
        Ok(Self {
            params,
            stages: identity.config.stages.clone(),
            identity: toml::to_string(identity).context("cannot write the run as TOML")?,
            every,
            last: Instant::now(),
            saved: from.map(|from| (from.progress.stage, from.progress.state)),
            writer: Writer::Idle(store),
        })
    }

    /// Whether it is time for one inside an epoch. While one is being written it is not.
    pub fn is_due(&self) -> bool {
        self.every.is_some_and(|every| self.last.elapsed() >= every)
            && matches!(self.writer, Writer::Idle(_))
    }

    /// Makes a checkpoint of this moment, unless the last one is of the same; returns while it is being written.
    ///
    /// # Errors
    ///
    /// Those of the one before, when it was still being written; no memory to copy what is on a GPU; no thread to write
    /// this one.
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
        let before = self.finish()?;
        let progress = Progress {
            training,
            rows: rows.to_vec(),
            ..Progress::new(index, state)
        };
        let contents = contents(&self.identity, &progress, &self.stages, self.params, stage)?;
        let waited = started.elapsed();
        let Writer::Idle(mut store) = std::mem::replace(&mut self.writer, Writer::Failed) else {
            return Ok(before);
        };
        let bytes = contents.bytes();
        let thread = thread::Builder::new().name("checkpoint".to_string());
        let write = move || {
            let started = Instant::now();
            let path = store.write(contents)?;
            let written = started.elapsed();
            let saved = CheckpointWritten {
                path,
                bytes,
                waited,
                written,
            };
            Ok((store, saved))
        };
        let thread = thread
            .spawn(write)
            .context("no thread can be started to write a checkpoint")?;
        self.writer = Writer::Busy(thread);
        self.saved = Some((index, state));
        self.last = Instant::now();
        Ok(before)
    }

    /// The checkpoint that was being written, if it has just been finished.
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub fn poll(&mut self) -> anyhow::Result<Option<CheckpointWritten>> {
        match &self.writer {
            Writer::Busy(thread) if thread.is_finished() => self.finish(),
            _ => Ok(None),
        }
    }

    /// Waits for the checkpoint that is being written, if there is one.
    ///
    /// # Errors
    ///
    /// When it could not be written.
    pub fn finish(&mut self) -> anyhow::Result<Option<CheckpointWritten>> {
        match std::mem::replace(&mut self.writer, Writer::Failed) {
            Writer::Busy(thread) => {
                let written = thread.join().map_err(panicked)?;
                let (store, saved) = written?;
                self.writer = Writer::Idle(store);
                Ok(Some(saved))
            }
            other => {
                self.writer = other;
                Ok(None)
            }
        }
    }

    /// Removes the checkpoints of a run that is done: they are large, and of no use any more.
    ///
    /// # Errors
    ///
    /// When one cannot be written, or not removed.
    pub fn clear(&mut self) -> anyhow::Result<()> {
        self.finish()?;
        match &self.writer {
            Writer::Idle(store) => store.clear(),
            _ => Ok(()),
        }
    }
}

/// The error for a panic of the thread that writes.
fn panicked(payload: Box<dyn Any + Send>) -> anyhow::Error {
    anyhow!(
        "the code panicked while it wrote a checkpoint: {}; please report this. The checkpoint before it, if there \
         is one, is whole: --resume goes on from there",
        panic_message(payload.as_ref()).unwrap_or("no message")
    )
}

/// A run that ends in an error still finishes the checkpoint that was being written.
impl Drop for Checkpointer<'_> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// The store, or the thread that has it.
enum Writer {
    Idle(CheckpointDir),
    Busy(JoinHandle<anyhow::Result<(CheckpointDir, CheckpointWritten)>>),
    /// It is lost with the thread that failed; the run ends then.
    Failed,
}
