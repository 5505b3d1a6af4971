//! Unpacks a zip archive, as `fetch-data` does.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use xtask::fetch_data::{Manifest, Options, Source, fetch};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::Target;

/// The files of a small data set.
const FILES: [(&str, &[u8]); 3] = [
    (
        "train/ants/a.jpg",
        b"not a photograph, but its checksum is verified like that of one",
    ),
    (
        "train/bees/b c.jpg",
        b"bees, bees, bees, bees, bees, bees, bees, bees, bees, bees, bees",
    ),
    ("val/ants/d.jpg", b"d"),
];

pub(super) struct Archive {
    archive: PathBuf,
    target: PathBuf,
    options: Options,
}

impl Archive {
    pub(super) fn new(scratch: &Path) -> Self {
        let lines: String = FILES
            .iter()
            .map(|(path, bytes)| {
                let sum = Sha256::digest(bytes);
                let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{sum}  set/{path}\n")
            })
            .collect();
        let manifest = Manifest::parse(&lines).expect("the manifest is valid");
        let archive = scratch.join("archive.zip");
        let target = scratch.join("unpacked/set");
        let source = Source::File(archive.clone());
        Self {
            options: Options::new(source, manifest, target.clone()),
            archive,
            target,
        }
    }
}

impl Target for Archive {
    fn name(&self) -> &'static str {
        "archive"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let zip = |method,
                   add_entries: fn(
            &mut ZipWriter<Cursor<Vec<u8>>>,
        ) -> zip::result::ZipResult<()>| {
            let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
            let options = SimpleFileOptions::default().compression_method(method);
            for (path, bytes) in FILES {
                zip.start_file(format!("set/{path}"), options)?;
                zip.write_all(bytes)?;
            }
            add_entries(&mut zip)?;
            Ok::<_, zip::result::ZipError>(zip.finish()?.into_inner())
        };
        [
            zip(CompressionMethod::Stored, |_| Ok(())),
            zip(CompressionMethod::Deflated, |_| Ok(())),
            zip(CompressionMethod::Deflated, |zip| {
                zip.add_directory("set/train/", SimpleFileOptions::default())
            }),
            zip(CompressionMethod::Stored, |zip| {
                zip.add_symlink("set/link", "/etc/passwd", SimpleFileOptions::default())
            }),
            zip(CompressionMethod::Stored, |zip| {
                zip.start_file("../outside", SimpleFileOptions::default())
            }),
        ]
        .into_iter()
        .map(|zip| zip.expect("a zip in memory can be written"))
        .collect()
    }

    fn dictionary(&self) -> &'static [&'static [u8]] {
        &[
            b"PK\x01\x02",
            b"PK\x03\x04",
            b"PK\x05\x06",
            b"PK\x06\x06",
            b"PK\x06\x07",
            b"PK\x07\x08",
            b"../",
            b"/",
            b"\\",
            b"set/",
            b"C:",
            b"\0",
            b"\x01\0\x1c\0",
        ]
    }

    fn run(&mut self, input: &[u8]) -> bool {
        fs::write(&self.archive, input).expect("the temporary directory can be written");
        let fetched = fetch(&self.options).is_ok();
        if let Some(parent) = self.target.parent() {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten();
            for entry in entries {
                let name = entry.file_name();
                assert_eq!(name, "set", "an unexpected file is next to the destination");
                let check = self
                    .options
                    .manifest
                    .check(&self.target)
                    .expect("the destination can be read");
                assert!(
                    check.problems.is_empty(),
                    "the destination differs from the manifest"
                );
            }
            if parent.exists() {
                fs::remove_dir_all(parent).expect("the temporary directory can be cleared");
            }
        }
        let outside = self.archive.with_file_name("outside");
        assert!(
            !outside.exists(),
            "a file was written outside of the destination"
        );
        fetched
    }
}
