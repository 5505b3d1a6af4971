//! `fetch-data` and archives on disk: what is in place afterwards, and what is refused.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::archive::{
    assert_complete, corrupt_zip, files, good_zip, hex, manifest, names, noise, options, zip_with,
};
use tempfile::TempDir;
use xtask::fetch_data::{
    Error, HYMENOPTERA_MANIFEST, Limits, Manifest, Options, Outcome, Problem, Source, fetch,
};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A folder with an archive, and the destination in a folder of its own, so that a test sees
/// everything that is written beside it.
struct Place {
    _folder: TempDir,
    outer: PathBuf,
    data: PathBuf,
    options: Options,
}

impl Place {
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

    /// Runs, expecting an error and no trace of the attempt.
    fn refused(&self) -> Error {
        let error = self.run().unwrap_err();
        assert_eq!(names(&self.data), [""; 0], "{error}");
        assert_eq!(names(&self.outer), ["data"], "{error}");
        error
    }
}

/// `zip` with every occurrence of a name replaced by one of the same length. The writer of archives
/// would not write such names.
fn renamed(mut zip: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = zip
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert_eq!(
        places.len(),
        2,
        "once before the file and once in the directory"
    );
    for at in places {
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
fn a_copy_is_unpacked_and_left_where_it_is() {
    let place = Place::with(&good_zip());
    assert!(matches!(
        place.run().unwrap(),
        Outcome::Fetched { files: 4, .. }
    ));
    assert_complete(&place.options.target);
    let Source::File(archive) = &place.options.source else {
        unreachable!("the place has a file");
    };
    assert!(archive.is_file());
}

#[test]
fn a_damaged_folder_is_repaired() {
    let place = Place::with(&good_zip());
    place.run().unwrap();
    let target = &place.options.target;
    fs::remove_file(target.join("val/ants/d.jpg")).unwrap();
    fs::write(target.join("val/bees/e.gif"), b"short").unwrap();
    assert!(matches!(place.run().unwrap(), Outcome::Fetched { .. }));
    assert_complete(target);
}

#[test]
fn a_complete_folder_is_fetched_anew_only_by_force() {
    let mut place = Place::with(&good_zip());
    place.run().unwrap();
    assert!(matches!(
        place.run().unwrap(),
        Outcome::AlreadyThere {
            files: 4,
            bytes: 28_500,
            ..
        }
    ));
    place.options.force = true;
    assert!(matches!(place.run().unwrap(), Outcome::Fetched { .. }));
    assert_complete(&place.options.target);
}

#[test]
fn files_of_others_are_reported_and_never_removed() {
    let mut place = Place::with(&good_zip());
    place.run().unwrap();
    let target = place.options.target.clone();
    fs::write(target.join("val/mine.txt"), b"mine").unwrap();
    fs::write(target.join("val/.DS_Store"), b"litter").unwrap();
    let mine = Problem::Extra("val/mine.txt".to_owned());
    match place.run().unwrap() {
        Outcome::AlreadyThere { extra, .. } => assert_eq!(extra, std::slice::from_ref(&mine)),
        outcome @ Outcome::Fetched { .. } => panic!("{outcome:?}"),
    }

    fs::remove_file(target.join("val/bees/e.gif")).unwrap();
    for force in [false, true] {
        place.options.force = force;
        match place.run().unwrap_err() {
            Error::InTheWay { extra, .. } => assert_eq!(extra, std::slice::from_ref(&mine)),
            error => panic!("{error}"),
        }
        assert_eq!(fs::read(target.join("val/mine.txt")).unwrap(), b"mine");
    }

    // Litter of the desktop is in nobody's way.
    fs::remove_file(target.join("val/mine.txt")).unwrap();
    place.run().unwrap();
    assert_complete(&target);
}

#[test]
fn a_file_in_the_place_of_the_folder_is_not_removed() {
    let place = Place::with(&good_zip());
    fs::write(&place.options.target, b"mine").unwrap();
    let error = place.run().unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert_eq!(fs::read(&place.options.target).unwrap(), b"mine");
}

#[test]
fn folders_above_the_destination_are_made() {
    let mut place = Place::with(&good_zip());
    place.options.target = place.data.join("a/b/set");
    place.run().unwrap();
    assert_complete(&place.options.target);
}

#[test]
fn what_an_interrupted_run_left_is_no_obstacle() {
    let place = Place::with(&good_zip());
    let half = place.data.join(".set.fetch/unpacked/train/ants");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("a.jpg"), b"half").unwrap();
    fs::create_dir_all(place.data.join(".set.old/train")).unwrap();
    fs::create_dir_all(&place.options.target).unwrap();
    place.run().unwrap();
    assert_complete(&place.options.target);
}

#[test]
fn two_runs_do_not_meet() {
    let place = Place::with(&good_zip());
    let workshop = place.data.join(".set.fetch");
    fs::create_dir_all(&workshop).unwrap();
    let other = File::create(workshop.join("lock")).unwrap();
    other.try_lock().unwrap();
    let error = place.run().unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert!(workshop.join("lock").exists(), "the other run's lock stays");
    drop(other);
    place.run().unwrap();
    assert_complete(&place.options.target);
}

#[test]
fn every_difference_to_the_manifest_is_listed() {
    let mut wrong = files();
    wrong[0].1[0] ^= 1;
    wrong.remove(2);
    wrong.push(("val/ants/new.jpg", noise(9, 10)));
    let place = Place::with(&zip_with(&wrong, |_| {}));
    let error = place.refused();
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
fn a_long_list_of_differences_is_cut() {
    let many: Vec<(String, Vec<u8>)> = (0..50)
        .map(|index| (format!("x/{index}.jpg"), vec![0]))
        .collect();
    let many: Vec<(&str, Vec<u8>)> = many
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.clone()))
        .collect();
    let text = Place::with(&zip_with(&many, |_| {})).refused().to_string();
    assert!(
        text.contains("and 34 more"),
        "50 extra and 4 missing, 20 listed: {text}"
    );
}

