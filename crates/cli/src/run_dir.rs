//! The directory that one run writes to: created without ever touching an earlier one, every file whole
//! or not there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Runs beside each other under one name; past this something is wrong.
const MOST_RUNS: usize = 100_000;

/// Random characters in the name of a temporary file.
const RANDOM_CHARACTERS: usize = 6;

/// The file that is locked on Windows. It stays there: removing it could part two processes that lock it.
const LOCK: &str = ".lock";

/// A run directory that belongs to this process.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Held as long as the process writes here.
    _lock: Option<File>,
}

impl RunDir {
    /// Creates `wanted`, or `wanted-2`, `wanted-3`, … where that exists.
    ///
    /// Creating a directory either succeeds or says that it exists, in one step of the file system: two
    /// runs that start at the same moment get two directories.
    ///
    /// # Errors
    ///
    /// When the parent cannot be created or written to.
    pub fn create(wanted: &Path) -> anyhow::Result<Self> {
        let hint = || {
            format!(
                "cannot create the run directory {}; choose a place that can be written with --out",
                wanted.display()
            )
        };
        let name = wanted.file_name().with_context(hint)?.to_os_string();
        let parent = match wanted.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).with_context(hint)?;
        for number in 1..MOST_RUNS {
            let path = if number == 1 {
                wanted.to_path_buf()
            } else {
                let mut numbered = name.clone();
                numbered.push(format!("-{number}"));
                wanted.with_file_name(numbered)
            };
            match fs::create_dir(&path) {
                Ok(()) => {
                    sync_directory(parent).with_context(hint)?;
                    let _lock = lock(&path)?;
                    return Ok(Self { path, _lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(hint),
            }
        }
        anyhow::bail!(
            "{} and {MOST_RUNS} numbered ones exist already; clear some, or use --out",
            wanted.display()
        )
    }

    /// Locks the directory of an earlier run.
    ///
    /// Callers check that it is one first: on Windows the lock is a file in it. Nothing else is written or deleted;
    /// see [`remove_leftovers`](Self::remove_leftovers).
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such directory, or if another process trains in it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if !path.is_dir() {
            bail!(
                "there is no run directory {}; `waggle train` without --resume starts a run",
                path.display()
            );
        }
        Ok(Self {
            path: path.to_path_buf(),
            _lock: lock(path)?,
        })
    }

    /// Removes the temporary files of a process that was killed while it wrote here.
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file whole, replacing an earlier version of it; see [`write_atomically`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        write_atomically(&self.file(name), bytes)
    }
}

/// Writes beside the place, syncs, and renames: whoever looks, also after a crash, finds the old bytes or
/// the new ones, never a part.
///
/// # Errors
///
/// When the directory cannot be written to; nothing is left behind then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".waggle-").rand_bytes(RANDOM_CHARACTERS);
        // Temporary files are private by default; what we write is for everybody that the umask allows.
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

/// Whether a file of this name is a temporary file of [`write_atomically`], of a model or of a checkpoint.
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

/// Keeps a second process out, as long as the file is open and the process lives.
///
/// Not every file system can lock; then there is no lock.
fn lock(path: &Path) -> anyhow::Result<Option<File>> {
    let Ok(lockable) = lockable(path, cfg!(windows)) else {
        return Ok(None);
    };
    match lockable.try_lock() {
        Ok(()) => Ok(Some(lockable)),
        Err(TryLockError::WouldBlock) => bail!(
            "another process is training in {}; wait for it, or end it first",
            path.display()
        ),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// What is locked: the directory itself, or, on Windows, which opens none as a file, an empty file in it.
fn lockable(path: &Path, windows: bool) -> io::Result<File> {
    if windows {
        // Windows does not lock what is open for appending alone.
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        return options.open(path.join(LOCK));
    }
    File::open(path)
}

/// A rename is on disk only when its directory is.
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
    fn an_existing_run_is_never_touched() {
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
    fn runs_that_start_together_get_a_directory_each() {
        let root = tempfile::tempdir().unwrap();
        let wanted = root.path().join("train");
        let mut paths: Vec<PathBuf> = std::thread::scope(|scope| {
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
    fn only_one_process_at_a_time_opens_a_run() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("train");
        let first = RunDir::create(&path).unwrap();
        let message = RunDir::open(&path).unwrap_err().to_string();
        assert!(message.contains("another process"), "{message}");
        drop(first);
        assert!(RunDir::open(&path).is_ok());
        assert!(RunDir::open(&root.path().join("nowhere")).is_err());
    }

    #[test]
    fn only_temporary_files_of_ours_are_removed() {
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
    fn the_file_that_windows_locks_is_as_good_as_the_directory() {
        let root = tempfile::tempdir().unwrap();
        let first = lockable(root.path(), true).unwrap();
        first.try_lock().unwrap();
        let second = lockable(root.path(), true).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        second.try_lock().unwrap();
    }

    #[test]
    fn a_place_below_a_file_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), b"").unwrap();
        let message = format!(
            "{:#}",
            RunDir::create(&root.path().join("file/train")).unwrap_err()
        );
        assert!(
            message.contains("file/train") && message.contains("--out"),
            "{message}"
        );
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        write_atomically(&path, b"a longer first version").unwrap();
        write_atomically(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
