//! Measures time and peak memory of loading the weights of VGG-16 (553 MB). Ignored by default,
//! because the test writes a file of that size unless `WAGGLE_WEIGHTS` is set.
//!
//! ```text
//! cargo test --release -p vgg --test full_size -- --ignored --nocapture
//! WAGGLE_WEIGHTS=vgg16.pth cargo test …     # loads an existing file
//! ```
//!
//! Tensors are loaded one by one. Mapping the file would not save memory, because training changes
//! the weights in place and would copy them from the mapping.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use vgg::{Head, Metadata, VggConfig};

const CHILD: &str = "WAGGLE_FULL_SIZE_CHILD";

/// Maximum peak memory, as a multiple of the size of the file or the f32 tensors, whichever is
/// larger.
const MAX_RATIO: f64 = 1.2;

fn load(path: &Path) {
    let start = Instant::now();
    let config = VggConfig::vgg16(1000);
    let loaded = vgg::load_pretrained(path, &config, Head::Keep, 1, &Device::Cpu);
    let loaded = loaded.expect("weights");
    let seconds = start.elapsed().as_secs_f64();
    assert!(loaded.report.initialized.is_empty());
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.trim().strip_suffix(" kB"));
    let peak: f64 = peak.and_then(|text| text.parse().ok()).expect("a peak");
    let file = path.metadata().expect("a file").len() as f64;
    let elements: usize = loaded.tensors.values().map(Tensor::elem_count).sum();
    let tensors = 4.0 * elements as f64;
    let (peak, size) = (peak * 1024.0, file.max(tensors));
    println!(
        "{:.0} MB loaded in {seconds:.2} s, peak memory {:.0} MB: {:.3} times the file, {:.3} times the tensors",
        file / 1e6,
        peak / 1e6,
        peak / file,
        peak / tensors
    );
    assert!(
        peak <= MAX_RATIO * size,
        "peak memory is {peak} bytes, more than {MAX_RATIO} x {size}"
    );
}

#[test]
#[ignore = "writes 553 MB"]
fn loading_vgg16_needs_at_most_1_2_times_its_size() {
    if !Path::new("/proc/self/status").exists() {
        println!("skipped: peak memory is only measured on Linux");
        return;
    }
    if let Some(path) = std::env::var_os(CHILD) {
        return load(Path::new(&path));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = std::env::var_os("WAGGLE_WEIGHTS").map_or_else(
        || {
            let path = folder.path().join("model.safetensors");
            let config = VggConfig::vgg16(1000);
            let tensors = vgg::init::from_scratch(&config, 1, &Device::Cpu).expect("tensors");
            let metadata = Metadata {
                classes: (0..1000).map(|class| class.to_string()).collect(),
                config,
                mean: [0.5; 3],
                std: [0.5; 3],
                temperature: 1.0,
            };
            vgg::save(&path, &tensors, &metadata).expect("a file");
            path
        },
        PathBuf::from,
    );
    // A child process loads the file, so that the peak excludes the memory for writing the file.
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--nocapture"])
        .env(CHILD, path)
        .status();
    assert!(child.expect("a process").success());
}
