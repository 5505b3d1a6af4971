//! `fetch-data` with valid, damaged and malicious archives, from local files and servers.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use fetch::test_server::{Response, Server};
use tempfile::TempDir;
use xtask::fetch_data::{Check, HYMENOPTERA_MANIFEST, Manifest, fetch};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

type Zip = ZipWriter<Cursor<Vec<u8>>>;

/// Total size of [`files`].
const TOTAL: u64 = 28_500;

/// Paths relative to `set/`, and contents. One name contains a space, as in the real data set.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("train/ants/a.jpg", vec![1; 9_000]),
        ("train/bees/b c.jpg", vec![2; 12_000]),
        ("val/ants/d.jpg", vec![3; 7_000]),
        ("val/bees/e.gif", vec![4; 500]),
    ]
}

/// The manifest of [`files`].
fn manifest() -> Manifest {
    let lines = files().into_iter().map(|(path, bytes)| {
        let hash = fetch::sha256(&mut bytes.as_slice()).unwrap();
        format!("{hash}  set/{path}\n")
    });
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

/// A good archive with another, compressed file.
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
    let matches = windows.filter(|(_, window)| *window == from);
    let offsets: Vec<usize> = matches.map(|(at, _)| at).collect();
    assert_eq!(offsets.len(), 2);
    for at in offsets {
        zip[at..at + to.len()].copy_from_slice(to);
    }
    zip
}

/// The sorted names of the entries of a directory.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// An archive, and a destination. The destination is in a directory of its own, so that tests see
/// every file that is written next to it.
struct Fixture {
    folder: TempDir,
    from: String,
    target: PathBuf,
    max_size: u64,
}

impl Fixture {
    /// A fixture whose source is a local file.
    fn new(zip: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive.zip");
        fs::write(&archive, zip).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        Self {
            from: archive.into_os_string().into_string().unwrap(),
            target: folder.path().join("data/set"),
            max_size: 1 << 20,
            folder,
        }
    }

    /// A fixture whose source is on a server.
    fn url(server: &Server) -> Self {
        let mut fixture = Self::new(b"");
        fixture.from = format!("{}/set.zip", server.url);
        fixture
    }

    fn fetch(&self) -> anyhow::Result<Check> {
        fetch(&self.from, &manifest(), &self.target, self.max_size)
    }

    /// The names in the directory of the destination.
    fn written(&self) -> Vec<String> {
        names(&self.folder.path().join("data"))
    }

    /// Expects that the destination has exactly the right files and nothing next to it.
    #[track_caller]
    fn expect_fetched(&self) {
        assert_eq!(self.fetch().unwrap().bytes, TOTAL);
        let check = manifest().check(&self.target).unwrap();
        assert_eq!((check.problems.len(), check.extra.len()), (0, 0));
        assert_eq!(names(self.target.parent().unwrap()), ["set"]);
    }

    /// Expects an error that contains `text`.
    #[track_caller]
    fn expect_error(&self, text: &str) {
        let error = format!("{:#}", self.fetch().unwrap_err());
        assert!(error.contains(text), "{error}");
    }

    /// Expects an error that contains `text`, and that nothing is left of the attempt.
    #[track_caller]
    fn expect_rejected(&self, text: &str) {
        self.expect_error(text);
        assert_eq!(self.written(), [""; 0], "{text}");
        assert_eq!(names(self.folder.path()), ["archive.zip", "data"], "{text}");
    }
}

#[test]
fn a_complete_destination_is_not_fetched_again() {
    let mut fixture = Fixture::new(&good_zip());
    fixture.target = fixture.folder.path().join("data/a/b/set");
    fixture.expect_fetched();
    fs::remove_file(&fixture.from).unwrap();
    fixture.expect_fetched();
}

#[test]
fn a_damaged_destination_and_interrupted_runs_are_repaired() {
    let fixture = Fixture::new(&good_zip());
    for left in ["unpacked", "replaced"] {
        let half = fixture.folder.path().join("data/.set.fetch").join(left);
        fs::create_dir_all(half.join("train/ants")).unwrap();
        fs::write(half.join("train/ants/a.jpg"), b"half").unwrap();
    }
    fs::create_dir(&fixture.target).unwrap();
    fixture.expect_fetched();

    let file = fixture.target.join("val/ants/d.jpg");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    fs::write(fixture.target.join("val/bees/e.gif"), b"short").unwrap();
    fixture.expect_fetched();
}

