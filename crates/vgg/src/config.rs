//! Configurations of the VGG family.
//!
//! K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
//! Recognition" (2014). The columns A, B, D and E of its table 1 are VGG-11, 13, 16 and 19. Layers
//! are numbered as in torchvision (torchvision/models/vgg.py): a convolution takes two indices in
//! `features` (convolution, ReLU), or three with batch norm (convolution, batch norm, ReLU), and a
//! pool takes one.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An element of the backbone, which torchvision calls `features`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A 3x3 convolution with this number of output channels, with bias, padding 1, optional batch
    /// norm, and ReLU.
    Conv(usize),
    /// A 2x2 max pool with stride 2.
    Pool,
}

/// The configuration of a network. It determines the shapes of all tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VggConfig {
    /// Name of the architecture, such as `vgg16`.
    pub architecture: String,
    /// The elements of the backbone, from input to output. Its input has three channels.
    pub features: Vec<Unit>,
    /// Whether a batch norm follows each convolution.
    #[serde(default, skip_serializing_if = "is_false")]
    pub batch_norm: bool,
    /// Height and width of the output of the adaptive average pool. 7 in torchvision.
    pub avgpool: usize,
    /// Width of the two hidden layers of the classifier. 4096 in the paper.
    pub hidden: usize,
    /// Number of classes, which is the width of the output.
    pub classes: usize,
    /// Height and width of the training images in pixels. The network also accepts other sizes of
    /// at least [`VggConfig::smallest_input`].
    pub input_size: usize,
}

/// The name of each architecture, and its number of convolutions in each block. Each block ends
/// with a pool.
const TABLE: [(&str, [usize; 5]); 4] = [
    ("vgg11", [1, 1, 2, 2, 2]),
    ("vgg13", [2, 2, 2, 2, 2]),
    ("vgg16", [2, 2, 3, 3, 3]),
    ("vgg19", [2, 2, 4, 4, 4]),
];

/// Suffix of architecture names with batch norm, as in torchvision.
const BATCH_NORM_SUFFIX: &str = "_bn";

/// Maximum number of elements in the backbone. Limits are needed, because configurations may come
/// from untrusted files. VGG-19 has 21 elements.
const MAX_UNITS: usize = 1_000;
/// Maximum width of a layer. The hidden layers of the paper are 4096 wide.
const MAX_WIDTH: usize = 1_000_000;
/// Maximum total number of elements in all tensors. VGG-19 has 144 million, or 229 million with the
/// 21,841 classes of ImageNet-21k.
const MAX_PARAMETERS: usize = 250_000_000;

/// Number of output channels in each block of the paper's architectures.
const WIDTHS: [usize; 5] = [64, 128, 256, 512, 512];

