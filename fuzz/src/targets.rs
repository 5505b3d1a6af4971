//! The fuzz targets.

mod archive;
mod checkpoint;
mod configuration;
mod image;
mod metadata;
mod pth;
mod weights;

use std::path::{Path, PathBuf};

/// A function that reads untrusted input.
pub trait Target {
    /// Name of the target on the command line.
    fn name(&self) -> &'static str;
    /// Valid inputs to start from.
    fn seeds(&self) -> Vec<Vec<u8>>;
    /// Tokens of the input format, which mutations insert.
    fn dictionary(&self) -> &'static [&'static [u8]];
    /// Reads `input` and returns whether it was accepted. Both results are correct; only a panic is
    /// a failure.
    fn run(&mut self, input: &[u8]) -> bool;
}

/// All targets. They write their files to `scratch`.
pub fn all(scratch: &Path) -> Vec<Box<dyn Target>> {
    vec![
        Box::new(image::Image),
        Box::new(archive::Archive::new(scratch)),
        Box::new(weights::Weights::new(scratch)),
        Box::new(pth::StateDict::new(scratch)),
        Box::new(checkpoint::CheckpointTarget::new(scratch)),
        Box::new(metadata::MetadataTarget::new(scratch)),
        Box::new(configuration::Configuration::new(scratch)),
    ]
}

/// A directory in memory for temporary files if there is one, otherwise the usual one.
pub fn scratch_parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.into()
    } else {
        std::env::temp_dir()
    }
}
