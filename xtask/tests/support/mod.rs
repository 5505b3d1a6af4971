//! Helpers for the tests of `fetch-data`: a small data set, archives of it, and a web server.

// Each test file uses only some of the helpers.
#![allow(dead_code)]

pub mod archive;
pub mod server;
