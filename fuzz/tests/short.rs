//! A short run of every target, without instrumentation: what once crashed, and two thousand executions each.

use std::path::Path;

use fuzz::{allocator, engine, targets};

#[global_allocator]
static ALLOCATOR: allocator::Limited = allocator::Limited;

/// One test: the targets measure the memory of the whole process.
#[test]
fn hostile_input_neither_panics_nor_takes_too_much() {
    what_once_crashed_does_not_any_more();
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
