//! What is fed: each a function from bytes to whether they were accepted, with good files to start from.

mod archive;
mod checkpoint;
mod configuration;
mod metadata;
mod picture;
mod pth;
mod weights;

use std::path::{Path, PathBuf};

/// Something that reads what others wrote.
pub trait Target {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// Good inputs.
    fn seeds(&self) -> Vec<Vec<u8>>;
    /// Words of its format.
    fn words(&self) -> &'static [&'static [u8]];
    /// Reads `input`; whether it was accepted. Refusing it with an error is as good.
    fn run(&mut self, input: &[u8]) -> bool;
}

/// All targets; they keep their files in `scratch`.
pub fn all(scratch: &Path) -> Vec<Box<dyn Target>> {
    vec![
        Box::new(picture::Picture),
        Box::new(archive::Archive::new(scratch)),
        Box::new(weights::Weights::new(scratch)),
        Box::new(pth::StateDict::new(scratch)),
        Box::new(checkpoint::Resumed::new(scratch)),
        Box::new(metadata::Description::new(scratch)),
        Box::new(configuration::Configuration::new(scratch)),
    ]
}

/// Where files cost no disk, if there is such a place.
pub fn scratch_parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.into()
    } else {
        std::env::temp_dir()
    }
}
