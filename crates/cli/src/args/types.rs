//! Parsers of argument values, and the types of some.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use dataset::path_text;
use serde::{Deserialize, Serialize};
use vgg::hub::Address;

use crate::decode_limits::MAX_PIXELS;

/// Maximum of `--threads` and `--workers`. More threads than CPUs do not help, and each needs memory.
pub const MAX_THREADS: usize = 1024;

/// Parses a positive integer.
pub fn positive(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "expected a positive integer".to_string())
}

/// Parses a number of threads, 1 to [`MAX_THREADS`].
pub fn threads(text: &str) -> Result<NonZeroUsize, String> {
    let is_valid = |threads: NonZeroUsize| threads.get() <= MAX_THREADS;
    number(text, is_valid, "expected 1 to 1024 threads")
}

/// Parses a random seed. TOML, the format of `config.toml`, has no larger integers.
pub fn seed(text: &str) -> Result<u64, String> {
    let expected = "expected an integer from 0 to 9223372036854775807";
    number(text, |seed: u64| i64::try_from(seed).is_ok(), expected)
}

/// Parses a number of epochs, of classes or of images in a batch, 1 to 1,000,000.
pub fn up_to_a_million(text: &str) -> Result<NonZeroUsize, String> {
    let is_valid = |count: NonZeroUsize| count.get() <= 1_000_000;
    number(text, is_valid, "expected 1 to 1000000")
}

/// Parses the number of epochs of the transfer stage.
pub fn transfer_epochs(text: &str) -> Result<NonZeroUsize, String> {
    epochs(text, "finetune")
}

/// Parses the number of epochs of the finetune stage.
pub fn finetune_epochs(text: &str) -> Result<NonZeroUsize, String> {
    epochs(text, "transfer")
}

fn epochs(text: &str, other: &str) -> Result<NonZeroUsize, String> {
    up_to_a_million(text).map_err(|expected| match text.trim_start_matches('0') {
        "" => format!("{expected}; to leave out the stage, pass `--stage {other}`"),
        _ => expected,
    })
}

/// Parses the number of an epoch, counted from 1.
pub fn epoch(text: &str) -> Result<NonZeroU64, String> {
    number(text, |_| true, "expected a positive integer")
}

/// Parses a learning rate: finite and positive in f32, the precision of the updates.
pub fn learning_rate(text: &str) -> Result<f64, String> {
    let is_valid = |rate: f64| (rate as f32).is_finite() && rate as f32 > 0.0;
    let expected = "expected a learning rate that is finite and above 0 in f32, such as 1e-3 (omit \
                    layers to freeze them)";
    number(text, is_valid, expected)
}

/// Parses an SGD momentum in [0, 1) that is not 1 in f32, the precision of the updates.
pub fn momentum(text: &str) -> Result<f64, String> {
    let is_valid = |momentum: f64| momentum >= 0.0 && (momentum as f32) < 1.0;
    let expected = "expected a momentum of at least 0 and below 1 in f32, such as 0.9";
    number(text, is_valid, expected)
}

/// Parses a probability in [0, 1].
pub fn probability(text: &str) -> Result<f32, String> {
    let expected = "expected a probability from 0 to 1, such as 0.9";
    number(
        text,
        |probability| (0.0..=1.0).contains(&probability),
        expected,
    )
}

/// Parses an interval of 0 to 1,000,000 minutes, possibly fractional. A million minutes is about two
/// years.
pub fn minutes(text: &str) -> Result<Duration, String> {
    let expected = "expected 0 to 1000000 minutes, such as 5 or 0.5";
    let minutes = number(
        text,
        |minutes: f64| (0.0..=1e6).contains(&minutes),
        expected,
    )?;
    Ok(Duration::from_secs_f64(60.0 * minutes))
}

/// Parses the width and height of the network input in pixels: 32 to 4096.
///
/// Each of the five pooling layers of a VGG halves the image, so 32 is the smallest size that leaves a
/// non-empty output.
pub fn input_size(text: &str) -> Result<usize, String> {
    let expected = "expected 32 to 4096 pixels";
    number(text, |size| (32..=4096).contains(&size), expected)
}

