//! A table of the layers of a network, like PyTorch's `print(model)` with output shapes and
//! parameter counts.

use std::fmt;

use crate::config::{Unit, VggConfig};
use crate::error::Error;

/// The layers of a network with their output shapes for one input size. `Display` formats them as a
/// table.
#[derive(Clone, Debug)]
pub struct Summary {
    title: String,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    group: &'static str,
    index: usize,
    layer: String,
    output: Vec<usize>,
    parameters: usize,
}

impl Summary {
    /// Lists the layers of the network `config` for images of its input size.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] if the configuration is invalid.
    pub fn new(config: &VggConfig) -> Result<Self, Error> {
        config.convolutions()?;
        let mut rows = Vec::new();
        let mut add = |group, index, layer: String, output: &[usize], parameters| {
            rows.push(Row {
                group,
                index,
                layer,
                output: output.to_vec(),
                parameters,
            });
        };
        let (mut index, mut channels, mut side) = (0, 3, config.input_size);
        for unit in &config.features {
            match *unit {
                Unit::Conv(width) => {
                    let layer =
                        format!("Conv2d({channels}, {width}, kernel_size=3, stride=1, padding=1)");
                    let parameters = width * channels * 9 + width;
                    add("features", index, layer, &[width, side, side], parameters);
                    let relu = index + config.indices_per_conv() - 1;
                    if config.batch_norm {
                        let layer = format!("BatchNorm2d({width})");
                        add(
                            "features",
                            index + 1,
                            layer,
                            &[width, side, side],
                            2 * width,
                        );
                    }
                    add("features", relu, "ReLU()".into(), &[width, side, side], 0);
                    (index, channels) = (relu + 1, width);
                }
                Unit::Pool => {
                    side /= 2;
                    let layer = "MaxPool2d(kernel_size=2, stride=2)".to_string();
                    add("features", index, layer, &[channels, side, side], 0);
                    index += 1;
                }
            }
        }
        let pool = config.avgpool;
        let layer = format!("AdaptiveAvgPool2d(output_size=({pool}, {pool}))");
        add("avgpool", 0, layer, &[channels, pool, pool], 0);
        for (index, input, output) in config.linears(&config.convolutions()?) {
            let layer = format!("Linear(in_features={input}, out_features={output})");
            add(
                "classifier",
                index,
                layer,
                &[output],
                output * input + output,
            );
            if index < 6 {
                add("classifier", index + 1, "ReLU()".into(), &[output], 0);
                add(
                    "classifier",
                    index + 2,
                    "Dropout(p=0.5)".into(),
                    &[output],
                    0,
                );
            }
        }
        Ok(Self {
            title: config.architecture.clone(),
            rows,
        })
    }

    /// Total number of scalar values in the parameters. Buffers (running statistics) are not
    /// counted.
    pub fn parameters(&self) -> usize {
        self.rows.iter().map(|row| row.parameters).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (", self.title)?;
        let mut group = "";
        for row in &self.rows {
            if row.group != group {
                group = row.group;
                let kind = if group == "avgpool" { "" } else { "Sequential" };
                if !kind.is_empty() {
                    writeln!(f, "  ({group}): {kind}")?;
                }
            }
            let position = match group {
                "avgpool" => "  (avgpool)".to_string(),
                _ => format!("    ({})", row.index),
            };
            let output = row.output.iter().map(usize::to_string);
            let output = output.collect::<Vec<_>>().join(" x ");
            let left = format!("{position}: {}", row.layer);
            match row.parameters {
                0 => writeln!(f, "{left:<72}{output:>16}")?,
                count => writeln!(f, "{left:<72}{output:>16}{:>14}", with_separators(count))?,
            }
        }
        writeln!(f, ")")?;
        write!(f, "{} parameters", with_separators(self.parameters()))
    }
}

/// Formats a number with thousands separators: 138,357,544.
fn with_separators(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vgg16_is_formatted_layer_by_layer() {
        let summary = Summary::new(&VggConfig::vgg16(1000)).expect("a valid configuration");
        assert_eq!(summary.parameters(), 138_357_544);
        let text = summary.to_string();
        // 31 layers in `features` (13 convolutions, 13 ReLUs, 5 pools), 1 average pool, 7 layers in
        // `classifier` (3 linear layers, 2 ReLUs, 2 dropouts), and 5 other lines (2 group titles,
        // the first and last line of the frame, and the total).
        assert_eq!(text.lines().count(), 31 + 1 + 7 + 5);
        assert!(text.contains("(28): Conv2d(512, 512, kernel_size=3, stride=1, padding=1)"));
        assert!(text.contains("512 x 14 x 14"));
        assert!(text.contains("102,764,544"));
        assert!(text.ends_with("138,357,544 parameters"));
    }

    #[test]
    fn buffers_are_not_counted_as_parameters() {
        let config = VggConfig::named("vgg11_bn", 1000).expect("a valid configuration");
        let summary = Summary::new(&config).expect("a valid configuration");
        assert_eq!(summary.parameters(), 132_868_840);
        assert!(summary.to_string().contains("(26): BatchNorm2d(512)"));
    }
}
