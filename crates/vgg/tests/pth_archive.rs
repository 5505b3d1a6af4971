//! Tests of PyTorch files as zip archives: as PyTorch writes them with any name, and packed again by
//! other programs.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use candle_core::Device;
use vgg::{Error, Head, Loaded, VggConfig};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const CPU: Device = Device::Cpu;

/// Names without the root folder, and contents of the entries of plain.pth.
fn entries() -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pth/plain.pth");
    let mut archive =
        ZipArchive::new(Cursor::new(std::fs::read(path).expect("plain.pth"))).expect("an archive");
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).expect("an entry");
        let name = entry.name().expect("UTF-8").into_owned();
        let (_, name) = name.split_once('/').expect("a root folder");
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .expect("the content of an entry");
        entries.push((name.to_string(), bytes));
    }
    entries
}

fn load(bytes: &[u8]) -> Result<Loaded, Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights.pth");
    std::fs::write(&path, bytes).expect("a file");
    let config = VggConfig::slim_vgg16([2; 5], 4, 1, 32, 3);
    vgg::load_pretrained(path, &config, Head::Keep, 1, &CPU)
}

fn assert_loads(bytes: &[u8], what: &str) {
    let loaded = load(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(loaded.report.loaded.len(), 32, "{what}");
}

fn message(bytes: &[u8]) -> String {
    let error = load(bytes).expect_err("an invalid archive");
    format!("{error}\nhelp: {}", error.help().expect("help"))
}

/// CRC-32, computed bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// An archive as PyTorch writes it: contents aligned to 64 bytes with an extra field, and zip64
/// records before the end record, which has the real offsets too.
fn torch_archive(root: &str, entries: &[(String, Vec<u8>)], checksums: &[u32]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    let numbers = |numbers: &[(u64, usize)]| -> Vec<u8> {
        let bytes = numbers.iter();
        bytes
            .flat_map(|&(number, width)| number.to_le_bytes()[..width].to_vec())
            .collect()
    };
    for ((name, content), &crc) in entries.iter().zip(checksums) {
        let name = format!("{root}/{name}");
        let (start, length) = (archive.len() as u64, content.len() as u64);
        let unpadded = archive.len() + 30 + name.len() + 4;
        let padding = unpadded.next_multiple_of(64) - unpadded;
        // Flags: UTF-8. Sizes of the content and lengths of the name and extra field.
        let common = |extra: usize| {
            numbers(&[
                (0x800, 2),
                (0, 2),
                (0, 4),
                (crc.into(), 4),
                (length, 4),
                (length, 4),
                (name.len() as u64, 2),
                (extra as u64, 2),
            ])
        };
        archive.extend(b"PK\x03\x04\0\0");
        archive.extend(common(4 + padding));
        archive.extend(name.as_bytes());
        archive.extend(b"FB");
        archive.extend(numbers(&[(padding as u64, 2)]));
        archive.resize(archive.len() + padding, b'Z');
        archive.extend(content);
        directory.extend(b"PK\x01\x02\0\0\0\0");
        directory.extend(common(0));
        directory.extend(numbers(&[(0, 2), (0, 2), (0, 2), (0, 4), (start, 4)]));
        directory.extend(name.as_bytes());
    }
    let (start, length, count) = (
        archive.len() as u64,
        directory.len() as u64,
        entries.len() as u64,
    );
    archive.extend(directory);
    let zip64 = archive.len() as u64;
    archive.extend(b"PK\x06\x06");
    archive.extend(numbers(&[
        (44, 8),
        (0x1e, 2),
        (0x2d, 2),
        (0, 4),
        (0, 4),
        (count, 8),
        (count, 8),
        (length, 8),
        (start, 8),
    ]));
    archive.extend(b"PK\x06\x07");
    archive.extend(numbers(&[(0, 4), (zip64, 8), (1, 4)]));
    archive.extend(b"PK\x05\x06");
    archive.extend(numbers(&[
        (0, 2),
        (0, 2),
        (count, 2),
        (count, 2),
        (length, 4),
        (start, 4),
        (0, 2),
    ]));
    archive
}

#[test]
fn files_of_any_name_are_loaded() {
    let entries = entries();
    let checksums: Vec<u32> = entries.iter().map(|(_, content)| crc32(content)).collect();
    for length in 1..=300 {
        let root = "checkpoint_best_model_of_epoch_17_".repeat(9)[..length].to_string();
        assert_loads(&torch_archive(&root, &entries, &checksums), &root);
    }
    for root in [
        "with spaces",
        "прогон №7",
        "模型",
        "a#b",
        "data",
        "code",
        "data.pkl",
    ] {
        assert_loads(&torch_archive(root, &entries, &checksums), root);
    }
    // The order of the entries decides which sums of lengths occur.
    for rotation in 1..entries.len() {
        let (mut entries, mut checksums) = (entries.clone(), checksums.clone());
        entries.rotate_left(rotation);
        checksums.rotate_left(rotation);
        for length in [1, 13, 20, 21, 22, 40] {
            let root = "m".repeat(length);
            assert_loads(&torch_archive(&root, &entries, &checksums), &root);
        }
    }
}

#[test]
fn values_that_look_like_zip_records_are_loaded() {
    let mut entries = entries();
    for signature in [
        b"PK\x05\x06",
        b"PK\x01\x02",
        b"PK\x06\x06",
        b"PK\x06\x07",
        b"PK\x03\x04",
    ] {
        for (name, content) in &mut entries {
            if name.starts_with("data/") {
                for value in content.chunks_exact_mut(4) {
                    value.copy_from_slice(signature);
                }
            }
        }
        let checksums: Vec<u32> = entries.iter().map(|(_, content)| crc32(content)).collect();
        for length in [1, 7, 21] {
            let root = "m".repeat(length);
            assert_loads(&torch_archive(&root, &entries, &checksums), &root);
        }
    }
}

/// Packs the entries again, each with the folder `root` and `options`.
fn packed(
    root: &str,
    options: SimpleFileOptions,
    change: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>),
) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries() {
        writer
            .start_file(format!("{root}{name}"), options)
            .expect("an entry");
        writer.write_all(&content).expect("the content of an entry");
    }
    change(&mut writer);
    writer.finish().expect("an archive").into_inner()
}

fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

#[test]
fn archives_packed_again_are_loaded() {
    let deflated = stored().compression_method(CompressionMethod::Deflated);
    for root in ["", "archive/", "a folder/best model/", "模型/"] {
        assert_loads(&packed(root, stored(), |_| {}), root);
        assert_loads(&packed(root, deflated, |_| {}), root);
        assert_loads(&packed(root, deflated.large_file(true), |_| {}), root);
    }
    let with_folders = packed("m/", deflated, |writer| {
        writer.add_directory("m/", stored()).expect("a folder");
        writer.add_directory("m/data/", stored()).expect("a folder");
        writer
            .start_file("__MACOSX/m/._data.pkl", stored())
            .expect("an entry");
        let comment = writer.set_comment("a comment with PK\x05\x06 in it");
        comment.expect("a short comment");
    });
    assert_loads(&with_folders, "folders and a comment");
    // Written to a pipe: sizes follow the contents in data descriptors.
    let mut writer = ZipWriter::new_stream(Vec::new());
    for (name, content) in entries() {
        writer
            .start_file(format!("m/{name}"), deflated)
            .expect("an entry");
        writer.write_all(&content).expect("the content of an entry");
    }
    let streamed = writer.finish().expect("an archive").into_inner();
    assert_loads(&streamed, "data descriptors");
}

#[test]
fn archives_packed_in_another_way_are_refused_with_how_to_pack_them() {
    let bytes = packed("m/", stored(), |_| {});
    let directory = bytes.windows(4).position(|window| window == b"PK\x01\x02");
    let directory = directory.expect("a directory");
    // In the local and the central header of an entry: the flag of a password, and the methods BZIP2
    // and LZMA.
    for (local, central, value, reason) in [
        (6, 8, 1, "Password required"),
        (8, 10, 12, "compressed with"),
        (8, 10, 14, "compressed with"),
    ] {
        let mut bytes = bytes.clone();
        bytes[local] |= value;
        let mut at = directory;
        while bytes[at..].starts_with(b"PK\x01\x02") {
            bytes[at + central] |= value;
            let lengths = [28, 30, 32].map(|field| {
                usize::from(u16::from_le_bytes([
                    bytes[at + field],
                    bytes[at + field + 1],
                ]))
            });
            at += 46 + lengths.iter().sum::<usize>();
        }
        let message = message(&bytes);
        assert!(
            message.contains(reason) && message.contains("help: unpack the archive, and pack it"),
            "{message}"
        );
    }
}

#[test]
fn duplicate_entries_are_errors() {
    let entries = [entries(), entries()].concat();
    let checksums: Vec<u32> = entries.iter().map(|(_, content)| crc32(content)).collect();
    let message = message(&torch_archive("m", &entries, &checksums));
    assert!(
        message.contains("two entries of the zip archive have the same name"),
        "{message}"
    );
}

#[test]
fn an_archive_with_a_huge_directory_is_an_error() {
    let entries: Vec<_> = (0..300)
        .map(|number| (number.to_string(), vec![]))
        .collect();
    let archive = torch_archive(&"m".repeat(60_000), &entries, &[0; 300]);
    let message = message(&archive);
    assert!(message.contains("its directory exceeds"), "{message}");
}

#[test]
fn other_zip_archives_are_named() {
    for (entry, reason, help) in [
        ("w.npy", "it is a NumPy archive", "numpy.load("),
        (
            "model.weights.h5",
            "it is a Keras model",
            "PyTorch or safetensors",
        ),
        (
            "run/best.pth",
            "contains weights",
            "unpack the archive and use run/best.pth",
        ),
        ("word/document.xml", "not a PyTorch file", "torch.save"),
    ] {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file(entry, stored()).expect("an entry");
        let bytes = writer.finish().expect("an archive").into_inner();
        let message = message(&bytes);
        assert!(
            message.contains(reason) && message.contains(help),
            "{message}"
        );
    }
}

#[test]
fn a_deflated_entry_cannot_declare_more_than_deflate_expands_to() {
    let deflated = stored().compression_method(CompressionMethod::Deflated);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.start_file("m/data.pkl", deflated).expect("an entry");
    writer
        .write_all(&[b'N'; 100])
        .expect("the content of an entry");
    let mut bytes = writer.finish().expect("an archive").into_inner();
    let directory = bytes.windows(4).position(|window| window == b"PK\x01\x02");
    let size = directory.expect("a directory") + 24;
    bytes[size..size + 4].copy_from_slice(&(60u32 << 20).to_le_bytes());
    let message = message(&bytes);
    assert!(
        message.contains("data.pkl declares 62914560 bytes"),
        "{message}"
    );
}