/// Parses a limit on the number of pixels of an image.
pub fn max_pixels(text: &str) -> Result<usize, String> {
    let expected = "expected 1 to 4294836225 pixels";
    number(text, |pixels| (1..=MAX_PIXELS).contains(&pixels), expected)
}

/// Parses a number and checks its range.
fn number<T: FromStr + Copy>(
    text: &str,
    is_valid: impl Fn(T) -> bool,
    expected: &str,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| is_valid(*number));
    number.ok_or_else(|| expected.to_string())
}

/// Parses a number of bytes with an optional unit: `0`, `500MB`, `1GiB`, `1.5 GiB`.
///
/// Units ignore case. `k`, `m`, `g` and `t` are short for `KiB`, `MiB`, `GiB` and `TiB`.
pub fn byte_size(text: &str) -> Result<u64, String> {
    let invalid = || "expected a size such as 0, 500MB or 1GiB".to_string();
    let text = text.trim();
    let unit_at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.trim().parse().map_err(|_| invalid())?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return Err(invalid()),
    };
    let bytes = number * factor as f64;
    if !(0.0..=u64::MAX as f64 / 2.0).contains(&bytes) {
        return Err(invalid());
    }
    Ok(bytes.round() as u64)
}

/// The learning rate of the layers that match a prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRate {
    /// Layer prefix, such as `features` or `classifier.6`.
    pub layers: String,
    /// Learning rate of the matching layers.
    pub lr: f64,
}

/// Learning rates by layer prefix, parsed from `LAYERS=LR,LAYERS=LR,…`. Prefixes are unique
/// and not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRates(Vec<LayerRate>);

impl LayerRates {
    /// The pairs of prefix and learning rate, in the given order.
    pub fn iter(&self) -> impl Iterator<Item = &LayerRate> {
        self.0.iter()
    }
}

impl FromStr for LayerRates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut groups: Vec<LayerRate> = Vec::new();
        for part in text.split(',') {
            let (layers, lr) = part.split_once('=').ok_or_else(|| {
                format!("expected LAYERS=LR, such as classifier.6=1e-3, not `{part}`")
            })?;
            let layers = layers.trim();
            if layers.is_empty() {
                return Err(format!(
                    "expected LAYERS=LR, such as classifier.6=1e-3, not `{part}`"
                ));
            }
            if groups.iter().any(|group| group.layers == layers) {
                return Err(format!("`{layers}` occurs twice"));
            }
            let lr = learning_rate(lr.trim()).map_err(|reason| format!("`{part}`: {reason}"))?;
            groups.push(LayerRate {
                layers: layers.to_string(),
                lr,
            });
        }
        Ok(Self(groups))
    }
}

/// The source of the initial weights. In `config.toml` it is a string, as on the command line, with a
/// path as [`path_text`] writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum WeightsSource {
    /// timm's ImageNet weights of the architecture, downloaded to the cache of the Hugging Face
    /// hub.
    Hub,
    /// A file in a repository on the hub.
    Repository(Address),
    /// A local file or run directory.
    File(PathBuf),
    /// The built-in backbone, pretrained on drawings.
    Sample,
    /// Random weights.
    None,
}

impl fmt::Display for WeightsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub => f.write_str("hub"),
            Self::Repository(address) => write!(f, "hf:{address}"),
            Self::File(path) => path.display().fmt(f),
            Self::Sample => f.write_str("sample"),
            Self::None => f.write_str("none"),
        }
    }
}

impl From<WeightsSource> for String {
    fn from(source: WeightsSource) -> Self {
        match source {
            WeightsSource::File(path) => path_text::encode(&path),
            other => other.to_string(),
        }
    }
}

impl TryFrom<String> for WeightsSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Ok(match text.parse()? {
            Self::File(_) => Self::File(path_text::decode(&text)),
            other => other,
        })
    }
}

impl FromStr for WeightsSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" => {
                return Err(
                    "expected a file, a run directory, hub, hf:OWNER/REPO, sample or none"
                        .to_string(),
                );
            }
            "hub" => Self::Hub,
            "sample" => Self::Sample,
            "none" => Self::None,
            _ if text.starts_with("hf:") => Self::Repository(text[3..].parse()?),
            path => Self::File(PathBuf::from(path)),
        })
    }
}

