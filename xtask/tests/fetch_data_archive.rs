//! `fetch-data` with local archives: valid ones, damaged ones and malicious ones.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::archive::{
    assert_complete, corrupt_zip, files, good_zip, hex, names, noise, options, zip_with,
};
use tempfile::TempDir;
use xtask::fetch_data::{
    Error, HYMENOPTERA_MANIFEST, Limits, Manifest, Options, Outcome, Problem, Source, fetch,
};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A temporary directory with an archive and a destination. The destination is in a directory of
/// its own, so that tests see every file that is written next to it.
struct Fixture {
    _folder: TempDir,
    outer: PathBuf,
    data: PathBuf,
    options: Options,
}

impl Fixture {
    fn with(zip: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outer = folder.path().join("outer");
        let data = outer.join("data");
        fs::create_dir_all(&data).unwrap();
        let archive = folder.path().join("archive.zip");
        fs::write(&archive, zip).unwrap();
        Self {
            options: options(archive.to_str().unwrap(), &data.join("set")),
            _folder: folder,
            outer,
            data,
        }
    }

    fn run(&self) -> Result<Outcome, Error> {
        fetch(&self.options, &mut |_| {})
    }

    /// Expects an error that leaves no files behind.
    fn expect_error(&self) -> Error {
        let error = self.run().unwrap_err();
        assert_eq!(names(&self.data), [""; 0], "{error}");
        assert_eq!(names(&self.outer), ["data"], "{error}");
        error
    }
}

