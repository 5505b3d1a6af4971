//! The numbered checkpoint files in a run directory. There are never more than two intact ones.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use trainer::Snapshot;

use super::format::{self, CheckpointFile};
use super::is_of_run;
use crate::error::Diagnostic;
use crate::files::{check_free_space, open_regular, write_atomically};
use crate::run_dir::temporary_prefix;
use crate::shell::quote;

const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".safetensors";

/// Maximum number of a checkpoint from which a run resumes. A run writes far fewer, and the numbers of
/// its later checkpoints do not overflow.
const MAX_NUMBER: u64 = 1_000_000_000_000_000;

/// Writes numbered checkpoints to a run directory and removes old ones.
#[derive(Debug)]
pub(super) struct CheckpointDir {
    folder: PathBuf,
    /// The id of the run.
    run: String,
    /// Number of the newest intact checkpoint.
    newest: Option<u64>,
}

impl CheckpointDir {
    /// Opens the directory `folder` of the run with the id `run`. `newest` is the number of the
    /// checkpoint from which the run was resumed, if any.
    pub(super) fn new(folder: &Path, run: &str, newest: Option<u64>) -> Self {
        Self {
            folder: folder.to_path_buf(),
            run: run.to_string(),
            newest,
        }
    }

    /// Writes the next checkpoint to a temporary file, syncs and renames it, and syncs the folder.
    ///
    /// The newest checkpoint stays. The older ones of this run are removed before the next one is
    /// written, so that there are never more than two.
    ///
    /// # Errors
    ///
    /// Returns an error if the disk is too full or the folder cannot be written to. The newest
    /// checkpoint is then unchanged, and the temporary file is removed.
    pub(super) fn write(&mut self, file: CheckpointFile<Snapshot>) -> anyhow::Result<PathBuf> {
        let number = self.next_number()?;
        let path = path(&self.folder, number);
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
        self.newest = Some(number);
        Ok(path)
    }

    /// The first number above that of the newest checkpoint for which no file of any type exists.
    fn next_number(&self) -> anyhow::Result<u64> {
        const LAST: &str = "the newest checkpoint has the highest possible number";
        let first = self.newest.unwrap_or(0).checked_add(1).context(LAST)?;
        let is_free = |number: &u64| path(&self.folder, *number).symlink_metadata().is_err();
        (first..=u64::MAX).find(is_free).context(LAST)
    }

    fn try_write(&self, path: &Path, file: CheckpointFile<Snapshot>) -> anyhow::Result<()> {
        remove(&self.folder, &self.run, self.newest)?;
        check_free_space(&self.folder, "the checkpoint", file.bytes())?;
        write_atomically(path, &temporary_prefix(&self.run), |out| file.write(out))
    }
}

/// Removes the checkpoints of the run with the id `run`, except number `keep`, oldest first. Other
/// files that have the name of a checkpoint stay, also damaged checkpoints whose header cannot be
/// read.
pub(super) fn remove(folder: &Path, run: &str, keep: Option<u64>) -> anyhow::Result<()> {
    let keep = keep.map(|number| path(folder, number));
    let paths = paths(folder, run)?.into_iter();
    for path in paths.filter(|path| Some(path) != keep.as_ref()) {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// The paths of the checkpoints in `folder` that belong to the run with the id `run`, in ascending
/// order.
pub(super) fn paths(folder: &Path, run: &str) -> anyhow::Result<Vec<PathBuf>> {
    let is_own = |path: &PathBuf| {
        let strings = open_regular(path).map(|file| format::read_strings(&file));
        strings.is_ok_and(|strings| strings.is_ok_and(|strings| is_of_run(&strings, run)))
    };
    let paths = numbers(folder)?.into_iter();
    let paths = paths.map(|number| path(folder, number));
    Ok(paths.filter(is_own).collect())
}

/// Returns an error if `number`, that of the checkpoint to resume from, exceeds [`MAX_NUMBER`].
/// `numbers` are those of all files in `folder`.
pub(super) fn check_number(folder: &Path, number: u64, numbers: &[u64]) -> anyhow::Result<()> {
    if number <= MAX_NUMBER {
        return Ok(());
    }
    let others = numbers.iter().filter(|&&number| number < MAX_NUMBER);
    let (name, free) = (path(folder, number), others.max().unwrap_or(&0) + 1);
    let message = format!(
        "{} has a number above {MAX_NUMBER}, which leaves too few for later checkpoints",
        name.display()
    );
    bail!(Diagnostic::new(message).help(format!("rename it to `{PREFIX}{free}{SUFFIX}`")));
}

/// The numbers of the files in `folder` that have the name of a checkpoint, in ascending order.
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

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0123456789abcdef0123456789abcdef";

    fn file(text: &str, run: &str) -> CheckpointFile<Snapshot> {
        let strings = super::super::head(run).into_iter();
        CheckpointFile {
            strings: strings
                .chain([("text".to_string(), text.to_string())])
                .collect(),
            tensors: Default::default(),
        }
    }

    #[test]
    fn the_two_newest_intact_checkpoints_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let mut dir = CheckpointDir::new(folder, RUN, None);
        for text in ["a", "b", "c"] {
            dir.write(file(text, RUN)).unwrap();
        }
        assert_eq!(numbers(folder).unwrap(), [2, 3]);
        // Checkpoint 3 is damaged, so the run resumes from 2.
        let whole = fs::read(path(folder, 3)).unwrap();
        fs::write(path(folder, 3), &whole[..whole.len() - 1]).unwrap();
        let mut dir = CheckpointDir::new(folder, RUN, Some(2));
        dir.write(file("d", RUN)).unwrap();
        assert_eq!(numbers(folder).unwrap(), [2, 4]);
        let read = CheckpointFile::read(&open_regular(&path(folder, 4)).unwrap());
        assert_eq!(read.unwrap().strings["text"], "d");
        remove(folder, RUN, None).unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    }

    #[test]
    fn files_that_are_not_checkpoints_of_the_run_are_neither_removed_nor_replaced() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path();
        let mut other = Vec::new();
        file("other", &RUN.replace('0', "1"))
            .write(&mut other)
            .unwrap();
        fs::write(path(folder, 1), &other).unwrap();
        fs::write(path(folder, 2), b"damaged").unwrap();
        fs::create_dir(path(folder, 4)).unwrap();
        fs::write(path(folder, u64::MAX), b"").unwrap();
        let mut dir = CheckpointDir::new(folder, RUN, None);
        for text in ["a", "b", "c"] {
            dir.write(file(text, RUN)).unwrap();
        }
        assert_eq!(numbers(folder).unwrap(), [1, 2, 5, 6, u64::MAX]);
        remove(folder, RUN, None).unwrap();
        assert_eq!(numbers(folder).unwrap(), [1, 2, u64::MAX]);
        assert_eq!(fs::read(path(folder, 1)).unwrap(), other);
        assert!(path(folder, 4).is_dir());
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
}