#[test]
fn other_files_are_reported_and_never_removed() {
    let fixture = Fixture::new(&good_zip());
    fs::write(&fixture.target, b"unrelated").unwrap();
    fixture.expect_error("is not a directory");
    fs::remove_file(&fixture.target).unwrap();

    fixture.expect_fetched();
    let notes = fixture.target.join("val/notes.txt");
    fs::write(&notes, b"unrelated").unwrap();
    fs::write(notes.with_file_name(".DS_Store"), b"system file").unwrap();
    let check = fixture.fetch().unwrap();
    assert_eq!(check.extra, ["not in the manifest: val/notes.txt"]);
    fs::remove_file(fixture.target.join("val/bees/e.gif")).unwrap();
    fixture.expect_error("not in the manifest: val/notes.txt");
    assert_eq!(fs::read(&notes).unwrap(), b"unrelated");
    // System files do not prevent the replacement.
    fs::remove_file(notes).unwrap();
    fixture.expect_fetched();
}

#[test]
fn a_failed_repair_keeps_the_destination() {
    let fixture = Fixture::new(&corrupt_zip());
    let file = fixture.target.join("train/ants/a.jpg");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, &files()[0].1).unwrap();
    fixture.expect_error("corrupt: train/bees/b c.jpg");
    assert!(fs::read(file).unwrap() == files()[0].1);
    assert_eq!(fixture.written(), ["set"]);
}

#[test]
fn concurrent_runs_wait_for_the_first_and_use_its_files() {
    // Each request gets a slow response, so that the runs overlap.
    let server = Server::start(|request, _| {
        thread::sleep(Duration::from_millis(500));
        Response::content(request, &good_zip())
    });
    let fixture = Fixture::url(&server);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| fixture.fetch().unwrap());
        }
    });
    fixture.expect_fetched();
    assert_eq!(server.take_requests().len(), 1);
}

#[test]
fn differences_from_the_manifest_are_listed() {
    let mut wrong = files();
    wrong[0].1[0] ^= 1;
    wrong.remove(2);
    let many = zip_of(&wrong, |zip| {
        for index in 0..30 {
            let name = format!("set/val/ants/{index}.jpg");
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
        }
    });
    for (zip, text) in [
        (&many, "corrupt: train/ants/a.jpg"),
        (&many, "not in the manifest: set/val/ants/0.jpg"),
        // 20 of 1 corrupt, 30 unlisted and 1 missing file are listed.
        (&many, "and 12 more"),
        (&many, "--from"),
        (&zip_of(&files()[..3], |_| {}), "missing: val/bees/e.gif"),
        // A directory whose name begins with the data set's name is another directory.
        (&zip_with_extra("settings/a.jpg", b"x"), ": settings/a.jpg"),
    ] {
        Fixture::new(zip).expect_rejected(text);
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
        Fixture::new(&zip).expect_rejected(&format!("entry {evil:?} has a path outside"));
        assert!(!Path::new("/tmp/evilxx").exists());
    }

    // A link with the name of a listed file.
    let zip = zip_of(&files()[..3], |zip| {
        let options = SimpleFileOptions::default();
        zip.add_symlink("set/val/bees/e.gif", "/etc/hostname", options)
            .unwrap();
    });
    Fixture::new(&zip).expect_rejected("neither a file nor a directory");

    let zip = zip_with_extra("set/val/ants/q.jpg", b"other");
    let zip = replaced(zip, b"set/val/ants/q.jpg", b"set/val/ants/d.jpg");
    Fixture::new(&zip).expect_rejected("duplicate entry");
}

#[test]
fn large_archives_and_files_are_rejected() {
    let mut fixture = Fixture::new(&good_zip());
    fixture.max_size = good_zip().len() as u64 - 1;
    fixture.expect_rejected("its size exceeds the limit");
    fixture.max_size += 1;
    fixture.expect_fetched();

    // The archive is smaller than the limit, and its files are not. One archive has a false size in
    // the headers.
    let compressed = zip_of(&[], |zip| {
        for (path, bytes) in files() {
            let options = SimpleFileOptions::default();
            zip.start_file(format!("set/{path}"), options).unwrap();
            zip.write_all(&bytes).unwrap();
        }
    });
    let (size, false_size) = (12_000_u32.to_le_bytes(), 100_u32.to_le_bytes());
    let disguised = replaced(compressed.clone(), &size, &false_size);
    for (zip, text) in [(&compressed, "exceeds the limit"), (&disguised, "corrupt")] {
        let mut fixture = Fixture::new(zip);
        fixture.max_size = TOTAL - 1;
        fixture.expect_rejected(text);
    }
    let mut fixture = Fixture::new(&compressed);
    fixture.max_size = TOTAL;
    fixture.expect_fetched();
}

