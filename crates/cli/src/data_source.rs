//! The data set of a run: the folder passed with `--data`, the downloaded photographs, or the
//! built-in sample.

use std::path::{Path, PathBuf};

use anyhow::bail;
use dataset::ImageFolder;
use dataset::image_folder::{KindCount, count_kinds};

use crate::error::Diagnostic;
use crate::files::existing_folder;

/// Path to which `cargo xtask fetch-data` downloads the photographs.
const PHOTOGRAPHS: &str = "data/hymenoptera_data";
/// Path to which the sample is written.
const SAMPLE: &str = "data/sample";

/// The origin of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder passed with `--data`.
    Given(PathBuf),
    /// The downloaded photographs of ants and bees.
    Photographs,
    /// The built-in sample of drawn insects.
    Sample,
}

impl Source {
    /// Returns the data set at `given`. Without `given`, returns the photographs if they are
    /// downloaded, otherwise the sample.
    ///
    /// The default paths of the photographs and the sample select these data sets. The name
    /// `sample` selects the sample, unless a folder with that name exists.
    pub fn choose(given: Option<&Path>) -> Self {
        match given {
            Some(path)
                if path == Path::new(SAMPLE) || (path == Path::new("sample") && !path.is_dir()) =>
            {
                Self::Sample
            }
            Some(path) if path == Path::new(PHOTOGRAPHS) => Self::Photographs,
            Some(path) => Self::Given(path.to_path_buf()),
            None if Path::new(PHOTOGRAPHS).is_dir() => Self::Photographs,
            None => Self::Sample,
        }
    }

    /// The source with this [`name`](Self::name), where `root` is the path of a given folder.
    pub fn from_name(name: &str, root: &Path) -> Self {
        match name {
            "sample" => Self::Sample,
            "photographs" => Self::Photographs,
            _ => Self::Given(root.to_path_buf()),
        }
    }

    /// The name of the source in `config.toml`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Given(_) => "given",
            Self::Photographs => "photographs",
            Self::Sample => "sample",
        }
    }

    /// Returns the path of the data set. Writes the sample if its files are missing, have other
    /// sizes or come from another version.
    ///
    /// # Errors
    ///
    /// Returns an error if the sample cannot be written.
    pub fn root(&self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Given(path) => Ok(path.clone()),
            Self::Photographs => Ok(PathBuf::from(PHOTOGRAPHS)),
            Self::Sample => {
                let root = PathBuf::from(SAMPLE);
                let write = || {
                    existing_folder(&root)?;
                    anyhow::Ok(sample::write(&root)?)
                };
                write().map_err(|error| {
                    Diagnostic::new("cannot write the built-in sample")
                        .help("pass `--data DIR` to use another data set")
                        .caused_by(error)
                })?;
                Ok(root)
            }
        }
    }

    /// Advice on how to use other images; `None` for a given folder.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Given(_) => None,
            Self::Photographs => Some(
                "To use your own images, pass `--data DIR`; for the drawings, `--data sample`.",
            ),
            Self::Sample => Some("To use your own images, pass `--data DIR`."),
        }
    }

    /// Lists the images of both splits.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Source::root`] and [`ImageFolder::train_and_val`].
    pub fn open(self) -> anyhow::Result<Folder> {
        let root = self.root()?;
        self.open_at(root)
    }

    /// Lists the images of both splits in `root`. A resumed run without `--data` passes the path
    /// recorded in its configuration.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`ImageFolder::train_and_val`].
    pub fn open_at(self, root: PathBuf) -> anyhow::Result<Folder> {
        let (train, val) = ImageFolder::train_and_val(&root)?;
        Ok(Folder {
            source: self,
            root,
            train,
            val,
        })
    }
}

/// A data set on disk, with the images of both splits listed.
#[derive(Debug)]
pub struct Folder {
    /// Origin of the data set.
    pub source: Source,
    /// Path of the folder that contains the splits.
    pub root: PathBuf,
    /// The train split.
    pub train: ImageFolder,
    /// The val split.
    pub val: ImageFolder,
}

impl Folder {
    /// Class names, by index.
    pub fn classes(&self) -> &[String] {
        self.train.classes()
    }

    /// Checks that there are at least two classes.
    ///
    /// # Errors
    ///
    /// Returns an error if there is only one class. If all its images are in subfolders, the help
    /// suggests that the subfolders are the classes.
    pub fn require_two_classes(&self) -> anyhow::Result<()> {
        let [class] = self.classes() else {
            return Ok(());
        };
        let folder = self.train.root().join(class);
        let mut samples = self.train.samples().iter();
        let train = self.train.root().display();
        let help = if samples.all(|sample| sample.path.parent() != Some(&folder)) {
            format!(
                "if the folders in `{}` are the classes, move them to `{train}`",
                folder.display()
            )
        } else {
            format!("add a folder for each other class to `{train}`")
        };
        bail!(
            Diagnostic::new(format!(
                "found only one class, `{class}`, in `{train}`; training needs at least two"
            ))
            .help(help)
        );
    }

    /// Classes without images in the val split.
    pub fn classes_without_val(&self) -> Vec<String> {
        let counts = self.val.counts();
        let classes = self.classes().iter().zip(counts);
        classes
            .filter(|(_, count)| *count == 0)
            .map(|(class, _)| class.clone())
            .collect()
    }

    /// The files of both splits that are not used, by kind.
    pub fn unused(&self) -> Vec<KindCount> {
        count_kinds(self.train.unused().iter().chain(self.val.unused()))
    }

    /// Number of images in both splits.
    pub fn images(&self) -> usize {
        self.train.len() + self.val.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_sample_and_the_photographs_are_recognized() {
        let choose = |path: &str| Source::choose(Some(Path::new(path)));
        assert_eq!(choose("x"), Source::Given(PathBuf::from("x")));
        assert_eq!(choose("sample"), Source::Sample);
        assert_eq!(choose("data/sample/"), Source::Sample);
        assert_eq!(choose("data/hymenoptera_data"), Source::Photographs);
    }
}
