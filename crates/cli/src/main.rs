//! The program `waggle`. Everything is in the library beside it, where tests and examples reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::memory::keep_large_blocks();
    // SAFETY: there are no other threads yet.
    unsafe { cli::device::keep_nan() };
    cli::run(std::env::args_os())
}
