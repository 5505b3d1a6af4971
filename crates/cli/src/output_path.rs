//! Refuses outputs inside a data set, because the next command would read them as data.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::bail;
use dataset::ImageFolder;

use crate::data_source::{Folder, Source};
use crate::error::Diagnostic;

impl Folder {
    /// Checks that the run directory `out` is outside of the data set.
    ///
    /// # Errors
    ///
    /// Returns an error if `out`, which need not exist, is the data folder or inside of it, or inside
    /// of a folder of images that links in the data set lead to.
    pub fn refuse_run_directory(&self, out: &Path) -> anyhow::Result<()> {
        let mut folders = self.image_folders();
        folders.insert(resolve(&self.root));
        self.refuse(out, &folders)
    }

    /// Checks that the file `out` would not become an image of the data set.
    ///
    /// # Errors
    ///
    /// Returns an error if `out`, which need not exist, is inside of a split, or inside of a folder of
    /// images that links in the data set lead to.
    pub fn refuse_output_file(&self, out: &Path) -> anyhow::Result<()> {
        self.refuse(out, &self.image_folders())
    }

    fn refuse(&self, out: &Path, folders: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
        let real = resolve(out);
        if real.ancestors().any(|path| folders.contains(path)) {
            let (out, root) = (out.display(), self.root.display());
            bail!(
                Diagnostic::new(format!(
                    "the output `{out}` is inside the data set `{root}`"
                ))
                .help("pass a path outside the data set with `--out`")
            );
        }
        Ok(())
    }

    /// The splits, the class folders and all folders that contain images, without links.
    fn image_folders(&self) -> BTreeSet<PathBuf> {
        let splits = [&self.train, &self.val].into_iter();
        let folders = splits.flat_map(|split: &ImageFolder| {
            let classes = split.classes().iter().map(|class| split.root().join(class));
            let parents = split.samples().iter().map(|sample| sample.path.parent());
            let mut folders: BTreeSet<PathBuf> = parents.flatten().map(PathBuf::from).collect();
            folders.extend(classes);
            folders.insert(split.root().to_path_buf());
            folders
        });
        folders.map(|folder| resolve(&folder)).collect()
    }
}

/// Checks that the files in the folder `out` would not be read as images of a data set, or of one of
/// the folders in `inputs`.
///
/// # Errors
///
/// Returns an error if `out`, which need not exist, is inside of such a folder.
pub fn refuse_image_folders(out: &Path, inputs: &[PathBuf]) -> anyhow::Result<()> {
    let real = resolve(out);
    for input in inputs.iter().filter(|input| input.is_dir()) {
        if real.starts_with(resolve(input)) {
            bail!(
                Diagnostic::new(format!(
                    "the output `{}` is inside the folder of images `{}`",
                    out.display(),
                    input.display()
                ))
                .help("pass a folder outside of it with `--out`")
            );
        }
    }
    for root in real.ancestors().filter(|root| root.join("train").is_dir()) {
        if let Ok(folder) = Source::Given(root.to_path_buf()).open() {
            folder.refuse_output_file(out)?;
        }
    }
    Ok(())
}

/// Resolves the links and `..` of a path whose last components need not exist.
fn resolve(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut real = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                real.pop();
            }
            component => {
                real.push(component);
                // Each step resolves links, so that `..` after one leaves the target of the link.
                real = real.canonicalize().unwrap_or(real);
            }
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn links_and_parent_folders_are_resolved_also_before_missing_folders() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink(root.join("a/b"), root.join("link")).unwrap();
        for (path, expected) in [
            ("link/x/y", "a/b/x/y"),
            ("link/../x", "a/x"),
            ("new/../link", "a/b"),
            ("a/./b/../../x", "x"),
            ("new/deeper/../x", "new/x"),
        ] {
            assert_eq!(resolve(&root.join(path)), root.join(expected), "{path}");
        }
    }
}