impl VggConfig {
    /// The names accepted by [`VggConfig::named`].
    pub const NAMES: [&str; 8] = [
        "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    ];

    /// Returns the configuration of the architecture called `name`, for 224-pixel images. Case is
    /// ignored.
    ///
    /// # Errors
    ///
    /// Returns [`Error::UnknownArchitecture`] if the name is not in [`VggConfig::NAMES`].
    pub fn named(name: &str, classes: usize) -> Result<Self, Error> {
        let lower = name.to_ascii_lowercase();
        let plain = lower.strip_suffix(BATCH_NORM_SUFFIX);
        let column = plain.unwrap_or(&lower);
        let Some((_, blocks)) = TABLE.iter().find(|(name, _)| *name == column) else {
            return Err(Error::UnknownArchitecture {
                name: name.into(),
                names: &Self::NAMES,
            });
        };
        Ok(Self {
            batch_norm: plain.is_some(),
            ..Self::from_blocks(&lower, blocks, WIDTHS, classes)
        })
    }

    /// VGG-11 for 224-pixel images.
    pub fn vgg11(classes: usize) -> Self {
        Self::from_blocks(TABLE[0].0, &TABLE[0].1, WIDTHS, classes)
    }

    /// VGG-13 for 224-pixel images.
    pub fn vgg13(classes: usize) -> Self {
        Self::from_blocks(TABLE[1].0, &TABLE[1].1, WIDTHS, classes)
    }

    /// VGG-16 for 224-pixel images. It has 138,357,544 parameters with 1000 classes.
    pub fn vgg16(classes: usize) -> Self {
        Self::from_blocks(TABLE[2].0, &TABLE[2].1, WIDTHS, classes)
    }

    /// VGG-19 for 224-pixel images.
    pub fn vgg19(classes: usize) -> Self {
        Self::from_blocks(TABLE[3].0, &TABLE[3].1, WIDTHS, classes)
    }

    /// VGG-16 with custom block widths, hidden width, average pool size and input size.
    pub fn slim_vgg16(
        widths: [usize; 5],
        hidden: usize,
        avgpool: usize,
        input_size: usize,
        classes: usize,
    ) -> Self {
        Self {
            architecture: "slim_vgg16".into(),
            hidden,
            avgpool,
            input_size,
            ..Self::from_blocks(TABLE[2].0, &TABLE[2].1, widths, classes)
        }
    }

    fn from_blocks(name: &str, blocks: &[usize; 5], widths: [usize; 5], classes: usize) -> Self {
        let mut features = Vec::new();
        for (&convolutions, width) in blocks.iter().zip(widths) {
            features.extend(std::iter::repeat_n(Unit::Conv(width), convolutions));
            features.push(Unit::Pool);
        }
        Self {
            architecture: name.into(),
            features,
            batch_norm: false,
            avgpool: 7,
            hidden: 4096,
            classes,
            input_size: 224,
        }
    }

    /// Lists the convolutions, from input to output.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] if the backbone has no convolution or more than 1000 elements, if
    /// a pool does not follow a convolution, or if a width, the size of the average pool or the
    /// number of classes is 0 or more than a million.
    pub fn convolutions(&self) -> Result<Vec<Convolution>, Error> {
        if self.features.len() > MAX_UNITS {
            return Err(self.invalid("its backbone has more than 1000 elements"));
        }
        let mut convolutions: Vec<Convolution> = Vec::new();
        let (mut index, mut channels) = (0, 3);
        for (position, unit) in self.features.iter().enumerate() {
            match *unit {
                Unit::Conv(0) => return Err(self.invalid("a convolution has width 0")),
                Unit::Conv(width) if width > MAX_WIDTH => {
                    return Err(self.invalid("a convolution is wider than 1 million"));
                }
                Unit::Conv(width) => {
                    convolutions.push(Convolution {
                        index,
                        norm: self.batch_norm.then_some(index + 1),
                        input: channels,
                        output: width,
                        pool: self.features.get(position + 1) == Some(&Unit::Pool),
                    });
                    (index, channels) = (index + self.indices_per_conv(), width);
                }
                Unit::Pool => {
                    let follows_convolution =
                        position > 0 && self.features[position - 1] != Unit::Pool;
                    if !follows_convolution {
                        return Err(self.invalid("every pool must directly follow a convolution"));
                    }
                    index += 1;
                }
            }
        }
        if convolutions.is_empty() {
            return Err(self.invalid("it has no convolution"));
        }
        if self.avgpool == 0 || self.hidden == 0 || self.classes == 0 {
            return Err(self.invalid("the pool size, hidden width or class count is 0"));
        }
        if self.avgpool.max(self.hidden).max(self.classes) > MAX_WIDTH {
            return Err(
                self.invalid("the pool size, hidden width or class count is above 1 million")
            );
        }
        Ok(convolutions)
    }

    /// Number of indices in `features` from one convolution to the next convolution or pool.
    pub(crate) fn indices_per_conv(&self) -> usize {
        if self.batch_norm { 3 } else { 2 }
    }

    fn invalid(&self, reason: &'static str) -> Error {
        Error::Config {
            architecture: self.architecture.clone(),
            reason,
        }
    }

    /// The minimum height and width of an image in pixels: 2 to the power of the number of pools,
    /// 32 for five pools. Saturates at `usize::MAX`.
    pub fn smallest_input(&self) -> usize {
        let pools = self.features.iter().filter(|unit| **unit == Unit::Pool);
        let count = u32::try_from(pools.count()).unwrap_or(u32::MAX);
        1usize.checked_shl(count).unwrap_or(usize::MAX)
    }

    /// Names and shapes of all parameters and buffers ([`is_buffer`]), ordered as in torchvision's
    /// `state_dict`. `num_batches_tracked` is omitted, because no output depends on it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`VggConfig::convolutions`], and [`Error::Config`] if the tensors have
    /// more than 250 million elements in total.
    pub fn tensor_shapes(&self) -> Result<Vec<(String, Vec<usize>)>, Error> {
        let convolutions = self.convolutions()?;
        let mut shapes = Vec::new();
        let mut add = |layer: String, tensor: &str, shape: &[usize]| {
            shapes.push((format!("{layer}.{tensor}"), shape.to_vec()));
        };
        for conv in &convolutions {
            let layer = || format!("features.{}", conv.index);
            add(layer(), "weight", &[conv.output, conv.input, 3, 3]);
            add(layer(), "bias", &[conv.output]);
            if let Some(norm) = conv.norm {
                for tensor in NORM {
                    add(format!("features.{norm}"), tensor, &[conv.output]);
                }
            }
        }
        for (index, input, output) in self.linears(&convolutions) {
            let layer = || format!("classifier.{index}");
            add(layer(), "weight", &[output, input]);
            add(layer(), "bias", &[output]);
        }
        let sizes = shapes.iter().map(|(_, shape)| {
            let dims = shape.iter();
            dims.fold(1usize, |size, &dim| size.saturating_mul(dim))
        });
        if sizes.fold(0, usize::saturating_add) > MAX_PARAMETERS {
            return Err(self.invalid("it has more than 250 million parameters"));
        }
        Ok(shapes)
    }

    /// Lists the linear layers as (index in `classifier`, input width, output width).
    pub(crate) fn linears(&self, convolutions: &[Convolution]) -> [(usize, usize, usize); 3] {
        let channels = convolutions.last().map_or(0, |conv| conv.output);
        // Products that overflow saturate. `tensor_shapes` rejects them as too many parameters.
        let flat = channels
            .saturating_mul(self.avgpool)
            .saturating_mul(self.avgpool);
        [
            (0, flat, self.hidden),
            (3, self.hidden, self.hidden),
            (6, self.hidden, self.classes),
        ]
    }
}

/// Used to omit `batch_norm` from the metadata of networks without it, so that their metadata is
/// the same as before batch norm was supported.
fn is_false(value: &bool) -> bool {
    !value
}

/// Tensor names of a batch norm. The last two tensors are running statistics.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// Whether the tensor called `name` is a buffer, that is, a running statistic of a batch norm.
/// Buffers have no gradient.
pub fn is_buffer(name: &str) -> bool {
    NORM[2..].iter().any(|suffix| name.ends_with(suffix))
}

/// One convolution of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Convolution {
    /// Index in torchvision's `features`.
    pub index: usize,
    /// Index in `features` of the following batch norm, if any.
    pub norm: Option<usize>,
    /// Number of input channels.
    pub input: usize,
    /// Number of output channels.
    pub output: usize,
    /// Whether a 2x2 max pool follows.
    pub pool: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_match_torchvision() {
        let count = |config: VggConfig| -> usize {
            let shapes = config.tensor_shapes().expect("a valid configuration");
            shapes
                .iter()
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum()
        };
        assert_eq!(count(VggConfig::vgg11(1000)), 132_863_336);
        assert_eq!(count(VggConfig::vgg13(1000)), 133_047_848);
        assert_eq!(count(VggConfig::vgg16(1000)), 138_357_544);
        assert_eq!(count(VggConfig::vgg19(1000)), 143_667_240);
    }

