//! `run.toml`: marks a directory as a run, and identifies the checkpoints and the temporary files of
//! the run.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::files::{RANDOM_CHARACTERS, TEMPORARY, read_text};

/// Version of the checkpoint format. Increase it if keys, TOML fields or tensor names of checkpoints
/// change.
pub const CHECKPOINT_FORMAT: u32 = 1;

/// Size limit of the file in bytes.
const MAX_FILE_SIZE: u64 = 64 << 10;

/// Number of hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

/// The contents of `run.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Random hexadecimal id of the run, also in each of its checkpoints.
    pub id: String,
    /// Version of waggle that started the run.
    pub waggle: String,
    /// Format version of the checkpoints.
    pub checkpoint_format: u32,
    /// Whether the run is complete: all stages have been trained, and all files are written.
    pub finished: bool,
}

impl Marker {
    /// Name of the file in the run directory.
    pub const FILE: &str = "run.toml";

    /// The marker of a new run.
    pub fn generate() -> Self {
        // The keys of `RandomState` are random.
        let random = RandomState::new();
        Self {
            id: format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1)),
            waggle: env!("CARGO_PKG_VERSION").to_string(),
            checkpoint_format: CHECKPOINT_FORMAT,
            finished: false,
        }
    }

    /// Reads the marker of the run directory `folder`.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no regular file with this name, or if it cannot be read, is larger
    /// than 64 KiB or is not a marker.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(Self::FILE);
        let text = read_text(&path, MAX_FILE_SIZE);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let parse = || {
            let marker: Self = toml::from_str(&text)?;
            ensure!(
                marker.has_valid_id(),
                "the id does not consist of {ID_DIGITS} hexadecimal digits"
            );
            Ok(marker)
        };
        parse().with_context(|| format!("{} does not describe a run", path.display()))
    }

    /// Whether the id has the form of a generated one. It is used in file names.
    pub fn has_valid_id(&self) -> bool {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        self.id.len() == ID_DIGITS && self.id.bytes().all(is_digit)
    }

    /// The text of the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the marker cannot be written as TOML.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        let body = toml::to_string(self).context("cannot write the marker of the run as TOML")?;
        Ok(format!(
            "# Marks this directory as a run of waggle, and identifies its checkpoints.\n\n{body}"
        ))
    }

    /// Whether `name` is that of a temporary file of this run.
    pub fn is_temporary(&self, name: &str) -> bool {
        let random = name.strip_prefix(&temporary_prefix(&self.id));
        random.is_some_and(|text| {
            text.len() == RANDOM_CHARACTERS && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    }
}

/// Beginning of the names of the temporary files of the run with this id. It contains a part of the
/// id, so that no other file has such a name.
pub fn temporary_prefix(id: &str) -> String {
    format!("{TEMPORARY}{}-", &id[..id.len().min(12)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_survives_writing_and_reading_and_ids_are_random() {
        let folder = tempfile::tempdir().unwrap();
        let marker = Marker::generate();
        assert_ne!(marker.id, Marker::generate().id);
        let path = folder.path().join(Marker::FILE);
        let text = marker.to_toml().unwrap();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(Marker::read(folder.path()).unwrap(), marker);
        for (from, to) in [
            (&marker.id[..], "../../../../../../../../../../../x"),
            (&marker.id[..], ""),
            ("finished = false", ""),
            ("checkpoint_format = ", "checkpoint_format = -"),
        ] {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let error = Marker::read(folder.path()).unwrap_err().to_string();
            assert!(error.ends_with("run.toml does not describe a run"));
        }
    }
}
