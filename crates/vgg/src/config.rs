//! The family of VGG networks as one table.
//!
//! K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition" (2014);
//! the columns A, B, D and E of its table 1 are VGG-11, 13, 16 and 19. Numbering as in torchvision
//! (torchvision/models/vgg.py): each convolution takes two places in `features` (itself and its ReLU), three with
//! batch norm (which stands between them), each pool one.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A place in the convolution part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A 3x3 convolution to this many channels, with bias, padding 1, batch norm where the network has it, and ReLU.
    Conv(usize),
    /// A 2x2 max pool with stride 2.
    Pool,
}

/// Everything that decides the shapes of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VggConfig {
    /// A name for people: `vgg16`.
    pub architecture: String,
    /// The convolution part, from the input on. The input has three channels.
    pub features: Vec<Unit>,
    /// Whether a batch norm follows each convolution.
    #[serde(default, skip_serializing_if = "is_false")]
    pub batch_norm: bool,
    /// The adaptive average pool's output has this height and width: 7 in the paper's networks.
    pub avgpool: usize,
    /// Width of the two hidden layers of the classifier: 4096 in the paper's networks.
    pub hidden: usize,
    /// Width of the output.
    pub classes: usize,
    /// Height and width of the pictures that the network was made for. Others work too.
    pub input_size: usize,
}

/// The convolutions of each block, by name; every block ends in a pool.
const TABLE: [(&str, [usize; 5]); 4] = [
    ("vgg11", [1, 1, 2, 2, 2]),
    ("vgg13", [2, 2, 2, 2, 2]),
    ("vgg16", [2, 2, 3, 3, 3]),
    ("vgg19", [2, 2, 4, 4, 4]),
];

/// What the name of a network with batch norm ends with, as in torchvision.
const BATCH_NORM: &str = "_bn";
/// The most layers and the largest width, pool and number of classes that are believed. A file of a few hundred bytes
/// can claim any number; the largest network of the paper has 19 layers, 4096 wide.
const MOST_UNITS: usize = 1_000;
const LARGEST_WIDTH: usize = 1_000_000;
/// The most parameters of a network: VGG-19 has 144 million, with the 21,841 classes of all of ImageNet 229 million.
const MOST_PARAMETERS: usize = 250_000_000;

const WIDTHS: [usize; 5] = [64, 128, 256, 512, 512];

impl VggConfig {
    /// The names that [`VggConfig::named`] knows.
    pub const NAMES: [&str; 8] = [
        "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn",
    ];

    /// A network of the paper by its name, in any case.
    ///
    /// Errors: [`Error::UnknownArchitecture`].
    pub fn named(name: &str, classes: usize) -> Result<Self, Error> {
        let wanted = name.to_ascii_lowercase();
        let plain = wanted.strip_suffix(BATCH_NORM);
        let column = plain.unwrap_or(&wanted);
        let Some((_, blocks)) = TABLE.iter().find(|(name, _)| *name == column) else {
            return Err(Error::UnknownArchitecture { name: name.into() });
        };
        Ok(Self {
            batch_norm: plain.is_some(),
            ..Self::of_blocks(&wanted, blocks, WIDTHS, classes)
        })
    }

    /// VGG-11 for 224-pixel pictures.
    pub fn vgg11(classes: usize) -> Self {
        Self::of_blocks(TABLE[0].0, &TABLE[0].1, WIDTHS, classes)
    }

    /// VGG-13 for 224-pixel pictures.
    pub fn vgg13(classes: usize) -> Self {
        Self::of_blocks(TABLE[1].0, &TABLE[1].1, WIDTHS, classes)
    }

    /// VGG-16 for 224-pixel pictures: 138,357,544 parameters with 1000 classes.
    pub fn vgg16(classes: usize) -> Self {
        Self::of_blocks(TABLE[2].0, &TABLE[2].1, WIDTHS, classes)
    }

    /// VGG-19 for 224-pixel pictures.
    pub fn vgg19(classes: usize) -> Self {
        Self::of_blocks(TABLE[3].0, &TABLE[3].1, WIDTHS, classes)
    }

