//! Values that arguments are parsed into: each holds only what is valid, and says what is not.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use vgg::hub::Address;

/// A learning rate: finite and above zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Self(rate)),
            _ => Err(
                "expected a learning rate above 0, such as 1e-3 (to freeze layers, leave them out)"
                    .to_string(),
            ),
        }
    }
}

/// A momentum: from 0 up to, not including, 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Momentum(f64);

impl Momentum {
    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Momentum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(momentum) if (0.0..1.0).contains(&momentum) => Ok(Self(momentum)),
            _ => Err("expected a momentum from 0 to below 1, such as 0.9".to_string()),
        }
    }
}

/// A time in minutes, fractions included; 0 for never.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minutes(f64);

impl Minutes {
    /// As a duration; `None` for never.
    pub fn get(self) -> Option<Duration> {
        (self.0 > 0.0).then(|| Duration::from_secs_f64(60.0 * self.0))
    }
}

impl FromStr for Minutes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            // A million minutes are two years.
            Ok(minutes) if (0.0..=1e6).contains(&minutes) => Ok(Self(minutes)),
            _ => Err("expected minutes, such as 5 or 0.5; 0 for none".to_string()),
        }
    }
}

/// The side of the network's square input in pixels: 32 to 4096.
///
/// Five poolings halve the picture five times, so 32 is the least that leaves one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputSize(usize);

impl InputSize {
    /// Pixels.
    pub fn get(self) -> usize {
        self.0
    }
}

impl FromStr for InputSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<usize>() {
            Ok(size) if (32..=4096).contains(&size) => Ok(Self(size)),
            _ => Err("expected pixels from 32 to 4096".to_string()),
        }
    }
}

impl fmt::Display for InputSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of bytes, written with or without a unit: `0`, `500MB`, `1GiB`, `1.5 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Bytes.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || "expected a size such as 0, 500MB or 1GiB".to_string();
        let text = text.trim();
        let unit_at = text
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let number: f64 = number.trim().parse().map_err(|_| refused())?;
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
            _ => return Err(refused()),
        };
        let bytes = number * factor as f64;
        if !(0.0..=u64::MAX as f64 / 2.0).contains(&bytes) {
            return Err(refused());
        }
        Ok(Self(bytes.round() as u64))
    }
}

/// Layers, named by a prefix such as `features` or `classifier.6`, and the rate that they learn with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRate {
    /// A layer's name or the beginning of one, up to a dot.
    pub layers: String,
    /// Learning rate.
    pub rate: f64,
}

/// `LAYERS=RATE,LAYERS=RATE,…`, each name once.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerRates(Vec<LayerRate>);

impl LayerRates {
    /// The groups in the order they were typed.
    pub fn iter(&self) -> impl Iterator<Item = &LayerRate> {
        self.0.iter()
    }
}

impl FromStr for LayerRates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut groups: Vec<LayerRate> = Vec::new();
        for part in text.split(',') {
            let (layers, rate) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is not LAYERS=RATE, such as classifier.6=1e-3"))?;
            let layers = layers.trim();
            if layers.is_empty() {
                return Err(format!(
                    "`{part}` names no layers; write LAYERS=RATE, such as classifier.6=1e-3"
                ));
            }
            if groups.iter().any(|group| group.layers == layers) {
                return Err(format!("`{layers}` is named twice"));
            }
            let rate = rate
                .trim()
                .parse::<Rate>()
                .map_err(|reason| format!("`{part}`: {reason}"))?;
            groups.push(LayerRate {
                layers: layers.to_string(),
                rate: rate.get(),
            });
        }
        Ok(Self(groups))
    }
}

/// Where the weights come from, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightsSource {
    /// timm's ImageNet weights for the architecture, through the hub's cache.
    Hub,
    /// A file of any repository on the hub.
    Repository(Address),
    /// A file on this machine.
    File(PathBuf),
    /// Random.
    None,
}

impl FromStr for WeightsSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" => return Err("expected hub, hf:OWNER/REPO, a FILE or none".to_string()),
            "hub" => Self::Hub,
            "none" => Self::None,
            _ if text.starts_with("hf:") => Self::Repository(text[3..].parse()?),
            path => Self::File(PathBuf::from(path)),
        })
    }
}

/// Which stages `waggle train` runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StageChoice {
    /// Transfer, then fine-tuning from its best weights
    Both,
    /// Only what the weights left fresh
    Transfer,
    /// Only all layers at their own rates
    Finetune,
}

/// What to do about pictures that cannot be decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// Lists all of them and ends
    #[default]
    Fail,
    /// Names each and goes on without them
    Skip,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_decimal_and_binary_units() {
        let bytes = |text: &str| text.parse::<ByteSize>().map(ByteSize::get);
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("1.5 gib"), Ok(3 << 29));
        assert_eq!(bytes("500MB"), Ok(500_000_000));
        for wrong in ["", "-1", "GiB", "1XB", "NaN", "inf", "1e30GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_below_above_and_beside_numbers_are_refused() {
        assert_eq!("1e-3".parse::<Rate>().map(Rate::get), Ok(1e-3));
        for wrong in ["0", "-0.1", "NaN", "inf", "", "fast"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_group_list_names_each_part_once() {
        assert!(
            "features=1e-4, classifier.6=1e-3"
                .parse::<LayerRates>()
                .is_ok()
        );
        for wrong in ["", "features", "=1", "features=0", "a=1,a=2", "a=1,"] {
            assert!(wrong.parse::<LayerRates>().is_err(), "{wrong}");
        }
    }
}
