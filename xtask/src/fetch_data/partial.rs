//! A partial download on disk.
//!
//! `archive.part` contains the bytes received so far. `archive.json` contains the URL, the total
//! size, and the validator of the version on the server, so that parts of two versions are never
//! combined.

use super::error::{Error, io};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// URL and version of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The URL before redirects.
    pub(super) url: String,
    /// A strong ETag or a Last-Modified date, sent as If-Range.
    pub(super) validator: Option<String>,
    /// Size of the whole file in bytes.
    pub(super) total: Option<u64>,
}

/// A partial download and its metadata.
pub(super) struct Partial {
    bytes: PathBuf,
    metadata: PathBuf,
    /// Number of bytes in `archive.part`.
    pub(super) received: u64,
    /// URL and version of the file that the bytes belong to.
    pub(super) origin: Origin,
    /// Whether the bytes come from several responses, which may be of different versions.
    pub(super) resumed: bool,
}

impl Partial {
    /// Opens the partial download of `url` left in `folder` by an earlier run, or starts an empty
    /// one.
    pub(super) fn open(folder: &Path, url: &str) -> Result<Self, Error> {
        let mut partial = Self {
            bytes: folder.join("archive.part"),
            metadata: folder.join("archive.json"),
            received: 0,
            origin: Origin::default(),
            resumed: false,
        };
        let size = fs::metadata(&partial.bytes).map(|file| file.len());
        match (size, read_metadata(&partial.metadata)) {
            (Ok(size), Some(origin))
                if origin.url == url && origin.total.is_none_or(|total| size <= total) =>
            {
                partial.received = size;
                partial.origin = origin;
                partial.resumed = size > 0;
            }
            _ => partial.restart(Origin {
                url: url.to_owned(),
                ..Origin::default()
            })?,
        }
        Ok(partial)
    }

    /// Path of `archive.part`.
    pub(super) fn path(&self) -> &Path {
        &self.bytes
    }

    /// Whether the whole file was received.
    pub(super) fn is_complete(&self) -> bool {
        self.origin.total == Some(self.received)
    }

    /// Discards the bytes received so far and records the `origin` of those that follow.
    pub(super) fn restart(&mut self, origin: Origin) -> Result<(), Error> {
        // The bytes are truncated first: an empty file is consistent with any metadata.
        File::create(&self.bytes).map_err(io("create", &self.bytes))?;
        self.received = 0;
        self.resumed = false;
        let metadata = json!({
            "url": origin.url,
            "validator": origin.validator,
            "total": origin.total,
        });
        fs::write(&self.metadata, metadata.to_string()).map_err(io("write", &self.metadata))?;
        self.origin = origin;
        Ok(())
    }

    /// Discards the bytes and the metadata, so that the next request is for the whole file.
    pub(super) fn discard(&mut self) -> Result<(), Error> {
        self.restart(Origin {
            url: self.origin.url.clone(),
            ..Origin::default()
        })
    }

    /// Removes both files. Errors are ignored, because the next run discards files it cannot use.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.metadata);
        let _ = fs::remove_file(&self.bytes);
    }

    /// Opens `archive.part` for appending.
    pub(super) fn append(&self) -> Result<File, Error> {
        OpenOptions::new()
            .append(true)
            .open(&self.bytes)
            .map_err(io("open", &self.bytes))
    }
}

/// Reads the metadata of an earlier run, or returns `None` if it is missing or invalid.
fn read_metadata(path: &Path) -> Option<Origin> {
    let metadata: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(Origin {
        url: metadata["url"].as_str()?.to_owned(),
        validator: metadata["validator"].as_str().map(str::to_owned),
        total: metadata["total"].as_u64(),
    })
}
