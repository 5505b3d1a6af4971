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
use crate::ui::text::pluralize;

/// Returns an error if an image cache of `bytes` exceeds the memory of the machine. It may exceed the
/// available memory, because it grows only to the size of the images.
pub fn check_cache(bytes: u64) -> anyhow::Result<()> {
    let memory = memory(["MemTotal:", "SwapTotal:"]);
    let help = "pass a smaller `--cache-images`";
    check("the image cache", bytes, memory, help)
}

fn check(what: &str, bytes: u64, memory: Option<u64>, help: &str) -> anyhow::Result<()> {
    match memory {
        Some(memory) if bytes > memory => bail!(
            Diagnostic::new(format!(
                "{what} needs {} of memory, but at most {} are available",
                HumanBytes(bytes),
                HumanBytes(memory)
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
    check(
        "the confusion matrix",
        bytes,
        available(),
        "use fewer classes",
    )
}

/// Checks the memory for the logits of a validation of `images`: two float32 copies, one in the
/// evaluation and one in the scores computed from it.
pub fn check_logits(images: usize, classes: usize) -> anyhow::Result<()> {
    let logits = (images as u64).saturating_mul(classes as u64);
    check(
        &format!("the output of the model for {}", pluralize(images, "image")),
        logits.saturating_mul(8),
        available(),
        "use fewer images or classes",
    )
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
    let input = size.saturating_mul(size).saturating_mul(3);
    let values = input.saturating_add(stored);
    let bytes = values.saturating_mul(4).saturating_mul(images as u64);
    let help = match images {
        1 => "pass a smaller `--input-size`",
        _ => "pass a smaller `--batch-size`",
    };
    let count = pluralize(images, "image");
    check(
        &format!("a batch of {count} of {size} px"),
        bytes,
        available(),
        help,
    )
}

/// The values per image that a training step stores: the output of each convolution, after its pool
/// if it has one. The first is left out, because a step may recompute it.
fn stored_outputs(network: &VggConfig) -> u64 {
    let (mut side, mut channels) = (network.input_size as u64, 0);
    let area = |side: u64| side.saturating_mul(side);
    let mut outputs = Vec::new();
    for unit in &network.features {
        match *unit {
            Unit::Conv(width) => {
                channels = width as u64;
                outputs.push(area(side).saturating_mul(channels));
            }
            Unit::Pool => {
                side /= 2;
                outputs.pop();
                outputs.push(area(side).saturating_mul(channels));
            }
        }
    }
    outputs.into_iter().skip(1).fold(0, u64::saturating_add)
}

/// The memory that is available now, or a lower limit.
fn available() -> Option<u64> {
    memory(["MemAvailable:", "SwapFree:"])
}

/// The memory that this process can have at most, in bytes: the sum of the `fields` of `/proc/meminfo`,
/// or a lower limit of `ulimit` or of the control group. `None` if it is unknown, as on systems other
/// than Linux.
fn memory(fields: [&str; 2]) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let [memory, swap] = fields.map(|field| number_after(&meminfo, field));
    let memory = memory.map(|kib| 1024 * (kib + swap.unwrap_or(0)));
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
    limits.chain([memory]).flatten().min()
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
        check_cache(1).unwrap();
        check_input(1, 1).unwrap();
        check_input(usize::MAX, usize::MAX).unwrap_err();
        check_logits(1000, 2).unwrap();
        check_logits(1 << 50, 1000).unwrap_err();
        let error = check_cache(1 << 60).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("the image cache needs 1.00 EiB of memory"),
            "{message}"
        );
    }
}
