//! Memory that is used again.
//!
//! A training step allocates and frees hundreds of megabytes of activations. The C library gives such blocks back
//! to the system at once and asks for them anew in the next step, and each time every page is cleared and every
//! core told: a third of a step on two cores, more on many. Kept, they cost nothing; the peak is the same.

/// Tells the allocator to keep large blocks. To be called once, before other threads start.
///
/// Only glibc can be told; elsewhere this does nothing.
pub fn keep_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let settings = [
            (libc::M_MMAP_MAX, 0),
            (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
            (libc::M_TOP_PAD, 64 << 20),
            (libc::M_ARENA_MAX, 1),
        ];
        for (setting, value) in settings {
            // SAFETY: `mallopt` only changes numbers inside the allocator; no other thread runs yet. Its failure
            // would leave the default, which is slower and no less correct.
            unsafe { libc::mallopt(setting, value) };
        }
    }
}
