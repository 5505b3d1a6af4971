//! Which pictures: a folder that was named, the fetched photographs, or the drawn sample.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dataset::ImageFolder;

use crate::message::Message;

/// Where `cargo xtask fetch-data` puts the photographs.
const PHOTOGRAPHS: &str = "data/hymenoptera_data";
/// Where the sample is drawn.
const SAMPLE: &str = "data/sample";

/// A folder of pictures, and why it is this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Named with `--data`.
    Given(PathBuf),
    /// The ants and bees, because they were fetched.
    Photographs,
    /// The drawn insects, because nothing else is there.
    Sample,
}

impl Source {
    /// `given`, else the photographs when they are there, else the sample.
    ///
    /// The places of the photographs and of the sample are known by name, and so is the word `sample` where
    /// no folder is called so: what is the default without photographs can be had with them.
    pub fn choose(given: Option<&Path>) -> Self {
        let is = |path: &Path, name: &str| path == Path::new(name);
        match given {
            Some(path) if is(path, SAMPLE) || (is(path, "sample") && !path.is_dir()) => {
                Self::Sample
            }
            Some(path) if is(path, PHOTOGRAPHS) => Self::Photographs,
            Some(path) => Self::Given(path.to_path_buf()),
            None if Path::new(PHOTOGRAPHS).is_dir() => Self::Photographs,
            None => Self::Sample,
        }
    }

    /// What [`name`](Self::name) says of the pictures in `root`.
    pub fn named(name: &str, root: &Path) -> Self {
        match name {
            "sample" => Self::Sample,
            "photographs" => Self::Photographs,
            _ => Self::Given(root.to_path_buf()),
        }
    }

    /// As in `config.toml`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Given(_) => "given",
            Self::Photographs => "photographs",
            Self::Sample => "sample",
        }
    }

    /// The folder; the sample is drawn when it is not there yet.
    ///
    /// # Errors
    ///
    /// When the sample cannot be written.
    pub fn root(&self) -> anyhow::Result<PathBuf> {
        match self {
            Self::Given(path) => Ok(path.clone()),
            Self::Photographs => Ok(PathBuf::from(PHOTOGRAPHS)),
            Self::Sample => {
                let root = PathBuf::from(SAMPLE);
                dataset::sample::write(&root)
                    .context("the built-in sample cannot be drawn; name a folder of pictures with --data DIR")?;
                Ok(root)
            }
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Given(_) => None,
            Self::Photographs => Some(
                "To use your own images, pass `--data DIR`; for the drawings, `--data sample`.",
            ),
            Self::Sample => Some("To use your own images, pass `--data DIR`."),
        }
    }

    /// Lists the pictures of both splits.
    ///
    /// # Errors
    ///
    /// Those of [`ImageFolder::train_and_val`], and of [`Source::root`].
    pub fn open(self) -> anyhow::Result<Folder> {
        let root = self.root()?;
        self.open_at(root)
    }

    /// Lists the pictures of both splits in a folder that is known, as when a run goes on.
    ///
    /// # Errors
    ///
    /// Those of [`ImageFolder::train_and_val`].
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

/// The pictures of both splits, listed.
#[derive(Debug)]
pub struct Folder {
    /// Why this folder.
    pub source: Source,
    /// The folder of the splits.
    pub root: PathBuf,
    /// What the network learns from.
    pub train: ImageFolder,
    /// What it is judged by.
    pub val: ImageFolder,
}

impl Folder {
    /// Class names, by index.
    pub fn classes(&self) -> &[String] {
        self.train.classes()
    }

    /// Refuses to train on a single class: every answer would be right.
    ///
    /// # Errors
    ///
    /// There is one class alone; that its pictures lie in folders of their own tells where the classes may be.
    pub fn refuse_one_class(&self) -> anyhow::Result<()> {
        let [class] = self.classes() else {
            return Ok(());
        };
        let folder = self.train.root().join(class);
        let mut samples = self.train.samples().iter();
        let hint = if samples.all(|sample| sample.path.parent() != Some(&folder)) {
            format!(
                "; the folders in `{}` seem to be the classes: move them up, into `{}`",
                folder.display(),
                self.train.root().display()
            )
        } else {
            String::new()
        };
        bail!(
            "`{}` holds a single class folder, `{class}`, and there is nothing to tell it apart from{hint}",
            self.train.root().display()
        );
    }

    /// The classes that no picture of val measures.
    pub fn classes_without_val(&self) -> Vec<String> {
        let counts = self.val.counts();
        let classes = self.classes().iter().zip(counts);
        classes
            .filter(|(_, count)| *count == 0)
            .map(|(class, _)| class.clone())
            .collect()
    }

    /// Pictures in both splits.
    pub fn images(&self) -> usize {
        self.train.len() + self.val.len()
    }

    /// What is used, for the user.
    pub fn message(&self) -> Message<'_> {
        Message::Data {
            source: self.source.name(),
            root: self.root.display().to_string(),
            classes: self.classes(),
            train_images: self.train.len(),
            val_images: self.val.len(),
            hint: self.source.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_named_is_taken_and_the_sample_has_a_name() {
        let choose = |path: &str| Source::choose(Some(Path::new(path)));
        assert_eq!(choose("x"), Source::Given(PathBuf::from("x")));
        assert_eq!(choose("sample"), Source::Sample);
        assert_eq!(choose("data/sample/"), Source::Sample);
        assert_eq!(choose("data/hymenoptera_data"), Source::Photographs);
    }
}
