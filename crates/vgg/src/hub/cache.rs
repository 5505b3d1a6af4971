//! The cache of one repository, in the layout of `huggingface_hub`:
//!
//! ```text
//! models--OWNER--REPO/blobs/ETAG              the content of a file
//! models--OWNER--REPO/blobs/ETAG.incomplete   the received bytes of an unfinished download
//! models--OWNER--REPO/snapshots/COMMIT/FILE   a link to the content, or a copy
//! models--OWNER--REPO/refs/REVISION           the commit of a branch, tag or other reference
//! .locks/models--OWNER--REPO/ETAG.lock        locked during a download
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::client::Metadata;
use super::{Address, HubError};

/// The cached files of one repository.
pub(super) struct RepoCache {
    repo: CacheRepo,
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, address: &Address) -> Self {
        let repo = Repo::with_revision(
            address.repository.clone(),
            RepoType::Model,
            address.revision.clone(),
        );
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
        let by_commit = self.repo.pointer_path(&address.revision);
        let by_commit = by_commit.join(&address.file);
        if by_commit.exists() {
            return Some(by_commit);
        }
        self.repo.get(&address.file)
    }

    /// Returns the path of the content with an etag.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Creates the folders of the blobs and locks, and locks a blob. Waits while another process or
    /// thread downloads the same blob.
    ///
    /// Dropping the returned file releases the lock. If the file system does not support locks,
    /// nothing is locked, and concurrent downloads of the same blob can corrupt it.
    pub(super) fn lock(&self, etag: &str) -> Result<File, HubError> {
        for folder in [&self.folder.join("blobs"), &self.locks] {
            fs::create_dir_all(folder).map_err(HubError::cache(folder))?;
        }
        let path = self.locks.join(format!("{etag}.lock"));
        let file = File::create(&path).map_err(HubError::cache(&path))?;
        match file.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                Err(HubError::cache(&path)(error))
            }
            _ => Ok(file),
        }
    }

    /// Adds a link to the file's blob in the snapshot of its commit. Unless the revision is that
    /// commit, records the commit that the revision refers to. Returns the path of the link.
    pub(super) fn link(&self, address: &Address, metadata: &Metadata) -> Result<PathBuf, HubError> {
        let path = self.repo.pointer_path(&metadata.commit).join(&address.file);
        self.create_link(&path, address, &metadata.etag)
            .map_err(HubError::cache(&path))?;
        if address.revision != metadata.commit {
            self.repo
                .create_ref(&metadata.commit)
                .map_err(HubError::cache(&self.folder.join("refs")))?;
        }
        Ok(path)
    }

    /// Creates `path` as a symbolic link to a blob. If that fails, creates a hard link, and if that
    /// fails too, a copy. The link gets a temporary name and is then renamed to `path`, which
    /// replaces an old link atomically.
    fn create_link(&self, path: &Path, address: &Address, etag: &str) -> io::Result<()> {
        let folder = path.parent().unwrap_or(path);
        fs::create_dir_all(folder)?;
        let blob = self.blob(etag);
        let depth = 1 + address.file.split('/').count();
        let relative = format!("{}blobs/{etag}", "../".repeat(depth));
        tempfile::Builder::new()
            .make_in(folder, |path| {
                symlink(Path::new(&relative), path)
                    .or_else(|_| fs::hard_link(&blob, path))
                    .or_else(|_| fs::copy(&blob, path).map(drop))
            })?
            .into_temp_path()
            .persist(path)
            .map_err(|error| error.error)
    }
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
