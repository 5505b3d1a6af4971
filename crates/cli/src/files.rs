//! Opens files of a run for reading, and writes files atomically.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::error::Diagnostic;
#[cfg(feature = "fault-injection")]
use crate::fault_injection::FaultyFile;

/// Beginning of the names of temporary files.
pub const TEMPORARY: &str = ".waggle-";

/// Number of random characters at the end of the name of a temporary file.
pub const RANDOM_CHARACTERS: usize = 6;

/// Exclusive upper bound of the number appended to the name of a folder.
const MAX_FOLDERS: usize = 100_000;

/// Opens a regular file for reading. Follows symbolic links.
///
/// # Errors
///
/// Returns an error if the file cannot be opened or is not a regular file. Does not wait for the
/// writer of a named pipe.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // The type is checked after opening, so that the file cannot be replaced in between.
    let file = fetch::open_without_waiting(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ))
    }
}

/// Reads a regular file of at most `limit` bytes as UTF-8.
///
/// # Errors
///
/// Returns the errors of [`open_regular`], or an error if the file is larger or not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    // Read one byte more than the limit, to detect a file that exceeds it.
    let length = open_regular(path)?
        .take(limit + 1)
        .read_to_string(&mut text)?;
    if length as u64 > limit {
        let message = format!("the file is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// Writes a temporary file in the same directory with `write`, syncs it and renames it to `path`.
/// Readers see either the old or the new contents, even after a crash. A link at `path` is replaced,
/// and its target stays unchanged. The name of the temporary file is `prefix` and
/// [`RANDOM_CHARACTERS`] letters and digits.
///
/// # Errors
///
/// Returns the error of `write`, or an error if the directory cannot be written to or the disk is
/// full. The temporary file is removed then.
pub fn write_atomically(
    path: &Path,
    prefix: &str,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let write_and_rename = || {
        let folder = parent(path);
        // Otherwise, the error would name the temporary file.
        let is_folder = folder.metadata()?.is_dir();
        ensure!(is_folder, "`{}` is not a folder", folder.display());
        if path
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_dir())
        {
            bail!(
                Diagnostic::new("a folder has this name")
                    .help(format!("rename or remove the folder `{}`", path.display()))
            );
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix).rand_bytes(RANDOM_CHARACTERS);
        // Temporary files are private by default. Let the umask determine the permissions of this
        // one.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder)?;
        let out = file.as_file();
        #[cfg(feature = "fault-injection")]
        let out = FaultyFile::new(out, path);
        let mut out = BufWriter::with_capacity(1 << 20, out);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_directory(folder)?;
        anyhow::Ok(())
    };
    write_and_rename().with_context(|| format!("cannot write {}", path.display()))
}

/// The folder that contains `path`: `.` for a name alone.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates the folder `wanted`, or `wanted-2`, `wanted-3`, … if it exists, and its parents.
///
/// `create_dir` is atomic and fails for an existing folder, so two processes that start at the same
/// moment get two folders.
///
/// # Errors
///
/// Returns an error if `wanted` has no name, or if the folder cannot be created.
pub fn create_numbered_folder(wanted: &Path) -> anyhow::Result<PathBuf> {
    let name = wanted.file_name().context("the path has no file name")?;
    let parent = parent(wanted);
    existing_folder(parent)?;
    fs::create_dir_all(parent)?;
    for number in 1..MAX_FOLDERS {
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
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("too many folders have this name")
}

/// The nearest existing ancestor of `path`, or `path` itself.
///
/// # Errors
///
/// Returns an error if it is not a folder.
pub fn existing_folder(path: &Path) -> anyhow::Result<&Path> {
    let existing = path.ancestors().find(|path| path.exists());
    let existing = existing.unwrap_or(Path::new("."));
    let is_folder = existing.is_dir();
    ensure!(is_folder, "`{}` is not a folder", existing.display());
    Ok(existing)
}

/// Checks that the disk of `folder` has space for `what`, which needs `bytes`.
///
/// # Errors
///
/// Returns an error if less space is free. Unknown free space is not an error.
pub fn check_free_space(folder: &Path, what: &str, bytes: u64) -> anyhow::Result<()> {
    let free = fetch::free_space(folder).unwrap_or(u64::MAX);
    ensure!(
        bytes <= free,
        "the disk is full: {what} needs {} MB, but only {} MB are free",
        bytes.div_ceil(1_000_000),
        free / 1_000_000
    );
    Ok(())
}

/// Syncs a directory, so that renames in it survive a power failure. No-op on Windows.
pub fn sync_directory(path: &Path) -> io::Result<()> {
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
    fn a_file_is_replaced_and_no_temporary_file_remains() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        let write = |bytes: &[u8]| {
            write_atomically(&path, TEMPORARY, |out| Ok(out.write_all(bytes)?)).unwrap();
        };
        write(b"a longer first version");
        write(b"short");
        assert_eq!(fs::read(&path).unwrap(), b"short");
        let fails = write_atomically(&path, TEMPORARY, |_| anyhow::bail!("no"));
        assert!(format!("{:#}", fails.unwrap_err()).ends_with("x: no"));
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_larger_than_the_free_space_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let check = |bytes| check_free_space(root.path(), "the file", bytes);
        check(1).unwrap();
        let message = check(u64::MAX).unwrap_err().to_string();
        let expected = "the disk is full: the file needs 18446744073710 MB, but only ";
        assert!(message.starts_with(expected), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_replaced_and_its_target_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let (target, link) = (root.path().join("target"), root.path().join("link"));
        fs::write(&target, b"mine").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_atomically(&link, TEMPORARY, |out| Ok(out.write_all(b"new")?)).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"mine");
        assert_eq!(fs::read(&link).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn pipes_sockets_devices_and_folders_are_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let [pipe, socket, file] = ["pipe", "socket", "file"].map(|name| root.path().join(name));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::write(&file, b"").unwrap();
        for path in [&pipe, &socket, root.path(), Path::new("/dev/zero")] {
            assert!(open_regular(path).is_err(), "{}", path.display());
        }
        open_regular(&file).unwrap();
    }
}
