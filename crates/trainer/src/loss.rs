//! Cross entropy and the predicted class.

use candle_core::{D, DType, Tensor};

use crate::data::Batch;
use crate::error::{Error, ResultExt};

/// The mean over a batch of `−log softmax(logits)[target]`, as `torch.nn.functional.cross_entropy`.
///
/// `logits` (B, C) and `targets` (B) u32 give a scalar of the logits' type. It is
/// `log Σ exp(z) − z[target]` with z = logits − max: no exponent overflows. Every operation has a backward
/// (candle's `softmax_last_dim` has none and cuts the graph). The maximum is subtracted as a constant: its
/// gradient cancels exactly in theory and only adds rounding, and ties, in practice.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> candle_core::Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let chosen = shifted.gather(&targets.unsqueeze(1)?, D::Minus1)?;
    (log_sum - chosen)?.mean_all()
}

/// A batch's loss, and on the host what was right and what was predicted.
pub(crate) struct Scored {
    /// The mean loss, with its graph.
    pub(crate) loss: Tensor,
    /// Its value.
    pub(crate) value: f64,
    /// How many classes there are.
    pub(crate) classes: usize,
    /// Each sample's class.
    pub(crate) targets: Vec<u32>,
    /// Each sample's predicted class: the first of the largest logits.
    pub(crate) predictions: Vec<u32>,
}

impl Scored {
    pub(crate) fn correct(&self) -> usize {
        self.targets
            .iter()
            .zip(&self.predictions)
            .filter(|(a, b)| a == b)
            .count()
    }
}

/// Scores the logits of a batch. Errors: shapes that do not fit, a target that is not a class.
pub(crate) fn score(logits: &Tensor, targets: &Tensor, indices: &[usize]) -> Result<Scored, Error> {
    let samples = indices.len();
    let classes = match *logits.dims() {
        [rows, classes] if rows == samples && samples > 0 && classes > 0 => classes,
        _ => {
            return Err(shape(
                "the model's output",
                logits,
                format!("({samples}, classes)"),
            ));
        }
    };
    // On a GPU, a target that is no class would make the loss read foreign memory before anybody knows.
    let last = Tensor::new(classes as u32 - 1, targets.device());
    let classes_only = last.and_then(|last| targets.broadcast_minimum(&last));
    let classes_only = classes_only.context("the loss")?;
    let loss = cross_entropy(logits, &classes_only).context("the loss")?;
    let read = read(&loss, logits, targets).context("reading the loss")?;
    let (predictions, targets) = read[1..].split_at(samples);
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
    Ok(Scored {
        loss,
        value: read[0],
        classes,
        targets,
        // A row with NaN has no largest logit; its loss is NaN too.
        predictions: predictions.iter().map(|&p| (p as u32).min(last)).collect(),
    })
}

/// The loss, then each sample's predicted class, then its target, in one read: on a GPU a read waits for all the
/// work before it, so that a step makes one. f32 holds classes up to 2²⁴ exactly.
fn read(loss: &Tensor, logits: &Tensor, targets: &Tensor) -> candle_core::Result<Vec<f64>> {
    let wide = match logits.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let all = Tensor::cat(
        &[
            loss.detach().reshape(1)?.to_dtype(wide)?,
            first_maxima(&logits.detach())?.to_dtype(wide)?,
            targets.to_dtype(wide)?,
        ],
        0,
    )?;
    if wide == DType::F64 {
        return all.to_vec1();
    }
    Ok(all.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
}

/// The first of the largest logits of each row, computed where they are: (B, C) → (B) u32. Candle's `argmax` does
/// not say which of equals it takes.
fn first_maxima(logits: &Tensor) -> candle_core::Result<Tensor> {
    let classes = logits.dim(D::Minus1)? as u32;
    let largest = logits.max_keepdim(D::Minus1)?;
    let class = Tensor::arange(0, classes, logits.device())?.broadcast_as(logits.shape())?;
    let none = Tensor::new(classes, logits.device())?.broadcast_as(logits.shape())?;
    logits
        .broadcast_ge(&largest)?
        .where_cond(&class, &none)?
        .min(D::Minus1)
}

/// Refuses a batch whose parts do not have the same number of samples.
pub(crate) fn check_batch(batch: &Batch) -> Result<(), Error> {
    let samples = batch.indices.len();
    if batch.targets.dims() != [samples] || batch.targets.dtype() != DType::U32 {
        return Err(shape(
            "the batch's targets",
            &batch.targets,
            format!("({samples}) of u32"),
        ));
    }
    if batch.inputs.dims().first() != Some(&samples) || samples == 0 {
        return Err(shape(
            "the batch's inputs",
            &batch.inputs,
            format!("({samples}, …) with at least one sample"),
        ));
    }
    Ok(())
}

fn shape(what: &'static str, tensor: &Tensor, expected: String) -> Error {
    Error::Shape {
        what,
        got: tensor.dims().to_vec(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn value_and_gradient_follow_the_formula() {
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

        // d loss / d z = (softmax − one-hot) / B, also where two logits tie for the maximum.
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
    fn ties_go_to_the_first_class() {
        let logits = [[0.5f32, 2.0, 2.0, 1.0], [-3.0, -3.0, -4.0, -3.0]];
        let logits = Tensor::new(&logits, &Device::Cpu).unwrap();
        let classes = first_maxima(&logits).unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(classes, [1, 0]);
    }

    #[test]
    fn a_target_that_is_no_class_is_refused() {
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let targets = Tensor::new(&[2u32, 3], &Device::Cpu).unwrap();
        let error = score(&logits, &targets, &[10, 11]).map(|_| ()).unwrap_err();
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
