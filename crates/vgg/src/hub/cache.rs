//! The cache of one repository, in the layout of `huggingface_hub`:
//!
//! ```text
//! models--OWNER--REPO/blobs/ETAG              the content of a file
//! models--OWNER--REPO/blobs/ETAG.incomplete   the received bytes of an unfinished download
//! models--OWNER--REPO/snapshots/COMMIT/FILE   a link to the content, or a copy
//! models--OWNER--REPO/refs/REVISION           the commit of a branch, tag or other reference
//! .locks/models--OWNER--REPO/ETAG.lock        locked during a download
//! ```

use std::env;
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo};

use super::address::is_plain_id;
use super::client::Metadata;
use super::{Address, Event, HubError, OnEvent};
use crate::open::open_without_waiting;

/// Maximum size in bytes of a reference and of a saved token.
const MAX_SMALL_FILE: u64 = 1024;

/// The folder of Hugging Face: `HF_HOME`, else `huggingface` in `XDG_CACHE_HOME` or in `.cache` in
/// the home folder. `None` if there is no home folder.
pub(super) fn home() -> Option<PathBuf> {
    let cache = || {
        // The XDG specification ignores relative paths.
        let cache = variable("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let home = || env::home_dir().filter(|path| !path.as_os_str().is_empty());
        cache.or_else(|| Some(home()?.join(".cache")))
    };
    variable("HF_HOME").or_else(|| Some(cache()?.join("huggingface")))
}

/// The path in an environment variable; `None` if it is empty.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// Reads a small text file, without the white space around the text. `None` if it is not a regular
/// file, too large, not UTF-8 or empty.
pub(super) fn read_small(path: &Path) -> Option<String> {
    let file = open_without_waiting(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > MAX_SMALL_FILE {
        return None;
    }
    let text = io::read_to_string(file.take(MAX_SMALL_FILE)).ok()?;
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}

/// The cached files of one repository.
pub(super) struct RepoCache {
    repo: CacheRepo,
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, address: &Address) -> Self {
        let repo = Repo::model(address.repository.clone());
        let name = repo.folder_name();
        Self {
            repo: Cache::new(cache.into()).repo(repo),
            folder: cache.join(&name),
            locks: cache.join(".locks").join(&name),
        }
    }

    /// Returns the path of a file if it is cached.
    pub(super) fn find(&self, address: &Address) -> Option<PathBuf> {
        // A full commit has no entry in `refs`, so look for a snapshot named by the revision first.
        let by_commit = self.snapshot(&address.revision, address);
        if by_commit.is_file() {
            return Some(by_commit);
        }
        let commit = read_small(&self.reference(&address.revision))?;
        let path = self.snapshot(&commit, address);
        (is_plain_id(&commit) && path.is_file()).then_some(path)
    }

    fn snapshot(&self, commit: &str, address: &Address) -> PathBuf {
        self.repo.pointer_path(commit).join(&address.file)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    /// Returns the path of the content with an etag.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Creates the folders of the blobs and locks, and locks a blob with [`fetch::lock()`]. Waits
    /// while another process or thread downloads the same blob.
    pub(super) fn lock(&self, etag: &str, on_event: &mut OnEvent<'_>) -> Result<File, HubError> {
        for folder in [&self.folder.join("blobs"), &self.locks] {
            fs::create_dir_all(folder).map_err(HubError::cache(folder))?;
        }
        let path = self.locks.join(format!("{etag}.lock"));
        Ok(fetch::lock(&path, || {
            on_event(Event::Waiting { lock: &path });
        })?)
    }

    /// Adds a link to the file's blob in the snapshot of its commit. Unless the revision is that
    /// commit, records the commit that the revision refers to. Returns the path of the link.
    pub(super) fn link(&self, address: &Address, metadata: &Metadata) -> Result<PathBuf, HubError> {
        let Metadata { commit, etag, .. } = metadata;
        let path = self.snapshot(commit, address);
        let blob = self.blob(etag);
        let depth = 1 + address.file.split('/').count();
        let relative = format!("{}blobs/{etag}", "../".repeat(depth));
        // A hard link or a copy, if the file system has no symbolic links.
        create(&path, |path| {
            symlink(Path::new(&relative), path)
                .or_else(|_| fs::hard_link(&blob, path))
                .or_else(|_| fs::copy(&blob, path).map(drop))
        })?;
        if address.revision != *commit {
            create(&self.reference(&address.revision), |path| {
                File::create_new(path)?.write_all(commit.as_bytes())
            })?;
        }
        Ok(path)
    }
}

/// Creates a file or link with `create` under a temporary name and renames it to `path`, which
/// replaces an old file or link atomically. The target of an old link does not change.
fn create(path: &Path, create: impl FnMut(&Path) -> io::Result<()>) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(path);
    let try_create = || {
        fs::create_dir_all(folder)?;
        let file = tempfile::Builder::new().make_in(folder, create)?;
        let renamed = file.into_temp_path().persist(path);
        renamed.map_err(|error| error.error)
    };
    try_create().map_err(HubError::cache(path))
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Always fails, because symbolic links on Windows need administrator rights or developer mode.
#[cfg(not(unix))]
fn symlink(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