#[test]
fn litter_in_the_archive_is_left_out() {
    let place = Place::with(&zip_with_extra("__MACOSX/set/._a.jpg", b"litter"));
    place.run().unwrap();
    assert_complete(&place.options.target);
}

#[test]
fn files_beside_the_folder_are_refused() {
    let error = Place::with(&zip_with_extra("other/a.jpg", b"x")).refused();
    assert!(
        error
            .to_string()
            .contains("not in the manifest: other/a.jpg"),
        "{error}"
    );
    // A folder whose name only begins alike is another folder.
    let error = Place::with(&zip_with_extra("settings/a.jpg", b"x")).refused();
    assert!(
        error
            .to_string()
            .contains("not in the manifest: settings/a.jpg"),
        "{error}"
    );
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for evil in [
        "../evil.jpg",
        "set/../../e",
        "set/..\\evil",
        "/tmp/evilxx",
        "C:/evil.jpg",
        "set//evil12",
        "set/./evil1",
    ] {
        let honest = "q".repeat(evil.len());
        let zip = renamed(zip_with_extra(&honest, b"evil"), &honest, evil);
        let error = Place::with(&zip).refused();
        assert!(
            matches!(&error, Error::Unsafe { entry, .. } if entry == evil),
            "{evil}: {error}"
        );
        assert!(!Path::new("/tmp/evilxx").exists());
    }
}

#[test]
fn links_are_refused() {
    let place = Place::with(&zip_with(&files(), |zip| {
        zip.add_symlink(
            "set/train/link.jpg",
            "../../..",
            SimpleFileOptions::default(),
        )
        .unwrap();
    }));
    let error = place.refused();
    assert!(error.to_string().contains("is a link"), "{error}");

    // Also under the name of a file of the data set.
    let mut fewer = files();
    fewer.pop();
    let place = Place::with(&zip_with(&fewer, |zip| {
        zip.add_symlink(
            "set/val/bees/e.gif",
            "/etc/hostname",
            SimpleFileOptions::default(),
        )
        .unwrap();
    }));
    assert!(matches!(place.refused(), Error::Unsafe { .. }));
}

#[test]
fn devices_are_refused() {
    let mut zip = zip_with(&files(), |_| {});
    // The Unix mode is in the upper half of the external attributes, at 38 in a directory entry.
    let at = zip
        .windows(4)
        .rposition(|window| window == b"PK\x01\x02")
        .unwrap();
    let mode = u32::from_le_bytes(zip[at + 38..at + 42].try_into().unwrap());
    let device = (mode & 0x0fff_ffff) | (0o020_000 << 16);
    zip[at + 38..at + 42].copy_from_slice(&device.to_le_bytes());
    let error = Place::with(&zip).refused();
    assert!(
        error.to_string().contains("neither a file nor a folder"),
        "{error}"
    );
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let zip = zip_with_extra("set/val/ants/q.jpg", b"other");
    let error = Place::with(&renamed(zip, "set/val/ants/q.jpg", "set/val/ants/d.jpg")).refused();
    assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
}

#[test]
fn limits_are_kept() {
    let generous = Limits {
        archive_bytes: good_zip().len() as u64,
        entries: 5,
        file_bytes: 12_000,
        total_bytes: 28_500,
    };
    let mut place = Place::with(&good_zip());
    for limits in [
        Limits {
            archive_bytes: generous.archive_bytes - 1,
            ..generous
        },
        Limits {
            entries: 4,
            ..generous
        },
        Limits {
            file_bytes: 11_999,
            ..generous
        },
        Limits {
            total_bytes: 28_499,
            ..generous
        },
    ] {
        place.options.limits = limits;
        let error = place.refused();
        assert!(matches!(error, Error::Limit { .. }), "{error}");
    }
    place.options.limits = generous;
    place.run().unwrap();
    assert_complete(&place.options.target);
}