    /// The thirteen convolutions of VGG-16 with other widths per block, hidden width, pool and input size.
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
            ..Self::of_blocks(TABLE[2].0, &TABLE[2].1, widths, classes)
        }
    }

    fn of_blocks(name: &str, blocks: &[usize; 5], widths: [usize; 5], classes: usize) -> Self {
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

    /// The convolutions in order: their index in torchvision's `features`, channels in and out, and whether a
    /// pool follows.
    ///
    /// Errors: [`Error::Config`] where a pool follows no convolution, there is none at all, or a width is 0 or beyond
    /// reason.
    pub fn convolutions(&self) -> Result<Vec<Convolution>, Error> {
        if self.features.len() > MOST_UNITS {
            return Err(self.wrong("more than a thousand layers"));
        }
        let mut found: Vec<Convolution> = Vec::new();
        let (mut index, mut channels) = (0, 3);
        for (place, unit) in self.features.iter().enumerate() {
            match *unit {
                Unit::Conv(0) => return Err(self.wrong("a convolution of width 0")),
                Unit::Conv(width) if width > LARGEST_WIDTH => {
                    return Err(self.wrong("a convolution more than a million wide"));
                }
                Unit::Conv(width) => {
                    found.push(Convolution {
                        index,
                        norm: self.batch_norm.then_some(index + 1),
                        input: channels,
                        output: width,
                        pool: self.features.get(place + 1) == Some(&Unit::Pool),
                    });
                    (index, channels) = (index + self.places(), width);
                }
                Unit::Pool => {
                    let follows = place > 0 && self.features[place - 1] != Unit::Pool;
                    if !follows {
                        return Err(self.wrong("a pool that follows no convolution"));
                    }
                    index += 1;
                }
            }
        }
        if found.is_empty() {
            return Err(self.wrong("no convolution"));
        }
        if self.avgpool == 0 || self.hidden == 0 || self.classes == 0 {
            return Err(self.wrong("a pool, hidden width or class count of 0"));
        }
        if self.avgpool.max(self.hidden).max(self.classes) > LARGEST_WIDTH {
            return Err(self.wrong("a pool, hidden width or class count above a million"));
        }
        Ok(found)
    }

    /// Places that a convolution takes in `features`, with what follows it up to the next or a pool.
    pub(crate) fn places(&self) -> usize {
        if self.batch_norm { 3 } else { 2 }
    }

    fn wrong(&self, what: &'static str) -> Error {
        Error::Config {
            architecture: self.architecture.clone(),
            what,
        }
    }

    /// The smallest height and width that the pools leave something of: 32 for five pools.
    pub fn smallest_input(&self) -> usize {
        let pools = self.features.iter().filter(|unit| **unit == Unit::Pool);
        let doublings = u32::try_from(pools.count()).unwrap_or(u32::MAX);
        1usize.checked_shl(doublings).unwrap_or(usize::MAX)
    }

    /// Names and shapes of all parameters, in the order of torchvision's `state_dict`; with batch norm its running
    /// statistics too ([`is_buffer`]), but not its count of batches, which nothing depends on.
    ///
    /// Errors: those of [`VggConfig::convolutions`], and [`Error::Config`] for more than 250 million parameters.
    pub fn parameters(&self) -> Result<Vec<(String, Vec<usize>)>, Error> {
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
            let sides = shape.iter();
            sides.fold(1usize, |size, &side| size.saturating_mul(side))
        });
        if sizes.fold(0, usize::saturating_add) > MOST_PARAMETERS {
            return Err(self.wrong("more than 250 million parameters"));
        }
        Ok(shapes)
    }

    /// The linear layers: index in `classifier`, width in and out.
    pub(crate) fn linears(&self, convolutions: &[Convolution]) -> [(usize, usize, usize); 3] {
        let channels = convolutions.last().map_or(0, |conv| conv.output);
        // What is absurd saturates, and is refused with the number of parameters.
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

/// Networks without batch norm are described as before there were any with it.
fn is_false(value: &bool) -> bool {
    !value
}

/// The tensors of a batch norm; the last two are its running statistics.
const NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// Whether a tensor of this name is a running statistic of a batch norm: state that no gradient reaches.
pub fn is_buffer(name: &str) -> bool {
    NORM[2..].iter().any(|end| name.ends_with(end))
}

/// One convolution of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Its index in torchvision's `features`.
    pub index: usize,
    /// The index of its batch norm, if it has one.
    pub norm: Option<usize>,
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub output: usize,
    /// Whether a pool follows.
    pub pool: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_parameters_of_the_paper() {
        let count = |config: VggConfig| -> usize {
            let shapes = config.parameters().expect("a network of the table");
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
    fn convolutions_have_torchvisions_indices() {
        let convolutions = VggConfig::vgg16(2)
            .convolutions()
            .expect("a network of the table");
        let indices: Vec<_> = convolutions.iter().map(|conv| conv.index).collect();
        assert_eq!(indices, [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]);
    }

    #[test]
    fn batch_norm_stands_between_a_convolution_and_its_relu() {
        let config = VggConfig::named("VGG16_BN", 1000).expect("a network of the table");
        assert_eq!(config.architecture, "vgg16_bn");
        let convolutions = config.convolutions().expect("a network of the table");
        let indices: Vec<_> = convolutions.iter().map(|conv| conv.index).collect();
        assert_eq!(indices, [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]);
        assert_eq!(convolutions[12].norm, Some(41));
        let parameters = config.parameters().expect("a network of the table");
        let trained = parameters.iter().filter(|(name, _)| !is_buffer(name));
        let count: usize = trained
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(count, 138_365_992);
    }

    #[test]
    fn every_name_is_a_network_of_that_name() {
        for name in VggConfig::NAMES {
            assert_eq!(VggConfig::named(name, 2).expect(name).architecture, name);
        }
        for name in ["vgg", "vgg12", "vgg16_bn_bn", "_bn"] {
            assert!(VggConfig::named(name, 2).is_err(), "{name}");
        }
    }

    #[test]
    fn absurd_networks_are_refused_without_overflow() {
        let good = VggConfig::vgg11(2);
        let refused = |change: fn(&mut VggConfig)| {
            let mut config = good.clone();
            change(&mut config);
            matches!(config.parameters(), Err(Error::Config { .. }))
        };
        assert!(refused(|config| config.hidden = usize::MAX));
        assert!(refused(|config| config.hidden = 900_000));
        assert!(refused(|config| config.avgpool = usize::MAX));
        assert!(refused(|config| config.avgpool = 1_000_000));
        assert!(refused(|config| config.classes = usize::MAX));
        assert!(refused(
            |config| config.features = vec![Unit::Conv(usize::MAX); 3]
        ));
        assert!(refused(
            |config| config.features = vec![Unit::Conv(8); 1_001]
        ));
        let mut config = good.clone();
        config.features = [Unit::Conv(1), Unit::Pool].repeat(200);
        assert_eq!(config.smallest_input(), usize::MAX);
        assert!(VggConfig::vgg19(21_841).parameters().is_ok());
    }

    #[test]
    fn a_pool_needs_a_convolution() {
        let mut config = VggConfig::vgg11(2);
        config.features.insert(0, Unit::Pool);
        assert!(matches!(config.convolutions(), Err(Error::Config { .. })));
    }
}
