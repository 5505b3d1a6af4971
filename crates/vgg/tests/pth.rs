//! Tests of loading the files that tests/pth/make.py writes with PyTorch, and of errors for invalid
//! files.

use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use vgg::{Error, Head, Loaded, VggConfig};
use zip::write::SimpleFileOptions;

const CPU: Device = Device::Cpu;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pth")
        .join(name)
}

fn narrow() -> VggConfig {
    VggConfig::slim_vgg16([2; 5], 4, 1, 32, 3)
}

fn load(path: &Path) -> Result<Loaded, Error> {
    vgg::load_pretrained(path, &narrow(), Head::Keep, 1, &CPU)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("flat");
    flat.to_vec1().expect("f32")
}

/// Returns the message and help of the error for an invalid state dict.
fn rejection(path: &Path) -> String {
    match load(path) {
        Err(
            error @ (Error::NotStateDict { .. }
            | Error::Unreadable { .. }
            | Error::Dtype { .. }
            | Error::NonFinite { .. }),
        ) => {
            format!("{error}\nhelp: {}", error.help().expect("help"))
        }
        result => panic!("{}: {result:?}", path.display()),
    }
}

#[test]
fn state_dicts_are_loaded() {
    let expected = load(&file("expected.safetensors"))
        .expect("safetensors")
        .tensors;
    // f16 has 11 significant bits and bf16 has 8. The rounding error is at most half a unit in the
    // last place.
    for (name, tolerance) in [
        ("plain.pth", 0.0),
        ("parameters.pth", 0.0),
        ("checkpoint.pth", 0.0),
        ("best.pth", 0.0),
        ("cuda_half.pth", 0.5f32.powi(11)),
        ("bfloat.pth", 0.5f32.powi(8)),
        ("double.pth", 0.0),
        ("noted_parameters.pth", 0.0),
        ("subclass.pth", 0.0),
        ("script_2.pth", 0.0),
        ("script_3.pth", 0.0),
        ("script_4.pth", 0.0),
        ("script_5.pth", 0.0),
        ("other_kinds.pth", 0.0),
    ] {
        let loaded = load(&file(name)).expect(name);
        assert!(loaded.report.initialized.is_empty(), "{name}");
        assert_eq!(loaded.tensors.len(), expected.len(), "{name}");
        for (tensor, expected) in &expected {
            let actual = &loaded.tensors[tensor];
            assert_eq!(actual.dims(), expected.dims(), "{name}: {tensor}");
            for (actual, expected) in values(actual).iter().zip(values(expected)) {
                // Values below the normal range of f16 are rounded to multiples of 2⁻²⁴.
                let bound = tolerance * expected.abs() + if tolerance > 0.0 { 6e-8 } else { 0.0 };
                assert!(
                    (actual - expected).abs() <= bound,
                    "{name}: {tensor}: {actual} {expected}"
                );
            }
        }
    }
}

#[test]
fn float64_is_narrowed_and_reported() {
    let report = load(&file("double.pth")).expect("weights").report;
    assert_eq!(report.narrowed, report.loaded);
    assert!(
        load(&file("plain.pth"))
            .expect("weights")
            .report
            .narrowed
            .is_empty()
    );
}

#[test]
fn pickles_that_would_run_code_are_errors() {
    let message = rejection(&file("evil.pth"));
    assert!(
        message.contains("`features.0.bias` is an object of `posix.system`, which was not run"),
        "{message}"
    );
    assert!(!Path::new("/tmp/waggle-was-here").exists());
}

