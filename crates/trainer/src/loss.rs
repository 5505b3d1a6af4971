//! Computes the cross-entropy loss and the predicted classes of a batch.

use candle_core::{D, DType, Tensor};

use crate::data::Batch;
use crate::error::{Error, ResultExt};

/// Computes the mean of `−log softmax(logits)[target]` over a batch, as in
/// `torch.nn.functional.cross_entropy`.
///
/// `logits` is (B, C), `targets` is (B) in u32, and the loss is a scalar in the dtype of the
/// logits. It is computed as `log Σ exp(z) − z[target]` with z = logits − max(logits), so that no
/// exponential overflows. Every operation has a backward pass. candle's `softmax_last_dim` has none
/// and would cut the graph. The maximum is detached: its gradient cancels in exact arithmetic, but
/// would add rounding errors, and would be split among tied logits.
///
/// # Errors
///
/// Returns an error if the shapes do not match, or, on the CPU, if a target is not a class.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let chosen = shifted.gather(&targets.unsqueeze(1)?, D::Minus1)?;
    (log_sum - chosen)?.mean_all()
}

/// The loss of a batch, together with the targets, the predictions and, if requested, the logits, copied
/// to the host.
pub(crate) struct BatchLoss {
    /// Mean loss over the samples, with the graph for the backward pass.
    pub(crate) loss: Tensor,
    /// Value of `loss` on the host.
    pub(crate) value: f64,
    /// Number of classes, the width of the logits.
    pub(crate) classes: usize,
    /// True class of each sample.
    pub(crate) targets: Vec<u32>,
    /// Predicted class of each sample. The first class wins a tie.
    pub(crate) predictions: Vec<u32>,
    /// The logits, shape (samples, classes) in row-major order. Empty unless requested.
    pub(crate) logits: Vec<f32>,
}

impl BatchLoss {
    pub(crate) fn correct(&self) -> usize {
        self.targets
            .iter()
            .zip(&self.predictions)
            .filter(|(a, b)| a == b)
            .count()
    }
}

