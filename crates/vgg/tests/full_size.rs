//! The real VGG-16's 553 MB: time and peak memory to load them. Ignored, because it writes them first:
//!
//! ```text
//! cargo test --release -p vgg --test full_size -- --ignored --nocapture
//! WAGGLE_WEIGHTS=vgg16.pth cargo test … (the same on a file of yours)
//! ```
//!
//! Loading streams one tensor after the other into place. That needs no more than mapping the file would, since
//! weights that train are changed in place and cannot stay in a file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use vgg::{Head, Metadata, VggConfig};

const CHILD: &str = "WAGGLE_FULL_SIZE_CHILD";

/// The peak may be this many times the file; of one in f16 or bf16, this many times the f32 that it becomes.
const BOUND: f64 = 1.2;

fn load(path: &Path) {
    let start = Instant::now();
    let config = VggConfig::vgg16(1000);
    let loaded = vgg::load_pretrained(path, &config, Head::Keep, 1, &Device::Cpu);
    let loaded = loaded.expect("weights");
    let seconds = start.elapsed().as_secs_f64();
    assert!(loaded.report.fresh.is_empty());
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.trim().strip_suffix(" kB"));
    let peak: f64 = peak.and_then(|text| text.parse().ok()).expect("a peak");
    let file = path.metadata().expect("a file").len() as f64;
    let numbers: usize = loaded.tensors.values().map(Tensor::elem_count).sum();
    let kept = 4.0 * numbers as f64;
    let (peak, size) = (peak * 1024.0, file.max(kept));
    println!(
        "{:.0} MB loaded in {seconds:.2} s, peak memory {:.0} MB: {:.3} times the file, {:.3} times what is kept",
        file / 1e6,
        peak / 1e6,
        peak / file,
        peak / kept
    );
    assert!(peak <= BOUND * size, "{peak} of {size}");
}

#[test]
#[ignore = "writes 553 MB; see the file's head"]
fn loading_the_real_network_needs_little_more_than_its_size() {
    if !Path::new("/proc/self/status").exists() {
        println!("skipped: peak memory is read from Linux's /proc");
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
            };
            vgg::save(&path, &tensors, &metadata).expect("a file");
            path
        },
        PathBuf::from,
    );
    // A process of its own, whose peak is that of loading alone.
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--nocapture"])
        .env(CHILD, path)
        .status();
    assert!(child.expect("a process").success());
}