#[test]
fn a_bomb_is_stopped_whatever_it_says_of_its_size() {
    let bomb = {
        let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let packed = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        zip.start_file("set/train/ants/a.jpg", packed).unwrap();
        zip.write_all(&vec![0; 8 << 20]).unwrap();
        zip.finish().unwrap().into_inner()
    };
    assert!(bomb.len() < 20_000);
    let mut place = Place::with(&bomb);
    place.options.limits.file_bytes = 100_000;
    let error = place.refused();
    assert!(matches!(error, Error::Limit { .. }), "{error}");

    // The same, claiming to have the size of the file it stands for.
    let mut liar = bomb;
    let size = (8_u32 << 20).to_le_bytes();
    let places: Vec<usize> = liar
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == size)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(places.len(), 2, "before the file and in the directory");
    for at in places {
        liar[at..at + 4].copy_from_slice(&9_000_u32.to_le_bytes());
    }
    let mut place = Place::with(&liar);
    place.options.limits.file_bytes = 100_000;
    let error = place.refused();
    assert!(
        matches!(error, Error::Limit { .. } | Error::Mismatch { .. }),
        "{error}"
    );
}

#[test]
fn what_is_no_archive_or_half_of_one_is_refused() {
    let zip = good_zip();
    for bytes in [&b""[..], b"not a zip", &zip[..zip.len() / 2]] {
        let error = Place::with(bytes).refused();
        assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
    }
}

#[test]
fn an_archive_damaged_anywhere_is_never_put_in_place_wrongly() {
    let zip = good_zip();
    for at in (0..zip.len()).step_by(211) {
        let mut damaged = zip.clone();
        damaged[at] ^= 0x55;
        let place = Place::with(&damaged);
        // Some bytes, such as times, do not matter.
        if place.run().is_ok() {
            assert_complete(&place.options.target);
        } else {
            assert_eq!(names(&place.data), [""; 0], "byte {at}");
        }
    }
}

#[test]
fn a_copy_that_is_not_there_is_named() {
    let mut place = Place::with(&good_zip());
    place.options.source = Source::parse("nowhere/set.zip").unwrap();
    let error = place.refused();
    assert!(matches!(error, Error::NoSuchFile { .. }), "{error}");
    assert!(error.to_string().contains("nowhere/set.zip"), "{error}");
}

#[test]
fn sources_are_told_apart() {
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
fn a_manifest_that_cannot_be_used_is_refused_with_its_line() {
    let hash = hex(b"x");
    for (text, line, reason) in [
        (String::new(), 1, "empty"),
        (format!("{hash}  set/a\nabc  set/b\n"), 2, "64 hexadecimal"),
        (format!("{hash}  set/a\n{hash} set/b\n"), 2, "two spaces"),
        (format!("{hash}  a.jpg\n"), 1, "plain path"),
        (format!("{hash}  set/../a\n"), 1, "plain path"),
        (format!("{hash}  /set/a\n"), 1, "plain path"),
        (format!("{hash}  set/a\n{hash}  other/a\n"), 2, "one folder"),
        (format!("{hash}  set/a\n{hash}  set/a\n"), 2, "twice"),
        (format!("+{}  set/a\n", &hash[1..]), 1, "64 hexadecimal"),
    ] {
        let error = Manifest::parse(&text).unwrap_err();
        assert!(
            matches!(error, Error::Manifest { line: found, .. } if found == line),
            "{text}: {error}"
        );
        assert!(error.to_string().contains(reason), "{text}: {error}");
    }
    // Lines as Windows ends them, and sha256sum's mark of binary mode.
    let manifest = Manifest::parse(&format!("{hash} *set/a\r\n{hash}  set/b c\r\n")).unwrap();
    let paths: Vec<&str> = manifest.files().map(|(path, _)| path).collect();
    assert_eq!(paths, ["a", "b c"]);
}

#[test]
fn the_photographs_are_those_of_the_tutorial() {
    let manifest = Manifest::parse(HYMENOPTERA_MANIFEST).unwrap();
    assert_eq!((manifest.name(), manifest.len()), ("hymenoptera_data", 398));
    let pictures = |folder: &str| {
        manifest
            .files()
            .filter(|(path, _)| path.starts_with(folder) && !path.ends_with(".gif"))
            .count()
    };
    assert_eq!(
        [pictures("train/ants/"), pictures("train/bees/")],
        [123, 121]
    );
    assert_eq!([pictures("val/ants/"), pictures("val/bees/")], [70, 83]);
}

#[test]
fn the_program_fails_with_a_message_and_without_a_backtrace() {
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
    // The small data set itself is fine; it only is another one.
    assert_eq!(manifest().len(), 4);
}
