//! Parses the metadata of a model file. An input has one line for each key, with its value.
#![no_main]

use libfuzzer_sys::fuzz_target;

const KEYS: [&str; 6] = [
    "config",
    "classes",
    "mean",
    "std",
    "input_size",
    "architecture",
];

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let values = KEYS.into_iter().zip(text.split('\n'));
    let strings: serde_json::Map<_, _> = values
        .map(|(key, value)| (key.into(), value.into()))
        .collect();
    let header = serde_json::json!({ "__metadata__": strings }).to_string();
    let length = (header.len() as u64).to_le_bytes();
    let path = fuzz::write(
        "metadata.safetensors",
        &[&length, header.as_bytes()].concat(),
    );
    if let Ok(Some(metadata)) = vgg::read_metadata(&path) {
        // Accepted metadata describes a network of limited size.
        let shapes = metadata.config.tensor_shapes().expect("a valid network");
        let sizes = shapes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>());
        assert!(sizes.sum::<usize>() <= 250_000_000);
        vgg::Summary::new(&metadata.config).expect("a valid network");
        assert!(metadata.std.iter().all(|&std| std > 0.0 && std.is_finite()));
    }
});
