//! The checkpoints of a run directory: numbered, the newest and the one before it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use trainer::Snapshot;

use super::format::CheckpointFile;
use crate::shell::quote;

const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".safetensors";

/// Where the next checkpoint goes.
#[derive(Debug)]
pub(super) struct CheckpointDir {
    folder: PathBuf,
    /// The newest that is known to be whole.
    newest: Option<u64>,
    /// One more than any that is there, whole or not.
    next: u64,
}

impl CheckpointDir {
    /// The checkpoints of `folder`, of which `whole` was written or read.
    pub(super) fn new(folder: &Path, whole: Option<u64>) -> anyhow::Result<Self> {
        let last = numbers(folder)?.last().copied().unwrap_or(0);
        let next = last.checked_add(1);
        Ok(Self {
            folder: folder.to_path_buf(),
            newest: whole,
            next: next.context("no number is left for another checkpoint")?,
        })
    }

    /// Writes the next checkpoint: beside its place, synced, renamed, the folder synced. The newest one before
    /// it stays; older and damaged ones go first, so that there are never more than two.
    ///
    /// # Errors
    ///
    /// No room, or a folder that cannot be written to; the newest checkpoint is as it was, and nothing is left beside it.
    pub(super) fn write(&mut self, contents: CheckpointFile<Snapshot>) -> anyhow::Result<PathBuf> {
        let path = path(&self.folder, self.next);
        let doing = || {
            let earlier = match self.newest {
                Some(_) => format!(
                    "; the one before it is whole, and `waggle train --resume {}` goes on from there",
                    quote(&self.folder.display().to_string())
                ),
                None => String::new(),
            };
            format!("cannot write the checkpoint {}{earlier}", path.display())
        };
        self.prune(self.newest).with_context(doing)?;
        check_room(&self.folder, contents.bytes()).with_context(doing)?;
        let beside = self.folder.join(format!(".{PREFIX}{}{SUFFIX}", self.next));
        let written = contents.write(&beside).and_then(|()| {
            fs::rename(&beside, &path)?;
            sync(&self.folder)
        });
        if written.is_err() {
            // Half a checkpoint helps nobody, least of all on a full disk; the first error is the one to report.
            let _ = fs::remove_file(&beside);
        }
        written.with_context(doing)?;
        self.newest = Some(self.next);
        self.next += 1;
        Ok(path)
    }

    /// Removes every checkpoint, the oldest first: what a kill leaves behind is the newest.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        self.prune(None)
    }

    /// Removes all but `keep`.
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
/// Only regular files count whose name is exactly that of [`path`]: `checkpoint-007.safetensors` is not ours.
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

/// The number in the name of a checkpoint.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// The place of a checkpoint.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{number}{SUFFIX}"))
}

fn sync(folder: &Path) -> anyhow::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Whether the disk has room: known before anything is written, not after a gigabyte of it.
fn check_room(folder: &Path, bytes: u64) -> anyhow::Result<()> {
    let Some(free) = free_bytes(folder) else {
        return Ok(());
    };
    ensure!(
        bytes <= free,
        "the disk is full: it needs {} MB and {} MB are free; make room",
        bytes.div_ceil(1_000_000),
        free / 1_000_000
    );
    Ok(())
}

/// Bytes that this user may still write; `None` where that cannot be known.
fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(folder).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
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

    fn contents(text: &str) -> CheckpointFile<Snapshot> {
        CheckpointFile {
            strings: [("text".to_string(), text.to_string())].into(),
            tensors: Default::default(),
        }
    }

    #[test]
    fn two_stay_and_a_damaged_one_is_not_one_of_them() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let mut store = CheckpointDir::new(folder, None).unwrap();
        for text in ["a", "b", "c"] {
            store.write(contents(text)).unwrap();
        }
        assert_eq!(numbers(folder).unwrap(), [2, 3]);
        // Resumed from 2, because 3 is damaged.
        fs::write(path(folder, 3), b"damaged").unwrap();
        let mut store = CheckpointDir::new(folder, Some(2)).unwrap();
        store.write(contents("d")).unwrap();
        assert_eq!(numbers(folder).unwrap(), [2, 4]);
        assert_eq!(
            CheckpointFile::read(&path(folder, 4)).unwrap().strings["text"],
            "d"
        );
        store.clear().unwrap();
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
    fn a_checkpoint_larger_than_the_disk_is_refused_before_it_is_written() {
        let root = tempfile::tempdir().unwrap();
        let message = format!("{:#}", check_room(root.path(), u64::MAX).unwrap_err());
        assert!(message.contains("the disk is full"), "{message}");
        check_room(root.path(), 1).unwrap();
    }
}
