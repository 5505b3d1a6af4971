//! Development tasks of the project. The binary `cargo xtask` runs them.
//!
//! - [`fetch_data`]: downloads, verifies and unpacks the ants and bees photographs
//! - [`tidy`]: checks rules about the source code that rustfmt and clippy do not check
//! - [`mod@reference`]: runs the tests that need reference values from outside the repository
//! - [`bench_peers`]: compares this project's speed with PyTorch and other libraries
//! - [`fuzz`]: fuzzes the code that reads files
//! - [`sanitize`]: tests the workspace's crates with AddressSanitizer
//! - [`cuda_check`]: lints and builds with CUDA on machines without a GPU
//! - [`platforms`]: lints for Windows and macOS on Linux
//! - [`ci`]: runs everything that must pass before a change is merged
//!
//! Of the workspace's other crates, this package depends only on `fetch`, and not on candle, so it
//! builds in seconds. Tasks that need the other crates run `cargo`.

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
