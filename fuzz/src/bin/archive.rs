//! Unpacks a zip archive, as `cargo xtask fetch-data` does.
#![no_main]

use std::fs;
use std::io::{Cursor, Write as _};

use libfuzzer_sys::fuzz_target;
use xtask::fetch_data::{Manifest, Options, Source, fetch};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Content of the data set's only file, `set/train/ants/a.jpg`, with its SHA-256.
const CONTENT: &[u8] = b"bees";
const SUM: &str = "23da0d3b0b5aa5ee43ba33f15f971ee4cf32afd1b27ad901863346ba9dd06966";

/// Adds an archive with the data set and another entry to the corpus.
fn seed(name: &str, add: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>, SimpleFileOptions)) {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("set/train/ants/a.jpg", options)
        .expect("a valid name");
    zip.write_all(CONTENT).expect("memory can be written");
    add(&mut zip, options);
    fuzz::seed(name, zip.finish().expect("memory can be written").get_ref());
}

fn seeds() {
    seed("folder", |zip, options| {
        zip.add_directory("set/val/", options)
            .expect("a valid name")
    });
    seed("link", |zip, options| {
        zip.add_symlink("set/b", "/etc/passwd", options)
            .expect("a valid name")
    });
    seed("outside", |zip, options| {
        zip.start_file("../outside", options).expect("a valid name")
    });
}

fuzz_target!(init: seeds(), |data: &[u8]| {
    let manifest = Manifest::parse(&format!("{SUM}  set/train/ants/a.jpg\n")).expect("valid");
    let parent = fuzz::path("unpacked");
    let options = Options::new(Source::File(fuzz::write("a.zip", data)), manifest, parent.join("set"));
    let _ = fetch(&options);
    // Nothing is written but the complete data set.
    for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
        assert_eq!(entry.file_name(), "set");
        let check = options.manifest.check(&options.target).expect("the destination is readable");
        assert!(check.problems.is_empty(), "{:?}", check.problems);
    }
    assert!(!fuzz::path("outside").exists());
    let _ = fs::remove_dir_all(parent);
});