/// Computes loss and predictions from the logits (B, C) of a batch. `loss` maps logits and targets
/// to a scalar. With `keep_logits`, the result contains the logits.
///
/// # Errors
///
/// Returns an error if the shapes do not match, if a target is not a class, or if `loss` fails or
/// does not return a scalar.
pub(crate) fn batch_loss(
    logits: &Tensor,
    targets: &Tensor,
    indices: &[usize],
    keep_logits: bool,
    loss: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<BatchLoss, Error> {
    let samples = indices.len();
    let classes = match *logits.dims() {
        [rows, classes] if rows == samples && samples > 0 && classes > 0 => classes,
        _ => {
            return Err(shape_error(
                "the model output",
                logits,
                format!("({samples}, classes)"),
            ));
        }
    };
    // On a GPU, an invalid target would make the loss read out of bounds. The targets are clamped
    // here, because they are checked only below, after the single copy to the host.
    let last = Tensor::new(classes as u32 - 1, targets.device());
    let clamped = last.and_then(|last| targets.broadcast_minimum(&last));
    let clamped = clamped.context("cannot compute the loss")?;
    let loss = loss(logits, &clamped).context("cannot compute the loss")?;
    let values = to_host(&loss, logits, targets, keep_logits).context("cannot read the loss")?;
    let (predictions, rest) = values[1..].split_at(samples);
    let (targets, logits) = rest.split_at(samples);
    let targets: Vec<u32> = targets.iter().map(|&target| target as u32).collect();
    if let Some((&target, &sample)) = targets
        .iter()
        .zip(indices)
        .find(|&(&target, _)| target as usize >= classes)
    {
        return Err(Error::Target {
            sample,
            target,
            classes,
        });
    }
    let last = classes as u32 - 1;
    Ok(BatchLoss {
        loss,
        value: values[0],
        classes,
        targets,
        // `first_argmax` can return `classes` for a row with NaN. The loss is then NaN too, so the
        // clamped prediction is never used.
        predictions: predictions.iter().map(|&p| (p as u32).min(last)).collect(),
        logits: logits.iter().map(|&logit| logit as f32).collect(),
    })
}

/// Copies the loss, the predicted classes, the targets and, with `keep_logits`, the logits to the host,
/// concatenated in this order.
///
/// On a GPU, a copy to the host waits for all queued work, so each step makes only one. f32
/// represents class indices up to 2²⁴ exactly.
fn to_host(
    loss: &Tensor,
    logits: &Tensor,
    targets: &Tensor,
    keep_logits: bool,
) -> candle_core::Result<Vec<f64>> {
    let logits = logits.detach();
    let wide = match logits.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let mut parts = vec![
        loss.detach().reshape(1)?.to_dtype(wide)?,
        first_argmax(&logits)?.to_dtype(wide)?,
        targets.to_dtype(wide)?,
    ];
    if keep_logits {
        parts.push(logits.flatten_all()?.to_dtype(wide)?);
    }
    let all = Tensor::cat(&parts, 0)?;
    if wide == DType::F64 {
        return all.to_vec1();
    }
    Ok(all.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

/// Returns the index of the largest logit in each row: (B, C) → (B), u32. The first index wins a
/// tie.
///
/// candle's `argmax` does not specify which of several maxima it returns.
fn first_argmax(logits: &Tensor) -> candle_core::Result<Tensor> {
    let classes = logits.dim(D::Minus1)? as u32;
    let largest = logits.max_keepdim(D::Minus1)?;
    let class = Tensor::arange(0, classes, logits.device())?.broadcast_as(logits.shape())?;
    let none = Tensor::new(classes, logits.device())?.broadcast_as(logits.shape())?;
    logits
        .broadcast_ge(&largest)?
        .where_cond(&class, &none)?
        .min(D::Minus1)
}

const TARGETS: &str = "the target tensor of the batch";

/// Checks that a batch is not empty, that its inputs, targets and indices have the same length, and
/// that its targets are u32.
pub(crate) fn check_batch(batch: &Batch) -> Result<(), Error> {
    let samples = batch.indices.len();
    if batch.targets.dims() != [samples] {
        return Err(shape_error(TARGETS, &batch.targets, format!("({samples})")));
    }
    if batch.targets.dtype() != DType::U32 {
        return Err(Error::Dtype {
            tensor: TARGETS,
            got: batch.targets.dtype(),
            expected: DType::U32,
        });
    }
    if batch.inputs.dims().first() != Some(&samples) || samples == 0 {
        return Err(shape_error(
            "the input tensor of the batch",
            &batch.inputs,
            format!("({samples}, …) with at least one sample"),
        ));
    }
    Ok(())
}

fn shape_error(name: &'static str, tensor: &Tensor, expected: String) -> Error {
    Error::Shape {
        tensor: name,
        got: tensor.dims().to_vec(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn loss_and_gradient_match_the_formula() {
        let rows = [[1.0f64, -2.0, 0.5], [3.0, 3.0, -1.0]];
        let targets = [2u32, 0];
        let logits = Var::new(&rows, &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &Tensor::new(&targets, &Device::Cpu).unwrap()).unwrap();

        let softmax =
            |row: [f64; 3]| row.map(|z| z.exp() / row.iter().map(|z| z.exp()).sum::<f64>());
        let expected = rows
            .iter()
            .zip(targets)
            .map(|(row, t)| -softmax(*row)[t as usize].ln())
            .sum::<f64>()
            / 2.0;
        assert!((loss.to_scalar::<f64>().unwrap() - expected).abs() < 1e-14);

        // d loss / d z = (softmax − one-hot) / B, even if two logits are tied for the maximum.
        let gradient = loss
            .backward()
            .unwrap()
            .remove(&logits)
            .unwrap()
            .to_vec2::<f64>()
            .unwrap();
        for (i, row) in rows.iter().enumerate() {
            for (j, p) in softmax(*row).iter().enumerate() {
                let expected = (p - f64::from(u8::from(targets[i] as usize == j))) / 2.0;
                assert!((gradient[i][j] - expected).abs() < 1e-14, "{i} {j}");
            }
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let logits = Tensor::new(&[[1e4f32, -1e4], [-1e4, 1e4]], &Device::Cpu).unwrap();
        let loss = cross_entropy(&logits, &Tensor::new(&[0u32, 0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 1e4);
    }

    #[test]
    fn the_first_of_equal_logits_is_predicted() {
        let logits = [[0.5f32, 2.0, 2.0, 1.0], [-3.0, -3.0, -4.0, -3.0]];
        let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
        let classes = first_argmax(&logits).unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(classes, [1, 0]);
    }

    #[test]
    fn a_target_that_is_not_a_class_is_an_error() {
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let targets = Tensor::new(&[2u32, 3], &Device::Cpu).unwrap();
        let error = batch_loss(&logits, &targets, &[10, 11], false, cross_entropy)
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Target {
                    sample: 11,
                    target: 3,
                    classes: 3
                }
            ),
            "{error}"
        );
    }
}
