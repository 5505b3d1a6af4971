//! `fetch-data` with valid, damaged and malicious archives, from local files and servers.

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use fetch::test_server::{Response, Server};
use tempfile::TempDir;
use xtask::fetch_data::{HYMENOPTERA_MANIFEST, Limits, Manifest, Options, Outcome, Source, fetch};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

type Zip = ZipWriter<Cursor<Vec<u8>>>;

/// Paths relative to `set/`, and contents. One name contains a space, as in the real data set.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("train/ants/a.jpg", vec![1; 9_000]),
        ("train/bees/b c.jpg", vec![2; 12_000]),
        ("val/ants/d.jpg", vec![3; 7_000]),
        ("val/bees/e.gif", vec![4; 500]),
    ]
}

fn hash(mut bytes: &[u8]) -> String {
    fetch::sha256(&mut bytes).unwrap()
}

/// The manifest of [`files`].
fn manifest() -> Manifest {
    let files = files();
    let lines = files
        .iter()
        .map(|(path, bytes)| format!("{}  set/{path}\n", hash(bytes)));
    Manifest::parse(&lines.collect::<String>()).unwrap()
}

/// Creates an archive of `files`. `change` may add entries.
fn zip_of(files: &[(&str, Vec<u8>)], change: impl FnOnce(&mut Zip)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    zip.add_directory("set/", options).unwrap();
    for (path, bytes) in files {
        zip.start_file(format!("set/{path}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    change(&mut zip);
    zip.finish().unwrap().into_inner()
}

fn good_zip() -> Vec<u8> {
    zip_of(&files(), |_| {})
}

/// A valid zip archive in which one file differs from the manifest.
fn corrupt_zip() -> Vec<u8> {
    let mut files = files();
    files[1].1[5_000] ^= 1;
    zip_of(&files, |_| {})
}

fn zip_with_extra(name: &str, bytes: &[u8]) -> Vec<u8> {
    zip_of(&files(), |zip| {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    })
}

/// Replaces bytes that occur in the local header and in the central directory of an archive,
/// because `ZipWriter` writes only valid headers.
fn replaced(mut zip: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let windows = zip.windows(from.len()).enumerate();
    let offsets: Vec<usize> = windows
        .filter(|(_, window)| *window == from)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(offsets.len(), 2);
    for at in offsets {
        zip[at..at + to.len()].copy_from_slice(to);
    }
    zip
}

/// The sorted names of the entries of a directory.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A temporary directory with an archive and a destination. The destination is in a directory of
/// its own, so that tests see every file that is written next to it.
struct Fixture {
    _folder: TempDir,
    archive: PathBuf,
    data: PathBuf,
    options: Options,
}

impl Fixture {
    fn new(zip: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("outer/data");
        fs::create_dir_all(&data).unwrap();
        let archive = folder.path().join("archive.zip");
        fs::write(&archive, zip).unwrap();
        let source = Source::File(archive.clone());
        Self {
            options: Options::new(source, manifest(), data.join("set")),
            archive,
            data,
            _folder: folder,
        }
    }

    /// A fixture whose source is `/set.zip` on a server.
    fn url(server: &Server) -> Self {
        let mut fixture = Self::new(b"");
        fixture.set_url(server, "set.zip");
        fixture
    }

    fn set_url(&mut self, server: &Server, path: &str) {
        self.options.source = Source::parse(&format!("{}/{path}", server.url)).unwrap();
    }

    /// Expects that the destination is created or replaced, and that it has exactly the right files
    /// and nothing next to it.
    fn expect_fetched(&self) {
        let outcome = fetch(&self.options).unwrap();
        assert!(
            matches!(outcome, Outcome::Fetched { bytes: 28_500 }),
            "{outcome:?}"
        );
        for (path, bytes) in files() {
            let actual = fs::read(self.options.target.join(path)).unwrap();
            assert!(actual == bytes, "{path}");
        }
        let check = manifest().check(&self.options.target).unwrap();
        assert_eq!((check.problems.len(), check.extra.len()), (0, 0));
        let folder = self.options.target.parent().unwrap();
        assert_eq!(names(folder), ["set"]);
    }

    fn error(&self) -> String {
        format!("{:#}", fetch(&self.options).unwrap_err())
    }

    /// Expects an error that contains `text` and leaves no files behind.
    fn expect_error(&self, text: &str) {
        let error = self.error();
        assert!(error.contains(text), "{error}");
        assert_eq!(names(&self.data), [""; 0], "{error}");
        assert_eq!(names(self.data.parent().unwrap()), ["data"], "{error}");
    }
}

#[test]
fn a_local_archive_is_unpacked_and_kept() {
    let mut fixture = Fixture::new(&good_zip());
    fixture.options.target = fixture.data.join("a/b/set");
    fixture.expect_fetched();
    assert!(fixture.archive.is_file());

    // A complete destination is replaced only with `force`.
    let outcome = fetch(&fixture.options).unwrap();
    let Outcome::UpToDate(check) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!((check.bytes, check.extra.len()), (28_500, 0));
    fixture.options.force = true;
    fixture.expect_fetched();
}

#[test]
fn a_damaged_destination_and_an_interrupted_run_are_repaired() {
    let fixture = Fixture::new(&good_zip());
    let half = fixture.data.join(".set.fetch/unpacked/train/ants");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("a.jpg"), b"half").unwrap();
    fs::create_dir_all(&fixture.options.target).unwrap();
    fixture.expect_fetched();

    let target = &fixture.options.target;
    fs::remove_file(target.join("val/ants/d.jpg")).unwrap();
    fs::create_dir(target.join("val/ants/d.jpg")).unwrap();
    fs::write(target.join("val/bees/e.gif"), b"short").unwrap();
    fixture.expect_fetched();
}

#[test]
fn other_files_are_reported_and_never_removed() {
    let mut fixture = Fixture::new(&good_zip());
    fs::write(&fixture.options.target, b"unrelated").unwrap();
    assert!(fixture.error().contains("is not a directory"));
    fs::remove_file(&fixture.options.target).unwrap();

    fixture.expect_fetched();
    let notes = fixture.options.target.join("val/notes.txt");
    fs::write(&notes, b"unrelated").unwrap();
    fs::write(notes.with_file_name(".DS_Store"), b"system file").unwrap();
    match fetch(&fixture.options).unwrap() {
        Outcome::UpToDate(check) => {
            assert_eq!(check.extra, ["not in the manifest: val/notes.txt"]);
        }
        outcome => panic!("{outcome:?}"),
    }
    fs::remove_file(fixture.options.target.join("val/bees/e.gif")).unwrap();
    for force in [false, true] {
        fixture.options.force = force;
        let error = fixture.error();
        assert!(
            error.contains("not in the manifest: val/notes.txt"),
            "{error}"
        );
        assert_eq!(fs::read(&notes).unwrap(), b"unrelated");
    }
    // System files do not prevent the replacement.
    fs::remove_file(notes).unwrap();
    fixture.expect_fetched();
}

#[test]
fn concurrent_runs_are_excluded() {
    let fixture = Fixture::new(&good_zip());
    let staging = fixture.data.join(".set.fetch");
    fs::create_dir_all(&staging).unwrap();
    let other = File::create(staging.join("lock")).unwrap();
    other.try_lock().unwrap();
    assert!(fixture.error().contains("another fetch-data"));
    assert!(staging.join("lock").exists(), "the other lock is kept");
    drop(other);
    fixture.expect_fetched();
}

#[test]
fn differences_from_the_manifest_are_listed() {
    let mut wrong = files();
    wrong[0].1[0] ^= 1;
    wrong.remove(2);
    let zip = zip_of(&wrong, |zip| {
        for index in 0..30 {
            let name = format!("set/val/ants/{index}.jpg");
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
        }
    });
    let fixture = Fixture::new(&zip);
    // 20 of 1 corrupt, 30 unlisted and 1 missing file are listed.
    for line in [
        "corrupt: train/ants/a.jpg",
        "not in the manifest: set/val/ants/0.jpg",
        "and 12 more",
        "--from",
    ] {
        fixture.expect_error(line);
    }
    let fixture = Fixture::new(&zip_of(&files()[..3], |_| {}));
    fixture.expect_error("missing: val/bees/e.gif");

    // A directory whose name begins with the data set's name is another directory.
    for name in ["other/a.jpg", "settings/a.jpg"] {
        let fixture = Fixture::new(&zip_with_extra(name, b"x"));
        fixture.expect_error(&format!("not in the manifest: {name}"));
    }
    Fixture::new(&zip_with_extra("__MACOSX/set/._a.jpg", b"system file")).expect_fetched();
}

#[test]
fn unsafe_entries_are_rejected() {
    for evil in [
        "../evil.jpg",
        "set/../../e",
        "set/..\\evil",
        "/tmp/evilxx",
        "C:/evil.jpg",
        "set//evil12",
        "set/./evil1",
    ] {
        let name = "q".repeat(evil.len());
        let zip = zip_with_extra(&name, b"evil");
        let zip = replaced(zip, name.as_bytes(), evil.as_bytes());
        Fixture::new(&zip).expect_error(&format!("entry {evil:?} has a path outside"));
        assert!(!Path::new("/tmp/evilxx").exists());
    }

    // A link with the name of a listed file is rejected as well.
    for name in ["set/train/link.jpg", "set/val/bees/e.gif"] {
        let zip = zip_of(&files()[..3], |zip| {
            let options = SimpleFileOptions::default();
            zip.add_symlink(name, "/etc/hostname", options).unwrap();
        });
        Fixture::new(&zip).expect_error("is a link");
    }

    // The Unix mode is in the upper 16 bits of the external attributes, at offset 38 of a central
    // directory entry.
    let mut zip = good_zip();
    let mut headers = zip.windows(4);
    let at = headers.rposition(|window| window == b"PK\x01\x02").unwrap();
    let mode = u32::from_le_bytes(zip[at + 38..at + 42].try_into().unwrap());
    let device = (mode & 0x0fff_ffff) | (0o020_000 << 16);
    zip[at + 38..at + 42].copy_from_slice(&device.to_le_bytes());
    Fixture::new(&zip).expect_error("neither a file nor a directory");

    let zip = zip_with_extra("set/val/ants/q.jpg", b"other");
    let zip = replaced(zip, b"set/val/ants/q.jpg", b"set/val/ants/d.jpg");
    Fixture::new(&zip).expect_error("duplicate entry");
}

#[test]
fn archives_over_a_limit_are_rejected() {
    let exact = Limits {
        archive_bytes: good_zip().len() as u64,
        entries: 5,
        file_bytes: 12_000,
        total_bytes: 28_500,
    };
    let mut fixture = Fixture::new(&good_zip());
    let changes: [fn(&mut Limits); 4] = [
        |limits| limits.archive_bytes -= 1,
        |limits| limits.entries -= 1,
        |limits| limits.file_bytes -= 1,
        |limits| limits.total_bytes -= 1,
    ];
    for change in changes {
        fixture.options.limits = exact;
        change(&mut fixture.options.limits);
        fixture.expect_error("exceeds the limit");
    }
    fixture.options.limits = exact;
    fixture.expect_fetched();

    // A zip bomb, with its true size in the headers and with a false one.
    let bomb = zip_of(&[], |zip| {
        let options = SimpleFileOptions::default();
        zip.start_file("set/train/ants/a.jpg", options).unwrap();
        zip.write_all(&vec![0; 8 << 20]).unwrap();
    });
    let (size, false_size) = ((8_u32 << 20).to_le_bytes(), 9_000_u32.to_le_bytes());
    let disguised = replaced(bomb.clone(), &size, &false_size);
    for zip in [bomb, disguised] {
        assert!(zip.len() < 20_000);
        let mut fixture = Fixture::new(&zip);
        fixture.options.limits.file_bytes = 100_000;
        fixture.expect_error("cannot unpack");
    }
}

#[test]
fn damaged_archives_are_never_unpacked_incorrectly() {
    let zip = good_zip();
    for bytes in [&b""[..], b"not a zip", &zip[..zip.len() / 2]] {
        Fixture::new(bytes).expect_error("not a valid zip archive");
    }
    for at in (0..zip.len()).step_by(211) {
        let mut damaged = zip.clone();
        damaged[at] ^= 0x55;
        let fixture = Fixture::new(&damaged);
        // Some bytes, such as timestamps, do not affect the contents.
        if fetch(&fixture.options).is_ok() {
            let check = manifest().check(&fixture.options.target).unwrap();
            assert_eq!((check.problems.len(), check.extra.len()), (0, 0));
        } else {
            assert_eq!(names(&fixture.data), [""; 0], "byte {at}");
        }
    }
}

#[test]
fn sources_are_urls_or_existing_files() {
    let mut fixture = Fixture::new(b"");
    fixture.options.source = Source::parse("nowhere/set.zip").unwrap();
    fixture.expect_error("cannot find nowhere/set.zip");
    let url = Source::parse("https://example.org/set.zip").unwrap();
    assert!(matches!(url, Source::Url(_)));
    assert!(Source::parse("ftp://x/y.zip").is_err());
    assert!(Source::parse("http://").is_err());
}

#[test]
fn an_invalid_manifest_is_an_error_with_the_line() {
    let hash = hash(b"x");
    for (text, reason) in [
        (String::new(), "is empty"),
        (format!("{hash}  set/a\nabc  set/b\n"), "line 2"),
        (format!("{hash}  set/a\n{hash} set/b\n"), "line 2"),
        (format!("{hash}  a.jpg\n"), "line 1"),
        (format!("{hash}  set/../a\n"), "line 1"),
        (format!("{hash}  /set/a\n"), "line 1"),
        (
            format!("{hash}  set/a\n{hash}  other/a\n"),
            "another directory",
        ),
        (format!("{hash}  set/a\n{hash}  set/a\n"), "duplicate"),
        (format!("+{}  set/a\n", &hash[1..]), "line 1"),
    ] {
        let error = Manifest::parse(&text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    // CRLF line ends, and the star that marks binary mode.
    let manifest = Manifest::parse(&format!("{hash} *set/a\r\n{hash}  set/b c\r\n")).unwrap();
    assert_eq!(manifest.paths().collect::<Vec<_>>(), ["a", "b c"]);
}

#[test]
fn the_photographs_match_the_tutorial() {
    let manifest = Manifest::parse(HYMENOPTERA_MANIFEST).unwrap();
    assert_eq!((manifest.name(), manifest.len()), ("hymenoptera_data", 398));
    let images = |folder: &str| {
        let paths = manifest.paths().filter(|path| path.starts_with(folder));
        paths.filter(|path| !path.ends_with(".gif")).count()
    };
    assert_eq!([images("train/ants/"), images("train/bees/")], [123, 121]);
    assert_eq!([images("val/ants/"), images("val/bees/")], [70, 83]);
}

#[test]
fn the_program_prints_an_error_without_a_backtrace() {
    let fixture = Fixture::new(&corrupt_zip());
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["fetch-data", "--from"])
        .arg(&fixture.archive)
        .arg("--data")
        .arg(&fixture.options.target)
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    let listed = "missing: train/ants/0013035.jpg";
    assert!(
        message.starts_with("error: cannot unpack ") && message.contains(listed),
        "{message}"
    );
    assert!(
        message.contains("\nhelp: ") && !message.contains("backtrace"),
        "{message}"
    );
    assert_eq!(names(&fixture.data), [""; 0]);
}

#[test]
fn downloads_are_resumed_from_the_same_url() {
    let server = Server::start(|request, _| Response::content(request, &good_zip()));
    let fixture = Fixture::url(&server);
    fixture.expect_fetched();
    assert_eq!(server.take_requests().len(), 1);
    assert!(matches!(fetch(&fixture.options), Ok(Outcome::UpToDate(_))));
    assert_eq!(server.take_requests().len(), 0);

    // The first response is incomplete, and the server then refuses to continue.
    for (path, range) in [("set.zip", Some("bytes=14000-")), ("other.zip", None)] {
        let server = Server::start(|request, earlier| match earlier {
            0 => Response::whole(&good_zip()).cut(14_000),
            1 => Response::status(404),
            _ => Response::content(request, &good_zip()),
        });
        let mut fixture = Fixture::url(&server);
        let error = fixture.error();
        assert!(
            error.contains("status 404") && error.contains("--from"),
            "{error}"
        );
        assert_eq!(names(&fixture.data), [".set.fetch"]);
        fixture.set_url(&server, path);
        fixture.expect_fetched();
        let requests = server.take_requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[2].range.as_deref(), range);
    }
}

#[test]
fn archives_that_do_not_match_are_downloaded_once_more() {
    // The second part of the download belongs to another version of the archive.
    let server = Server::start(|request, earlier| match earlier {
        0 => Response::whole(&good_zip()).cut(14_000),
        1 => Response::content(request, &corrupt_zip()),
        _ => Response::content(request, &good_zip()),
    });
    Fixture::url(&server).expect_fetched();
    let requests = server.take_requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[2].range, None);

    let server = Server::start(|_, _| Response::whole(&corrupt_zip()));
    let fixture = Fixture::url(&server);
    fixture.expect_error("corrupt: train/bees/b c.jpg");
    assert_eq!(server.take_requests().len(), 2);
    let server = Server::start(|_, _| Response::whole(b"<html>Please log in</html>"));
    Fixture::url(&server).expect_error("not a valid zip archive");

    // A failed repair keeps the destination.
    let file = fixture.options.target.join("train/ants/a.jpg");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, &files()[0].1).unwrap();
    fixture.error();
    assert!(fs::read(file).unwrap() == files()[0].1);
    assert_eq!(names(&fixture.data), ["set"]);
}

#[test]
fn large_or_missing_archives_leave_nothing_behind() {
    let server = Server::start(|_, _| Response::whole(&good_zip()));
    let mut fixture = Fixture::url(&server);
    fixture.options.limits.archive_bytes = 20_000;
    fixture.expect_error("larger than the limit of 20000 bytes");
    let server = Server::start(|_, _| Response::status(404));
    Fixture::url(&server).expect_error("train on the built-in sample");
}
