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
    /// Tokens of the input format, for mutations to insert.
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

/// The directory in which to create scratch directories: `/dev/shm`, which is in memory, if it
/// exists, or else the system's temporary directory.
pub fn scratch_parent() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        memory.into()
    } else {
        std::env::temp_dir()
    }
}