    #[test]
    fn convolution_indices_match_torchvision() {
        let convolutions = VggConfig::vgg16(2)
            .convolutions()
            .expect("a valid configuration");
        let indices: Vec<_> = convolutions.iter().map(|conv| conv.index).collect();
        assert_eq!(indices, [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]);
    }

    #[test]
    fn batch_norm_is_between_convolution_and_relu() {
        let config = VggConfig::named("VGG16_BN", 1000).expect("a valid configuration");
        assert_eq!(config.architecture, "vgg16_bn");
        let convolutions = config.convolutions().expect("a valid configuration");
        let indices: Vec<_> = convolutions.iter().map(|conv| conv.index).collect();
        assert_eq!(indices, [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]);
        assert_eq!(convolutions[12].norm, Some(41));
        let shapes = config.tensor_shapes().expect("a valid configuration");
        let without_buffers = shapes.iter().filter(|(name, _)| !is_buffer(name));
        let count: usize = without_buffers
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(count, 138_365_992);
    }

    #[test]
    fn every_name_has_a_configuration_of_that_name() {
        for name in VggConfig::NAMES {
            assert_eq!(VggConfig::named(name, 2).expect(name).architecture, name);
        }
        for name in ["vgg", "vgg12", "vgg16_bn_bn", "_bn"] {
            assert!(VggConfig::named(name, 2).is_err(), "{name}");
        }
    }

    #[test]
    fn huge_configurations_are_rejected_without_overflow() {
        let valid = VggConfig::vgg11(2);
        let is_rejected = |change: fn(&mut VggConfig)| {
            let mut config = valid.clone();
            change(&mut config);
            matches!(config.tensor_shapes(), Err(Error::Config { .. }))
        };
        assert!(is_rejected(|config| config.hidden = usize::MAX));
        assert!(is_rejected(|config| config.hidden = 900_000));
        assert!(is_rejected(|config| config.avgpool = usize::MAX));
        assert!(is_rejected(|config| config.avgpool = 1_000_000));
        assert!(is_rejected(|config| config.classes = usize::MAX));
        assert!(is_rejected(
            |config| config.features = vec![Unit::Conv(usize::MAX); 3]
        ));
        assert!(is_rejected(
            |config| config.features = vec![Unit::Conv(8); 1_001]
        ));
        let mut config = valid.clone();
        config.features = [Unit::Conv(1), Unit::Pool].repeat(200);
        assert_eq!(config.smallest_input(), usize::MAX);
        assert!(VggConfig::vgg19(21_841).tensor_shapes().is_ok());
    }

    #[test]
    fn a_pool_must_follow_a_convolution() {
        let mut config = VggConfig::vgg11(2);
        config.features.insert(0, Unit::Pool);
        assert!(matches!(config.convolutions(), Err(Error::Config { .. })));
    }
}