/// The stages that `waggle train` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StageChoice {
    /// Transfer, then finetune from the best weights of transfer
    Both,
    /// Train the layers of --transfer-layers (by default the newly initialized ones)
    Transfer,
    /// Train the layers of --finetune-lr (by default all), each at its own learning rate
    Finetune,
}

/// What to do if images cannot be decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// Stop and list them
    #[default]
    Fail,
    /// Skip them, with a warning for each
    Skip,
}

/// The value of `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The GPU if the program was built for one and it works, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU with this index.
    Cuda(usize),
    /// The Apple GPU.
    Metal,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "metal" => Ok(Self::Metal),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| {
                    "unknown device; expected auto, cpu, cuda, cuda:N or metal".to_string()
                }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_parsed() {
        assert_eq!("auto".parse(), Ok(DeviceChoice::Auto));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("metal".parse(), Ok(DeviceChoice::Metal));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "metal:0"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_of_threads_and_epochs_are_bounded() {
        assert_eq!(threads("1024").map(NonZeroUsize::get), Ok(1024));
        for invalid in [
            "0",
            "1025",
            "4294967296",
            "18446744073709551616",
            "-1",
            "1e3",
            "NaN",
            "",
        ] {
            assert!(threads(invalid).is_err(), "{invalid}");
        }
        assert_eq!(
            up_to_a_million("1000000").map(NonZeroUsize::get),
            Ok(1_000_000)
        );
        for invalid in ["0", "1000001", "18446744073709551615", "1e400", ""] {
            assert!(up_to_a_million(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn byte_sizes_have_decimal_and_binary_units() {
        assert_eq!(byte_size("0"), Ok(0));
        assert_eq!(byte_size("1GiB"), Ok(1 << 30));
        assert_eq!(byte_size("1.5 gib"), Ok(3 << 29));
        assert_eq!(byte_size("500MB"), Ok(500_000_000));
        for invalid in ["", "-1", "GiB", "1XB", "NaN", "inf", "1e30GiB"] {
            assert!(byte_size(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_learning_rate_is_finite_and_positive_in_f32() {
        for valid in ["1e-3", "1e-45", "3.4028235e38"] {
            assert_eq!(learning_rate(valid), Ok(valid.parse().unwrap()));
        }
        for invalid in [
            "0", "-0.1", "NaN", "inf", "", "fast", "1e39", "3.5e38", "1e-46", "1e400",
        ] {
            assert!(learning_rate(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn a_momentum_is_below_1_in_f32() {
        for valid in ["0", "0.9", "0.9999999"] {
            assert_eq!(momentum(valid), Ok(valid.parse().unwrap()));
        }
        for invalid in ["-0.1", "1", "0.99999999", "NaN", "inf", "1e39", ""] {
            assert!(momentum(invalid).is_err(), "{invalid}");
        }
    }

    #[test]
    fn layer_rates_have_unique_nonempty_prefixes() {
        assert!(
            "features=1e-4, classifier.6=1e-3"
                .parse::<LayerRates>()
                .is_ok()
        );
        for invalid in [
            "",
            "features",
            "=1",
            "features=0",
            "a=1,a=2",
            "a=1,",
            "a=1e39",
            "a=1e-60",
        ] {
            assert!(invalid.parse::<LayerRates>().is_err(), "{invalid}");
        }
    }

    #[test]
    fn weights_survive_the_configuration() {
        let hub = WeightsSource::Repository("timm/vgg16.tv_in1k".parse().unwrap());
        let mut sources = vec![WeightsSource::Hub, hub, WeightsSource::None];
        sources.push(WeightsSource::File("/w/\"x\".pth#ema".into()));
        #[cfg(unix)]
        {
            let bytes = b"/caf\xe9/w.pth".to_vec();
            sources.extend(path_text::path_from_bytes(bytes).map(WeightsSource::File));
        }
        for source in sources {
            let text = String::from(source.clone());
            assert_eq!(WeightsSource::try_from(text), Ok(source));
        }
    }
}
