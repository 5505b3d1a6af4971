//! The program `waggle`. Everything is in the library beside it, where tests and examples reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::memory::keep_large_blocks();
    cli::run(std::env::args_os())
}
