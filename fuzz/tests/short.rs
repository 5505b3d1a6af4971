//! Runs every target 2,000 times without instrumentation, and once on each input of a former crash.
//! Also runs the target `pth` on large pickles.

use std::path::Path;

use fuzz::{allocator, engine, targets};

#[global_allocator]
static ALLOCATOR: allocator::LimitedAllocator = allocator::LimitedAllocator;

/// All checks are in one test, because the allocator measures the memory of the whole process.
#[test]
fn targets_neither_panic_nor_exceed_the_memory_limit() {
    former_crashes_are_fixed();
    long_pickles_do_not_exceed_the_memory_limit();
    let folder = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir_in(targets::scratch_parent()).unwrap();
    for target in &mut targets::all(scratch.path()) {
        let seeds = target.seeds().len();
        let outcome =
            engine::run(target.as_mut(), 2_000, 1, scratch.path(), folder.path()).unwrap();
        println!("{}", engine::table(std::slice::from_ref(&outcome)));
        assert_eq!(outcome.crashes.len(), 0, "{:#?}", outcome.crashes);
        assert_eq!(outcome.executions, 2_000);
        assert!(outcome.peak < allocator::LIMIT);
        // Some inputs are accepted and some are not, so the target does read its input.
        assert!(outcome.accepted > 0, "{}", outcome.target);
        assert!(
            outcome.accepted < 2_000,
            "{}: {seeds} seeds",
            outcome.target
        );
    }
}

/// Runs each file in `fuzz/crashes`, if there are any, with the target whose name begins the file's
/// name.
fn former_crashes_are_fixed() {
    let scratch = tempfile::tempdir_in(targets::scratch_parent()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crashes");
    for target in &mut targets::all(scratch.path()) {
        let prefix = format!("{}-", target.name());
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                target.run(&std::fs::read(entry.path()).unwrap());
            }
        }
    }
}

/// Runs pickles of the maximum accepted size, with the opcodes that need the most memory per byte.
/// Mutations do not produce inputs of this size.
fn long_pickles_do_not_exceed_the_memory_limit() {
    const PICKLE_LEN: usize = 2 << 20;
    let scratch = tempfile::tempdir_in(targets::scratch_parent()).unwrap();
    let mut all = targets::all(scratch.path());
    let pth = all.iter_mut().find(|target| target.name() == "pth");
    let pth = pth.expect("the target exists");
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\nq\x01((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000\
        X\x03\0\0\0cpuK\x01tQK\0(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01tq\x02h\x02tq\x03";
    let starts: [(&[u8], &[u8]); 5] = [
        (b"", b"N"),
        (b"", b"}"),
        (b"", b"N\x85"),
        (b"", b"X\0\0\0\0"),
        // Tensors with eight dimensions.
        (tensor, b"h\x01h\x03R"),
    ];
    for (start, repeated) in starts {
        // The first byte is the index of the seed whose pickle is replaced.
        let mut pickle = [b"\0\x80\x02", start].concat();
        pickle.extend(repeated.repeat((PICKLE_LEN - pickle.len()) / repeated.len()));
        pickle.push(b'.');
        let before = allocator::reset_peak();
        assert!(!pth.run(&pickle), "this is not a state dict");
        let peak = allocator::peak() - before;
        println!(
            "{:?}: {} MiB",
            repeated.escape_ascii().to_string(),
            peak >> 20
        );
        assert!(peak > 64 << 20, "the pickle was not parsed: {peak}");
        assert!(peak < allocator::LIMIT);
    }
}
