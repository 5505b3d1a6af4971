//! Limits for the memory of a batch. A model file of less than a megabyte can describe activations
//! of many gigabytes, and the operating system stops a program that allocates more than there is.
//! The limits do not depend on the machine, so a run that starts on one machine starts on any.

use anyhow::bail;
use vgg::VggConfig;

use crate::error::Diagnostic;

/// Maximum estimate for inference. VGG-16 needs 13 GiB for batches of 32 images at 3072 pixels.
const MAX_INFERENCE: u64 = 16 << 30;
/// Maximum estimate for training. VGG-16 needs 64 GiB for batches of 1254 images at 224 pixels.
const MAX_TRAINING: u64 = 64 << 30;

/// Bytes of a count in the confusion matrix.
const COUNT: u64 = 8;

/// Checks the memory for classifying batches of `batch` images.
///
/// # Errors
///
/// Returns an error if the estimate is above 16 GiB.
pub fn check_prediction(config: &VggConfig, batch: usize) -> anyhow::Result<()> {
    let task = format!("classifying images in batches of {batch}");
    check(config, &task, config.inference_bytes(batch), MAX_INFERENCE)
}

/// Checks the memory for evaluating batches of `batch` images, with a confusion matrix.
///
/// # Errors
///
/// Returns an error if the estimate is above 16 GiB.
pub fn check_evaluation(config: &VggConfig, batch: usize) -> anyhow::Result<()> {
    let task = format!("an evaluation in batches of {batch}");
    let bytes = config.inference_bytes(batch);
    let bytes = bytes.saturating_add(confusion_matrix(config));
    check(config, &task, bytes, MAX_INFERENCE)
}

/// Checks the memory for training all layers with batches of `batch` images.
///
/// # Errors
///
/// Returns an error if the estimate is above 64 GiB, or if the trained model could not classify a
/// single image within 16 GiB.
pub fn check_training(config: &VggConfig, batch: usize) -> anyhow::Result<()> {
    check_prediction(config, 1)?;
    let task = format!("training in batches of {batch}");
    let bytes = config.training_bytes(batch);
    let bytes = bytes.saturating_add(confusion_matrix(config));
    check(config, &task, bytes, MAX_TRAINING)
}

fn confusion_matrix(config: &VggConfig) -> u64 {
    let classes = config.classes as u64;
    classes.saturating_mul(classes).saturating_mul(COUNT)
}

fn check(config: &VggConfig, task: &str, bytes: u64, limit: u64) -> anyhow::Result<()> {
    if bytes <= limit {
        return Ok(());
    }
    let VggConfig {
        architecture,
        input_size,
        classes,
        ..
    } = config;
    let (needed, limit) = (gib(bytes), gib(limit));
    bail!(
        Diagnostic::new(format!(
            "{task} needs about {needed} GiB of memory, but the limit is {limit} GiB"
        ))
        .items([format!(
            "network: {architecture}, {input_size} px, {classes} classes"
        )])
        .help("pass a smaller `--batch-size`, or use a network with a smaller input size or fewer classes")
    )
}

fn gib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_networks_are_within_the_limits() {
        for name in VggConfig::NAMES {
            let config = VggConfig::named(name, 21_841).expect("a named architecture");
            check_evaluation(&config, 1024).expect(name);
            check_training(&config, 512).expect(name);
            let large = VggConfig {
                input_size: 1024,
                classes: 1000,
                ..config
            };
            check_prediction(&large, 64).expect(name);
            check_training(&large, 32).expect(name);
        }
    }

    #[test]
    fn the_product_of_classes_size_and_batch_is_limited() {
        let config = VggConfig::slim_vgg16([1; 5], 2, 1, 224, 2);
        let classes = VggConfig {
            classes: 100_000,
            ..config.clone()
        };
        check_prediction(&classes, 16).expect("only logits");
        check_evaluation(&classes, 1).expect_err("a confusion matrix of 75 GiB");
        check_training(&classes, 1).expect_err("a confusion matrix of 75 GiB");
        let without_pools = VggConfig {
            features: vec![vgg::config::Unit::Conv(64)],
            input_size: 4096,
            ..config
        };
        check_prediction(&without_pools, 1).expect("8 GiB");
        let error = check_prediction(&without_pools, 16).expect_err("68 GiB");
        assert!(error.to_string().contains("needs about 72 GiB"), "{error}");
        check_training(&without_pools, 32).expect_err("134 GiB");
    }
}