/// Replaces an entry's name with one of the same length, because `ZipWriter` does not write invalid
/// names.
fn renamed(mut zip: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let offsets: Vec<usize> = zip
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert_eq!(
        offsets.len(),
        2,
        "in the local header and in the central directory"
    );
    for at in offsets {
        zip[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    zip
}

fn zip_with_extra(name: &str, bytes: &[u8]) -> Vec<u8> {
    zip_with(&files(), |zip| {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    })
}

#[test]
fn a_local_archive_is_unpacked_and_kept() {
    let fixture = Fixture::with(&good_zip());
    assert!(matches!(
        fixture.run().unwrap(),
        Outcome::Fetched { files: 4, .. }
    ));
    assert_complete(&fixture.options.target);
    let Source::File(archive) = &fixture.options.source else {
        unreachable!("the source is a file");
    };
    assert!(archive.is_file());
}

#[test]
fn a_damaged_directory_is_repaired() {
    let fixture = Fixture::with(&good_zip());
    fixture.run().unwrap();
    let target = &fixture.options.target;
    fs::remove_file(target.join("val/ants/d.jpg")).unwrap();
    fs::write(target.join("val/bees/e.gif"), b"short").unwrap();
    assert!(matches!(fixture.run().unwrap(), Outcome::Fetched { .. }));
    assert_complete(target);
}

#[test]
fn a_complete_directory_is_replaced_only_with_force() {
    let mut fixture = Fixture::with(&good_zip());
    fixture.run().unwrap();
    assert!(matches!(
        fixture.run().unwrap(),
        Outcome::UpToDate {
            files: 4,
            bytes: 28_500,
            ..
        }
    ));
    fixture.options.force = true;
    assert!(matches!(fixture.run().unwrap(), Outcome::Fetched { .. }));
    assert_complete(&fixture.options.target);
}

#[test]
fn unlisted_files_are_reported_and_never_removed() {
    let mut fixture = Fixture::with(&good_zip());
    fixture.run().unwrap();
    let target = fixture.options.target.clone();
    fs::write(target.join("val/notes.txt"), b"unrelated").unwrap();
    fs::write(target.join("val/.DS_Store"), b"system file").unwrap();
    let unlisted = Problem::Extra("val/notes.txt".to_owned());
    match fixture.run().unwrap() {
        Outcome::UpToDate { extra, .. } => assert_eq!(extra, std::slice::from_ref(&unlisted)),
        outcome @ Outcome::Fetched { .. } => panic!("{outcome:?}"),
    }

    fs::remove_file(target.join("val/bees/e.gif")).unwrap();
    for force in [false, true] {
        fixture.options.force = force;
        match fixture.run().unwrap_err() {
            Error::ExtraFiles { extra, .. } => assert_eq!(extra, std::slice::from_ref(&unlisted)),
            error => panic!("{error}"),
        }
        assert_eq!(
            fs::read(target.join("val/notes.txt")).unwrap(),
            b"unrelated"
        );
    }

    // System files do not prevent the replacement.
    fs::remove_file(target.join("val/notes.txt")).unwrap();
    fixture.run().unwrap();
    assert_complete(&target);
}

#[test]
fn a_file_at_the_destination_is_not_removed() {
    let fixture = Fixture::with(&good_zip());
    fs::write(&fixture.options.target, b"unrelated").unwrap();
    let error = fixture.run().unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(fs::read(&fixture.options.target).unwrap(), b"unrelated");
}

#[test]
fn parent_directories_are_created() {
    let mut fixture = Fixture::with(&good_zip());
    fixture.options.target = fixture.data.join("a/b/set");
    fixture.run().unwrap();
    assert_complete(&fixture.options.target);
}

#[test]
fn files_of_an_interrupted_run_are_removed() {
    let fixture = Fixture::with(&good_zip());
    let half = fixture.data.join(".set.fetch/unpacked/train/ants");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("a.jpg"), b"half").unwrap();
    fs::create_dir_all(fixture.data.join(".set.old/train")).unwrap();
    fs::create_dir_all(&fixture.options.target).unwrap();
    fixture.run().unwrap();
    assert_complete(&fixture.options.target);
}

#[test]
fn concurrent_runs_are_excluded() {
    let fixture = Fixture::with(&good_zip());
    let staging = fixture.data.join(".set.fetch");
    fs::create_dir_all(&staging).unwrap();
    let other = File::create(staging.join("lock")).unwrap();
    other.try_lock().unwrap();
    let error = fixture.run().unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert!(
        staging.join("lock").exists(),
        "the lock of the other run is kept"
    );
    drop(other);
    fixture.run().unwrap();
    assert_complete(&fixture.options.target);
}

#[test]
fn differences_from_the_manifest_are_listed() {
    let mut wrong = files();
    wrong[0].1[0] ^= 1;
    wrong.remove(2);
    wrong.push(("val/ants/new.jpg", noise(9, 10)));
    let fixture = Fixture::with(&zip_with(&wrong, |_| {}));
    let error = fixture.expect_error();
    let text = error.to_string();
    for line in [
        "corrupt: train/ants/a.jpg",
        "missing: val/ants/d.jpg",
        "not in the manifest: set/val/ants/new.jpg",
        "--from",
    ] {
        assert!(text.contains(line), "{text}");
    }
    match error {
        Error::Mismatch { problems, .. } => assert_eq!(problems.len(), 3),
        error => panic!("{error}"),
    }
}

#[test]
fn a_long_list_of_differences_is_shortened() {
    let many: Vec<(String, Vec<u8>)> = (0..50)
        .map(|index| (format!("x/{index}.jpg"), vec![0]))
        .collect();
    let many: Vec<(&str, Vec<u8>)> = many
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.clone()))
        .collect();
    let text = Fixture::with(&zip_with(&many, |_| {}))
        .expect_error()
        .to_string();
    assert!(
        text.contains("and 34 more"),
        "20 of 50 extra and 4 missing files are listed: {text}"
    );
}

#[test]
fn system_files_in_the_archive_are_ignored() {
    let fixture = Fixture::with(&zip_with_extra("__MACOSX/set/._a.jpg", b"system file"));
    fixture.run().unwrap();
    assert_complete(&fixture.options.target);
}

#[test]
fn files_outside_of_the_data_set_are_rejected() {
    let error = Fixture::with(&zip_with_extra("other/a.jpg", b"x")).expect_error();
    assert!(
        error
            .to_string()
            .contains("not in the manifest: other/a.jpg"),
        "{error}"
    );
    // A directory whose name begins with the data set's name is another directory.
    let error = Fixture::with(&zip_with_extra("settings/a.jpg", b"x")).expect_error();
    assert!(
        error
            .to_string()
            .contains("not in the manifest: settings/a.jpg"),
        "{error}"
    );
}

