//! The numbered checkpoint files in a run directory, of which there are never more than two.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use trainer::Snapshot;

use super::format::CheckpointFile;
use crate::error::Diagnostic;
use crate::shell::quote;

const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".safetensors";

/// Writes numbered checkpoints to a run directory and removes old ones.
#[derive(Debug)]
pub(super) struct CheckpointDir {
    folder: PathBuf,
    /// Number of the newest intact checkpoint.
    newest: Option<u64>,
    /// Number of the next checkpoint, higher than that of any existing file, intact or damaged.
    next: u64,
}

impl CheckpointDir {
    /// Opens the run directory `folder`. `newest` is the number of the checkpoint from which the
    /// run was resumed, if any.
    pub(super) fn new(folder: &Path, newest: Option<u64>) -> anyhow::Result<Self> {
        let last = numbers(folder)?.last().copied().unwrap_or(0);
        let next = last.checked_add(1);
        Ok(Self {
            folder: folder.to_path_buf(),
            newest,
            next: next.context("the newest checkpoint has the highest possible number")?,
        })
    }

    /// Writes the next checkpoint to a temporary file, syncs and renames it, and syncs the folder.
    ///
    /// The newest checkpoint stays. Older and damaged ones are removed before the next one is
    /// written, so that there are never more than two.
    ///
    /// # Errors
    ///
    /// Returns an error if the disk is too full or the folder cannot be written to. The newest
    /// checkpoint is then unchanged, and the temporary file is removed.
    pub(super) fn write(&mut self, file: CheckpointFile<Snapshot>) -> anyhow::Result<PathBuf> {
        let path = path(&self.folder, self.next);
        self.try_write(&path, file).map_err(|error| {
            let message = format!("cannot write the checkpoint {}", path.display());
            let error = Diagnostic::new(message).caused_by(error);
            let run = quote(&self.folder);
            match self.newest {
                Some(_) => error.help(format!(
                    "resume from the previous checkpoint with `waggle train --resume {run}`"
                )),
                None => error,
            }
        })?;
        self.newest = Some(self.next);
        self.next += 1;
        Ok(path)
    }

    fn try_write(&self, path: &Path, file: CheckpointFile<Snapshot>) -> anyhow::Result<()> {
        self.prune(self.newest)?;
        check_free_space(&self.folder, file.bytes())?;
        let temporary = self.folder.join(format!(".{PREFIX}{}{SUFFIX}", self.next));
        let written = file.write(&temporary).and_then(|()| {
            fs::rename(&temporary, path)?;
            sync(&self.folder)
        });
        if written.is_err() {
            // Free the disk space. A failure here is ignored: the write error is the one to report.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes every checkpoint, oldest first, so that the newest remains if the process is killed
    /// midway.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        self.prune(None)
    }

    /// Removes all checkpoints except `keep`.
    fn prune(&self, keep: Option<u64>) -> anyhow::Result<()> {
        for number in numbers(&self.folder)? {
            if Some(number) != keep {
                let path = path(&self.folder, number);
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// The numbers of the checkpoints in `folder`, in ascending order.
///
/// Only regular files whose name is exactly that of [`path`] count, so `checkpoint-007.safetensors`
/// does not.
pub(super) fn numbers(folder: &Path) -> anyhow::Result<Vec<u64>> {
    let cannot = || format!("cannot read {}", folder.display());
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if entry.file_type().with_context(cannot)?.is_file() {
            numbers.extend(entry.file_name().to_str().and_then(number));
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Parses the number in a checkpoint's file name. `None` if it is not a checkpoint name.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// Path of checkpoint `number` in the run directory `folder`.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{number}{SUFFIX}"))
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Returns an error if the disk has less than `bytes` of free space.
fn check_free_space(folder: &Path, bytes: u64) -> anyhow::Result<()> {
    let Some(free) = free_bytes(folder) else {
        return Ok(());
    };
    ensure!(
        bytes <= free,
        "the disk is full: the checkpoint needs {} MB, but only {} MB are free",
        bytes.div_ceil(1_000_000),
        free / 1_000_000
    );
    Ok(())
}

/// Disk space in bytes available to an unprivileged user; `None` if the system does not report it.
fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stats = rustix::fs::statvfs(folder).ok()?;
        Some(stats.f_bavail.saturating_mul(stats.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> CheckpointFile<Snapshot> {
        CheckpointFile {
            strings: [("text".to_string(), text.to_string())].into(),
            tensors: Default::default(),
        }
    }

    #[test]
    fn the_two_newest_intact_checkpoints_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let mut dir = CheckpointDir::new(folder, None).unwrap();
        for text in ["a", "b", "c"] {
            dir.write(file(text)).unwrap();
        }
        assert_eq!(numbers(folder).unwrap(), [2, 3]);
        // Checkpoint 3 is damaged, so the run resumes from 2.
        fs::write(path(folder, 3), b"damaged").unwrap();
        let mut dir = CheckpointDir::new(folder, Some(2)).unwrap();
        dir.write(file("d")).unwrap();
        assert_eq!(numbers(folder).unwrap(), [2, 4]);
        assert_eq!(
            CheckpointFile::read(&path(folder, 4)).unwrap().strings["text"],
            "d"
        );
        dir.clear().unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }

    #[test]
    fn other_names_are_not_checkpoints() {
        assert_eq!(number("checkpoint-7.safetensors"), Some(7));
        for name in [
            "checkpoint-007.safetensors",
            "checkpoint-+7.safetensors",
            "checkpoint-7.safetensors.bak",
            "checkpoint-99999999999999999999.safetensors",
            "checkpoint-.safetensors",
            ".checkpoint-7.safetensors",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
    }

    #[test]
    fn a_checkpoint_larger_than_the_free_space_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let message = format!("{:#}", check_free_space(root.path(), u64::MAX).unwrap_err());
        assert!(message.contains("the disk is full"), "{message}");
        check_free_space(root.path(), 1).unwrap();
    }
}
