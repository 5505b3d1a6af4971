//! Heat maps: the parts of an image that raise the logit of a class.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor, Var};
use kernels::max_pool2d;

use crate::config::{Convolution, VggConfig};
use crate::error::Error;
use crate::model::Vgg;

/// The formula of a heat map.
///
/// A map is computed from the activations A (C, h, w) of a layer and the gradient G = ∂y/∂A of the
/// logit y of the class. It is ReLU(Σ_c M_c), where M_c is
///
/// | method | M_c | source |
/// |---|---|---|
/// | Grad-CAM | A_c · mean(G_c) | R. Selvaraju et al. (2017), [arXiv:1610.02391](https://arxiv.org/abs/1610.02391), equations 1 and 2 |
/// | Grad-CAM++ | A_c · Σ α_c ⊙ ReLU(G_c), with α_c = G_c² / (2 G_c² + G_c³ · Σ A_c + 1e-6), and 0 where G_c is 0 | A. Chattopadhay et al. (2018), [arXiv:1710.11063](https://arxiv.org/abs/1710.11063), equation 19 |
/// | LayerCAM | A_c ⊙ ReLU(G_c) | P. Jiang et al. (2021), [doi:10.1109/TIP.2021.3089943](https://doi.org/10.1109/TIP.2021.3089943) |
///
/// Means and sums without an index are over the h·w cells, and ⊙, squares and cubes are per cell.
/// The maps are those of the Python package pytorch-grad-cam 1.5.7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeatMapMethod {
    /// Weights each channel by its mean gradient.
    #[default]
    GradCam,
    /// Weights each channel by its positive gradients, so that several objects of a class count.
    GradCamPlusPlus,
    /// Weights each cell of each channel by its own positive gradient, which keeps details in
    /// layers of high resolution.
    LayerCam,
}

impl HeatMapMethod {
    /// The names of the methods, as parsed and displayed.
    pub const NAMES: [&str; 3] = ["gradcam", "gradcam++", "layercam"];
    const ALL: [Self; 3] = [Self::GradCam, Self::GradCamPlusPlus, Self::LayerCam];

    /// Adds M_c of one channel to `map`.
    fn add_channel(self, map: &mut [f64], activations: &[f32], gradients: &[f32]) {
        let cells = || activations.iter().zip(gradients);
        let cells = || cells().map(|(&a, &g)| (f64::from(a), f64::from(g)));
        let weight = match self {
            Self::GradCam => cells().map(|(_, g)| g).sum::<f64>() / activations.len() as f64,
            Self::GradCamPlusPlus => {
                let sum: f64 = cells().map(|(a, _)| a).sum();
                let positive = cells().map(|(_, g)| g).filter(|&g| g > 0.0);
                let alpha = |g: f64| g * g / (2.0 * g * g + sum * g.powi(3) + 1e-6);
                positive.map(|g| alpha(g) * g).sum()
            }
            Self::LayerCam => {
                for (cell, (a, g)) in map.iter_mut().zip(cells()) {
                    *cell += a * g.max(0.0);
                }
                return;
            }
        };
        for (cell, (a, _)) in map.iter_mut().zip(cells()) {
            *cell += a * weight;
        }
    }
}

impl fmt::Display for HeatMapMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize])
    }
}

impl FromStr for HeatMapMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let index = Self::NAMES.iter().position(|&name| name == text);
        let index = index
            .ok_or_else(|| format!("unknown method, expected one of {}", Self::NAMES.join(", ")))?;
        Ok(Self::ALL[index])
    }
}

/// A heat map of one image, with the logits of the same forward pass.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HeatMap {
    /// The map at the resolution of the layer, (height, width) in row-major order. Values are
    /// finite and at least 0, and their scale depends on the image.
    pub raw: Vec<f32>,
    /// Width of `raw`.
    pub width: usize,
    /// Height of `raw`.
    pub height: usize,
    /// The class whose logit the map explains, counted from 0.
    pub class: usize,
    /// The logits of all classes.
    pub logits: Vec<f32>,
}