#[test]
fn paths_outside_of_the_directory_are_rejected() {
    for evil in [
        "../evil.jpg",
        "set/../../e",
        "set/..\\evil",
        "/tmp/evilxx",
        "C:/evil.jpg",
        "set//evil12",
        "set/./evil1",
    ] {
        let placeholder = "q".repeat(evil.len());
        let zip = renamed(zip_with_extra(&placeholder, b"evil"), &placeholder, evil);
        let error = Fixture::with(&zip).expect_error();
        assert!(
            matches!(&error, Error::Unsafe { entry, .. } if entry == evil),
            "{evil}: {error}"
        );
        assert!(!Path::new("/tmp/evilxx").exists());
    }
}

#[test]
fn links_are_rejected() {
    let fixture = Fixture::with(&zip_with(&files(), |zip| {
        zip.add_symlink(
            "set/train/link.jpg",
            "../../..",
            SimpleFileOptions::default(),
        )
        .unwrap();
    }));
    let error = fixture.expect_error();
    assert!(error.to_string().contains("is a link"), "{error}");

    // A link with the name of a listed file is rejected as well.
    let mut fewer = files();
    fewer.pop();
    let fixture = Fixture::with(&zip_with(&fewer, |zip| {
        zip.add_symlink(
            "set/val/bees/e.gif",
            "/etc/hostname",
            SimpleFileOptions::default(),
        )
        .unwrap();
    }));
    assert!(matches!(fixture.expect_error(), Error::Unsafe { .. }));
}

#[test]
fn devices_are_rejected() {
    let mut zip = zip_with(&files(), |_| {});
    // The Unix mode is in the upper 16 bits of the external attributes, at offset 38 of a central
    // directory entry.
    let at = zip
        .windows(4)
        .rposition(|window| window == b"PK\x01\x02")
        .unwrap();
    let mode = u32::from_le_bytes(zip[at + 38..at + 42].try_into().unwrap());
    let device = (mode & 0x0fff_ffff) | (0o020_000 << 16);
    zip[at + 38..at + 42].copy_from_slice(&device.to_le_bytes());
    let error = Fixture::with(&zip).expect_error();
    assert!(
        error.to_string().contains("neither a file nor a directory"),
        "{error}"
    );
}

#[test]
fn duplicate_entries_are_rejected() {
    let zip = zip_with_extra("set/val/ants/q.jpg", b"other");
    let error =
        Fixture::with(&renamed(zip, "set/val/ants/q.jpg", "set/val/ants/d.jpg")).expect_error();
    assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
}

#[test]
fn archives_over_a_limit_are_rejected() {
    let exact = Limits {
        archive_bytes: good_zip().len() as u64,
        entries: 5,
        file_bytes: 12_000,
        total_bytes: 28_500,
    };
    let mut fixture = Fixture::with(&good_zip());
    for limits in [
        Limits {
            archive_bytes: exact.archive_bytes - 1,
            ..exact
        },
        Limits {
            entries: 4,
            ..exact
        },
        Limits {
            file_bytes: 11_999,
            ..exact
        },
        Limits {
            total_bytes: 28_499,
            ..exact
        },
    ] {
        fixture.options.limits = limits;
        let error = fixture.expect_error();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
    }
    fixture.options.limits = exact;
    fixture.run().unwrap();
    assert_complete(&fixture.options.target);
}

#[test]
fn a_zip_bomb_is_stopped_even_with_a_false_size() {
    let bomb = {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let packed = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("set/train/ants/a.jpg", packed).unwrap();
        zip.write_all(&vec![0; 8 << 20]).unwrap();
        zip.finish().unwrap().into_inner()
    };
    assert!(bomb.len() < 20_000);
    let mut fixture = Fixture::with(&bomb);
    fixture.options.limits.file_bytes = 100_000;
    let error = fixture.expect_error();
    assert!(matches!(error, Error::Limit { .. }), "{error}");

    // The same archive with a false size in its headers.
    let mut disguised = bomb;
    let size = (8_u32 << 20).to_le_bytes();
    let offsets: Vec<usize> = disguised
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == size)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(
        offsets.len(),
        2,
        "in the local header and in the central directory"
    );
    for at in offsets {
        disguised[at..at + 4].copy_from_slice(&9_000_u32.to_le_bytes());
    }
    let mut fixture = Fixture::with(&disguised);
    fixture.options.limits.file_bytes = 100_000;
    let error = fixture.expect_error();
    assert!(
        matches!(error, Error::Limit { .. } | Error::Mismatch { .. }),
        "{error}"
    );
}

