//! Tests that malicious weights files cause errors, not panics or huge allocations.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::Device;
use vgg::{Error, Head, Metadata, VggConfig};

const CPU: Device = Device::Cpu;

/// Writes a safetensors file that consists of `header` and `data` zero bytes.
fn file(folder: &Path, header: &str, data: usize) -> PathBuf {
    let path = folder.join("hostile.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    std::fs::write(&path, bytes).expect("a file");
    path
}

fn rejection(header: &str, data: usize) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path(), header, data);
    let error = vgg::read_metadata(&path).expect_err(header);
    assert!(matches!(error, Error::NotSafetensors { .. }), "{error}");
    let config = VggConfig::vgg11(2);
    vgg::load_pretrained(&path, &config, Head::Replace, 0, &CPU).expect_err(header);
    vgg::load_model(&path, &CPU).expect_err(header);
    error.to_string()
}

fn tensor(name: &str, shape: &str, from: u64, to: u64) -> String {
    format!(r#""{name}": {{"dtype": "F32", "shape": {shape}, "data_offsets": [{from}, {to}]}}"#)
}

#[test]
fn tensors_outside_the_file_are_errors() {
    rejection(&format!("{{{}}}", tensor("a", "[2]", 0, 8)), 4);
    rejection(&format!("{{{}}}", tensor("a", "[1]", 0, 4)), 8);
    rejection(&format!("{{{}}}", tensor("a", "[1]", 4, 8)), 8);
    rejection(&format!("{{{}}}", tensor("a", "[1]", 8, 4)), 8);
    rejection(
        &format!("{{{}}}", tensor("a", "[0]", u64::MAX - 3, u64::MAX - 3)),
        0,
    );
}

#[test]
fn overlapping_tensors_and_gaps_are_errors() {
    let pair = |from| {
        format!(
            "{{{}, {}}}",
            tensor("a", "[2]", 0, 8),
            tensor("b", "[2]", from, from + 8)
        )
    };
    rejection(&pair(0), 8);
    rejection(&pair(4), 12);
    rejection(&pair(12), 20);
}

#[test]
fn duplicate_names_are_errors() {
    let same = [tensor("a", "[1]", 0, 4), tensor("a", "[1]", 0, 4)].join(",");
    assert!(rejection(&format!("{{{same}}}"), 4).contains("`a` occurs twice"));
    // An escape sequence does not make another name.
    let escaped = [tensor("a", "[1]", 0, 4), tensor("\\u0061", "[1]", 4, 8)].join(",");
    assert!(rejection(&format!("{{{escaped}}}"), 8).contains("`a` occurs twice"));
    let metadata = r#""__metadata__": {"config": "1", "config": "2"}"#;
    let message = rejection(&format!("{{{metadata}, {}}}", tensor("a", "[1]", 0, 4)), 4);
    assert!(message.contains("`config` occurs twice"), "{message}");
    let metadata = r#""__metadata__": {"a": "1"}"#;
    let twice = format!("{{{metadata}, {metadata}, {}}}", tensor("a", "[1]", 0, 4));
    assert!(rejection(&twice, 4).contains("`__metadata__` occurs twice"));
}

#[test]
fn control_characters_in_names_are_errors() {
    let header = format!("{{{}}}", tensor("a\\u001b[31m", "[1]", 0, 4));
    assert!(rejection(&header, 4).contains("control character"));
}

#[test]
fn overflowing_and_inconsistent_shapes_are_errors() {
    rejection(
        &format!("{{{}}}", tensor("a", "[4294967296, 4294967296, 4]", 0, 0)),
        0,
    );
    rejection(
        &format!("{{{}}}", tensor("a", "[9223372036854775807, 3]", 0, 4)),
        4,
    );
    rejection(&format!("{{{}}}", tensor("a", "[3]", 0, 8)), 8);
    rejection(&format!("{{{}}}", tensor("a", "[-1]", 0, 8)), 8);
}

#[test]
fn a_header_above_the_limit_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("long.safetensors");
    // The file is sparse, so it occupies almost no disk space.
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(40 << 20).expect("a length");
    let start = [&(17u64 << 20).to_le_bytes()[..], b"{"].concat();
    std::io::Write::write_all(&mut &file, &start).expect("a start");
    let error = vgg::read_metadata(&path).expect_err("a long header");
    let message = error.to_string();
    assert!(
        message.ends_with("the header length is 17825792 bytes, but the limit is 16777216"),
        "{message}"
    );
}