impl HeatMap {
    /// Returns the map at another resolution, (height, width) in row-major order, with values from
    /// 0 to 1. A constant map becomes 0.
    ///
    /// As in pytorch-grad-cam, the values are scaled by x ↦ (x − min) / (max − min + 1e-7), before
    /// and after the map is resized. Resizing is bilinear interpolation between the centers of the
    /// cells, and constant outside of them, as OpenCV's `INTER_LINEAR`.
    ///
    /// ```
    /// # use candle_core::{DType, Device, Tensor};
    /// # use vgg::{HeatMapMethod, Vgg, VggConfig};
    /// # let config = VggConfig::slim_vgg16([4, 4, 8, 8, 8], 16, 2, 64, 3);
    /// # let tensors = vgg::init::from_scratch(&config, 1234, &Device::Cpu)?;
    /// # let network = Vgg::from_tensors(&config, tensors, &Device::Cpu)?;
    /// let image = Tensor::rand(-1f32, 1., (1, 3, 64, 64), &Device::Cpu)?;
    /// let map = network.heat_map(&image, Some(2), "features.29", HeatMapMethod::LayerCam)?;
    /// assert_eq!((map.width, map.height), (4, 4));
    /// assert_eq!(map.resized(64, 64).len(), 64 * 64);
    /// # Ok::<(), vgg::Error>(())
    /// ```
    pub fn resized(&self, width: usize, height: usize) -> Vec<f32> {
        let mut map: Vec<f64> = self.raw.iter().map(|&value| value.into()).collect();
        scale(&mut map);
        let (rows, columns) = (taps(self.height, height), taps(self.width, width));
        let mut resized = Vec::with_capacity(width * height);
        for (top, bottom, down) in rows {
            for &(left, right, across) in &columns {
                let row = |row: usize| {
                    let [left, right] = [left, right].map(|column| map[row * self.width + column]);
                    left + across * (right - left)
                };
                let (top, bottom) = (row(top), row(bottom));
                resized.push(top + down * (bottom - top));
            }
        }
        scale(&mut resized);
        resized.into_iter().map(|value| value as f32).collect()
    }
}

/// x ↦ (x − min) / (max − min + 1e-7)
fn scale(map: &mut [f64]) {
    let min = map.iter().copied().fold(f64::INFINITY, f64::min);
    let max = map.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for value in map {
        *value = (*value - min) / (max - min + 1e-7);
    }
}

/// For each of `to` output cells along an axis with `from` cells, the two nearest cells and the weight
/// of the second.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f64)> {
    let last = from.saturating_sub(1);
    let tap = |cell: usize| {
        let at = (cell as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let at = at.clamp(0.0, last as f64);
        let first = at as usize;
        (first, last.min(first + 1), at - first as f64)
    };
    (0..to).map(tap).collect()
}

/// A layer with a heat map: the output of a block, with or without its pool.
#[derive(Clone, Copy)]
struct Layer {
    block: usize,
    /// The layer is the ReLU before a pool.
    before_pool: bool,
}

/// The index of the ReLU after a convolution.
fn relu_index(conv: &Convolution) -> usize {
    conv.norm.unwrap_or(conv.index) + 1
}

impl VggConfig {
    /// The names of the layers that [`Vgg::heat_map`] accepts, from input to output: the ReLUs and
    /// pools of the backbone under torchvision's names, such as `features.29` and `features.30`, the
    /// last ones of VGG-16.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] if the configuration is invalid.
    pub fn heat_map_layers(&self) -> Result<Vec<String>, Error> {
        let layers = self.layers_with_heat_maps()?;
        Ok(layers.into_iter().map(|(name, _)| name).collect())
    }

    /// The name of the last ReLU of the backbone, such as `features.29` of VGG-16.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Config`] if the configuration is invalid.
    pub fn last_relu(&self) -> Result<String, Error> {
        let convolutions = self.convolutions()?;
        let last = convolutions.last();
        let last = last.expect("a valid configuration has a convolution");
        Ok(format!("features.{}", relu_index(last)))
    }

    fn layers_with_heat_maps(&self) -> Result<Vec<(String, Layer)>, Error> {
        let mut layers = Vec::new();
        for (block, conv) in self.convolutions()?.iter().enumerate() {
            let relu = relu_index(conv);
            let before_pool = conv.pool;
            layers.push((format!("features.{relu}"), Layer { block, before_pool }));
            if conv.pool {
                let before_pool = false;
                let pool = format!("features.{}", relu + 1);
                layers.push((pool, Layer { block, before_pool }));
            }
        }
        Ok(layers)
    }
}

