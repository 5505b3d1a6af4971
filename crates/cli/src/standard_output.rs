//! Detects a standard output that is closed when the program starts, as in `waggle summary >&-`.
//!
//! Before `main`, Rust's standard library opens `/dev/null` in place of a closed stream, and writing
//! to it succeeds. So the check runs before that, as an initializer of the executable.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether standard output was closed when the program started. Always `false` on Windows.
pub fn was_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

// SAFETY: The section holds pointers to functions with the C ABI, which the loader calls once before
// `main`. `check` is one. It needs nothing that the standard library initializes.
#[cfg(unix)]
#[used]
#[cfg_attr(
    target_vendor = "apple",
    unsafe(link_section = "__DATA,__mod_init_func")
)]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static CHECK: extern "C" fn() = check;

#[cfg(unix)]
extern "C" fn check() {
    // SAFETY: `F_GETFD` takes no third argument, accesses no memory and changes nothing.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    CLOSED.store(flags == -1, Ordering::Relaxed);
}