#[test]
fn an_empty_tensor_with_overflowing_dimensions_is_an_error() {
    // The format allows this shape, because the tensor has no elements. The product of the other
    // dimensions overflows.
    let max = usize::MAX;
    let header = format!(
        "{{{}}}",
        tensor("head.fc.weight", &format!("[0, {max}, {max}, 2]"), 0, 0)
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path(), &header, 0);
    let error = vgg::load_pretrained(&path, &VggConfig::vgg11(2), Head::Replace, 0, &CPU);
    assert!(matches!(error, Err(Error::MissingTensor { .. })));
}

#[test]
fn the_list_of_unused_tensors_is_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = VggConfig::slim_vgg16([1; 5], 1, 1, 32, 2);
    let mut tensors = vgg::init::from_scratch(&config, 0, &CPU).expect("a tiny network");
    let empty = candle_core::Tensor::zeros(0, candle_core::DType::F32, &CPU).expect("a tensor");
    for number in 0..5_000 {
        tensors.insert(format!("extra.{number}"), empty.clone());
    }
    let path = folder.path().join("many.safetensors");
    safetensors::serialize_to_file(&tensors, None, &path).expect("a file");
    let loaded = vgg::load_pretrained(&path, &config, Head::Replace, 0, &CPU).expect("weights");
    assert_eq!(loaded.report.unused.len(), 21);
    assert_eq!(loaded.report.unused[20], "and 4980 more");
}

