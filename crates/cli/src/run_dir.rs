//! The directory of a run. A new run never reuses an existing directory, and files are written
//! atomically.

mod marker;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::error::Diagnostic;
use crate::files::{
    check_free_space, create_numbered_folder, existing_folder, open_regular, parent,
    write_atomically,
};
use crate::shell::quote;
pub use marker::{CHECKPOINT_FORMAT, Marker, temporary_prefix};

/// Names of the files in the directory of a finished run, apart from its [`Marker`].
pub const FILES: [&str; 8] = [
    "model.safetensors",
    "config.toml",
    "metrics.csv",
    "curves.png",
    "confusion_matrix.png",
    "predictions.csv",
    "train_batch.png",
    "report.html",
];

/// How long to wait for the lock of a run directory. The system may release the lock of a killed
/// process after a short delay.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Name of the file locked on Windows. It is never removed, because one process could then hold the
/// lock on the removed file while another locks a new one.
pub const LOCK: &str = ".lock";

/// A run directory, locked by this process.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    marker: Marker,
    /// Lock held until the `RunDir` is dropped. `None` if the file system does not support locks or
    /// the file to lock cannot be opened.
    _lock: Option<File>,
}

/// The difference between a file of a run and the state in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// There is no such file.
    Missing,
    /// The file has other contents, or is not a readable regular file.
    Changed,
}

impl RunDir {
    /// Creates the directory with [`create_numbered_folder`] and marks it as a run.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory or its marker cannot be created.
    pub fn create(wanted: &Path) -> anyhow::Result<Self> {
        Self::try_create(wanted).map_err(|error| cannot_create(wanted, error))
    }

    /// Checks that [`create`](Self::create) would succeed, and that `bytes` are free, without
    /// creating anything.
    ///
    /// # Errors
    ///
    /// Returns the error that [`create`](Self::create) would return, and an error if less disk space
    /// is free.
    pub fn check(wanted: &Path, bytes: u64) -> anyhow::Result<()> {
        Self::try_check(wanted, bytes).map_err(|error| cannot_create(wanted, error))
    }

    fn try_check(wanted: &Path, bytes: u64) -> anyhow::Result<()> {
        wanted.file_name().context("the path has no file name")?;
        let existing = existing_folder(parent(wanted))?;
        #[cfg(unix)]
        rustix::fs::access(
            existing,
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        )
        .map_err(io::Error::from)?;
        check_free_space(existing, "the model", bytes)
    }

    fn try_create(wanted: &Path) -> anyhow::Result<Self> {
        let path = create_numbered_folder(wanted)?;
        let run = Self {
            _lock: lock(&path)?,
            marker: Marker::generate(),
            path,
        };
        run.write_marker().inspect_err(|_| {
            // Succeeds only if the directory is empty.
            let _ = fs::remove_dir(&run.path);
        })?;
        Ok(run)
    }

    /// Opens and locks the directory of an earlier run. Changes nothing in it, except that on Windows
    /// the lock is a file in the directory. `lost` replaces a missing or invalid marker;
    /// [`restore_marker`](Self::restore_marker) writes it.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such directory, if it has no valid marker and `lost` is `None`, if
    /// the run was written by a version with another checkpoint format, or if another process has locked it and
    /// does not release it within three seconds.
    pub fn open(path: &Path, lost: Option<&Marker>) -> anyhow::Result<Self> {
        if !path.is_dir() {
            bail!(
                Diagnostic::new(format!("no run directory {}", path.display()))
                    .help("start a new run with `waggle train`, without `--resume`")
            );
        }
        let read = || {
            Marker::read(path).or_else(|error| {
                lost.cloned().ok_or_else(|| {
                    Diagnostic::new(format!("{} is not a run directory", path.display()))
                        .help("pass a directory that `waggle train` created, such as `runs/train`")
                        .caused_by(error)
                })
            })
        };
        read()?;
        let lock = lock(path)?;
        // Read the marker again: the process that held the lock may have finished the run.
        let marker = read()?;
        if marker.checkpoint_format != CHECKPOINT_FORMAT {
            let version = &marker.waggle;
            bail!(
                Diagnostic::new(format!(
                    "the run {} was started by waggle {version} with checkpoint format {}; this \
                     version of waggle reads format {CHECKPOINT_FORMAT}",
                    path.display(),
                    marker.checkpoint_format
                ))
                .help(format!("resume the run with waggle {version}"))
            );
        }
        Ok(Self {
            path: path.to_path_buf(),
            marker,
            _lock: lock,
        })
    }