#[test]
fn damaged_archives_are_never_unpacked_incorrectly() {
    let zip = good_zip();
    for bytes in [&b""[..], b"not a zip", &zip[..zip.len() / 2]] {
        Fixture::new(bytes).expect_rejected("not a valid zip archive");
    }
    for at in (0..zip.len()).step_by(211) {
        let mut damaged = zip.clone();
        damaged[at] ^= 0x55;
        let fixture = Fixture::new(&damaged);
        // Some bytes, such as timestamps, do not affect the contents.
        if fixture.fetch().is_ok() {
            fixture.expect_fetched();
        } else {
            assert_eq!(fixture.written(), [""; 0], "byte {at}");
        }
    }
}

#[test]
fn invalid_sources_are_rejected() {
    let server = Server::start(|_, _| Response::status(404));
    for (from, text) in [
        ("nowhere/set.zip", "cannot find nowhere/set.zip\nhelp: "),
        ("ftp://x/y.zip", "not an http or https URL"),
        ("http://", "not an http or https URL"),
        (&server.url, "train on the built-in sample"),
    ] {
        let mut fixture = Fixture::new(b"");
        fixture.from = from.into();
        fixture.expect_rejected(text);
    }
}

#[test]
fn an_invalid_manifest_is_an_error_with_the_line() {
    let hash = "0".repeat(64);
    for (text, reason) in [
        (String::new(), "is empty"),
        (format!("{hash}  set/a\nabc  set/b\n"), "line 2"),
        (format!("{hash}  set/a\n{hash} set/b\n"), "line 2"),
        (format!("{hash}  set/a\n{hash}  other/a\n"), "line 2"),
        (format!("{hash}  a.jpg\n"), "line 1"),
        (format!("{hash}  set/../a\n"), "line 1"),
        (format!("{hash}  /set/a\n"), "line 1"),
    ] {
        let error = Manifest::parse(&text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn the_photographs_match_the_tutorial() {
    let manifest = Manifest::parse(HYMENOPTERA_MANIFEST).unwrap();
    assert_eq!(manifest.name(), "hymenoptera_data");
    assert_eq!(manifest.paths().count(), 398);
    let images = |folder| {
        let paths = manifest.paths().filter(|path| path.starts_with(folder));
        paths.filter(|path| !path.ends_with(".gif")).count()
    };
    let folders = ["train/ants/", "train/bees/", "val/ants/", "val/bees/"];
    assert_eq!(folders.map(images), [123, 121, 70, 83]);
}

#[test]
fn the_program_prints_an_error_without_a_backtrace() {
    let fixture = Fixture::new(&corrupt_zip());
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["fetch-data", "--from", &fixture.from, "--data"])
        .arg(&fixture.target)
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    let (problems, help) = message.split_once("\nhelp: ").unwrap();
    assert!(problems.starts_with("error: cannot unpack "), "{message}");
    assert!(problems.contains("missing: train/ants/"), "{message}");
    assert!(!help.contains("backtrace"), "{message}");
    assert_eq!(fixture.written(), [""; 0]);
}

#[test]
fn downloads_are_resumed_from_the_same_url() {
    // The first response is incomplete, and the server then refuses to continue.
    for (path, range) in [("set.zip", Some("bytes=14000-")), ("other.zip", None)] {
        let server = Server::start(|request, earlier| match earlier {
            0 => Response::whole(&good_zip()).cut(14_000),
            1 => Response::status(404),
            _ => Response::content(request, &good_zip()),
        });
        let mut fixture = Fixture::url(&server);
        fixture.expect_error("status 404");
        assert_eq!(fixture.written(), [".set.fetch"]);
        fixture.from = format!("{}/{path}", server.url);
        fixture.expect_fetched();
        let requests = server.take_requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[2].range.as_deref(), range);
    }
}

#[test]
fn unusable_downloads_are_removed() {
    // The second part of the download belongs to another version of the archive.
    let server = Server::start(|request, earlier| match earlier {
        0 => Response::whole(&good_zip()).cut(14_000),
        1 => Response::content(request, &corrupt_zip()),
        _ => Response::content(request, &good_zip()),
    });
    let fixture = Fixture::url(&server);
    fixture.expect_rejected("it does not match the manifest");
    fixture.expect_fetched();
    assert_eq!(server.take_requests()[2].range, None);

    let server = Server::start(|_, _| Response::whole(b"<html>Please log in</html>"));
    let mut fixture = Fixture::url(&server);
    fixture.expect_rejected("not a valid zip archive");
    fixture.max_size = 20;
    fixture.expect_rejected("larger than the limit of 20 bytes");
}
