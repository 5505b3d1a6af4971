//! Reads `predictions.csv` for a comparison.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use dataset::{Sample, path_text};
use insight::{McNemar, mcnemar};

use crate::escape::printable_path;
use crate::files::open_regular;
use crate::predictions::{COLUMNS, FILE};
use crate::shell::quote;

/// Maximum size of the file in bytes.
const MAX_SIZE: u64 = 1 << 30;
/// Maximum number of rows.
const MAX_ROWS: usize = 5_000_000;

/// The true class of each val image, and whether the prediction is correct, by path.
pub struct Predictions {
    images: BTreeMap<Vec<u8>, (Vec<u8>, bool)>,
}

impl Predictions {
    /// Reads the predictions of a run. The inner error says that there are none.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, is larger than 1 GiB or 5,000,000 rows, has other
    /// columns, or has two rows for an image.
    pub fn read(run: &Path) -> anyhow::Result<Result<Self, String>> {
        let path = run.join(FILE);
        if !path.exists() {
            let (name, run, file) = (printable_path(run), quote(run), quote(&path));
            return Ok(Err(format!(
                "{name} has no {FILE}; write it with `waggle evaluate {run} --predictions {file}`"
            )));
        }
        let read = || {
            let mut images = BTreeMap::new();
            let file = open_regular(&path)?;
            ensure!(file.metadata()?.len() <= MAX_SIZE, "larger than 1 GiB");
            // A file that grows meanwhile is not read further.
            let mut rows = csv::Reader::from_reader(file.take(MAX_SIZE));
            let header = rows.byte_headers()?;
            ensure!(
                header.iter().take(3).eq(COLUMNS.map(str::as_bytes)),
                "its first columns are not `path`, `truth` and `predicted`"
            );
            for row in rows.byte_records() {
                // All rows have as many fields as the header.
                let row = row?;
                let (image, truth) = (row[0].to_vec(), row[1].to_vec());
                let is_correct = row[1] == row[2];
                ensure!(images.len() < MAX_ROWS, "more than {MAX_ROWS} rows");
                let previous = images.insert(image, (truth, is_correct));
                ensure!(previous.is_none(), "two rows have the same path");
            }
            Ok(Self { images })
        };
        let read = read().with_context(|| format!("cannot read {}", path.display()));
        read.map(Ok)
    }

    /// Whether the images are `val`, with paths relative to the data folder `root`.
    pub fn are_of(&self, root: &Path, val: &[Sample]) -> bool {
        let is_known = |sample: &Sample| {
            let path = path_text::relative_path(root, &sample.path);
            self.images.contains_key(path.as_encoded_bytes())
        };
        self.images.len() == val.len() && val.iter().all(is_known)
    }

    /// McNemar's test. The error says that the val images differ.
    pub fn compare(&self, other: &Self) -> Result<McNemar, String> {
        let is_same = |(path, (truth, _)): (&Vec<u8>, &(Vec<u8>, bool))| {
            other
                .images
                .get(path)
                .is_some_and(|(other, _)| other == truth)
        };
        let shared = self.images.iter().filter(|image| is_same(*image)).count();
        if shared < self.images.len().max(other.images.len()) {
            return Err(format!(
                "the val images differ: {} and {}, of which {shared} have the same path and class",
                self.images.len(),
                other.images.len()
            ));
        }
        let (mut only_self, mut only_other) = (0, 0);
        for (path, (_, correct)) in &self.images {
            match (correct, other.images[path].1) {
                (true, false) => only_self += 1,
                (false, true) => only_other += 1,
                _ => {}
            }
        }
        Ok(mcnemar(only_self, only_other))
    }
}
