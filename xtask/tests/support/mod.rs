//! What the tests of `fetch-data` share: a small data set, archives of it, and a web server.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub mod archive;
pub mod server;
