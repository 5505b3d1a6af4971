//! Refuses settings that need more memory than there is, before anything is allocated.
//!
//! A failed allocation inside candle aborts the process, and Linux kills a process that uses more
//! memory than there is. The estimates here are lower bounds, so a run that passes may still be too
//! large.

use std::fs;

use anyhow::bail;
use indicatif::HumanBytes;
use vgg::config::Unit;
use vgg::{MAX_IMAGE_BYTES, VggConfig};

use crate::error::Diagnostic;

/// Returns an error if `what` needs `bytes` and less memory is available.
pub fn check(what: &str, bytes: u64, help: &str) -> anyhow::Result<()> {
    match available() {
        Some(available) if bytes > available => bail!(
            Diagnostic::new(format!(
                "{what} needs {} of memory, but only {} are available",
                HumanBytes(bytes),
                HumanBytes(available)
            ))
            .help(help)
        ),
        _ => Ok(()),
    }
}

/// Returns an error if the activations of one image need more than [`MAX_IMAGE_BYTES`], the limit for
/// model files.
pub fn check_image(network: &VggConfig) -> anyhow::Result<()> {
    let bytes = network.image_bytes();
    if bytes <= MAX_IMAGE_BYTES {
        return Ok(());
    }
    let size = network.input_size;
    bail!(
        Diagnostic::new(format!(
            "an image of {size}x{size} pixels needs about {} of memory, but the limit is {}",
            HumanBytes(bytes),
            HumanBytes(MAX_IMAGE_BYTES)
        ))
        .help("pass a smaller `--input-size`")
    )
}

/// Checks the memory for the confusion matrix of a validation: 8 bytes for each pair of classes.
pub fn check_confusion_matrix(classes: usize) -> anyhow::Result<()> {
    let classes = classes as u64;
    let bytes = classes.saturating_mul(classes).saturating_mul(8);
    check("the confusion matrix", bytes, "use fewer classes")
}

/// Checks the memory for a batch of `images`: its input and, if all layers are trained on the CPU, the
/// outputs of the convolutions, which are stored for the backward pass.
pub fn check_batch(network: &VggConfig, images: usize, trains_all: bool) -> anyhow::Result<()> {
    let stored = if trains_all {
        stored_outputs(network)
    } else {
        0
    };
    check_values(network.input_size, images, stored)
}

/// Checks the memory for a batch of `images` with sides of `size` pixels.
pub fn check_input(size: usize, images: usize) -> anyhow::Result<()> {
    check_values(size, images, 0)
}

fn check_values(size: usize, images: usize, stored: u64) -> anyhow::Result<()> {
    let size = size as u64;
    let values = (3 * size * size).saturating_add(stored);
    let bytes = values.saturating_mul(4).saturating_mul(images as u64);
    let help = match images {
        1 => "use smaller images",
        _ => "pass a smaller `--batch-size`",
    };
    check(
        &format!("a batch of {images} images of {size} px"),
        bytes,
        help,
    )
}

/// The values per image that a training step stores: the output of each convolution, after its pool
/// if it has one. The first is left out, because a step may recompute it.
fn stored_outputs(network: &VggConfig) -> u64 {
    let (mut side, mut channels) = (network.input_size as u64, 0);
    let mut outputs = Vec::new();
    for unit in &network.features {
        match *unit {
            Unit::Conv(width) => {
                channels = width as u64;
                outputs.push(channels.saturating_mul(side * side));
            }
            Unit::Pool => {
                side /= 2;
                outputs.pop();
                outputs.push(channels.saturating_mul(side * side));
            }
        }
    }
    outputs.into_iter().skip(1).fold(0, u64::saturating_add)
}

/// The memory that this process can have at most, in bytes: what is available now, or a lower limit of
/// `ulimit` or of the control group. `None` if it is unknown, as on systems other than Linux.
fn available() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let kib = |name| Some(1024 * number_after(&meminfo, name)?);
    let free = kib("MemAvailable:").map(|memory| memory + kib("SwapFree:").unwrap_or(0));
    let limits = read("/proc/self/limits");
    let group = read("/proc/self/cgroup");
    let group = group.lines().find_map(|line| line.strip_prefix("0::"));
    let group = format!("/sys/fs/cgroup{}/memory.max", group.unwrap_or_default());
    let limits = ["Max address space", "Max data size"]
        .map(|name| number_after(&limits, name))
        .into_iter()
        .chain([
            number_after(&read("/sys/fs/cgroup/memory.max"), ""),
            number_after(&read("/sys/fs/cgroup/memory/memory.limit_in_bytes"), ""),
            number_after(&read(&group), ""),
        ]);
    limits.chain([free]).flatten().min()
}

/// The number after `name` at the start of a line, or `None` if another word follows, such as
/// `unlimited` or `max`.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_step_of_vgg16_stores_23_mb_per_image() {
        let values = stored_outputs(&VggConfig::vgg16(2));
        assert_eq!(values, 5_745_152);
    }

    #[test]
    fn numbers_follow_their_names() {
        let text = "MemTotal:       16 kB\nMemAvailable:   12 kB\nMax data size   unlimited\n";
        assert_eq!(number_after(text, "MemAvailable:"), Some(12));
        assert_eq!(number_after(text, "Max data size"), None);
        assert_eq!(number_after("max\n", ""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn more_than_the_memory_of_any_machine_is_an_error() {
        check("a byte", 1, "").unwrap();
        let error = check("the image cache", 1 << 60, "help").unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("the image cache needs 1.00 EiB of memory"),
            "{message}"
        );
    }
}