#[test]
fn the_line_of_python_fits_the_file() {
    let load = |name: &str| {
        let path = file(name);
        let path = path.display();
        format!("torch.load(\"{path}\", map_location=\"cpu\", weights_only=False)")
    };
    let script = format!(
        "torch.jit.load(\"{}\", map_location=\"cpu\").state_dict()",
        file("script.pt").display()
    );
    for (name, reason, expression) in [
        (
            "module.pth",
            "a whole module",
            load("module.pth") + ".state_dict()",
        ),
        (
            "module_in_dictionary.pth",
            "a whole module",
            load("module_in_dictionary.pth") + "[\"model\"].state_dict()",
        ),
        ("legacy.pth", "before version 1.6", load("legacy.pth")),
        ("script.pt", "TorchScript", script),
        (
            "arrays.pth",
            "NumPy arrays instead of tensors",
            format!(
                "{{k: torch.as_tensor(v) for k, v in {}.items()}}",
                load("arrays.pth")
            ),
        ),
    ] {
        let message = rejection(&file(name));
        assert!(message.contains(reason), "{message}");
        let line = format!("torch.save({expression}, \"weights.pth\")");
        assert!(message.ends_with(&line), "{message}");
    }
}

#[test]
fn other_kinds_of_tensors_are_errors_only_if_they_are_needed() {
    for (kind, expected) in [
        ("quantized", "is a quantized tensor"),
        ("sparse", "is a sparse tensor"),
        ("nested", "is a nested tensor"),
        ("meta", "is a tensor without values"),
        ("dimensions", "is a tensor of more than 8 dimensions"),
        ("negative", "is a conjugate or negative view"),
        ("complex", "has dtype complex64"),
    ] {
        let message = rejection(&file(&format!("kind_{kind}.pth")));
        assert!(message.contains("`features.0.bias`"), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    let report = load(&file("other_kinds.pth")).expect("weights").report;
    assert_eq!(
        report.unused,
        ["other.complex", "other.float8", "other.integer"]
    );
}

#[test]
fn the_optimizer_next_to_the_weights_is_not_used() {
    let report = load(&file("script_5.pth")).expect("weights").report;
    assert_eq!(report.key, "state_dict");
    assert!(report.other_keys.is_empty());
    let is_other =
        |name: &String| name.starts_with("optimizer.") || name.starts_with("generators.");
    assert!(report.unused.iter().all(is_other), "{:?}", report.unused);
}

#[test]
fn tar_archives_are_detected_as_legacy_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.pth");
    let mut bytes = vec![0; 1024];
    bytes[..8].copy_from_slice(b"sys_info");
    bytes[257..263].copy_from_slice(b"ustar\0");
    std::fs::write(&path, bytes).expect("a file");
    assert!(rejection(&path).contains("before version 1.6"));
}

#[test]
fn another_architecture_is_an_error() {
    let config = VggConfig::vgg13(3);
    let error = vgg::load_pretrained(file("plain.pth"), &config, Head::Keep, 1, &CPU);
    let error = error.expect_err("another architecture");
    assert!(matches!(error, Error::TensorShape { .. }), "{error}");
}

#[test]
fn a_state_dict_is_not_a_model() {
    let error = vgg::load_model(file("plain.pth"), &CPU).expect_err("no metadata");
    assert!(matches!(error, Error::NoMetadata { .. }), "{error}");
    assert!(
        vgg::read_metadata(file("plain.pth"))
            .expect("readable")
            .is_none()
    );
}

/// Writes a copy of plain.pth with changed entries. `change` receives the name and content of each
/// entry and returns the new content.
fn changed(change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> tempfile::TempPath {
    let plain = std::fs::File::open(file("plain.pth")).expect("plain.pth");
    let mut archive = zip::ZipArchive::new(plain).expect("an archive");
    let out = tempfile::NamedTempFile::new().expect("a file");
    let mut writer = zip::ZipWriter::new(out.reopen().expect("the same file"));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).expect("an entry");
        let name = entry.name().expect("UTF-8").into_owned();
        let mut bytes = Vec::new();
        std::io::copy(&mut entry, &mut bytes).expect("the content of an entry");
        writer.start_file(&name, stored).expect("an entry");
        writer
            .write_all(&change(&name, bytes))
            .expect("the content of an entry");
    }
    writer.finish().expect("an archive");
    out.into_temp_path()
}

