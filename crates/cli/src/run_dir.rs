//! The directory of a run. A new run never reuses an existing directory, and files are written
//! atomically.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::error::Diagnostic;

/// Exclusive upper bound of the number appended to the name of a run directory.
const MAX_RUNS: usize = 100_000;

/// Number of random characters in the name of a temporary file.
const RANDOM_CHARACTERS: usize = 6;

/// How long to wait for the lock of a run directory. The system may release the lock of a killed
/// process after a short delay.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Name of the file locked on Windows. It is never removed, because one process could then hold the
/// lock on the removed file while another locks a new one.
const LOCK: &str = ".lock";

/// A run directory, locked by this process.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Lock held until the `RunDir` is dropped. `None` if the file system does not support locks or
    /// the file to lock cannot be opened.
    _lock: Option<File>,
}

impl RunDir {
    /// Creates the directory `wanted`, or `wanted-2`, `wanted-3`, … if it exists.
    ///
    /// `create_dir` is atomic and fails for an existing directory, so two runs that start at the
    /// same moment get two directories.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be created.
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
        let (parent, _) = parent_and_name(wanted)?;
        let existing = parent.ancestors().find(|path| path.exists());
        let existing = existing.unwrap_or(Path::new("."));
        if !existing.is_dir() {
            // Fails without creating anything.
            return Ok(fs::create_dir_all(parent)?);
        }
        #[cfg(unix)]
        rustix::fs::access(
            existing,
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        )
        .map_err(io::Error::from)?;
        if let Some(free) = fetch::free_space(existing)
            && free < bytes
        {
            bail!(
                "the disk is full: the model needs {} MB, but only {} MB are free",
                bytes.div_ceil(1_000_000),
                free / 1_000_000
            );
        }
        Ok(())
    }

    fn try_create(wanted: &Path) -> anyhow::Result<Self> {
        let (parent, name) = parent_and_name(wanted)?;
        fs::create_dir_all(parent)?;
        for number in 1..MAX_RUNS {
            let path = if number == 1 {
                wanted.to_path_buf()
            } else {
                let mut numbered = name.to_os_string();
                numbered.push(format!("-{number}"));
                wanted.with_file_name(numbered)
            };
            match fs::create_dir(&path) {
                Ok(()) => {
                    sync_directory(parent)?;
                    let _lock = lock(&path)?;
                    return Ok(Self { path, _lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.into()),
            }
        }
        bail!("too many run directories have this name")
    }

    /// Opens and locks the directory of an earlier run.
    ///
    /// On Windows the lock is a file in the directory, so callers must check first that it is a run
    /// directory. Nothing else in it is changed.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such directory, or if another process has locked it and does
    /// not release it within three seconds.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() {
            bail!(
                Diagnostic::new(format!("no run directory {}", path.display()))
                    .help("start a new run with `waggle train`, without `--resume`")
            );
        }
        Ok(Self {
            path: path.to_path_buf(),
            _lock: lock(path)?,
        })
    }

    /// Removes temporary files left behind by a killed process.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read or a file cannot be removed.
    pub fn remove_leftovers(&self) -> anyhow::Result<()> {
        let read = || format!("cannot read {}", self.path.display());
        for entry in fs::read_dir(&self.path).with_context(read)? {
            let entry = entry.with_context(read)?;
            let is_file = entry.file_type().with_context(read)?.is_file();
            if is_file && entry.file_name().to_str().is_some_and(is_leftover) {
                let path = entry.path();
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file in the directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the file `name` in the directory with [`write_atomically`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`write_atomically`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        write_atomically(&self.file(name), bytes)
    }
}

fn parent_and_name(path: &Path) -> anyhow::Result<(&Path, &OsStr)> {
    let name = path.file_name().context("the path has no file name")?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((parent, name))
}

fn cannot_create(wanted: &Path, error: anyhow::Error) -> anyhow::Error {
    let message = format!("cannot create the run directory {}", wanted.display());
    let error = Diagnostic::new(message).caused_by(error);
    error.help("pass another directory with `--out`").into()
}

/// Writes a temporary file in the same directory, syncs it and renames it to `path`. Readers see
/// either the old or the new contents, even after a crash.
///
/// # Errors
///
/// Returns an error if the directory cannot be written to or the disk is full. The temporary file
/// is removed then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".waggle-").rand_bytes(RANDOM_CHARACTERS);
        // Temporary files are private by default. Let the umask determine the permissions of this
        // one.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_directory(parent)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Whether `name` is that of a temporary file left from writing a model, a checkpoint, or a file
/// with [`write_atomically`].
fn is_leftover(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let random = name.strip_prefix(".waggle-");
    let process = name.strip_prefix(".model.safetensors.");
    let checkpoint = name
        .strip_prefix(".checkpoint-")
        .and_then(|rest| rest.strip_suffix(".safetensors"));
    random.is_some_and(|text| {
        text.len() == RANDOM_CHARACTERS && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }) || process.is_some_and(is_number)
        || checkpoint.is_some_and(is_number)
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

/// Syncs a directory, so that renames in it survive a power failure. No-op on Windows.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
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
        let message = RunDir::open(&path).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
        let release = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(first);
        });
        assert!(RunDir::open(&path).is_ok(), "the lock is released in time");
        release.join().unwrap();
        assert!(RunDir::open(&root.path().join("nowhere")).is_err());
    }

    #[test]
    fn only_temporary_files_of_runs_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(&root.path().join("train")).unwrap();
        let leftovers = [
            ".waggle-Xy12ab",
            ".model.safetensors.4711",
            ".checkpoint-3.safetensors",
        ];
        let others = [
            ".checkpoint-.safetensors",
            ".checkpoint-a.safetensors",
            ".checkpoint-notes",
            ".model.safetensors.bak",
            ".waggle-notes.txt",
            "metrics.csv",
        ];
        for name in leftovers.iter().chain(&others) {
            fs::write(run.file(name), b"").unwrap();
        }
        fs::create_dir(run.file(".waggle-folder")).unwrap();
        run.remove_leftovers().unwrap();
        let entries = fs::read_dir(run.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != LOCK).collect();
        names.sort();
        let mut expected = others.map(String::from).to_vec();
        expected.push(".waggle-folder".to_string());
        expected.sort();
        assert_eq!(names, expected);
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

    #[test]
    fn a_file_is_replaced_and_no_temporary_file_remains() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        write_atomically(&path, b"a longer first version").unwrap();
        write_atomically(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