#[test]
fn many_networks_in_a_file_are_an_error_in_time() {
    let tensors = (0u64..60_000).map(|index| {
        let name = format!("{index}.features.0.weight");
        tensor(&name, "[1, 1, 3, 3]", 36 * index, 36 * (index + 1))
    });
    let header = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path(), &header, 36 * 60_000);
    let start = Instant::now();
    let error = vgg::load_pretrained(&path, &VggConfig::vgg11(2), Head::Replace, 0, &CPU);
    let message = error.expect_err("many networks").to_string();
    assert!(message.contains("and 59980 more"), "{message}");
    // One of them can be chosen; its shape is wrong.
    let chosen = path.with_file_name("hostile.safetensors#7");
    let error = vgg::load_pretrained(chosen, &VggConfig::vgg11(2), Head::Replace, 0, &CPU);
    let error = error.expect_err("another shape");
    assert!(matches!(error, Error::TensorShape { .. }), "{error}");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn a_name_of_a_million_dots_is_an_error_in_time() {
    let dots = ".".repeat(1 << 20);
    let names = [
        "features.0.weight".into(),
        format!("other.{dots}features.0.weight"),
        format!("{dots}x"),
    ];
    let tensors = (0u64..).zip(names).map(|(index, name)| {
        let (from, to) = (36 * index, 36 * (index + 1));
        tensor(&name, "[1, 1, 3, 3]", from, to)
    });
    let header = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(folder.path(), &header, 3 * 36);
    let start = Instant::now();
    vgg::load_pretrained(&path, &VggConfig::vgg11(2), Head::Replace, 0, &CPU)
        .expect_err("another network");
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[test]
fn huge_and_invalid_values_in_the_metadata_are_errors() {
    let config = VggConfig::slim_vgg16([1; 5], 4, 1, 32, 2);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let tensors = vgg::init::from_scratch(&config, 0, &CPU).expect("a tiny network");
    let metadata = |config: &VggConfig| Metadata {
        config: config.clone(),
        classes: vec!["a".into(), "b".into()],
        mean: [0.5; 3],
        std: [0.5; 3],
        temperature: 2.5,
    };
    vgg::save(&path, &tensors, &metadata(&config)).expect("a model");
    let bytes = std::fs::read(&path).expect("a file");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let original = header.metadata().clone().expect("metadata");
    for (key, old, new) in [
        ("config", r#""hidden":4"#, r#""hidden":400000"#),
        (
            "config",
            r#""hidden":4"#,
            r#""hidden":18446744073709551615"#,
        ),
        ("config", r#""avgpool":1"#, r#""avgpool":999999"#),
        ("config", r#""classes":2"#, r#""classes":4000000000"#),
        ("config", r#""input_size":32"#, r#""input_size":100000"#),
        (
            "config",
            r#"{"conv":1}"#,
            r#"{"conv":18446744073709551615}"#,
        ),
        (
            "config",
            r#""architecture":"slim_vgg16""#,
            r#""architecture":5"#,
        ),
        ("config", r#""hidden":4"#, r#""hidden":4,"hidden":4"#),
        (
            "config",
            r#""architecture":"slim_vgg16""#,
            r#""architecture":"\u001b[31m""#,
        ),
        ("classes", r#"["a","b"]"#, r#"["a","b","c"]"#),
        ("classes", r#"["a","b"]"#, r#"["a","a"]"#),
        ("mean", "0.5", "1e300"),
        ("std", "0.5", "-0.5"),
        ("std", "0.5", "0"),
        ("temperature", "2.5", "0"),
        ("temperature", "2.5", "-2.5"),
        ("temperature", "2.5", "NaN"),
        ("temperature", "2.5", "inf"),
        ("temperature", "2.5", "1e300"),
        ("temperature", "2.5", "1e-300"),
        ("temperature", "2.5", "hot"),
        ("temperature", "2.5", ""),
    ] {
        let mut strings = original.clone();
        let changed = strings[key].replacen(old, new, 1);
        assert_ne!(changed, strings[key], "{old} is not in {key}");
        strings.insert(key.into(), changed);
        safetensors::serialize_to_file(&tensors, Some(strings), &path).expect("a file");
        let error = vgg::read_metadata(&path).expect_err(new);
        assert!(matches!(error, Error::Metadata { .. }), "{new}: {error}");
    }
}

#[test]
#[cfg(unix)]
fn a_weights_file_that_is_replaced_by_a_pipe_does_not_block_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    let [file, pipe, weights, link] =
        ["file", "pipe", "weights", "link"].map(|name| folder.path().join(name));
    std::fs::write(&file, b"text").expect("a file");
    let status = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(status.expect("mkfifo").success());
    let replace = move |target: &Path, weights: &Path| {
        std::os::unix::fs::symlink(target, &link).expect("a link");
        std::fs::rename(&link, weights).expect("a new link");
    };
    replace(&file, &weights);
    let (done, is_done) = std::sync::mpsc::channel();
    let read = weights.clone();
    std::thread::spawn(move || {
        let mut outcomes = [0; 2];
        while outcomes.iter().any(|&count| count < 2000) {
            let error = vgg::read_metadata(&read)
                .expect_err("not weights")
                .to_string();
            outcomes[usize::from(error.contains("not a regular file"))] += 1;
        }
        done.send(()).expect("a receiver");
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while is_done.try_recv().is_err() {
        replace(&pipe, &weights);
        replace(&file, &weights);
        assert!(Instant::now() < deadline, "opening the pipe blocks");
    }
}

#[test]
#[cfg(unix)]
fn a_device_is_not_a_weights_file() {
    let error = vgg::read_metadata(Path::new("/dev/zero")).expect_err("a device");
    assert!(error.to_string().contains("not a regular file"), "{error}");
}
