//! Reads `predictions.csv` for a comparison.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use dataset::{Sample, path_text};
use insight::{McNemar, mcnemar};

use crate::escape::printable_path;
use crate::files::open_regular;
use crate::predictions::FILE;
use crate::shell::quote;

/// The true class of each val image, and whether the prediction is correct, by path.
pub struct Predictions {
    images: BTreeMap<Vec<u8>, (Vec<u8>, bool)>,
}

impl Predictions {
    /// Reads the predictions of a run. The inner error says that there are none.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, or if a row has fewer than three fields.
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
            let mut rows = csv::Reader::from_reader(open_regular(&path)?);
            for row in rows.byte_records() {
                let row = row?;
                let fields = (row.get(0), row.get(1), row.get(2));
                let (Some(image), Some(truth), Some(predicted)) = fields else {
                    anyhow::bail!("a row has fewer than three fields");
                };
                images.insert(image.to_vec(), (truth.to_vec(), truth == predicted));
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