#[test]
fn invalid_entries_are_errors() {
    let copy = changed(|_, bytes| bytes);
    load(&copy).expect("an unchanged copy");
    let big = changed(|name, bytes| {
        if name.ends_with("byteorder") {
            b"big".into()
        } else {
            bytes
        }
    });
    assert!(rejection(&big).contains("byte order is `big`"));
    let short = changed(|name, mut bytes| {
        bytes.truncate(if name.ends_with("data/3") {
            4
        } else {
            usize::MAX
        });
        bytes
    });
    let message = rejection(&short);
    assert!(message.contains("data/3 has 4 bytes"), "{message}");
    let empty = changed(|name, bytes| {
        if name.ends_with("data.pkl") {
            Vec::new()
        } else {
            bytes
        }
    });
    assert!(rejection(&empty).contains("is truncated"));
}

#[test]
fn a_small_tensor_spread_over_a_huge_storage_is_an_error() {
    let replace = |bytes: &mut Vec<u8>, from: &[u8], to: &[u8]| {
        let start = bytes.windows(from.len()).position(|part| part == from);
        let start = start.expect("a part of the pickle");
        bytes.splice(start..start + from.len(), to.iter().copied());
    };
    // The first tensor has 2x3x3x3 elements. The last one is at 7 times the stride.
    for (stride, is_loaded) in [(8, true), (200, false)] {
        let path = changed(|name, mut bytes| {
            if name.ends_with("data.pkl") {
                replace(&mut bytes, b"K6t", b"M\xdc\x05t");
                let strides = [[b'K', stride].repeat(4), b"t".into()].concat();
                replace(&mut bytes, b"K\x1bK\tK\x03K\x01t", &strides);
            } else if name.ends_with("data/0") {
                bytes.resize(1500 * 4, 0);
            }
            bytes
        });
        if is_loaded {
            load(&path).expect("strides");
        } else {
            let message = rejection(&path);
            assert!(message.contains("are spread over"), "{message}");
        }
    }
}

#[test]
fn truncated_and_corrupt_files_are_errors() {
    let bytes = std::fs::read(file("plain.pth")).expect("plain.pth");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.pth");
    for length in (0..bytes.len()).step_by(211) {
        std::fs::write(&path, &bytes[..length]).expect("a file");
        let error = load(&path).expect_err("a broken file").to_string();
        assert!(error.contains("broken.pth"), "{error}");
    }
    // Only the CRC-32 of the entry detects a corrupt value.
    let weight = load(&file("plain.pth")).expect("weights").tensors["features.28.weight"].clone();
    let content: Vec<u8> = values(&weight)
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let offset = bytes
        .windows(content.len())
        .position(|window| window == content);
    let mut corrupt = bytes.clone();
    corrupt[offset.expect("the values are not compressed") + 5] ^= 1;
    std::fs::write(&path, &corrupt).expect("a file");
    let message = rejection(&path);
    assert!(
        message.contains("download or copy the file again"),
        "{message}"
    );
}

#[test]
fn non_finite_values_are_errors() {
    for (value, name) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
    ] {
        let path = changed(|file, mut bytes| {
            if file.ends_with("data/0") {
                bytes[..4].copy_from_slice(&value.to_le_bytes());
            }
            bytes
        });
        let message = rejection(&path);
        let expected = format!("tensor `features.0.weight` contains {name}");
        assert!(message.contains(&expected), "{message}");
    }
}

/// A copy of plain.pth in whose pickle the first `from` is replaced with `to`, of the same length.
fn renamed(from: &str, to: &str) -> tempfile::TempPath {
    assert_eq!(from.len(), to.len());
    changed(|name, mut bytes| {
        if name.ends_with("data.pkl") {
            let start = bytes
                .windows(from.len())
                .position(|text| text == from.as_bytes());
            let start = start.expect("the name of a tensor");
            bytes[start..start + to.len()].copy_from_slice(to.as_bytes());
        }
        bytes
    })
}

#[test]
fn two_tensors_with_the_same_name_are_an_error() {
    let message = rejection(&renamed("features.0.bias", "features.2.bias"));
    assert!(
        message.contains("two tensors called `features.2.bias`"),
        "{message}"
    );
}

#[test]
fn control_characters_in_names_are_errors() {
    let message = rejection(&renamed("classifier.6.bias", "classifier.\x1b[31m."));
    assert!(message.contains("control character"), "{message}");
    assert!(!message.contains('\x1b'), "{message}");
}
