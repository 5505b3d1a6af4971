//! SHA-256 of every image in a data set, to detect changes between a run and its resumption. During a
//! run, the loaders detect them with the same hashes.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use dataset::path_text::relative;
use dataset::{ImageFolder, Loader};
use serde::{Deserialize, Serialize};

use crate::escape::printable;
use crate::files::open_regular;

/// The hexadecimal SHA-256 of each image, by its path relative to the data folder, as [`relative`] writes
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatasetHash(BTreeMap<String, String>);

impl DatasetHash {
    /// The hashes of the images that `loaders` have read from the data folder `root`.
    pub fn of(root: &Path, loaders: [&Loader; 2]) -> Self {
        let images = loaders
            .into_iter()
            .flat_map(|loader| loader.samples().iter().zip(loader.hashes()));
        let hashed = images.filter_map(|(sample, hash)| {
            let hash = hash?.iter().map(|byte| format!("{byte:02x}")).collect();
            Some((relative(root, &sample.path), hash))
        });
        Self(hashed.collect())
    }

    /// The hashes of the images of `splits` in the data folder `root`, read from their files.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`sha256`].
    pub fn read(root: &Path, splits: [&ImageFolder; 2]) -> anyhow::Result<Self> {
        let samples = splits.into_iter().flat_map(ImageFolder::samples);
        let hashed = samples.map(|sample| {
            let hash = sha256(&sample.path)?;
            Ok((relative(root, &sample.path), hash))
        });
        hashed.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Lists the images added, removed or modified since `self` was computed, with one line for
    /// each kind of change. A line names at most ten images. `None` if nothing has changed.
    pub fn changes(&self, now: &Self) -> Option<String> {
        let only_in = |one: &Self, other: &Self| -> Vec<String> {
            let names = one.0.keys();
            names
                .filter(|name| !other.0.contains_key(*name))
                .cloned()
                .collect()
        };
        let modified = self
            .0
            .iter()
            .filter(|(name, hash)| now.0.get(*name).is_some_and(|other| other != *hash))
            .map(|(name, _)| name.clone())
            .collect();
        let lines: Vec<String> = [
            ("added", only_in(now, self)),
            ("removed", only_in(self, now)),
            ("modified", modified),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(kind, names)| format!("{} {kind}: {}", names.len(), list(&names)))
        .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// The hexadecimal SHA-256 of a file.
///
/// # Errors
///
/// Returns an error that names the path if it is not a regular file or cannot be read.
pub fn sha256(path: &Path) -> anyhow::Result<String> {
    let hash = open_regular(path).and_then(|mut file| fetch::sha256(&mut file));
    hash.with_context(|| format!("cannot read {}", path.display()))
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 10;
    // Each change is one line, which a name must not break.
    let names_shown: Vec<_> = names
        .iter()
        .take(SHOWN)
        .map(|name| printable(name))
        .collect();
    let mut text = names_shown.join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(files: &[(&str, &str)]) -> DatasetHash {
        let entry = |(name, hash): &(&str, &str)| (name.to_string(), hash.to_string());
        DatasetHash(files.iter().map(entry).collect())
    }

    #[test]
    fn added_removed_and_modified_images_are_listed() {
        let before = hash(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(before.changes(&before), None);
        let now = hash(&[("a", "1"), ("b", "4"), ("d", "3")]);
        assert_eq!(
            before.changes(&now).unwrap(),
            "1 added: d\n1 removed: c\n1 modified: b"
        );
    }

    #[test]
    fn a_file_has_the_sha256_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, b"abc").unwrap();
        // The SHA-256 test vector for "abc" from FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), expected);
    }
}
