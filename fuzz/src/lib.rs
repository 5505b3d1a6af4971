//! Fuzzing of the code that reads files, on a stable toolchain.
//!
//! A [`Target`](targets::Target) is a function that reads bytes. The [`engine`] runs it on valid
//! seed files and on mutations of them ([`mutate`]). In an instrumented build it keeps the inputs
//! that reach new code ([`coverage`]). An execution fails if it panics, aborts, allocates more than
//! 1 GiB ([`allocator`]) or takes more than 20 s of CPU time ([`watchdog`]). The same seed gives
//! the same executions.
//!
//! `cargo xtask fuzz` builds and runs the fuzzer with instrumentation. The tests of this crate run
//! a few thousand executions without it.

pub mod allocator;
pub mod coverage;
pub mod engine;
pub mod mutate;
pub mod targets;
pub mod watchdog;
