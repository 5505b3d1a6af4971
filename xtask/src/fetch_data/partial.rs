//! A download that is not finished: the bytes so far, and what is needed to go on later.
//!
//! Two files, `NAME.part` and `NAME.json`. The second says which address the bytes came from, how
//! many there will be, and by which validator the server recognises the version of the file, so that
//! halves of two versions are never put together.

use super::error::{Error, io};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// What is known about the file that is being downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// The address as the user gave it, before redirects.
    pub(super) url: String,
    /// A strong ETag or a Last-Modified date, to be sent as If-Range.
    pub(super) validator: Option<String>,
    /// Length of the whole file.
    pub(super) total: Option<u64>,
}

/// The bytes so far, and where they came from.
pub(super) struct Partial {
    bytes: PathBuf,
    notes: PathBuf,
    /// How many bytes there are.
    pub(super) have: u64,
    /// What they are the beginning of.
    pub(super) origin: Origin,
    /// Whether they came in several answers, so that they may not fit together.
    pub(super) in_pieces: bool,
}

impl Partial {
    /// Picks up what an earlier run left in `folder`, if it came from `url`; else starts empty.
    pub(super) fn open(folder: &Path, url: &str) -> Result<Self, Error> {
        let mut partial = Self {
            bytes: folder.join("archive.part"),
            notes: folder.join("archive.json"),
            have: 0,
            origin: Origin::default(),
            in_pieces: false,
        };
        let size = fs::metadata(&partial.bytes).map(|file| file.len());
        match (size, read_notes(&partial.notes)) {
            (Ok(size), Some(origin))
                if origin.url == url && origin.total.is_none_or(|total| size <= total) =>
            {
                partial.have = size;
                partial.origin = origin;
                partial.in_pieces = size > 0;
            }
            _ => partial.restart(Origin {
                url: url.to_owned(),
                ..Origin::default()
            })?,
        }
        Ok(partial)
    }

    /// Where the bytes lie.
    pub(super) fn path(&self) -> &Path {
        &self.bytes
    }

    /// Whether everything has arrived.
    pub(super) fn is_complete(&self) -> bool {
        self.origin.total == Some(self.have)
    }

    /// Throws the bytes away and notes what the next ones will be the beginning of.
    pub(super) fn restart(&mut self, origin: Origin) -> Result<(), Error> {
        // In this order: an interruption in between leaves an empty file, which is always right.
        File::create(&self.bytes).map_err(io("create", &self.bytes))?;
        self.have = 0;
        self.in_pieces = false;
        let notes = json!({
            "url": origin.url,
            "validator": origin.validator,
            "total": origin.total,
        });
        fs::write(&self.notes, notes.to_string()).map_err(io("write", &self.notes))?;
        self.origin = origin;
        Ok(())
    }

    /// Throws everything away, so that the next request asks for the whole file.
    pub(super) fn discard(&mut self) -> Result<(), Error> {
        self.restart(Origin {
            url: self.origin.url.clone(),
            ..Origin::default()
        })
    }

    /// Removes both files. What cannot be removed is recognised as useless by the next run.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(&self.notes);
        let _ = fs::remove_file(&self.bytes);
    }

    /// Opens the file to add bytes at its end.
    pub(super) fn append(&self) -> Result<File, Error> {
        OpenOptions::new()
            .append(true)
            .open(&self.bytes)
            .map_err(io("open", &self.bytes))
    }
}

/// The notes of an earlier run, unless there are none that can be used.
fn read_notes(path: &Path) -> Option<Origin> {
    let notes: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some(Origin {
        url: notes["url"].as_str()?.to_owned(),
        validator: notes["validator"].as_str().map(str::to_owned),
        total: notes["total"].as_u64(),
    })
}
