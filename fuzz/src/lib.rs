//! Hostile input for everything in Waggle that reads files, on a stable toolchain.
//!
//! A [`Target`](targets::Target) is a function from bytes; the [`engine`] feeds it good files and what
//! [`mutate`] makes of them, and keeps what reaches code that nothing reached before, where the build is
//! instrumented to tell ([`coverage`]). An execution fails that panics, aborts, takes more than 1 GiB
//! ([`allocator`]) or more than twenty seconds. The same seed gives the same executions.
//!
//! `cargo xtask fuzz` builds and runs it with instrumentation; the tests of this crate run a few thousand executions
//! without.

pub mod allocator;
pub mod coverage;
pub mod engine;
pub mod mutate;
pub mod targets;
pub mod watchdog;