    /// Removes temporary files of this run that a killed process has left behind.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read or a file cannot be removed.
    pub fn remove_leftovers(&self) -> anyhow::Result<()> {
        let read = || format!("cannot read {}", self.path.display());
        for entry in fs::read_dir(&self.path).with_context(read)? {
            let entry = entry.with_context(read)?;
            let is_file = entry.file_type().with_context(read)?.is_file();
            let name = entry.file_name();
            if is_file
                && name
                    .to_str()
                    .is_some_and(|name| self.marker.is_temporary(name))
            {
                let path = entry.path();
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Checks that files can be created in the directory.
    ///
    /// # Errors
    ///
    /// Returns an error if they cannot.
    pub fn check_writable(&self) -> anyhow::Result<()> {
        let prefix = temporary_prefix(self.id());
        let mut builder = tempfile::Builder::new();
        let created = builder.prefix(&prefix).tempfile_in(&self.path);
        created.map(drop).map_err(|error| {
            let message = format!("cannot write to the run directory {}", self.path.display());
            let help = "make it writable, or copy it and resume the copy";
            Diagnostic::new(message).help(help).caused_by(error).into()
        })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of the run.
    pub fn id(&self) -> &str {
        &self.marker.id
    }

    /// Whether the run is complete.
    pub fn is_finished(&self) -> bool {
        self.marker.finished
    }

    /// Marks the run as complete.
    ///
    /// # Errors
    ///
    /// Returns an error if the marker cannot be written.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.marker.finished = true;
        self.write_marker()
    }

    /// Writes the marker if it is missing or invalid in the directory. Returns which of them it was.
    ///
    /// # Errors
    ///
    /// Returns an error if the marker cannot be written.
    pub fn restore_marker(&self) -> anyhow::Result<Option<Difference>> {
        if Marker::read(&self.path).is_ok() {
            return Ok(None);
        }
        let difference = match self.file(Marker::FILE).symlink_metadata() {
            Ok(_) => Difference::Changed,
            Err(_) => Difference::Missing,
        };
        self.write_marker()?;
        Ok(Some(difference))
    }

    fn write_marker(&self) -> anyhow::Result<()> {
        self.write(Marker::FILE, self.marker.to_toml()?.as_bytes())
    }

    /// Adds the command that resumes the run to an error.
    pub fn resumable(&self, error: anyhow::Error) -> anyhow::Error {
        let run = quote(&self.path);
        let help = format!("remove the cause, then resume with `waggle train --resume {run}`");
        Diagnostic::new(error.to_string())
            .help(help)
            .caused_by(error)
            .into()
    }

    /// Path of a file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Compares the first `length` bytes of the file `name` with `expected`. Returns `None` if they
    /// are equal.
    pub fn difference(&self, name: &str, expected: &[u8], length: usize) -> Option<Difference> {
        let mut bytes = Vec::new();
        let read = open_regular(&self.file(name))
            .and_then(|file| file.take(length as u64).read_to_end(&mut bytes));
        match read {
            Ok(_) if bytes == expected => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Difference::Missing),
            _ => Some(Difference::Changed),
        }
    }

    /// Writes the file `name` in the directory atomically: readers see the old contents or the new ones.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be written to or the disk is full. The old file is then
    /// unchanged.
    pub fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.write_with(name, |out| Ok(out.write_all(bytes)?))
    }

    /// Like [`write`](Self::write), with a function that writes the contents.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`write`](Self::write), and those of the function.
    pub fn write_with(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        write_atomically(&self.file(name), &temporary_prefix(self.id()), write)
    }
}

fn cannot_create(wanted: &Path, error: anyhow::Error) -> anyhow::Error {
    let message = format!("cannot create the run directory {}", wanted.display());
    let error = Diagnostic::new(message).caused_by(error);
    error.help("pass another directory with `--out`").into()
}

/// Locks a directory against other processes, until the file is closed or the process ends. Waits up
/// to [`LOCK_WAIT`] for another process to release the lock. Returns `None` if the file system does
/// not support locks or the file to lock cannot be opened.
fn lock(path: &Path) -> anyhow::Result<Option<File>> {
    let Ok(lockable) = lockable(path, cfg!(windows)) else {
        return Ok(None);
    };
    let started = Instant::now();
    loop {
        match lockable.try_lock() {
            Ok(()) => return Ok(Some(lockable)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_WAIT => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(TryLockError::WouldBlock) => bail!(
                Diagnostic::new(format!("another process is training in {}", path.display()))
                    .help("wait until it ends, or stop it first")
            ),
        }
    }
}

/// Opens the file to lock: the directory itself, or an empty file in it on Windows, where a
/// directory cannot be opened as a file.
fn lockable(path: &Path, windows: bool) -> io::Result<File> {
    if windows {
        // Windows cannot lock a file that is open only for appending.
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        return options.open(path.join(LOCK));
    }
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_run_is_never_changed() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join("runs/train");
        let first = RunDir::create(&wanted).unwrap();
        first.write("metrics.csv", b"first").unwrap();
        let second = RunDir::create(&wanted).unwrap();
        assert_eq!(second.path(), root.path().join("runs/train-2"));
        second.write("metrics.csv", b"second").unwrap();
        assert_eq!(fs::read(first.file("metrics.csv")).unwrap(), b"first");
    }

    #[test]
    fn runs_that_start_together_get_different_directories() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join("train");
        let mut paths: Vec<PathBuf> = thread::scope(|scope| {
            let starts: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| RunDir::create(&wanted).unwrap().path().to_path_buf()))
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 16);
    }

    #[test]
    fn a_run_directory_is_locked_until_it_is_dropped() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("train");
        let first = RunDir::create(&path).unwrap();
        let message = RunDir::open(&path, None).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
        let release = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(first);
        });
        assert!(
            RunDir::open(&path, None).is_ok(),
            "the lock is released in time"
        );
        release.join().unwrap();
        assert!(RunDir::open(&root.path().join("nowhere"), None).is_err());
    }

    #[test]
    fn only_temporary_files_of_the_same_run_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("train")).unwrap();
        let other = temporary_prefix(&Marker::generate().id);
        let prefix = temporary_prefix(run.id());
        let others = [
            format!("{other}Xy12ab"),
            format!("{prefix}Xy12ab.bak"),
            format!("{prefix}notes.txt"),
            ".waggle-backup".to_string(),
            ".model.safetensors.backup".to_string(),
            ".checkpoint-3.safetensors".to_string(),
            "metrics.csv".to_string(),
        ];
        let leftover = format!("{prefix}Xy12ab");
        for name in [&leftover].into_iter().chain(&others) {
            fs::write(run.file(name), b"").unwrap();
        }
        fs::create_dir(run.file(&format!("{prefix}folder"))).unwrap();
        run.remove_leftovers().unwrap();
        assert!(!run.file(&leftover).exists());
        for name in &others {
            assert!(run.file(name).exists(), "{name}");
        }
        assert!(run.file(&format!("{prefix}folder")).exists());
    }

    #[test]
    fn the_lock_file_of_windows_excludes_a_second_lock() {
        let root = tempfile::tempdir().unwrap();
        let first = lockable(root.path(), true).unwrap();
        first.try_lock().unwrap();
        let second = lockable(root.path(), true).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        second.try_lock().unwrap();
    }

    #[test]
    fn a_run_directory_below_a_file_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), b"").unwrap();
        let wanted = root.path().join("file/train");
        let message = format!("{:#}", RunDir::create(&wanted).unwrap_err());
        assert!(message.contains("file/train"), "{message}");
        assert_eq!(
            format!("{:#}", RunDir::check(&wanted, 0).unwrap_err()),
            message
        );
    }

    #[test]
    fn a_check_creates_nothing_and_reports_a_full_disk() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join("a/b/train");
        RunDir::check(&wanted, 1).unwrap();
        let message = format!("{:#}", RunDir::check(&wanted, u64::MAX).unwrap_err());
        assert!(message.contains("the disk is full"), "{message}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(RunDir::check(Path::new("train"), 1).is_ok());
        assert!(RunDir::check(Path::new(".."), 1).is_err());
    }
}
