//! State dicts that PyTorch wrote (tests/pth/make.py), and what bad ones are answered with.

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

fn refused(path: &Path) -> String {
    match load(path) {
        Err(error @ (Error::NotStateDict { .. } | Error::Dtype { .. })) => error.to_string(),
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[test]
fn state_dicts_hold_what_pytorch_put_there() {
    let expected = load(&file("expected.safetensors"))
        .expect("safetensors")
        .tensors;
    // f16 keeps 11 bits and bf16 8; rounding is by half of the last one.
    for (name, tolerance) in [
        ("plain.pth", 0.0),
        ("parameters.pth", 0.0),
        ("checkpoint.pth", 0.0),
        ("best.pth", 0.0),
        ("cuda_half.pth", 0.5f32.powi(11)),
        ("bfloat.pth", 0.5f32.powi(8)),
    ] {
        let loaded = load(&file(name)).expect(name);
        assert!(loaded.report.fresh.is_empty(), "{name}");
        assert_eq!(loaded.tensors.len(), expected.len(), "{name}");
        for (tensor, expected) in &expected {
            let found = &loaded.tensors[tensor];
            assert_eq!(found.dims(), expected.dims(), "{name}: {tensor}");
            for (found, expected) in values(found).iter().zip(values(expected)) {
                // Numbers below f16's normal range are rounded to multiples of 2⁻²⁴.
                let bound = tolerance * expected.abs() + if tolerance > 0.0 { 6e-8 } else { 0.0 };
                assert!(
                    (found - expected).abs() <= bound,
                    "{name}: {tensor}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn what_would_run_code_is_named_and_not_run() {
    let message = refused(&file("evil.pth"));
    assert!(message.contains("`posix.system`"), "{message}");
    assert!(message.contains("was not run"), "{message}");
    assert!(!Path::new("/tmp/waggle-was-here").exists());
    let message = refused(&file("module.pth"));
    assert!(
        message.contains("`torch.nn.modules.container.Sequential`"),
        "{message}"
    );
    assert!(
        message.contains("torch.save(model.state_dict()"),
        "{message}"
    );
}

#[test]
fn other_formats_of_pytorch_are_answered_with_how_to_convert_them() {
    let message = refused(&file("legacy.pth"));
    assert!(message.contains("before version 1.6"), "{message}");
    assert!(message.contains("torch.save(torch.load("), "{message}");
    let message = refused(&file("script.pt"));
    assert!(message.contains("TorchScript"), "{message}");
    assert!(message.contains("torch.jit.load("), "{message}");
    let message = refused(&file("double.pth"));
    assert!(message.contains("is float64"), "{message}");
}

#[test]
fn a_tar_archive_is_the_oldest_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.pth");
    let mut bytes = vec![0; 1024];
    bytes[257..263].copy_from_slice(b"ustar\0");
    std::fs::write(&path, bytes).expect("a file");
    assert!(refused(&path).contains("before version 1.6"));
}

#[test]
fn another_network_is_named() {
    let wanted = VggConfig::vgg13(3);
    let error = vgg::load_pretrained(&file("plain.pth"), &wanted, Head::Keep, 1, &CPU);
    let message = error.expect_err("another network").to_string();
    assert!(message.contains("does not fit vgg13"), "{message}");
}

#[test]
fn a_state_dict_is_no_trained_model_of_ours() {
    let error = vgg::load_model(&file("plain.pth"), &CPU).expect_err("no metadata");
    let message = error.to_string();
    assert!(message.contains("--weights"), "{message}");
    assert!(
        vgg::read_metadata(&file("plain.pth"))
            .expect("readable")
            .is_none()
    );
}

/// plain.pth again, each of its files as `change` wants it.
fn changed(change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> tempfile::TempPath {
    let plain = std::fs::File::open(file("plain.pth")).expect("plain.pth");
    let mut from = zip::ZipArchive::new(plain).expect("an archive");
    let out = tempfile::NamedTempFile::new().expect("a file");
    let mut to = zip::ZipWriter::new(out.reopen().expect("the same file"));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..from.len() {
        let mut entry = from.by_index(index).expect("an entry");
        let name = entry.name().expect("UTF-8").into_owned();
        let mut bytes = Vec::new();
        std::io::copy(&mut entry, &mut bytes).expect("its bytes");
        to.start_file(&name, stored).expect("a place");
        to.write_all(&change(&name, bytes)).expect("its bytes");
    }
    to.finish().expect("an archive");
    out.into_temp_path()
}

#[test]
fn an_archive_that_is_not_as_it_should_be_is_refused() {
    let same = changed(|_, bytes| bytes);
    load(&same).expect("an unchanged copy");
    let big = changed(|name, bytes| {
        if name.ends_with("byteorder") {
            b"big".into()
        } else {
            bytes
        }
    });
    assert!(refused(&big).contains("big-endian"));
    let short = changed(|name, mut bytes| {
        bytes.truncate(if name.ends_with("data/3") {
            4
        } else {
            usize::MAX
        });
        bytes
    });
    let message = refused(&short);
    assert!(message.contains("data/3 has 4 bytes"), "{message}");
    let none = changed(|name, bytes| {
        if name.ends_with("data.pkl") {
            Vec::new()
        } else {
            bytes
        }
    });
    assert!(refused(&none).contains("ends in the middle"));
}

#[test]
fn a_file_that_is_cut_off_or_damaged_anywhere_is_an_error() {
    let whole = std::fs::read(file("plain.pth")).expect("plain.pth");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.pth");
    for length in (0..whole.len()).step_by(211) {
        std::fs::write(&path, &whole[..length]).expect("a file");
        let error = load(&path).expect_err("a broken file").to_string();
        assert!(error.contains("broken.pth"), "{error}");
    }
    // A byte of the numbers themselves: only the archive's checksum can tell.
    let weight = load(&file("plain.pth")).expect("weights").tensors["features.28.weight"].clone();
    let bytes: Vec<u8> = values(&weight)
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let at = whole
        .windows(bytes.len())
        .position(|window| window == bytes);
    let mut damaged = whole.clone();
    damaged[at.expect("the numbers are stored as they are") + 5] ^= 1;
    std::fs::write(&path, &damaged).expect("a file");
    let message = refused(&path);
    assert!(message.contains("fetch or copy it again"), "{message}");
}
