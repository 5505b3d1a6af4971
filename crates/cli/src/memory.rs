//! Settings for the C memory allocator.
//!
//! A training step allocates and frees hundreds of megabytes of activations. By default, glibc
//! returns such blocks to the system at once and maps new ones in the next step. The kernel then
//! clears every page and invalidates the TLB of every core, which takes a third of a step on two
//! cores and more on many. Keeping the blocks avoids that and does not change peak memory use.

/// Makes glibc keep large freed blocks, and returns true.
///
/// Returns false and changes nothing if other threads are running, if `/proc` is not mounted, and
/// with other C libraries.
pub fn keep_large_blocks() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        if threads != 1 {
            return false;
        }
        let settings = [
            (libc::M_MMAP_MAX, 0),
            (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
            (libc::M_TOP_PAD, 64 << 20),
            (libc::M_ARENA_MAX, 1),
        ];
        for (setting, value) in settings {
            // SAFETY: `mallopt` must not race with allocations of other threads. There are none, and
            // only this thread could start one. `mallopt` only sets parameters; if it fails, the
            // slower default stays in effect.
            unsafe { libc::mallopt(setting, value) };
        }
        true
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_is_not_changed_while_other_threads_run() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(!keep_large_blocks());
        drop(stop);
        let _ = other.join();
    }
}
