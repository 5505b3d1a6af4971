//! Errors about single images of `predict` and `explain`. The other images are still processed.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use dataset::path_text;
use serde::{Serialize, Serializer};

use crate::error::report;

/// The JSON line for an image, or a folder without readable images, for which there is no result.
#[derive(Debug, Serialize)]
struct Failure<'a> {
    #[serde(serialize_with = "as_text")]
    path: &'a Path,
    error: String,
}

/// Serializes a path as the text from which it can be restored.
pub fn as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text::encode(path))
}

/// Prints the errors, and counts them for the exit code.
#[derive(Debug)]
pub struct ImageErrors {
    json: bool,
    count: usize,
}

impl ImageErrors {
    /// `json` also prints a JSON line for each error.
    pub fn new(json: bool) -> Self {
        Self { json, count: 0 }
    }

    /// Prints an error on standard error. With `json`, also prints a line in place of the result.
    pub fn report(&mut self, path: &Path, error: &anyhow::Error) -> anyhow::Result<()> {
        self.count += 1;
        report(error);
        if self.json {
            let failure = Failure {
                path,
                error: format!("{error:#}"),
            };
            let line = serde_json::to_string(&failure).context("cannot write an error as JSON")?;
            super::print(&(line + "\n"))?;
        }
        Ok(())
    }

    /// Failure if there was an error.
    pub fn exit_code(&self) -> ExitCode {
        if self.count == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
