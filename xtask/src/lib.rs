//! The parts of `cargo xtask` that the integration tests use.

pub mod fetch_data;
pub mod tidy;

use std::path::PathBuf;

/// The root of the workspace.
///
/// `cargo run` sets `CARGO_MANIFEST_DIR`, which stays correct when the checkout is moved after a
/// build. A binary that is started directly uses the path it was built in.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let mut folder = PathBuf::from(package.unwrap_or(env!("CARGO_MANIFEST_DIR").into()));
    folder.pop();
    folder
}
