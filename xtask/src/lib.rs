//! The project's own chores, as functions that its tests can call; `cargo xtask` is the program.
//!
//! - [`fetch_data`]: the ants and bees photographs, downloaded, checked and unpacked
//! - [`tidy`]: rules about the source that neither rustfmt nor clippy knows
//! - [`mod@reference`]: the tests that need the reference values kept outside the repository
//! - [`bench_peers`]: the same work here and in other libraries, side by side
//! - [`fuzz`]: hostile input for everything that reads files
//! - [`sanitize`]: our own crates under AddressSanitizer
//! - [`cuda_check`]: lints and builds with CUDA, on machines without a GPU
//! - [`platforms`]: lints for Windows and macOS, on Linux
//! - [`ci`]: everything that must pass before a change is merged
//!
//! This package depends on none of the project's crates and not on candle, so that it builds without
//! them; where a chore needs them, it runs `cargo`.

pub mod bench_peers;
pub mod cargo;
pub mod ci;
pub mod cuda_check;
pub mod fetch_data;
pub mod fuzz;
pub mod platforms;
pub mod project;
pub mod reference;
pub mod sanitize;
pub mod script;
pub mod tidy;
