//! The program `waggle`. All code is in the library, so that tests and examples can use it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::memory::keep_large_blocks();
    // SAFETY: `main` has not started any other thread yet.
    unsafe { cli::device::keep_nan() };
    cli::run(std::env::args_os())
}
