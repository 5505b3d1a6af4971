//! A data set of four small files, with valid and invalid archives of it.

use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;
use std::time::Duration;
use xtask::fetch_data::{Manifest, Options, RetryPolicy, Source, client};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Paths relative to `set/`, and contents. One name contains a space, as in the real data set.
pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("train/ants/a.jpg", noise(1, 9_000)),
        ("train/bees/b c.jpg", noise(2, 12_000)),
        ("val/ants/d.jpg", noise(3, 7_000)),
        ("val/bees/e.gif", noise(4, 500)),
    ]
}

/// Bytes that do not compress, so that the size of the archive is predictable.
pub fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_769) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        })
        .collect()
}

/// The manifest of [`files`].
pub fn manifest() -> Manifest {
    let lines: Vec<String> = files()
        .iter()
        .map(|(path, bytes)| format!("{}  set/{path}\n", hex(bytes)))
        .collect();
    Manifest::parse(&lines.concat()).unwrap()
}

/// The SHA-256 of `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Creates an archive of `files`. `change` may add entries.
pub fn zip_with(
    files: &[(&str, Vec<u8>)],
    change: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>),
) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    zip.add_directory("set/", options).unwrap();
    for (path, bytes) in files {
        zip.start_file(format!("set/{path}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    change(&mut zip);
    zip.finish().unwrap().into_inner()
}

/// A valid archive.
pub fn good_zip() -> Vec<u8> {
    zip_with(&files(), |_| {})
}

/// A valid zip archive in which one file differs from the manifest.
pub fn corrupt_zip() -> Vec<u8> {
    let mut files = files();
    files[1].1[5_000] ^= 1;
    zip_with(&files, |_| {})
}

/// Options without proxies and with short pauses.
pub fn options(from: &str, target: &Path) -> Options {
    let mut options = Options::new(
        Source::parse(from).unwrap(),
        manifest(),
        target.to_path_buf(),
    );
    options.agent = client(false);
    options.retry = RetryPolicy {
        attempts: 3,
        first_pause: Duration::from_millis(1),
        max_pause: Duration::from_millis(5),
        max_bytes: 1 << 20,
    };
    options
}

/// Checks that `target` contains exactly the data set and that no other files are next to it.
pub fn assert_complete(target: &Path) {
    for (path, bytes) in files() {
        assert!(fs::read(target.join(path)).unwrap() == bytes, "{path}");
    }
    let check = manifest().check(target).unwrap();
    assert_eq!((check.problems, check.extra), (vec![], vec![]));
    assert_eq!(names(target.parent().unwrap()), ["set"]);
}

/// The sorted names of the entries of a directory.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
