//! A short run of every target, without instrumentation: what once crashed, and two thousand executions each.

use std::path::Path;

use fuzz::{allocator, engine, targets};

#[global_allocator]
static ALLOCATOR: allocator::Limited = allocator::Limited;

/// One test: the targets measure the memory of the whole process.
#[test]
fn hostile_input_neither_panics_nor_takes_too_much() {
    what_once_crashed_does_not_any_more();
    long_pickles_do_not_fill_the_memory();
    let folder = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir_in(targets::scratch_parent()).unwrap();
    for target in &mut targets::all(scratch.path()) {
        let good = target.seeds().len() as u64;
        let outcome =
            engine::run(target.as_mut(), 2_000, 1, scratch.path(), folder.path()).unwrap();
        println!("{}", engine::table(std::slice::from_ref(&outcome)));
        assert_eq!(outcome.crashes.len(), 0, "{:#?}", outcome.crashes);
        assert_eq!(outcome.executions, 2_000);
        assert!(outcome.peak < allocator::LIMIT);
        // Good files are accepted, and most of what is made of them is not: the target looks at its input.
        assert!(outcome.accepted > 0, "{}", outcome.target);
        assert!(
            outcome.accepted < 2_000,
            "{}: {good} good files",
            outcome.target
        );
    }
}

/// The inputs in `fuzz/crashes`, each named after its target.
fn what_once_crashed_does_not_any_more() {
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

/// Two megabytes, the most that is believed, of what makes most of a byte: longer inputs than mutations make.
fn long_pickles_do_not_fill_the_memory() {
    const LONGEST: usize = 2 << 20;
    let scratch = tempfile::tempdir_in(targets::scratch_parent()).unwrap();
    let mut all = targets::all(scratch.path());
    let pth = all.iter_mut().find(|target| target.name() == "pth");
    let pth = pth.expect("there is such a target");
    let tensor = b"ctorch._utils\n_rebuild_tensor_v2\nq\x01((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000\
        X\x03\0\0\0cpuK\x01tQK\0(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01tq\x02h\x02tq\x03";
    let starts: [(&[u8], &[u8]); 5] = [
        (b"", b"N"),
        (b"", b"}"),
        (b"", b"N\x85"),
        (b"", b"X\0\0\0\0"),
        // Tensors of eight dimensions.
        (tensor, b"h\x01h\x03R"),
    ];
    for (start, again) in starts {
        let mut pickle = [b"\0\x80\x02", start].concat();
        pickle.extend(again.repeat((LONGEST - pickle.len()) / again.len()));
        // The byte before the pickle says which file it goes into.
        pickle.push(b'.');
        let before = allocator::start();
        assert!(!pth.run(&pickle), "it is no state dict");
        let peak = allocator::peak() - before;
        println!("{:?}: {} MiB", again.escape_ascii().to_string(), peak >> 20);
        assert!(peak > 64 << 20, "the pickle was not read: {peak}");
        assert!(peak < allocator::LIMIT);
    }
}