#[test]
fn invalid_and_truncated_archives_are_rejected() {
    let zip = good_zip();
    for bytes in [&b""[..], b"not a zip", &zip[..zip.len() / 2]] {
        let error = Fixture::with(bytes).expect_error();
        assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
    }
}

#[test]
fn an_archive_with_any_damaged_byte_is_never_unpacked_incorrectly() {
    let zip = good_zip();
    for at in (0..zip.len()).step_by(211) {
        let mut damaged = zip.clone();
        damaged[at] ^= 0x55;
        let fixture = Fixture::with(&damaged);
        // Some bytes, such as timestamps, do not affect the contents.
        if fixture.run().is_ok() {
            assert_complete(&fixture.options.target);
        } else {
            assert_eq!(names(&fixture.data), [""; 0], "byte {at}");
        }
    }
}

#[test]
fn a_missing_archive_is_an_error_with_its_path() {
    let mut fixture = Fixture::with(&good_zip());
    fixture.options.source = Source::parse("nowhere/set.zip").unwrap();
    let error = fixture.expect_error();
    assert!(matches!(error, Error::NoSuchFile { .. }), "{error}");
    assert!(error.to_string().contains("nowhere/set.zip"), "{error}");
}

#[test]
fn sources_are_urls_or_paths() {
    let url = "https://example.org/set.zip";
    assert_eq!(Source::parse(url).unwrap(), Source::Url(url.to_owned()));
    assert_eq!(
        Source::parse("a/b.zip").unwrap(),
        Source::File("a/b.zip".into())
    );
    assert!(matches!(
        Source::parse("ftp://x/y.zip"),
        Err(Error::Address { .. })
    ));
}

#[test]
fn an_invalid_manifest_is_an_error_with_the_line() {
    let hash = hex(b"x");
    for (text, line, reason) in [
        (String::new(), 1, "empty"),
        (format!("{hash}  set/a\nabc  set/b\n"), 2, "64 hexadecimal"),
        (format!("{hash}  set/a\n{hash} set/b\n"), 2, "two spaces"),
        (format!("{hash}  a.jpg\n"), 1, "relative path"),
        (format!("{hash}  set/../a\n"), 1, "relative path"),
        (format!("{hash}  /set/a\n"), 1, "relative path"),
        (
            format!("{hash}  set/a\n{hash}  other/a\n"),
            2,
            "one directory",
        ),
        (format!("{hash}  set/a\n{hash}  set/a\n"), 2, "duplicate"),
        (format!("+{}  set/a\n", &hash[1..]), 1, "64 hexadecimal"),
    ] {
        let error = Manifest::parse(&text).unwrap_err();
        assert!(
            matches!(error, Error::Manifest { line: actual, .. } if actual == line),
            "{text}: {error}"
        );
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
    // CRLF line ends, and the star that marks binary mode.
    let manifest = Manifest::parse(&format!("{hash} *set/a\r\n{hash}  set/b c\r\n")).unwrap();
    let paths: Vec<&str> = manifest.files().map(|(path, _)| path).collect();
    assert_eq!(paths, ["a", "b c"]);
}

#[test]
fn the_photographs_match_the_tutorial() {
    let manifest = Manifest::parse(HYMENOPTERA_MANIFEST).unwrap();
    assert_eq!((manifest.name(), manifest.len()), ("hymenoptera_data", 398));
    let images = |folder: &str| {
        manifest
            .files()
            .filter(|(path, _)| path.starts_with(folder) && !path.ends_with(".gif"))
            .count()
    };
    assert_eq!([images("train/ants/"), images("train/bees/")], [123, 121]);
    assert_eq!([images("val/ants/"), images("val/bees/")], [70, 83]);
}

#[test]
fn the_program_prints_an_error_without_a_backtrace() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("wrong.zip");
    fs::write(&archive, corrupt_zip()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["fetch-data", "--from", archive.to_str().unwrap(), "--data"])
        .arg(folder.path().join("set"))
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("error: "), "{message}");
    assert!(
        message.contains("missing: train/ants/0013035.jpg"),
        "{message}"
    );
    assert!(!message.contains("backtrace"), "{message}");
    assert_eq!(names(folder.path()), ["wrong.zip"]);
}