impl Vgg {
    /// Computes the heat map of a layer, one of [`VggConfig::heat_map_layers`], for a normalized
    /// image `image` (1, 3, H, W) in f32 and for `class`, counted from 0. `None` stands for the class
    /// with the largest logit.
    ///
    /// Only the layers after `layer` run with a graph. Gradients of weights that are variables are
    /// computed too, and stored in the [`GradSink`](kernels::GradSink) if there is one, so build the
    /// network from tensors without a graph. The map has the layer's resolution, H/2ᵖ × W/2ᵖ after
    /// p pools.
    ///
    /// # Errors
    ///
    /// Returns [`Error::HeatMapLayer`] or [`Error::Class`] if there is no such layer or class,
    /// [`Error::ImageCount`] for a batch of several images, [`Error::NonFiniteResult`] if a logit,
    /// a gradient or the map is NaN or infinite, and the errors of [`Vgg::forward`].
    pub fn heat_map(
        &self,
        image: &Tensor,
        class: Option<usize>,
        layer: &str,
        method: HeatMapMethod,
    ) -> Result<HeatMap, Error> {
        let config = self.config();
        let architecture = || config.architecture.clone();
        let layers = config.layers_with_heat_maps()?;
        let Some(&(_, Layer { block, before_pool })) =
            layers.iter().find(|(name, _)| name == layer)
        else {
            return Err(Error::HeatMapLayer {
                architecture: architecture(),
                layer: layer.into(),
                layers: layers.into_iter().map(|(name, _)| name).collect(),
            });
        };
        let classes = config.classes;
        if let Some(class) = class.filter(|&class| class >= classes) {
            return Err(Error::Class {
                architecture: architecture(),
                class,
                classes,
            });
        }
        self.features.check_images(image)?;
        let images = image.dim(0)?;
        if images != 1 {
            return Err(Error::ImageCount { images });
        }

        let x = self.features.precision.cast(&image.detach())?;
        let activations = match before_pool {
            true => self.features.run_without_last_pool(&x, 0..block + 1)?,
            false => self.features.run(&x, 0..block + 1)?,
        };
        let activations = Var::from_tensor(&activations.detach())?;
        let mut x = activations.as_tensor().clone();
        if before_pool {
            x = max_pool2d(&x)?;
        }
        let blocks = config.convolutions()?.len();
        let output = self.classify(&self.features.run(&x, block + 1..blocks)?)?;
        let logits = values(&output)?;
        check_finite("output of the model", &logits)?;
        // The first of equal logits, as in predictions.
        let predicted = || {
            (0..classes)
                .rev()
                .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
        };
        let class = class.or_else(predicted).unwrap_or(0);

        let gradients = output.narrow(1, class, 1)?.backward()?;
        let gradients = gradients.get(&activations).map(values).transpose()?;
        let gradients = gradients.unwrap_or_else(|| vec![0.0; activations.elem_count()]);
        // `f64::max` and comparisons would ignore NaN.
        check_finite("gradient of the logit", &gradients)?;
        let (_, _, height, width) = activations.dims4()?;
        let mut map = vec![0f64; height * width];
        let activations = values(&activations)?;
        let cells = map.len();
        for (a, g) in activations.chunks(cells).zip(gradients.chunks(cells)) {
            method.add_channel(&mut map, a, g);
        }
        let raw: Vec<f32> = map.into_iter().map(|value| value.max(0.0) as f32).collect();
        check_finite("heat map", &raw)?;
        Ok(HeatMap {
            raw,
            width,
            height,
            class,
            logits,
        })
    }
}

/// The elements of a tensor as f32, in row-major order.
fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    let tensor = tensor.detach().to_device(&Device::Cpu)?;
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

fn check_finite(result: &'static str, values: &[f32]) -> Result<(), Error> {
    match values.iter().copied().find(|value| !value.is_finite()) {
        Some(value) => Err(Error::NonFiniteResult { result, value }),
        None => Ok(()),
    }
}
